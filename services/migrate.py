"""Plain numbered SQL under an advisory lock, with checksums; one schema and one login role a service."""

import secrets
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Protocol, cast

import asyncpg

from services.runtime.errors import ConfigurationError
from services.runtime.postgres import Connection, Row

LOCK = 7_261_094
# Makes the role if it is new, and gives it the password of its secret. What it may do is deploy/access.yaml's.
MAKE_LOGIN = """
DO $do$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_setting('otb.role')) THEN
    EXECUTE format('CREATE ROLE %I LOGIN', current_setting('otb.role'));
  END IF;
  EXECUTE format('ALTER ROLE %I PASSWORD %L', current_setting('otb.role'), current_setting('otb.password'));
END $do$
"""
MAKE_SCHEMA = """
DO $do$ BEGIN
  EXECUTE format('CREATE SCHEMA IF NOT EXISTS %I', current_setting('otb.schema'));
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_setting('otb.schema'), current_setting('otb.role'));
END $do$
"""
# A role that only reads, with a bound on what a query of it costs.
ONLY_READS = """
DO $do$ BEGIN
  EXECUTE format('ALTER ROLE %I SET default_transaction_read_only = on', current_setting('otb.role'));
  EXECUTE format('ALTER ROLE %I SET statement_timeout = %L', current_setting('otb.role'), '10s');
END $do$
"""
APPLIED = """
CREATE TABLE IF NOT EXISTS migration (
  name text PRIMARY KEY, checksum text NOT NULL, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())
"""


class Asked(Protocol):
    """A connection that need only answer."""

    async def fetch(self, query: str, *args: object) -> Sequence[Row]: ...


async def migrate(
    dsn: str, packages: Sequence[str], secrets_dir: Path, *, readers: Sequence[str] = (), controls: Sequence[str] = ()
) -> list[str]:
    """Bring every service's schema up to date; return the names of the migrations applied.

    ``readers`` are packages with views over all of them, for a role that may do nothing but ask for those. ``controls``
    are roles without a schema.
    Raises ConfigurationError when an applied migration's text is no longer what it was.
    """
    connection = cast(Connection, await asyncpg.connect(dsn))
    applied: list[str] = []
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        for package in packages:
            async with connection.transaction():
                await _role(connection, package, _secret(secrets_dir, f"otb_{package}"), MAKE_LOGIN, MAKE_SCHEMA)
                applied += await _schema(connection, package, *_modules(package, readers))
        for package in readers:
            async with connection.transaction():
                made = (MAKE_LOGIN, ONLY_READS, MAKE_SCHEMA)
                await _role(connection, package, _secret(secrets_dir, f"otb_{package}"), *made)
                applied += await _schema(connection, package, *_modules(package, readers))
        for name in controls:
            async with connection.transaction():
                await _role(connection, name, _secret(secrets_dir, f"otb_{name}"), MAKE_LOGIN)
    finally:
        await connection.close(timeout=5)
    return applied


async def drift(connection: Asked, packages: Sequence[str], readers: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return which migrations of this build are missing, changed since they were applied, or unknown to it."""
    found: dict[str, list[str]] = {"missing": [], "changed": [], "unknown": []}
    for package in (*packages, *readers):
        texts = texts_of(package, readers)
        known = await _known(connection, package)
        found["missing"] += [f"{package}/{name}" for name in texts.keys() - known.keys()]
        found["unknown"] += [f"{package}/{name}" for name in known.keys() - texts.keys()]
        shared = texts.keys() & known.keys()
        found["changed"] += [f"{package}/{name}" for name in shared if known[name] != _checksum(texts[name])]
    return found


def texts_of(package: str, readers: Sequence[str] = ()) -> dict[str, str]:
    """Return the migrations of a schema by name, in the order they are applied."""
    return dict(_texts(_modules(package, readers)))


async def _known(connection: Asked, package: str) -> dict[str, str]:
    """Return the checksum of each migration applied to a schema, none when there is no such schema."""
    await connection.fetch("SELECT set_config('search_path', $1, false)", package)
    (there,) = await connection.fetch("SELECT to_regclass('migration') IS NOT NULL AS it_is")
    rows = await connection.fetch("SELECT name, checksum FROM migration") if there["it_is"] else ()
    return {row["name"]: row["checksum"] for row in rows}


def _modules(package: str, readers: Sequence[str]) -> tuple[str, ...]:
    """Return whose migrations make a schema: what every service keeps, then its own; a reader has its own alone."""
    own = f"services.{package}"
    return (own,) if package in readers else ("services.runtime", own)


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


async def _role(connection: Connection, package: str, password: str, *statements: str) -> None:
    for name, value in (("role", f"otb_{package}"), ("password", password), ("schema", package)):
        await connection.execute("SELECT set_config($1, $2, true)", f"otb.{name}", value)
    for statement in statements:
        await connection.execute(statement)


async def _schema(connection: Connection, package: str, *modules: str) -> list[str]:
    await connection.execute("SELECT set_config('search_path', $1, true)", package)
    await connection.execute(APPLIED)
    rows = await connection.fetch("SELECT name, checksum FROM migration")
    known = {row["name"]: row["checksum"] for row in rows}
    done = []
    for name, text in _texts(modules):
        checksum = _checksum(text)
        if name not in known:
            await connection.execute(text)
            await connection.execute("INSERT INTO migration (name, checksum) VALUES ($1, $2)", name, checksum)
            done.append(f"{package}/{name}")
        elif known[name] != checksum:
            raise ConfigurationError(f"migration {package}/{name} was applied with another text")
    return done


def _texts(modules: Sequence[str]) -> list[tuple[str, str]]:
    """Return (name, text) of the modules' migrations, one module after the other, in order of their numbers."""
    texts = []
    for module in modules:
        folder = files(module).joinpath("migrations")
        found = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
        texts += [(f"{module.rpartition('.')[2]}.{file.name}", file.read_text()) for file in found]
    return texts


def _secret(folder: Path, role: str) -> str:
    """Return the role's password, made on first use and readable by its owner only."""
    path = folder / role
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text().strip()
