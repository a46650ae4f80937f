"""PostgreSQL: one connection per loop, as the service's own role, with a deadline on everything."""

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Any, Protocol, cast

import asyncpg
from pydantic_core import from_json

from services.runtime.errors import ConfigurationError, InvariantBroken
from services.runtime.settings import Settings

Row = Mapping[str, Any]
"""One row; the only place where a value's type is the database's word."""
TRANSIENT: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    OSError,
    TimeoutError,
)
"""Errors of the world: roll back, back off with jitter, try again, never skip."""
COLLISION = (asyncpg.UniqueViolationError, asyncpg.SerializationError)
"""Two processes took the same new key or changed the same row at once; the retry sees the other's row."""
COMMAND_SECONDS = 15
SESSION = {
    "statement_timeout": "8s",
    "lock_timeout": "5s",
    "idle_in_transaction_session_timeout": "15s",
    "jit": "off",
    # Every statement of a worker finds rows by key: one plan is right for any batch and for any size of the tables,
    # and planning a statement of many parts again for each batch costs more than running it.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
    "timezone": "UTC",
}


class Connection(Protocol):
    """What a store may do with a connection."""

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...
    async def fetchrow(self, query: str, *args: object) -> Row | None: ...
    async def execute(self, query: str, *args: object) -> str: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...
    async def close(self, *, timeout: float | None = None) -> None: ...
    def is_closed(self) -> bool: ...


async def connect(settings: Settings, package: str) -> Connection:
    """Connect as role otb_<package> on its own schema.

    Raises ConfigurationError for a refused password; errors of the network pass as they are.
    """
    if settings.postgres_dsn is None:
        raise ConfigurationError("OTB_POSTGRES_DSN is not set; start the embedded stack or give your own")
    role = f"otb_{package}"
    try:
        connection = await asyncpg.connect(
            settings.postgres_dsn.get_secret_value(),
            user=role,
            password=role_password(settings, role),
            command_timeout=COMMAND_SECONDS,
            timeout=COMMAND_SECONDS,
            server_settings={**SESSION, "search_path": package, "application_name": package},
        )
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise ConfigurationError(f"PostgreSQL refused role {role}: run `otb migrate`, or mend its secret") from error
    return cast(Connection, connection)


def role_password(settings: Settings, role: str) -> str:
    """Return the password of a login role from the folder of secrets."""
    path = (settings.secrets_dir or settings.state_dir / "secrets") / role
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(f"no secret for role {role} at {path}: run `otb migrate`") from error


async def one(connection: Connection, query: str, *args: object) -> Row:
    """Return the row of a query that always gives one."""
    row = await connection.fetchrow(query, *args)
    if row is None:
        raise InvariantBroken("a query that gives one row gave none")
    return row


def shifted(sql: str, by: int) -> str:
    """Return ``sql`` with its parameters numbered from ``by`` + 1 on, to stand behind others."""
    return re.sub(r"\$(\d+)", lambda found: f"${int(found[1]) + by}", sql)


def listed(found: str | None) -> list[Row]:
    """Return the rows of a json_agg(), which is null for none."""
    return cast(list[Row], from_json(found)) if found else []


def instant(found: str | None) -> datetime | None:
    """Return an instant of a json_agg()."""
    return datetime.fromisoformat(found) if found else None


def columns(rows: Sequence[tuple[object, ...]], width: int) -> Sequence[Sequence[object] | None]:
    """Turn rows of ``width`` values into as many columns, the arrays that unnest() takes; null is no rows."""
    return list(zip(*rows, strict=True)) if rows else [None] * width
