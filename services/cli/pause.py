"""Let a service stand still and go on: its waits are then explained, with who did it and why."""

import asyncio
from typing import Annotated, Any, Final

import typer

from services.cli.actor import Actor, Why
from services.cli.declared import WORKERS, Named
from services.cli.servers import attached, connected, stack_of
from services.cli.system import System, start_workers, wait_ready
from services.cli.terminal import EPILOG, FOUND, OK, USAGE, Json, Problem, print_json, stdout, working
from services.runtime.settings import Settings

STAGE: Final = dict(
    zip((worker.name for worker in WORKERS), ("ingest", "settlement", "risk", "release", "notify"), strict=True)
)
BEGIN = """
INSERT INTO lag_monitor.operator_pause (service, stage, actor, reason) VALUES ($1, $2, $3, $4)
ON CONFLICT (service) WHERE to_at IS NULL DO NOTHING RETURNING from_at
"""
END = """
UPDATE lag_monitor.operator_pause SET to_at = clock_timestamp(), ended_by = $2 WHERE service = $1 AND to_at IS NULL
RETURNING from_at, to_at
"""
Name = Annotated[str, typer.Argument(metavar="SERVICE", help="One of the five workers.")]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("pause", epilog=EPILOG)(pause)
    app.command("resume", epilog=EPILOG)(resume)


def pause(name: Name, actor: Actor, reason: Why, as_json: Json = False) -> int:
    """Let a worker stand still; what waits for it meanwhile waits for the pause, and says so."""
    worker, settings = _worker(name), attached()
    with working(f"stopping {name}"):
        stopped = _stop(settings, worker)
    since = asyncio.run(_write(settings, BEGIN, name, STAGE[name], actor, reason))
    done = f"{name} is paused" if stopped else f"the pause of {name} is written down; what runs it has to stop it"
    return _tell(done, f"{name} was paused before", since, as_json=as_json)


def resume(name: Name, actor: Actor, reason: Why, as_json: Json = False) -> int:
    """Let a paused worker go on."""
    worker, settings = _worker(name), attached()
    ended = asyncio.run(_write(settings, END, name, f"{actor}: {reason}"))
    with working(f"starting {name}"):
        started = _start(settings, worker)
    done = f"{name} goes on" if started else f"the pause of {name} is over; what runs it has to start it"
    return _tell(done, f"{name} was not paused", ended, as_json=as_json)


def _worker(name: str) -> Named:
    found = [worker for worker in WORKERS if worker.name == name]
    if not found:
        raise Problem(f"no worker {name}; there are: {', '.join(STAGE)}", USAGE)
    return found[0]


async def _write(settings: Settings, query: str, *values: object) -> dict[str, Any] | None:
    async with connected(settings, writing=True) as connection:
        row = await connection.fetchrow(query, *values)
        return None if row is None else dict(row)


def _stop(settings: Settings, worker: Named) -> bool:
    """Stop it where the embedded stack supervises it; elsewhere, as False says, its own supervisor has to."""
    stack = stack_of(settings)
    if not any(process.name == worker.name for process in stack.processes()):
        return False
    stack.stop([worker.name])
    return True


def _start(settings: Settings, worker: Named) -> bool:
    """Start it again where the embedded stack runs the servers; elsewhere, as False says, its supervisor has to."""
    stack = stack_of(settings)
    if not any(process.name in ("kafka", "postgres") and process.pid for process in stack.processes()):
        return False
    asyncio.run(wait_ready(start_workers(System(settings, stack), [worker])))
    return True


def _tell(done: str, nothing: str, row: dict[str, Any] | None, *, as_json: bool) -> int:
    if as_json:
        print_json({"changed": row is not None, **(row or {})})
    else:
        stdout().print(nothing if row is None else done)
    return FOUND if row is None else OK
