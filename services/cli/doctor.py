"""Is this deployment as it must be? Each check says what it found and, where that is not right, what to do."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import asyncpg
import typer
from aiokafka.errors import KafkaError
from confluent_kafka import KafkaException

from schemas.topics import TOPICS
from services.cli import doctor_database, doctor_kafka
from services.cli.conform import EDGE
from services.cli.conformity import examine
from services.cli.finding import Finding, Level
from services.cli.kafka import tail
from services.cli.servers import attached
from services.cli.terminal import (
    ENVIRONMENT,
    EPILOG,
    FOUND,
    OK,
    Json,
    Problem,
    print_json,
    stdout,
    table,
    working,
)
from services.profiles import load_profiles
from services.runtime.errors import ConfigurationError
from services.runtime.settings import Settings

RECORDS: Final = 500
DISK_FREE_MIN: Final = 0.1
CLIENT_ID: Final = "otb-doctor"
NO_ANSWER: Final = (
    KafkaError,
    KafkaException,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    TimeoutError,
    OSError,
    Problem,
)

Check = Callable[[Settings], Awaitable[Iterable[Finding]]]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(doctor)


def doctor(as_json: Json = False) -> int:
    """Check servers, settings, rights, migrations, clocks, policy, disks and billing's newest records.

    Exit codes: 1 when something is broken, 3 when a server did not answer or refused, so that not all could be checked;
    warnings alone are 0.
    """
    settings = attached()
    with working("examining"):
        found = asyncio.run(diagnose(settings))
    if as_json:
        print_json([asdict(each) for each in found])
    else:
        shown = table("check", "", "found", "what to do")
        for each in found:
            shown.add_row(each.check, each.level, each.found, each.fix)
        stdout().print(shown)
    return code_of(found)


def code_of(found: Iterable[Finding]) -> int:
    """Return the exit code that sums findings up."""
    levels = {each.level for each in found}
    if "unknown" in levels:
        return ENVIRONMENT
    return FOUND if "broken" in levels else OK


async def diagnose(settings: Settings) -> list[Finding]:
    """Run every check; a server that does not answer is a finding, not an end."""
    checks: Sequence[Check] = (
        *doctor_kafka.CHECKS,
        *doctor_database.CHECKS,
        policy,
        disk,
        disk_of_kafka,
        disk_of_postgres,
        billing,
    )
    found: list[Finding] = []
    for check in checks:
        try:
            found += await check(settings)
        except NO_ANSWER as error:
            why = " ".join(str(error).split()) or type(error).__name__
            let = "let the server answer this user, with the settings that `otb config` shows"
            found.append(Finding(check.__name__, "unknown", why, let))
    return found


async def policy(settings: Settings) -> list[Finding]:
    """Check that every product profile can be read."""
    try:
        return [Finding("policy", "ok", f"{len(load_profiles(settings).by_product)} profiles can be read")]
    except ConfigurationError as error:
        return [Finding("policy", "broken", str(error), "mend the file: a worker does not start with it")]


async def disk(settings: Settings) -> list[Finding]:
    """Check that the state folder's disk has room."""
    folder = settings.state_dir.resolve()
    return [_room("state folder", next(each for each in (folder, *folder.parents) if each.is_dir()))]


async def disk_of_kafka(settings: Settings) -> list[Finding]:
    """Check that the broker's disk has room, when it is this machine's."""
    return [_room_there("Kafka", await doctor_kafka.data_folder(settings))]


async def disk_of_postgres(settings: Settings) -> list[Finding]:
    """Check that the database's disk has room, when it is this machine's."""
    return [_room_there("PostgreSQL", await doctor_database.data_folder(settings))]


async def billing(settings: Settings) -> list[Finding]:
    """Check billing's newest records as `otb conform` does."""
    found = []
    for name in EDGE:
        partitions, records = await tail(settings, name, RECORDS, CLIENT_ID)
        breaches = examine(TOPICS[name], partitions, records)
        found += [Finding(name, each.level, f"{each.rule}, {each.count} times", each.fix) for each in breaches]
        if not breaches:
            found.append(Finding(name, "ok", f"{len(records)} newest records keep every rule"))
    return found


def _room_there(whose: str, folder: Path | None) -> Finding:
    if folder is None or not folder.is_dir():
        return Finding(f"disk of {whose}", "ok", "not on this machine: watch it there")
    return _room(whose, folder)


def _room(whose: str, folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    free = usage.free / usage.total
    level: Level = "ok" if free >= DISK_FREE_MIN else "broken"
    fix = "" if level == "ok" else f"free space under {folder}: a full disk stops everything"
    return Finding(f"disk of {whose}", level, f"{free:.0%} free", fix)
