"""Cases: what a person has to look at, by when; taking them along their lane, with who and why."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple

import typer

from schemas.ids import AccountId, RepaymentId
from schemas.review import LimitIncreaseDecided
from services.cli.acting import REVIEWED, SECOND_PERSON, Wait, act, verdict
from services.cli.actor import Actor, Why, referenced
from services.cli.journey import find
from services.cli.look import Named
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
from services.console.domain import MoveCase, TakeFeedback
from services.console.model import ANSWER_MAX, CONCLUDES, CaseAction, CaseOutcome, card_like, case_id, way
from services.runtime.postgres import Row
from services.wording import limit_agent_text, limit_audit

app = typer.Typer(help="Cases: what a person has to look at, and by when.", no_args_is_help=True, epilog=EPILOG)
PREFIX_MIN: Final = 4
# Cases, what is late and urgent first.
LIST = """
SELECT case_id, kind, priority, state, due_at, repayment_id, tranche, account_id, detail, assignee, opened_at,
  state NOT IN ('resolved', 'closed') AND due_at < clock_timestamp() AS overdue
FROM console.case_file WHERE $1 OR state NOT IN ('resolved', 'closed')
ORDER BY state IN ('resolved', 'closed'), array_position(ARRAY['high', 'normal', 'low'], priority), due_at LIMIT $2
"""
# The cases whose id begins so; ids are hexadecimal, so the range is a prefix.
ONE = """
SELECT *, state NOT IN ('resolved', 'closed') AND due_at < clock_timestamp() AS overdue
FROM console.case_file WHERE case_id >= $1 AND case_id < $1 || 'g' LIMIT 2
"""
STEPS = "SELECT n, before, state, at, actor, reason FROM console.case_step WHERE case_id = $1 ORDER BY n"
# What people did with a case, and with the dead letter it is about.
AUDIT = """
SELECT seq, at, actor, action, reason, content FROM console.audit WHERE subject = ANY ($1::text[]) ORDER BY seq
"""
# Where the time of what was promised went, as the lag ledger has it: the finer cause, beside the case's own.
FINER = """
SELECT stage, cause, sum(ms)::bigint AS ms FROM lag_monitor.lag_segment
WHERE repayment_id = $1 AND tranche = $2 GROUP BY stage, cause ORDER BY 3 DESC LIMIT 3
"""
# The limit of an account, and the review of it that a case is about.
LIMIT = "SELECT credit_limit_minor FROM console.limit_in_force WHERE account_id = $1"
REVIEW = """
SELECT convert_from(payload, 'UTF8') AS fact FROM risk_scoring.outbox WHERE account_id = $1 AND event_id = $2::uuid
"""
# What became of the part it is about.
NOW = "SELECT state, until, promised_by, restored_at FROM limit_release.tranche WHERE repayment_id = $1 AND number = $2"

REFUSALS: Final = {
    "not_reviewed": "the account is closed, or nothing scores it any more",
    "not_an_increase": "the limit is that high already",
    "beyond_the_cap": "more than a limit may grow by, or than its tier may have",
    "other_currency": "the account has another currency",
}
Identity = Annotated[str, typer.Argument(metavar="CASE", help="Its id, or a unique prefix of at least 4 letters.")]


class Outcome(StrEnum):
    """What a case came to."""

    CREDIT_RESTORED = "credit_restored"
    HOLD_KEPT = "hold_kept"
    BOOKS_CORRECTED = "books_corrected"
    EXPLAINED = "explained"
    NOTHING_TO_DO = "nothing_to_do"
    LIMIT_RAISED = "limit_raised"
    LIMIT_KEPT = "limit_kept"
    LIMIT_REFUSED = "limit_refused"


class Asked(StrEnum):
    """What a customer wants."""

    QUESTION = "question"
    COMPLAINT = "complaint"


class Move(StrEnum):
    """How a case goes on before it is resolved, or comes back after."""

    ASSIGN = "assign"
    REVIEW = "review"
    ESCALATE = "escalate"
    OBJECT = "object"


class Ends(NamedTuple):
    """What a case is resolved with, as the console takes it."""

    outcome: CaseOutcome
    answer: str
    limit_minor: int | None


@dataclass(frozen=True, slots=True)
class Whole:
    """A case with its steps, its audit, what became of its part, where the time went, and the review it is about."""

    case: Row
    steps: Sequence[Row]
    audit: Sequence[Row]
    part: Row | None
    finer: Sequence[Row]
    review: LimitIncreaseDecided | None = None


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="case")


@app.command("list", epilog=EPILOG)
def list_(
    everything: Annotated[bool, typer.Option("--all", help="Also what was resolved or closed.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most so many.")] = 100,
    as_json: Json = False,
) -> None:
    """List what waits for a person: the urgent and what is due first."""

    async def read() -> Sequence[Row]:
        async with connected(attached()) as connection:
            return await connection.fetch(LIST, everything, limit)

    found = asyncio.run(read())
    if as_json:
        print_json([dict(row) for row in found])
    elif not found:
        stdout().print("no case is open")
    else:
        shown = table("case", "kind", "priority", "state", "due", "repayment", "part", "because of", "assignee")
        for row in found:
            due = f"{local(row['due_at'])}{' OVERDUE' if row['overdue'] else ''}"
            part = str(row["tranche"] or "-")
            about = (
                row["repayment_id"] or f"account {row['account_id']}",
                part,
                row["detail"] or "-",
                row["assignee"] or "-",
            )
            shown.add_row(row["case_id"][:12], row["kind"], row["priority"], row["state"], due, *about)
        stdout().print(shown)


@app.command(epilog=EPILOG)
def show(identity: Identity, as_json: Json = False) -> None:
    """Show a case with every step, who did what and why, and what became of its part."""

    async def read() -> Whole:
        async with connected(attached()) as connection:
            return await whole(connection, identity)

    found = asyncio.run(read())
    if as_json:
        print_json(described(found))
        return
    case, console = found.case, stdout()
    for name in ("case_id", "kind", "priority", "state", "detail", "account_id", "repayment_id", "tranche"):
        console.print(f"{name:<13} {case[name] if case[name] is not None else '-'}", markup=False)
    console.print(f"{'due':<13} {local(case['due_at'])}{' OVERDUE' if case['overdue'] else ''}")
    if case["outcome"]:
        console.print(f"{'outcome':<13} {case['outcome']}\n{'answer':<13} {case['answer'] or '-'}", markup=False)
    if found.part is not None:
        console.print(f"{'part now':<13} {_part_text(found.part)}")
    for row in found.finer:
        console.print(f"{'time went to':<13} {row['stage']} {row['cause']} {row['ms']} ms")
    if found.review is not None:
        console.print(limit_agent_text(found.review, language="en", timezone="UTC"), markup=False)
    shown = table("step", "at", "by", "reason")
    for step in found.steps:
        shown.add_row(step["state"], local(step["at"]), step["actor"], step["reason"])
    console.print(shown)


@app.command(epilog=EPILOG)
def hear(
    repayment: Named,
    actor: Actor,
    reason: Why,
    kind: Annotated[Asked, typer.Option(help="What the customer wants.")] = Asked.QUESTION,
    topic: Annotated[str, typer.Option(help="About what, as a code.")] = "restoration",
    as_json: Json = False,
) -> None:
    """Take a customer's question or complaint about a repayment: a case whose answer is owed by a date."""
    for value, option in ((actor, "--actor"), (reason, "--reason"), (topic, "--topic")):
        referenced(value, option)
    settings = attached()

    async def say() -> Row:
        async with connected(settings) as connection:
            found = await find(connection, repayment)
            about = (AccountId(found.account_id), RepaymentId(found.repayment_id))
            done = await act(settings, TakeFeedback(about[0], actor, reason, kind.value, topic, about[1]))
            return await one(connection, case_id(done.event_id or ""))

    opened = asyncio.run(say())
    if as_json:
        print_json(dict(opened))
    else:
        stdout().print(f"{opened['case_id']} is open, answer due {local(opened['due_at'])}", markup=False)


