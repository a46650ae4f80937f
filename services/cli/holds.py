"""A person ends a hold or moves its date; limit-release applies it, and the customer is told."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from schemas.event import to_millisecond
from schemas.ids import AccountId, RepaymentId
from services.cli.acting import SECOND_PERSON, Wait, act, verdict
from services.cli.actor import Actor, Why, referenced
from services.cli.journey import find
from services.cli.look import Named
from services.cli.servers import attached, connected
from services.cli.terminal import EPILOG, FOUND, NOT_FOUND, OK, USAGE, Json, Problem, local, print_json, stdout
from services.console.domain import Command, ExtendHold, ReleaseHold
from services.runtime.postgres import Row
from services.runtime.settings import Settings

app = typer.Typer(
    help="Holds: end one now, or move its date once; with who and why.", no_args_is_help=True, epilog=EPILOG
)
# The parts of a repayment that are held.
HELD = """
SELECT number, amount_minor, until, extensions FROM limit_release.tranche
WHERE repayment_id = $1 AND state = 'held' ORDER BY number
"""
REFUSALS: Final = {
    "not_held": "the part is not held any more",
    "date_passed": "its date has passed: it comes back now",
    "not_later": "the new date is not later than the one it has",
    "extended_before": "its date was moved before: at most once a promise",
    "beyond_the_longest_hold": "the new date is beyond the longest hold its product allows",
    "too_many_parts": "it is in too many parts already",
}

Part = Annotated[int | None, typer.Option("--tranche", min=1, max=99, help="Which part; needed when several are held.")]


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="hold")


@app.command(epilog=EPILOG)
def release(
    repayment: Named,
    actor: Actor,
    reason: Why,
    tranche: Part = None,
    amount: Annotated[int | None, typer.Option(min=1, help="Minor units of it; default: all of it.")] = None,
    wait: Wait = 15.0,
    as_json: Json = False,
) -> int:
    """End a hold now, or a part of it; the credit comes back and the customer is told."""

    def command(account: AccountId, ref: RepaymentId, number: int) -> Command:
        return ReleaseHold(account, actor, reason, ref, number, amount)

    return _reviewed(repayment, tranche, actor, reason, command, wait=wait, as_json=as_json)


@app.command(epilog=EPILOG)
def extend(
    repayment: Named,
    actor: Actor,
    reason: Why,
    until: Annotated[str, typer.Option(help="The new date: ISO 8601 with an offset, 2026-11-27T09:00+08:00.")],
    tranche: Part = None,
    wait: Wait = 15.0,
    as_json: Json = False,
) -> int:
    """Move a hold's date, once; the promise made first still counts, and the customer is told the new date."""
    later = _instant(until)

    def command(account: AccountId, ref: RepaymentId, number: int) -> Command:
        return ExtendHold(account, actor, reason, ref, number, later)

    return _reviewed(repayment, tranche, actor, reason, command, wait=wait, as_json=as_json)


def _reviewed(
    named: str,
    tranche: int | None,
    actor: str,
    reason: str,
    command: Callable[[AccountId, RepaymentId, int], Command],
    *,
    wait: float,
    as_json: bool,
) -> int:
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    found = asyncio.run(_said(attached(), named, tranche, command, wait))
    if as_json:
        print_json(found)
    else:
        stdout().print(f"{found['repayment_id']} part {found['tranche']}: {found['words']}", markup=False)
    return FOUND if found["outcome"] not in (None, "applied") else OK


async def _said(
    settings: Settings,
    named: str,
    tranche: int | None,
    command: Callable[[AccountId, RepaymentId, int], Command],
    wait: float,
) -> dict[str, object]:
    async with connected(settings) as connection:
        repayment = await find(connection, named)
        part = _chosen(await connection.fetch(HELD, repayment.repayment_id), tranche, named)
    account, ref = AccountId(repayment.account_id), RepaymentId(repayment.repayment_id)
    done = await act(settings, command(account, ref, part["number"]))
    part_of = {"repayment_id": ref, "tranche": part["number"], "event_id": done.event_id, "told": done.told}
    if done.event_id is None:
        return {**part_of, "outcome": "asked", "reason": "needs_another_person", "words": f"kept: {SECOND_PERSON}"}
    said = await verdict(settings, done.event_id, wait) if done.told else None
    return {
        **part_of,
        "outcome": said["outcome"] if said else None,
        "reason": said["reason"] if said else None,
        "words": _words(said, told=done.told),
    }


def _words(said: Row | None, *, told: bool) -> str:
    if not told:
        return "kept and audited; Kafka did not take it, the console sends it later"
    if said is None:
        return "audited and sent; limit-release has not taken it up yet"
    if said["outcome"] == "applied":
        return "done: limit-release applied it"
    return f"limit-release refused it: {REFUSALS.get(said['reason'], said['reason'])}"


def _chosen(held: Sequence[Row], tranche: int | None, named: str) -> Row:
    """Return the part meant: the one named, or the only one held."""
    rows = [row for row in held if tranche in (None, row["number"])]
    if len(rows) == 1:
        return rows[0]
    if not rows:
        raise Problem(f"nothing{f' as part {tranche}' if tranche else ''} of {named} is held", NOT_FOUND)
    parts = ", ".join(f"{row['number']} until {local(row['until'])}" for row in rows)
    raise Problem(f"several parts of {named} are held ({parts}): say --tranche", USAGE)


def _instant(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Problem(f"--until {text} is not an instant", USAGE) from error
    if found.tzinfo is None:
        raise Problem(f"--until {text} has no offset: add Z or +08:00", USAGE)
    return to_millisecond(found.astimezone(UTC))
