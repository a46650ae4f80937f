"""Records set aside: look at them, let them be handled again, or discard them; changes have an actor and a reason."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, TypeVar

import typer

from schemas.topics import TOPICS
from services.cli.actor import limited
from services.cli.declared import EVERYONE
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import (
    EPILOG,
    FOUND,
    NOT_FOUND,
    OK,
    USAGE,
    Json,
    Problem,
    local,
    print_json,
    stdout,
    table,
)
from services.decision import Malformed
from services.runtime.codec import decode, headers_from_bytes
from services.runtime.dead_letter import Kept
from services.runtime.postgres import Row

T = TypeVar("T")
WAITS: Final = {
    "ACCOUNT_UNKNOWN": "it waits for that account",
    "waits_for_its_repayment": "it waits for the repayment it names",
}
"""What a parked record waits for, by the reason its service gave."""
HANDLERS: Final = tuple(worker for worker in EVERYONE if worker.writes)
"""Who a record is for: an observer keeps what it cannot read as well, and nobody has to handle that."""
app = typer.Typer(
    help="Records set aside: dead letters for a person, parked ones for what they wait for.",
    no_args_is_help=True,
    epilog=EPILOG,
)
VALUE_SHOWN: Final = 2_000

# Which service's tables an unqualified name means from here on.
USE = "SELECT set_config('search_path', $1, false)"
# Set-aside records of one service that wait, oldest first.
LIST = """
SELECT set_aside_id, kind, state, topic, partition, "offset", account_id, reason, attempts, first_seen_at
FROM set_aside WHERE kind = ANY ($1::text[]) AND (state IN ('open', 'ready') OR $2)
ORDER BY set_aside_id LIMIT $3
"""
SHOW = "SELECT * FROM set_aside WHERE set_aside_id = $1"
# Lets an open record be handled again, or closes it for good, with who and why.
CHANGE = """
UPDATE set_aside SET state = $2, closed_by = $3, closed_reason = $4, last_seen_at = clock_timestamp()
WHERE set_aside_id = $1 AND state = 'open' RETURNING set_aside_id
"""
# An entry of the chained audit about a record; what has no account is nobody's.
AUDIT = """
INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content)
SELECT date_trunc('milliseconds', clock_timestamp()), $1, $2, coalesce($3, 'unknown'), $4, $5,
  json_build_object('reason', $6::text, 'topic', $7::text)::text
"""

Identity = Annotated[str, typer.Argument(metavar="ID", help="service:number as `otb dlq list` shows it.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do it; without, only say what would happen.")]
Actor = Annotated[str | None, typer.Option(help="Who does it; kept with the record.")]
Reason = Annotated[str | None, typer.Option(help="Why; kept with the record.")]


@dataclass(frozen=True, slots=True)
class Aside:
    """One record set aside, and the service it belongs to."""

    service: str
    row: Row

    @property
    def identity(self) -> str:
        """Return its id for people."""
        return f"{self.service}:{self.row['set_aside_id']}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a record could be handled now, in words."""

    readable: bool
    words: str


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="dlq")


@app.command("list", epilog=EPILOG)
def list_(
    parked: Annotated[bool, typer.Option("--parked", help="Also what waits for its account or its repayment.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Also what was handled or discarded.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many of each service.")] = 100,
    as_json: Json = False,
) -> None:
    """List dead letters of all services."""
    kinds = ["dead_letter", "parked"] if parked else ["dead_letter"]
    found = _reading(lambda connection: listed(connection, kinds, limit, everything=everything))
    if as_json:
        print_json([{"id": aside.identity, "service": aside.service, **dict(aside.row)} for aside in found])
    elif not found:
        stdout().print("nothing is set aside")
    else:
        shown = table("id", "kind", "state", "reason", "topic", "account", "first seen")
        for aside in found:
            row = aside.row
            words = (row["kind"].replace("_", " "), row["state"], row["reason"], row["topic"], row["account_id"] or "-")
            shown.add_row(aside.identity, *words, local(row["first_seen_at"]))
        stdout().print(shown)


@app.command(epilog=EPILOG)
def show(identity: Identity, as_json: Json = False) -> None:
    """Show one record with its headers and bytes, and whether it could be read now."""
    aside = _reading(lambda connection: one(connection, identity))
    described = described_of(aside)
    if as_json:
        print_json(described)
        return
    console = stdout()
    for name, value in described.items():
        if name == "headers":
            for header, text in value.items():
                console.print(f"{'header ' + header:<26} {text}", markup=False, soft_wrap=True)
        elif value is not None:
            console.print(f"{name.replace('_', ' '):<26} {value}", markup=False, soft_wrap=True)


@app.command(epilog=EPILOG)
def replay(
    identity: Identity, yes: Yes = False, actor: Actor = None, reason: Reason = None, as_json: Json = False
) -> int:
    """Let a record be handled again: says what would happen; with --yes --actor --reason the worker takes it up."""
    return _change(identity, "ready", yes=yes, actor=actor, reason=reason, as_json=as_json)


