"""Connections to the simulated PostgreSQL: a statement is atomic, an answer may be lost, a session may be ended."""

import asyncio
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import asyncpg

from tests.simulation.runtime_books import Books
from tests.simulation.service_books import OWN
from tests.simulation.tables import Values

if TYPE_CHECKING:
    from tests.simulation.world import Process, World

IDLE_IN_TRANSACTION_SECONDS = 2.0
"""How long the simulated server lets a silent session keep its locks (15 s in production)."""


class Database:
    """Every service's schema; one transaction of several statements at a time in each."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.down = False
        self.connections: list[Connection] = []
        self.services: dict[str, Books] = {}
        self.held: dict[str, Connection] = {}
        for package, own in OWN.items():
            books = self.services[package] = Books(world.now)
            own(books)

    async def connect(self, process: "Process") -> "Connection":
        """Open a session of one service."""
        fault = await process.port("connect")
        if self.down or fault:
            raise ConnectionRefusedError("the database does not answer")
        made = Connection(self, process)
        self.connections.append(made)
        return made

    def stop(self) -> None:
        """End every session at once: nothing uncommitted stays."""
        self.down = True
        for connection in list(self.connections):
            connection.end()

    async def quiet(self, connection: "Connection") -> None:
        """Wait until no other session holds a transaction open in this schema; end one that fell silent."""
        package = connection.package
        waited = 0.0
        while (holder := self.held.get(package)) not in (None, connection):
            if waited > IDLE_IN_TRANSACTION_SECONDS:
                self.world.happened("idle_transaction_ended", connection.process)
                assert holder is not None
                holder.end()
                return
            await asyncio.sleep(0.05)
            waited += 0.05


class Connection:
    """What services/runtime/postgres.py asks of a connection."""

    def __init__(self, database: Database, process: "Process") -> None:
        self.database, self.process = database, process
        self.package = process.worker.package
        self.books = database.services[self.package]
        self.closed = False
        self.depth = 0

    def fetch(self, query: str, *args: object) -> Coroutine[Any, Any, Any]:
        return self._run(query, args)

    fetchrow = execute = fetch  # nobody asks what a command says it did

    def transaction(self) -> "Transaction":
        return Transaction(self)

    async def close(self, *, timeout: float | None = None) -> None:
        self.end()

    def is_closed(self) -> bool:
        return self.closed

    def end(self) -> None:
        """End the session: what it did not commit is undone."""
        if self.closed:
            return
        self.closed = True
        self.database.connections.remove(self)
        if self.depth:
            self.depth = 0
            self.finish(Books.rollback)

    def finish(self, ending: Callable[[Books], None]) -> None:
        """End the open transaction by a commit or a rollback, and let the next one in."""
        ending(self.books)
        self.database.held.pop(self.package, None)

    async def _run(self, query: str, values: Values) -> Any:
        """Run a statement where the world lets it: lost before, deadlocked, or done with its answer lost."""
        fault = await self.process.port("statement")
        self.alive()
        if self.database.held.get(self.package) not in (None, self):
            await self.database.quiet(self)
            self.alive()
        if fault == "lost_connection":
            self.end()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if fault == "deadlock":
            raise asyncpg.DeadlockDetectedError("deadlock detected")
        if fault == "timeout":
            raise asyncpg.QueryCanceledError("canceling statement due to statement timeout")
        mark = len(self.books.undo)
        try:
            found = self.books.run(query, values)
        except BaseException:
            self.books.rollback(mark)
            raise
        if not self.depth:
            self.books.undo.clear()
        if fault == "lost_answer":
            self.end()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if fault == "crash_after":
            await self.process.die("crash_after_statement")
        return found

    def alive(self) -> None:
        if self.process.dead:
            raise asyncio.CancelledError
        if self.closed:
            raise asyncpg.InterfaceError("connection is closed")


class Transaction:
    """BEGIN and COMMIT; an inner one is a part of the outer."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def __aenter__(self) -> Self:
        c = self.connection
        if not c.depth:
            c.alive()
            await c.database.quiet(c)
            c.alive()
            c.database.held[c.package] = c
        c.depth += 1
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        c = self.connection
        if c.closed:
            if kind is None:
                raise asyncpg.InterfaceError("connection is closed")
            return
        if c.depth > 1:
            c.depth -= 1
            return
        if kind is not None:
            c.depth = 0
            c.finish(Books.rollback)
            return
        fault = await c.process.port("commit")
        c.alive()
        if fault == "lost_connection":
            c.end()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        c.depth = 0
        c.finish(lambda books: books.undo.clear())
        if fault == "lost_answer":
            c.end()
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        if fault == "crash_after":
            await c.process.die("crash_after_commit")