@app.command(epilog=EPILOG)
def resolve(
    identity: Identity,
    actor: Actor,
    reason: Why,
    outcome: Annotated[Outcome, typer.Option(help="What it came to.")],
    answer: Annotated[str, typer.Option(help="What the customer may read.")] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="With limit_raised: the new limit, minor units.")] = None,
    wait: Wait = 15.0,
    as_json: Json = False,
) -> int:
    """Resolve a case; who resolves an open one also takes it. It closes when nobody objects.

    Where much money moved with it, two people have to say the same. A limit that was referred ends as raised, kept or
    refused; risk-scoring has the last word, and the customer is told.
    """
    if len(answer) > ANSWER_MAX:
        raise Problem(f"--answer has more than {ANSWER_MAX} characters", USAGE)
    if card_like(answer):
        raise Problem("--answer holds what looks like a card's number: leave it out", USAGE)
    if (outcome is Outcome.LIMIT_RAISED) != (limit is not None):
        raise Problem("--limit goes with --outcome limit_raised, and it with --limit", USAGE)
    ends = Ends(outcome.value, answer, limit)
    return _move(identity, "resolve", actor, reason, ends, wait=wait, as_json=as_json)


@app.command(epilog=EPILOG)
def move(
    identity: Identity,
    to: Annotated[Move, typer.Argument(metavar="STEP", help="assign, review, escalate or object.")],
    actor: Actor,
    reason: Why,
    as_json: Json = False,
) -> int:
    """Take a case a step further, or bring a resolved one back because the customer objects."""
    return _move(identity, to.value, actor, reason, as_json=as_json)


