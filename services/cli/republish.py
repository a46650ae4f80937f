"""The broker lost records, or removed what was never read: tell them again, and let readers go to where it is now."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Annotated, Any, Final

import typer
from aiokafka import TopicPartition

from schemas.topics import TOPICS
from services.cli.actor import limited, referenced
from services.cli.declared import EVERYONE, WORKERS
from services.cli.kafka import onlooker, partitions_of
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import (
    EPILOG,
    FOUND,
    OK,
    USAGE,
    Json,
    Problem,
    plain_json,
    print_json,
    stdout,
    table,
    working,
)
from services.runtime.settings import Settings

CLIENT_ID: Final = "otb-republish"
# How far each service read.
PROGRESS: Final = " UNION ALL ".join(
    f"SELECT '{worker.name}' AS service, topic, partition, next_offset FROM {worker.package}.progress"  # noqa: S608  # our own names
    for worker in EVERYONE
)
# When the oldest of the events that were read and are lost was told; those nobody read came after.
OLDEST: Final = " UNION ALL ".join(
    f"""SELECT min(created_at) AS told_at FROM {writer.package}.outbox JOIN {writer.package}.publication
    USING (publication_id) WHERE event_id IN (SELECT event_id FROM {reader.package}.inbox JOIN unnest($1::text[],
      $2::integer[], $3::bigint[]) AS lost (topic, partition, ends_at) USING (topic, partition)
      WHERE inbox."offset" >= ends_at)"""  # noqa: S608
    for writer in EVERYONE
    for reader in EVERYONE
    if set(writer.writes) & set(reader.topics)
)
# What the five decide again after a backup was restored, and so tell again; what people and billing told stays told.
DECIDED: Final = frozenset(topic for worker in WORKERS for topic in worker.writes)
# When the oldest of the events was told that a reader of it has not read: Kafka kept it no longer than that.
UNREAD: Final = " UNION ALL ".join(
    f"""SELECT min(p.created_at) AS told_at FROM {writer.package}.publication p JOIN {writer.package}.outbox o
    USING (publication_id) WHERE p.created_at > (SELECT max(created_at) FROM {writer.package}.publication)
      - make_interval(secs => {max(TOPICS[topic].retention_ms for topic in shared) // 1000})
      AND o.topic IN (SELECT topic FROM {reader.package}.progress)
      AND NOT EXISTS (SELECT FROM {reader.package}.inbox i WHERE i.event_id = o.event_id)
      AND NOT EXISTS (SELECT FROM {reader.package}.set_aside s WHERE s.kind = 'dead_letter' AND s.value = o.payload)"""  # noqa: S608
    for writer in WORKERS
    for reader in EVERYONE
    if (shared := set(writer.writes) & set(reader.topics))
)
COUNT: Final = "SELECT count(*) FROM {package}.publication WHERE created_at >= $1"
# Lets a service's workers send again what they told since then, under new numbers in the same order: a worker may still
# hold the acknowledgement of a record that was lost, or lies where its reader had been, and must not close it by that.
OPEN: Final = """
WITH again AS (
  SELECT publication_id AS was, nextval(pg_get_serial_sequence('{package}.publication', 'publication_id')) AS becomes,
    partitions, created_at
  FROM (SELECT * FROM {package}.publication WHERE created_at >= $1 ORDER BY publication_id) AS p),
moved AS (UPDATE {package}.outbox SET publication_id = becomes FROM again WHERE publication_id = was),
closed AS (DELETE FROM {package}.publication USING again WHERE publication_id = was),
opened AS (INSERT INTO {package}.publication (publication_id, partitions, created_at) OVERRIDING SYSTEM VALUE
  SELECT becomes, partitions, created_at FROM again RETURNING 1)
SELECT count(*) FROM opened
"""
# Moves a reader to where the broker is. Every offset stays accounted for: what was read of a lost stretch is counted as
# if it had come before the first, and a stretch that was removed unread is a gap.
MOVE: Final = """
UPDATE {package}.progress AS p SET next_offset = m.at, gaps = p.gaps + greatest(m.at - p.next_offset, 0),
  first_offset = p.first_offset - greatest(p.next_offset - m.at, 0)
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS m (topic, partition, read_to, at)
WHERE p.topic = m.topic AND p.partition = m.partition AND p.next_offset = m.read_to RETURNING 1
"""
# Takes records set aside off the offsets that were lost: other records will have them.
FREE: Final = """
UPDATE {package}.set_aside AS s SET "offset" = -set_aside_id FROM unnest($1::text[], $2::integer[], $3::bigint[])
  AS m (topic, partition, at)
WHERE s.topic = m.topic AND s.partition = m.partition AND s."offset" >= m.at
"""
AUDIT: Final = """
INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
VALUES (date_trunc('milliseconds', clock_timestamp()), $1, 'replay', 'unknown', $3, $2, $4)
"""


@dataclass(frozen=True, slots=True)
class Stray:
    """A reader whose next record the broker does not have: it ends before, or begins after."""

    service: str
    topic: str
    partition: int
    read_to: int
    goes_to: int

    @property
    def lost(self) -> int:
        """Return how many records that were read are lost; negative: removed without being read."""
        return self.read_to - self.goes_to


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog=EPILOG)(republish)


def republish(
    since: Annotated[
        str | None, typer.Option("--from", help="Tell again what was told since this instant, as 2026-11-27T04:00:00Z.")
    ] = None,
    restored: Annotated[
        bool, typer.Option("--restored", help="The database is a backup's: skip what was told after it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would happen.")] = False,
    actor: Annotated[str | None, typer.Option(help="Who does it; kept in the audit.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why, as a code or a ticket; kept in the audit.")] = None,
    as_json: Json = False,
) -> int:
    """Tell again, from the outboxes, what Kafka lost; readers go to where it ends now and take each event once.

    Without --yes nothing changes: it shows who is ahead of Kafka and from when to tell again; 1 when somebody is.
    With --restored, and before any worker starts: what was decided after the backup is decided again, so its readers
    skip what Kafka holds of it, and what they had not read by then is told again.
    """
    if yes and not (actor and reason and (since or restored)):
        raise Problem("--yes needs --actor, --reason and --from or --restored", USAGE)
    told = _instant(since) if since else None
    who = (referenced(actor, "--actor"), referenced(reason, "--reason")) if yes and actor and reason else None
    with working("comparing the books with Kafka"):
        strays, since_at, counts = asyncio.run(_republish(attached(), told, who, restored=restored))
    if as_json:
        away = [asdict(stray) for stray in strays]
        print_json({"moved" if yes else "away": away, "from": since_at, "publications": counts, "changed": yes})
    else:
        _show(strays, since_at, counts, done=yes, restored=restored)
    return FOUND if strays and not yes else OK


async def strays_of(settings: Settings, *, restored: bool = False) -> list[Stray]:
    """Return every reader whose next record is not there, with where it can go on.

    In a ``restored`` database what the five told and is unread is told again: its readers go on behind it.
    """
    async with connected(settings) as connection:
        rows = await connection.fetch(PROGRESS)
    there = await partitions_of(settings, sorted({row["topic"] for row in rows}), CLIENT_ID) if rows else []
    if not there:
        return []
    async with onlooker(settings, CLIENT_ID) as consumer:
        begins, ends = await consumer.beginning_offsets(there), await consumer.end_offsets(there)
    found = []
    for row in rows:
        at = TopicPartition(row["topic"], row["partition"])
        if at not in ends:
            continue
        goes_to = min(max(row["next_offset"], begins[at]), ends[at])
        if restored and at.topic in DECIDED:
            goes_to = ends[at]
        if goes_to != row["next_offset"]:
            found.append(Stray(row["service"], at.topic, at.partition, row["next_offset"], goes_to))
    return sorted(found, key=lambda stray: (stray.topic, stray.partition, stray.service))


async def _republish(
    settings: Settings, since: datetime | None, who: tuple[str, str] | None, *, restored: bool
) -> tuple[list[Stray], datetime | None, dict[str, int]]:
    strays = await strays_of(settings, restored=restored)
    async with connected(settings, writing=who is not None) as connection:
        if since is None:
            since = await (_unread(connection) if restored else _oldest(connection, strays))
        if who is not None:
            async with connection.transaction():
                return strays, since, await _do(connection, strays, since, who, "restored" if restored else "republish")
        counts = {} if since is None else await _counted(connection, COUNT, since)
        return strays, since, counts


async def rewind(settings: Settings, who: tuple[str, str]) -> tuple[list[Stray], dict[str, int]]:
    """Let a restored database's readers go on where its writers will; return who moved and what is told again."""
    strays, _, counts = await _republish(settings, None, who, restored=True)
    return strays, counts


async def _do(
    connection: Connection, strays: Sequence[Stray], since: datetime | None, who: tuple[str, str], subject: str
) -> dict[str, int]:
    await limited(connection, who[0])
    for worker in EVERYONE:
        mine = [stray for stray in strays if stray.service == worker.name]
        lost = [stray for stray in mine if stray.lost > 0]
        await connection.execute(FREE.format(package=worker.package), *_columns(lost, "topic", "partition", "goes_to"))
        where = _columns(mine, "topic", "partition", "read_to", "goes_to")
        if len(await connection.fetch(MOVE.format(package=worker.package), *where)) != len(mine):
            raise Problem(f"{worker.name} reads on meanwhile: look again", FOUND)
    counts = {} if since is None else await _counted(connection, OPEN, since)
    content = {"from": since, "moved": [asdict(stray) for stray in strays], "publications": counts}
    await connection.execute(AUDIT, *who, subject, json.dumps(content, default=plain_json))
    return counts


async def _counted(connection: Connection, query: str, since: datetime) -> dict[str, int]:
    return {
        worker.name: await connection.fetchval(query.format(package=worker.package), since)
        for worker in EVERYONE
        if worker.writes
    }


async def _oldest(connection: Connection, strays: Sequence[Stray]) -> datetime | None:
    lost = {(stray.topic, stray.partition): stray.goes_to for stray in strays if stray.lost > 0}
    at = [[*each] for each in zip(*((*where, to) for where, to in sorted(lost.items())), strict=True)]
    rows = await connection.fetch(OLDEST, *at) if at else []
    return min((row["told_at"] for row in rows if row["told_at"]), default=None)


async def _unread(connection: Connection) -> datetime | None:
    return min((row["told_at"] for row in await connection.fetch(UNREAD) if row["told_at"]), default=None)


def _columns(strays: Sequence[Stray], *names: str) -> list[list[Any]]:
    return [[getattr(stray, name) for stray in strays] for name in names]


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem("--from is an instant with its offset, as 2026-11-27T04:00:00Z", USAGE) from error
    if found.tzinfo is None:
        raise Problem("--from needs an offset, as in 2026-11-27T04:00:00Z or ...+08:00", USAGE)
    return found


def _show(
    strays: Sequence[Stray], since: datetime | None, counts: dict[str, int], *, done: bool, restored: bool
) -> None:
    console = stdout()
    if strays:
        what = "skips" if restored else "lost"
        shown = table("topic", "reader", "had read to", "goes to", what, right=("had read to", "goes to", what))
        for stray in strays:
            where = f"{stray.topic}/{stray.partition}"
            count = -stray.lost if restored else stray.lost
            shown.add_row(where, stray.service, str(stray.read_to), str(stray.goes_to), str(count))
        console.print(shown)
    else:
        console.print("no reader is ahead of Kafka or behind what it holds")
    for service, count in counts.items():
        console.print(f"{service}: {count} publications {'are told' if done else 'would be told'} again")
    edge = sorted({stray.topic for stray in strays if TOPICS[stray.topic].edge})
    if edge:
        console.print(f"ask billing to send {' and '.join(edge)} again from a minute before: its ids make it harmless")
    if done:
        console.print("done; workers that stopped go on when they are started, the others within 5 s")
    elif strays:
        begin = "--restored" if restored else f"--from {since.isoformat() if since else 'INSTANT'}"
        console.print(f"nothing was changed: otb republish {begin} --yes --actor NAME --reason WHY", soft_wrap=True)
