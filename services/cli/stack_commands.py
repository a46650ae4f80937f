"""The servers and the workers: start, stop, look at; settings and version."""

import asyncio
import time
from collections import deque
from importlib.metadata import version as version_of
from typing import Annotated, Any
from urllib.parse import urlsplit

import typer

from deploy.embedded import Process, Stack
from services.cli.declared import EVERYONE
from services.cli.grants import bring_up_to_date
from services.cli.servers import attached, owner_dsn, stack_of
from services.cli.system import System, make_topics, open_system, provision, start_probe, start_workers, wait_ready
from services.cli.terminal import (
    EPILOG,
    NOT_FOUND,
    OK,
    USAGE,
    Json,
    Problem,
    print_json,
    seconds_since,
    stdout,
    table,
    working,
)
from services.cli.windows import start_picture
from services.lag_monitor import PICTURE, PROBE
from services.runtime.clock import monotonic
from services.runtime.settings import PREFIX, Settings, load_settings, masked

stack = typer.Typer(help="The embedded Kafka and PostgreSQL of the state folder.", no_args_is_help=True, epilog=EPILOG)
WATCH_SECONDS = 0.5
FOLLOW_SECONDS = 0.3
PARTS = ("kafka", "postgres")


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (migrate_command, topics, run, config, version):
        app.command(command.__name__.removesuffix("_command"), epilog=EPILOG)(command)
    app.add_typer(stack, name="stack")


@stack.command(epilog=EPILOG)
def up(as_json: Json = False) -> None:
    """Start Kafka and PostgreSQL; the first time downloads 41 MB of jars."""
    begun = monotonic()
    system = open_system(load_settings())
    if as_json:
        print_json({"seconds": round(monotonic() - begun, 1), **_addresses(system.settings)})
        return
    console = stdout()
    for name, address in _addresses(system.settings).items():
        console.print(f"{name:<11} {address}")
    console.print(
        f"up in {seconds_since(begun)}; data and logs in {system.stack.state_dir}; stop with `otb stack down`"
    )


@stack.command(epilog=EPILOG)
def status(as_json: Json = False) -> int:
    """Show what runs; exit 3 when a server is down."""
    found = stack_of(load_settings()).status()
    if as_json:
        print_json([_described(process) for process in found])
    else:
        shown = table("name", "state", "pid", "up", "restarts", right=("pid", "up", "restarts"))
        for process in found:
            up_for = f"{process.uptime_seconds:.0f} s" if process.pid else ""
            shown.add_row(process.name, process.state, str(process.pid or ""), up_for, str(process.restarts))
        stdout().print(shown)
    return OK if all(each.state == "running" for each in found) else 3


@stack.command(epilog=EPILOG)
def down(as_json: Json = False) -> None:
    """Stop workers, Kafka and PostgreSQL; data stay."""
    embedded = stack_of(load_settings())
    stopped = [process.name for process in embedded.processes() if process.pid]
    with working("stopping"):
        embedded.down()
    if as_json:
        print_json({"stopped": stopped})
    else:
        stdout().print(f"stopped: {', '.join(stopped)}" if stopped else "nothing was running")


