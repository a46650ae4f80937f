"""The audit's anchors outside the database, in a signed file and on a topic: a rewritten or cut chain differs (I22)."""

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any, Final, NamedTuple

import typer
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.audit import AuditAnchored
from schemas.topics import AUDIT_ANCHOR
from services.cli.kafka import tail
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, USAGE, Json, Problem, print_json, stdout
from services.runtime.clock import utc_now
from services.runtime.settings import Settings

app = typer.Typer(
    help="The audit of what people did: anchor its end outside the database, and hold it to its anchors.",
    no_args_is_help=True,
    epilog=EPILOG,
)
HEAD: Final = "SELECT seq, hash, (SELECT count(*) FROM console.audit) AS count FROM console.audit_head"
AT: Final = "SELECT seq, hash FROM console.audit WHERE seq = ANY ($1::bigint[])"
# Since when the chain is what it is: the database is a backup's, and what was anchored before is another chain.
RESTORED: Final = "SELECT max(at) FROM console.audit WHERE action = 'replay' AND subject = 'restored'"
ANCHORS_MAX: Final = 100
"""Of the topic as many are held to the chain; each entry's hash is of all before it, so the last one speaks for all."""
CLIENT_ID: Final = "otb-audit"
KEY: Final = "audit_anchor"
"""The secret that signs: keep it, and the file, where whoever owns the database has no say."""

File = Annotated[Path, typer.Argument(metavar="FILE", help="The anchors, a JSON line each.")]
Kept = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="The anchors; without, those on the topic audit.anchor.v1.")
]


class Place(NamedTuple):
    """Where the chain ended, and when that was told."""

    at: str
    seq: int
    hash: str


class Anchor(BaseModel):
    """Where the chain ended at an instant; ``mac`` signs it and, through ``previous``, all before it."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    at: str
    seq: int
    hash: str
    count: int
    previous: str
    mac: str = ""

    def signed(self, key: bytes) -> "Anchor":
        """Return it with its signature."""
        text = json.dumps(self.model_dump(exclude={"mac"}), sort_keys=True)
        return self.model_copy(update={"mac": hmac.new(key, text.encode(), sha256).hexdigest()})


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="audit")


@app.command(epilog=EPILOG)
def anchor(path: File, as_json: Json = False) -> int:
    """Add where the audit ends now, signed, unless nothing was done since; run it each minute, on another machine."""
    settings = attached(["postgres"])
    key, known = key_of(settings, make=True), read(path)
    head, wrong = asyncio.run(_compared(settings, known, key))
    if wrong:
        return _told(wrong, as_json=as_json)
    last = known[-1] if known else None
    if last is None or last.seq != head["seq"]:
        previous = last.mac if last else ""
        added = Anchor(at=utc_now().isoformat(), **head, previous=previous).signed(key)
        _append(path, added)
    return _told([], as_json=as_json, anchored=head["seq"])


@app.command(epilog=EPILOG)
def verify(path: Kept = None, as_json: Json = False) -> int:
    """Hold the audit to its anchors: 1 when an entry they know was changed, or is gone."""
    if path is None:
        return _told_on_the_topic(as_json=as_json)
    settings = attached(["postgres"])
    known = read(path)
    if not known:
        raise Problem(f"{path} holds no anchor", USAGE)
    _, wrong = asyncio.run(_compared(settings, known, key_of(settings, make=False)))
    return _told(wrong, as_json=as_json, anchored=known[-1].seq)


def _told_on_the_topic(*, as_json: bool) -> int:
    settings = attached()
    known = asyncio.run(told(settings))
    if not known:
        raise Problem(
            f"{AUDIT_ANCHOR.name} holds no anchor: the console writes one a minute after somebody did something"
        )
    return _told(asyncio.run(_held_to(settings, known)), as_json=as_json, anchored=known[-1].seq)


async def told(settings: Settings) -> list[AuditAnchored]:
    """Return the last anchors on their topic, in the order Kafka has them."""
    _, records = await tail(settings, AUDIT_ANCHOR.name, ANCHORS_MAX, CLIENT_ID)
    return [AuditAnchored.model_validate_json(record.value) for record in records]


async def _held_to(settings: Settings, known: Sequence[AuditAnchored]) -> list[str]:
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        return await differs(connection, known)


async def differs(connection: Connection, known: Sequence[AuditAnchored]) -> list[str]:
    """Return what the chain says otherwise than ``known``, told since the database was restored last."""
    restored_at = await connection.fetchval(RESTORED)
    held = [each for each in known if restored_at is None or each.occurred_at > restored_at]
    (head,) = await connection.fetch(HEAD)
    places = [Place(each.occurred_at.isoformat(), each.seq, each.hash) for each in held]
    return await _gone(connection, places, head["seq"])


def read(path: Path) -> list[Anchor]:
    """Return the anchors of a file, none when there is no file."""
    found = []
    for number, line in enumerate(path.read_text().splitlines() if path.exists() else (), start=1):
        try:
            found.append(Anchor.model_validate_json(line))
        except ValidationError as error:
            raise Problem(f"{path}, line {number} is no anchor", FOUND) from error
    return found


def unsigned(known: Sequence[Anchor], key: bytes) -> list[str]:
    """Return what of the file itself is wrong: a line that was changed, left out, or signed by somebody else."""
    wrong, previous = [], ""
    for each in known:
        if each.previous != previous or not hmac.compare_digest(each.signed(key).mac, each.mac):
            wrong.append(f"the anchor at entry {each.seq} is not signed by us after the one before it")
        previous = each.mac
    return wrong


def key_of(settings: Settings, *, make: bool) -> bytes:
    """Return the key of the secrets folder, made on first use and readable by its owner only."""
    folder = settings.secrets_dir or settings.state_dir / "secrets"
    path = folder / KEY
    if not path.exists():
        if not make:
            raise Problem(f"{path} is not there: the file cannot be believed", FOUND)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(32))
    return path.read_text().strip().encode()


async def _compared(settings: Settings, known: Sequence[Anchor], key: bytes) -> tuple[dict[str, Any], list[str]]:
    async with connected(settings) as connection, connection.transaction(isolation="repeatable_read", readonly=True):
        (head,) = await connection.fetch(HEAD)
        places = [Place(each.at, each.seq, each.hash) for each in known]
        return dict(head), [*unsigned(known, key), *await _gone(connection, places, head["seq"])]


async def _gone(connection: Connection, known: Sequence[Place], end: int) -> list[str]:
    """Return what the chain says otherwise than the anchors."""
    rows = await connection.fetch(AT, [each.seq for each in known])
    there = {row["seq"]: row["hash"] for row in rows} | {0: "0" * 64}
    wrong = [
        f"entry {each.seq} is {'another' if each.seq in there else 'gone'}: anchored at {each.at}"
        for each in known
        if there.get(each.seq) != each.hash
    ]
    behind = [each for each in known if each.seq > end]
    return [*wrong, *(f"the chain ends at {end}, anchored at {each.seq}" for each in behind[-1:])]


def _append(path: Path, added: Anchor) -> None:
    with path.open("a") as file:
        file.write(added.model_dump_json() + "\n")
        file.flush()
        os.fsync(file.fileno())


def _told(wrong: Sequence[str], *, as_json: bool, anchored: int | None = None) -> int:
    if as_json:
        print_json({"ok": not wrong, "wrong": list(wrong), "anchored": anchored})
    else:
        for line in wrong or [f"the audit agrees with its anchors up to entry {anchored}"]:
            stdout().print(line, markup=False)
    return FOUND if wrong else OK
