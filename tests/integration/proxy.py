"""A TCP proxy in front of PostgreSQL that can be cut: connections end, and new ones are refused."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit, urlunsplit

from pydantic import SecretStr

from services.runtime.settings import Settings
from tests.conftest import dsn_of


class Proxy:
    """Passes bytes on to ``port`` until it is cut, and again once it is mended."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.own_port = 0
        self.server: asyncio.Server | None = None
        self.open: set[asyncio.StreamWriter] = set()
        self.pumps: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        """Take connections, on the same port as before."""
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", self.own_port)
        self.own_port = self.server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """End every connection and refuse new ones."""
        if self.server is not None:
            self.server.close()
        for writer in list(self.open):
            writer.transport.abort()
        await asyncio.gather(*self.pumps, return_exceptions=True)
        self.server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            writer.transport.abort()
            return
        self.open |= {writer, far_writer}
        for source, sink in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self.pumps.add(pump)
            pump.add_done_callback(self.pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while taken := await source.read(65_536):
                sink.write(taken)
                await sink.drain()
        sink.transport.abort()
        self.open.discard(sink)


@asynccontextmanager
async def behind_proxy(settings: Settings) -> AsyncIterator[tuple[Settings, Proxy]]:
    """Give settings whose database is reached through a proxy."""
    parts = urlsplit(dsn_of(settings))
    proxy = Proxy(parts.port or 5432)
    await proxy.mend()
    place = f"{parts.username}:{parts.password}@127.0.0.1:{proxy.own_port}"
    dsn = urlunsplit(parts._replace(netloc=place))
    try:
        yield settings.model_copy(update={"postgres_dsn": SecretStr(dsn)}), proxy
    finally:
        await proxy.cut()
