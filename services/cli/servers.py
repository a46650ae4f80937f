"""Where the servers are, for commands that look: your own, or the embedded stack when it runs."""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Literal, Protocol, cast
from urllib.parse import quote, urlsplit, urlunsplit

import asyncpg
from pydantic import SecretStr

from deploy.embedded import Part, Stack
from services.cli.terminal import Problem
from services.runtime.postgres import Row
from services.runtime.settings import Settings, load_settings

CONNECT_SECONDS = 5
COMMAND_SECONDS = 60
SESSION = {"timezone": "UTC", "application_name": "otb", "statement_timeout": "60s", "jit": "off"}
READ_ONLY = {"default_transaction_read_only": "on"}


class Connection(Protocol):
    """What a command that looks may do with a connection."""

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...
    async def fetchrow(self, query: str, *args: object) -> Row | None: ...
    async def fetchval(self, query: str, *args: object) -> Any: ...
    async def execute(self, query: str, *args: object) -> str: ...
    def transaction(
        self, *, isolation: Literal["repeatable_read"] | None = None, readonly: bool = False
    ) -> AbstractAsyncContextManager[object]: ...
    async def close(self, *, timeout: float | None = None) -> None: ...


def stack_of(settings: Settings) -> Stack:
    """Return the embedded stack of the state folder, running or not."""
    return Stack(settings.state_dir.resolve(), settings.cache_dir)


def attached(needed: Collection[Part] = ("kafka", "postgres")) -> Settings:
    """Return settings that name the servers ``needed``; raise Problem when embedded ones of them do not run."""
    settings = load_settings()
    own = {"kafka": settings.kafka_bootstrap_servers is not None, "postgres": settings.postgres_dsn is not None}
    state_dir = settings.state_dir.resolve()
    update: dict[str, object] = {"state_dir": state_dir, "secrets_dir": settings.secrets_dir or state_dir / "secrets"}
    if wanted := {part for part in needed if not own[part]}:
        stack = stack_of(settings)
        running = {process.name for process in stack.processes() if process.state == "running"}
        if wanted - running:
            missing = " and ".join(sorted(wanted - running))
            raise Problem(f"{missing} not running in {settings.state_dir}: start with `otb stack up`")
        endpoints = stack.endpoints()
        if "kafka" in wanted:
            update["kafka_bootstrap_servers"] = endpoints.kafka_bootstrap_servers
        if "postgres" in wanted:
            update["postgres_dsn"] = SecretStr(endpoints.postgres_dsn)
    return settings.model_copy(update=update)


def owner_dsn(settings: Settings) -> str:
    """Return the address for the database's owner; a password it lacks is the secrets folder's file of that role."""
    if settings.postgres_dsn is None:
        raise Problem("OTB_POSTGRES_DSN is not set: start with `otb stack up`")
    dsn = settings.postgres_dsn.get_secret_value()
    parts = urlsplit(dsn)
    if parts.password is not None or parts.username is None or settings.secrets_dir is None:
        return dsn
    path = settings.secrets_dir / parts.username
    if not path.is_file():
        return dsn
    user, where = parts.netloc.split("@", 1)
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(path.read_text().strip(), safe='')}@{where}"))


@asynccontextmanager
async def connected(settings: Settings, *, writing: bool = False) -> AsyncIterator[Connection]:
    """Connect as the owner of the database, read only unless ``writing``."""
    session = SESSION if writing else SESSION | READ_ONLY
    opened = await asyncpg.connect(
        owner_dsn(settings),
        timeout=CONNECT_SECONDS,
        command_timeout=COMMAND_SECONDS,
        server_settings=session,
    )
    connection = cast(Connection, opened)
    try:
        yield connection
    finally:
        await connection.close(timeout=CONNECT_SECONDS)