def _move(
    identity: str,
    action: CaseAction,
    actor: str,
    reason: str,
    ends: Ends | None = None,
    *,
    wait: float = 0.0,
    as_json: bool,
) -> int:
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    settings = attached()

    async def say() -> tuple[Row, Row | None]:
        async with connected(settings) as connection:
            row = await one(connection, identity)
            if not way(row["state"], action):
                raise Problem(f"case {row['case_id']} is {row['state']}: no step to {action} it from there", FOUND)
            if ends is not None and (row["kind"] == "limit_referred") != (ends.outcome in CONCLUDES):
                raise Problem(f"a case of kind {row['kind']} does not end as {ends.outcome}", USAGE)
            if ends is not None and ends.limit_minor is not None:
                await _grows(connection, row["account_id"], ends.limit_minor)
        command = MoveCase(AccountId(row["account_id"]), actor, reason, row["case_id"], action, *(ends or ()))
        done = await act(settings, command)
        concluded = ends is not None and ends.outcome in CONCLUDES and done.told and done.event_id is not None
        said = await verdict(settings, done.event_id or "", wait, REVIEWED) if concluded else None
        async with connected(settings) as connection:
            return await one(connection, row["case_id"]), said

    after, said = asyncio.run(say())
    asked = ends is not None and after["outcome"] != ends.outcome
    refused = said is not None and said["outcome"] != "applied"
    if as_json:
        print_json({**dict(after), "verdict": dict(said) if said else None} if ends else dict(after))
    else:
        words = f": {SECOND_PERSON}" if asked else _words(said)
        stdout().print(f"{after['case_id']} is {after['state']}{words}", markup=False)
    return FOUND if asked or refused else OK


async def _grows(connection: Connection, account_id: str, limit_minor: int) -> None:
    """Raise Problem when a limit somebody wants to raise is that high already."""
    row = await connection.fetchrow(LIMIT, account_id)
    if row is None or limit_minor <= row["credit_limit_minor"]:
        raise Problem(f"--limit {limit_minor} is no increase: it is {row['credit_limit_minor'] if row else '-'}", USAGE)


def _words(said: Row | None) -> str:
    """Return what risk-scoring made of it, where it was asked."""
    if said is None:
        return ""
    if said["outcome"] == "applied":
        return ": risk-scoring tells billing and the customer"
    why = REFUSALS.get(said["reason"], said["reason"])
    return f", but risk-scoring refused it: {why}; bring the case back with `otb case move CASE object`"


async def one(connection: Connection, identity: str) -> Row:
    """Return the case of an id or of a unique prefix."""
    if len(identity) < PREFIX_MIN or not set(identity) <= set("0123456789abcdef"):
        raise Problem(f"{identity} is not the id of a case, nor {PREFIX_MIN} letters of one", USAGE)
    rows = await connection.fetch(ONE, identity)
    if not rows:
        raise Problem(f"no case {identity}", NOT_FOUND)
    if len(rows) > 1:
        raise Problem(f"{identity} is more than one case", USAGE)
    return rows[0]


async def whole(connection: Connection, identity: str) -> Whole:
    """Return everything about a case."""
    case = await one(connection, identity)
    about = [case["case_id"], *([case["detail"]] if case["kind"] == "dead_letter" else [])]
    steps, audit = await connection.fetch(STEPS, case["case_id"]), await connection.fetch(AUDIT, about)
    place = (case["repayment_id"], case["tranche"])
    part = await connection.fetchrow(NOW, *place)
    finer = await connection.fetch(FINER, *place)
    if case["kind"] != "limit_referred":
        return Whole(case, steps, audit, part, finer)
    told = await connection.fetchrow(REVIEW, case["account_id"], case["opened_by"])
    review = None if told is None else LimitIncreaseDecided.model_validate_json(told["fact"])
    return Whole(case, steps, audit, part, finer, review)


def described(found: Whole) -> dict[str, Any]:
    """Return a case for programs."""
    return {
        **dict(found.case),
        "steps": [dict(row) for row in found.steps],
        "audit": [dict(row) for row in found.audit],
        "part": dict(found.part) if found.part else None,
        "time_went_to": [dict(row) for row in found.finer],
        "review": limit_audit(found.review) if found.review else None,
    }


def _part_text(part: Row) -> str:
    if part["restored_at"] is None:
        return f"{part['state']}, promised by {local(part['promised_by'])}"
    late = (part["restored_at"] - part["promised_by"]).total_seconds()
    kept = f"{late:.3f} s after the promise" if late > 0 else "as promised"
    return f"{part['state']}, restored {local(part['restored_at'])}, {kept}"