@app.command(epilog=EPILOG)
def discard(
    identity: Identity, yes: Yes = False, actor: Actor = None, reason: Reason = None, as_json: Json = False
) -> int:
    """Close a record for good without handling it; with --yes --actor --reason."""
    return _change(identity, "discarded", yes=yes, actor=actor, reason=reason, as_json=as_json)


async def listed(connection: Connection, kinds: Sequence[str], limit: int, *, everything: bool) -> list[Aside]:
    """Return what every service has set aside."""
    found = []
    for worker in HANDLERS:
        await connection.execute(USE, worker.package)
        found += [Aside(worker.name, row) for row in await connection.fetch(LIST, kinds, everything, limit)]
    return found


async def one(connection: Connection, identity: str) -> Aside:
    """Return one record; a number alone is enough when only one service has it."""
    service, _, number = identity.rpartition(":")
    if not number.isdecimal():
        raise Problem(f"{identity} is not service:number", USAGE)
    found = []
    for worker in HANDLERS:
        if service and not worker.name.startswith(service):
            continue
        await connection.execute(USE, worker.package)
        row = await connection.fetchrow(SHOW, int(number))
        found += [Aside(worker.name, row)] if row else []
    if not found:
        raise Problem(f"nothing is set aside as {identity}", NOT_FOUND)
    if len(found) > 1:
        raise Problem(f"{identity} is in several services: {', '.join(a.identity for a in found)}", USAGE)
    return found[0]


def verdict_of(aside: Aside) -> Verdict:
    """Read the record as its worker would now, without handling it."""
    from services.cli.workers import EVERYONE as HOSTED  # with what each can read; only this needs them

    worker = next(worker for worker in HOSTED if worker.name == aside.service)
    row = aside.row
    record = Kept(row["key"], row["value"], headers_from_bytes(row["headers"]))
    try:
        event = decode(TOPICS[row["topic"]], record, worker.handles).event
    except Malformed as error:
        return Verdict(readable=False, words=f"still cannot be read: {error}")
    if event is None:
        return Verdict(readable=True, words="can be read; it is of no interest to this service")
    found = f"can be read as {type(event).__name__} of {event.account_id}"
    if row["kind"] == "parked":
        refused = f"it is tried again by itself; it was refused last: {row['reason']}"
        return Verdict(readable=True, words=f"{found}; {WAITS.get(row['reason'], refused)}")
    return Verdict(readable=True, words=f"{found}: it would be handled")


def described_of(aside: Aside) -> dict[str, Any]:
    """Return a record for people and programs; bytes as text where they are text."""
    row = dict(aside.row)
    row.pop("set_aside_id")
    headers = {name: _text(value) for name, value in headers_from_bytes(row.pop("headers"))}
    kept = {"key": _text(row.pop("key")), "value": _text(row.pop("value")), "headers": headers}
    return {"id": aside.identity, "service": aside.service, "now": verdict_of(aside).words, **row, **kept}


def _change(
    identity: str, to: Literal["ready", "discarded"], *, yes: bool, actor: str | None, reason: str | None, as_json: bool
) -> int:
    if yes and not (actor and reason):
        raise Problem("--yes needs --actor and --reason", USAGE)
    aside = _reading(lambda connection: one(connection, identity))
    verdict = verdict_of(aside)
    if yes and aside.row["state"] != "open":
        raise Problem(f"{aside.identity} is {aside.row['state']} already", FOUND)
    if yes:
        asyncio.run(_write(aside, to, str(actor), str(reason)))
    did = {"ready": "its worker takes it up within a second", "discarded": "closed for good"}
    would = f"{'replay' if to == 'ready' else 'discard'}: nothing was changed; add --yes --actor NAME --reason WHY"
    done = did[to] if yes else would
    if as_json:
        print_json({"id": aside.identity, "now": verdict.words, "changed": yes, "to": to if yes else None})
    else:
        stdout().print(f"{aside.identity} {verdict.words}\n{done}", markup=False, soft_wrap=True)
    return FOUND if to == "ready" and not verdict.readable else OK


async def _write(aside: Aside, to: str, actor: str, reason: str) -> None:
    async with connected(attached(), writing=True) as connection:
        await connection.execute(USE, aside.service.replace("-", "_"))
        row, action = aside.row, "replay" if to == "ready" else "discard"
        await limited(connection, actor)
        async with connection.transaction():
            if await connection.fetchval(CHANGE, row["set_aside_id"], to, actor, reason) is None:
                raise Problem(f"{aside.identity} was changed by another meanwhile", FOUND)
            entry = (actor, action, row["account_id"], aside.identity, reason, row["reason"], row["topic"])
            await connection.execute(AUDIT, *entry)


def _reading(work: Callable[[Connection], Awaitable[T]]) -> T:
    settings = attached()

    async def read() -> T:
        async with connected(settings) as connection:
            return await work(connection)

    return asyncio.run(read())


def _text(value: bytes | None) -> str | None:
    if value is None:
        return None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = f"(hexadecimal) {value.hex()}"
    return text if len(text) <= VALUE_SHOWN else f"{text[:VALUE_SHOWN]}... ({len(value)} bytes)"
