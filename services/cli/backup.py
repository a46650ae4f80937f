"""A copy of the books of one instant, and the books as a copy has them: offsets and effects come back together."""

import asyncio
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import unquote, urlsplit, urlunsplit

import typer
from pydantic import SecretStr

from deploy.embedded import StackError
from deploy.embedded.postgres import program
from deploy.embedded.programs import inherited_environment
from services.cli.actor import referenced
from services.cli.declared import EVERYONE, READERS
from services.cli.grants import bring_up_to_date
from services.cli.republish import rewind
from services.cli.servers import attached, connected, owner_dsn
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, USAGE, Json, Problem, print_json, stdout, working
from services.migrate import drift
from services.runtime.clock import utc_now
from services.runtime.settings import Settings

PACKAGES: Final = tuple(worker.package for worker in EVERYONE)
# Who else uses a database; what people look with comes back by itself.
OTHERS: Final = """
SELECT DISTINCT coalesce(usename, '-') || ' (' || application_name || ')' AS who FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
  AND usename <> ALL ($1::text[]) ORDER BY 1
"""
DISMISS: Final = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE datname = $1 AND backend_type = 'client backend' AND usename = ANY ($2::text[])
"""
WATCHING: Final = [f"otb_{package}" for package in READERS]

Copy = Annotated[Path, typer.Argument(metavar="FILE", help="A copy as pg_dump makes it (custom format).")]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog=EPILOG)(backup)
    app.command(epilog=EPILOG)(restore)


def backup(file: Copy, as_json: Json = False) -> None:
    """Write the whole database as of one instant to a new FILE; the pipeline goes on meanwhile.

    It holds customers' references and amounts: only you may read it. Kafka needs no copy.
    """
    if file.exists():
        raise Problem(f"{file} is there already", USAGE)
    draft = file.with_name(f".{file.name}.part")
    with working("copying"):
        try:
            _run("pg_dump", attached(["postgres"]), "--format=custom", f"--file={draft}", umask=0o077)
            draft.rename(file)
        finally:
            draft.unlink(missing_ok=True)
    size = file.stat().st_size
    print_json({"file": str(file), "bytes": size}) if as_json else stdout().print(f"{file}: {size} bytes")


def restore(
    file: Copy,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would happen.")] = False,
    actor: Annotated[str | None, typer.Option(help="Who does it; kept in the audit.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, as a code or a ticket; kept in the audit.")] = None,
    as_json: Json = False,
) -> int:
    """Put the books of FILE in the place of those there are, which stay beside them under another name.

    Workers must not run. Afterwards they read billing's topics on from where the copy was made and decide again what
    was decided since: nothing of it is doubled in the books, and its messages go out again under the same ids.
    """
    if not file.is_file():
        raise Problem(f"no file {file}", NOT_FOUND)
    if yes and not (actor and reason):
        raise Problem("--yes needs --actor and --reason", USAGE)
    settings = attached()
    if others := asyncio.run(_others(settings)):
        raise Problem(f"still connected, stop them first: {', '.join(others)}", FOUND)
    if not (yes and actor and reason):
        again = f"otb restore {file} --yes --actor NAME --reason WHY"
        print_json({"changed": False}) if as_json else stdout().print(f"nothing was changed: {again}", soft_wrap=True)
        return OK
    with working("restoring"):
        told = _restored(settings, file, (referenced(actor, "--actor"), referenced(reason, "--reason")))
    if as_json:
        print_json(told)
    else:
        stdout().print(f"the books are those of {file}; those before are in database {told['before']}")
        stdout().print("start the workers; drop that database when `otb check` holds")
    return OK


def _restored(settings: Settings, file: Path, who: tuple[str, str]) -> dict[str, Any]:
    """Make the database anew beside the one in use, and change their names last: it is done whole or not at all."""
    name = _database(settings)
    draft, before = f"{name}_restored", f"{name}_before_{utc_now():%Y%m%dt%H%M%S}"
    beside = _in(settings, draft)
    asyncio.run(_create(settings, draft))
    _run("pg_restore", beside, "--exit-on-error", "--no-owner", "--no-privileges", str(file))
    applied, moved, told = asyncio.run(_prepared(beside, who))
    asyncio.run(_exchange(settings, name, draft, before))
    return {"changed": True, "before": before, "applied": applied, "moved": moved, "publications": told}


async def _prepared(settings: Settings, who: tuple[str, str]) -> tuple[list[str], int, dict[str, int]]:
    """Give the restored database this build's schemas and rights, and its readers their places."""
    async with connected(settings) as connection:
        unknown = (await drift(connection, PACKAGES, READERS))["unknown"]
    if unknown:
        raise Problem(f"the copy is a newer build's ({', '.join(unknown)}): restore it with that build", FOUND)
    if settings.secrets_dir is None:
        raise Problem("OTB_SECRETS_DIR is not set")
    applied = await bring_up_to_date(owner_dsn(settings), settings.secrets_dir)
    strays, told = await rewind(settings, who)
    return applied, len(strays), told


async def _others(settings: Settings) -> list[str]:
    async with connected(settings) as connection:
        return [row["who"] for row in await connection.fetch(OTHERS, WATCHING)]


async def _create(settings: Settings, draft: str) -> None:
    async with connected(_in(settings, "postgres"), writing=True) as connection:
        await connection.execute(f"DROP DATABASE IF EXISTS {_name(draft)} WITH (FORCE)")
        await connection.execute(f"CREATE DATABASE {_name(draft)}")


async def _exchange(settings: Settings, name: str, draft: str, before: str) -> None:
    async with connected(_in(settings, "postgres"), writing=True) as connection, connection.transaction():
        await connection.fetch(DISMISS, name, WATCHING)
        await connection.execute(f"ALTER DATABASE {_name(name)} RENAME TO {_name(before)}")
        await connection.execute(f"ALTER DATABASE {_name(draft)} RENAME TO {_name(name)}")


def _run(tool: str, settings: Settings, *options: str, umask: int = -1) -> None:
    """Run PostgreSQL's own tool on the database of ``settings``; the password is not among its arguments."""
    parts = urlsplit(owner_dsn(settings))
    address = urlunsplit(parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", "@")))
    command = [_found(tool), *options[:-1], f"--dbname={address}", options[-1]]
    environment = {**inherited_environment(), "PGPASSWORD": unquote(parts.password or "")}
    ended = subprocess.run(  # noqa: S603  # PostgreSQL's own tool, and our own arguments
        command, env=environment, umask=umask, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        why: Sequence[str] = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise Problem(f"{tool} failed: {why[0]}")


def _found(tool: str) -> str:
    """Return the embedded stack's tool, else the system's."""
    try:
        return program(tool)
    except StackError:
        found = shutil.which(tool)
    if found is None:
        raise Problem(f"{tool} is not on this machine: run it where PostgreSQL is (deploy/README.md, Backup)")
    return found


def _in(settings: Settings, database: str) -> Settings:
    address = urlunsplit(urlsplit(owner_dsn(settings))._replace(path=f"/{database}"))
    return settings.model_copy(update={"postgres_dsn": SecretStr(address)})


def _database(settings: Settings) -> str:
    return urlsplit(owner_dsn(settings)).path.lstrip("/")


def _name(text: str) -> str:
    doubled = text.replace('"', '""')
    return f'"{doubled}"'
