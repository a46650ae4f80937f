"""What people do through the console: one transaction with its audit, told on the topic right after."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Final

import typer

from schemas.topics import RESTORATION
from services.cli.actor import limited
from services.cli.servers import connected
from services.cli.terminal import FOUND, Problem
from services.console.domain import Command
from services.console.model import SECOND_PERSON_HOURS, SourceDiffers
from services.console.worker import WORKER as CONSOLE
from services.decision import Internal
from services.runtime.batch import Batch, Committed, process
from services.runtime.clock import monotonic, utc_now
from services.runtime.dead_letter import Limit
from services.runtime.fold import Arrived
from services.runtime.postgres import COLLISION, Connection, Row, connect, one
from services.runtime.publisher import PUBLISH_FAILED, Publisher, partition_of
from services.runtime.settings import Settings

Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for the word of who applies it.")]
# How many partitions the console reads; none before it first ran.
PARTITIONS = "SELECT count(*) AS n FROM progress WHERE topic = $1"
# What limit-release made of an event, once it took it up.
VERDICT = "SELECT outcome, reason FROM limit_release.inbox WHERE event_id = $1::uuid"
# And what risk-scoring made of one.
REVIEWED = "SELECT outcome, reason FROM risk_scoring.inbox WHERE event_id = $1::uuid"
POLL_SECONDS: Final = 0.1
SECOND_PERSON: Final = f"so much money takes two: another person has to say the same within {SECOND_PERSON_HOURS} hours"


@dataclass(frozen=True, slots=True)
class Done:
    """A command that was committed; ``told`` says whether Kafka has what follows from it, ``event_id`` names it."""

    event_id: str | None
    told: bool


async def act(settings: Settings, command: Command) -> Done:
    """Do what a person says as the console does: decided, audited and kept at once; then told.

    Raises Problem when another changed the case meanwhile. What Kafka did not take, the console's worker sends later.
    """
    connection = await connect(settings, CONSOLE.package)
    try:
        await limited(connection, command.actor)
        batch = Batch(taken=monotonic(), arrived=[Arrived(command, await _partition(connection, command), utc_now())])
        try:
            committed = await process(connection, CONSOLE, None, batch, limit=Limit(1.0, 1), acknowledged=())
        except COLLISION as error:
            raise Problem("it was changed by another meanwhile: look again", FOUND) from error
        if not committed.counts["applied"]:
            raise Problem("it was changed by another meanwhile: look again", FOUND)
        if committed.publication_id is None:
            return Done(None, told=True)
        told = await _told(settings, connection, committed.publication_id, committed)
        return Done(committed.outgoing[0].event_id.hex, told)
    finally:
        await connection.close(timeout=5)


async def open_cases(settings: Settings, found: Sequence[SourceDiffers]) -> int:
    """Open a case for each of what was found, as the console does; return how many were not open before."""
    connection = await connect(settings, CONSOLE.package)
    try:
        opened = 0
        for each in found:  # two of one account in one batch would be decided on one desk; there are few
            arrived = [Arrived(each, await _partition(connection, each), utc_now())]
            batch = Batch(taken=monotonic(), arrived=arrived)
            done = await process(connection, CONSOLE, None, batch, limit=Limit(1.0, 1), acknowledged=())
            opened += done.counts["applied"]
        return opened
    finally:
        await connection.close(timeout=5)


async def _partition(connection: Connection, command: Internal) -> int:
    """Return the partition of an account, whose owner also fires the timers of its cases."""
    row = await one(connection, PARTITIONS, RESTORATION.name)
    return partition_of(command.account_id, row["n"]) if row["n"] else -1


async def _told(settings: Settings, connection: Connection, publication_id: int, committed: Committed) -> bool:
    publisher = Publisher(settings, CONSOLE.name)
    try:
        await publisher.start()
        await publisher.send(publication_id, committed.outgoing)
        await publisher.settle()
        await publisher.mark(connection)
    except PUBLISH_FAILED:
        return False
    finally:
        await publisher.stop()
    return True


async def verdict(settings: Settings, event_id: str, seconds: float, asked: str = VERDICT) -> Row | None:
    """Wait until limit-release, or who is ``asked``, took an event up; None when it did not within ``seconds``."""
    deadline = monotonic() + seconds
    async with connected(settings) as connection:
        while True:
            row = await connection.fetchrow(asked, event_id)
            if row is not None or monotonic() >= deadline:
                return row
            await asyncio.sleep(POLL_SECONDS)