@stack.command(epilog=EPILOG)
def reset(
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Stop everything and remove data, logs and secrets of the state folder; downloaded jars stay."""
    embedded = stack_of(load_settings())
    if not yes and stdout().is_terminal and not typer.confirm(f"Remove all data in {embedded.state_dir}?"):
        raise Problem("nothing was removed", USAGE)
    with working("stopping and removing"):
        removed = embedded.reset()
    if as_json:
        print_json({"removed": removed})
        return
    for path in removed:
        stdout().print(f"removed {path}")
    if not removed:
        stdout().print(f"nothing to remove in {embedded.state_dir}")


@stack.command(epilog=EPILOG)
def logs(
    name: Annotated[str, typer.Argument(help="kafka, postgres, supervisord or a worker; without it: the list.")] = "",
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="Last lines to show.")] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
    as_json: Json = False,
) -> None:
    """Show the end of a log."""
    folder = stack_of(load_settings()).logs_dir
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if not name:
        sizes = {each: path.stat().st_size for each, path in found.items()}
        print_json(sizes) if as_json else stdout().print("\n".join(found) or f"no logs in {folder}")
        return
    if name not in found:
        raise Problem(f"no log {name} in {folder}; there are: {', '.join(found) or 'none'}", NOT_FOUND)
    with found[name].open(errors="replace") as file:
        end = list(deque(file, lines))
        if as_json:
            print_json([line.rstrip("\n") for line in end])
            return
        typer.echo("".join(end), nl=False)
        while follow:
            typer.echo(file.read(), nl=False)
            time.sleep(FOLLOW_SECONDS)


def migrate_command(as_json: Json = False) -> None:
    """Bring every service's schema up to date, and give each role exactly the rights of deploy/access.yaml."""
    settings = attached(["postgres"])
    dsn, folder = owner_dsn(settings), settings.secrets_dir
    if folder is None:
        raise Problem("OTB_SECRETS_DIR is not set")
    with working("migrating"):
        done = asyncio.run(bring_up_to_date(dsn, folder))
    _list("applied", done, "every schema was up to date", as_json=as_json)


def topics(as_json: Json = False) -> None:
    """Make missing topics; an existing one with another number of partitions is refused."""
    with working("making topics"):
        made = asyncio.run(make_topics(attached(["kafka"])))
    _list("made", made, "every topic was there", as_json=as_json)


def run(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="Workers to run.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Run the five workers and the observers.")] = False,
    as_json: Json = False,
) -> None:
    """Run workers in the foreground until Ctrl-C; servers that do not run are started, and stopped again."""
    known = [*(worker.name for worker in EVERYONE), PICTURE, PROBE]
    chosen = [name for name in known if everyone or name in (names or [])]
    if set(names or []) - set(known) or not chosen:
        raise Problem(f"name workers to run, or --all; there are: {', '.join(known)}", USAGE)
    settings = load_settings()
    before = {process.name for process in stack_of(settings).processes() if process.pid}
    system = open_system(settings)
    try:
        asyncio.run(provision(system.settings))
        with working("starting workers"):
            asyncio.run(wait_ready(_started(system, chosen)))
        _watch(system, chosen, as_json=as_json)
    except KeyboardInterrupt:
        stdout().print("stopping") if not as_json else None
    finally:
        _stop(system.stack, chosen, before)


def config(as_json: Json = False) -> None:
    """Show the settings in force and where each comes from; secrets are masked."""
    settings = load_settings()
    rows = {
        name: {
            "variable": PREFIX + name.upper(),
            "value": None if value == "None" else value,
            "from": "environment" if name in settings.model_fields_set else "default",
            "about": Settings.model_fields[name].description,
        }
        for name, value in masked(settings).items()
    }
    if as_json:
        print_json(rows)
        return
    shown = table("setting", "value", "from", "about")
    for row in rows.values():
        shown.add_row(row["variable"], row["value"] or "-", row["from"], row["about"])
    stdout().print(shown)


def version(as_json: Json = False) -> None:
    """Show versions."""
    names = ("opentobuy", "aiokafka", "asyncpg", "faust-streaming", "pydantic")
    found = {name: version_of(name) for name in names}
    print_json(found) if as_json else stdout().print("\n".join(f"{name} {what}" for name, what in found.items()))


def _started(system: System, names: list[str]) -> dict[str, int]:
    """Start workers, the live picture and the probe, as named; return the web port of each that has one."""
    ports = dict(start_workers(system, [worker for worker in EVERYONE if worker.name in names]))
    if PROBE in names:
        start_probe(system)
    return {**ports, PICTURE: start_picture(system)} if PICTURE in names else ports


def _watch(system: System, names: list[str], *, as_json: bool) -> None:
    """Tell of every worker that starts again, until interrupted."""
    known: dict[str, tuple[str, int]] = {}
    while True:
        for process in system.stack.processes():
            state = (process.state, process.restarts)
            if process.name in names and known.get(process.name) != state:
                known[process.name] = state
                _say(process, as_json=as_json)
        time.sleep(WATCH_SECONDS)


def _say(process: Process, *, as_json: bool) -> None:
    if as_json:
        print_json(_described(process))
    else:
        again = f", started again {process.restarts} times" if process.restarts else ""
        stdout().print(f"{process.name}: {process.state}, pid {process.pid}{again}")


def _stop(embedded: Stack, workers: list[str], before: set[str]) -> None:
    if before.issuperset(PARTS):
        embedded.stop([name for name in workers if name not in before])
    else:
        embedded.down()


def _addresses(settings: Settings) -> dict[str, str]:
    dsn = settings.postgres_dsn.get_secret_value() if settings.postgres_dsn else ""
    parts = urlsplit(dsn)
    where = f"{parts.hostname or ''}:{parts.port or ''}{parts.path}"
    return {"kafka": settings.kafka_bootstrap_servers or "", "postgres": where}


def _described(process: Process) -> dict[str, Any]:
    return {
        "name": process.name,
        "state": process.state,
        "pid": process.pid,
        "uptime_seconds": process.uptime_seconds,
        "restarts": process.restarts,
    }


def _list(verb: str, names: list[str], nothing: str, *, as_json: bool) -> None:
    if as_json:
        print_json({verb: names})
        return
    for name in names:
        stdout().print(f"{verb} {name}")
    if not names:
        stdout().print(nothing)
