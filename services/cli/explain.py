"""Why is my credit back or not? One decision record, said to the customer, an agent or an auditor."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, cast
from zoneinfo import ZoneInfo

import typer

from schemas.account import Language
from schemas.reasons import Cause, Reason, Stage
from services.cli.as_told import AsTold, as_told, as_told_lines
from services.cli.journey import Journey, Timeline, journey
from services.cli.look import Lang, Named, described
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, USAGE, Json, Problem, plain_json, print_json, stdout
from services.wording import (
    Wait,
    agent_text,
    asked_text,
    audit,
    cause_label,
    due_text,
    duration_text,
    rejected_text,
    stage_label,
    timeline_text,
    waiting_line,
    waiting_text,
)

TIMEZONE = "UTC"
# Keeps what was shown, as it was said (domain 8.2).
SHOW = """
INSERT INTO notifier.shown (account_id, repayment_id, record_version, audience, channel, language, text)
VALUES ($1, $2, $3, $4, 'otb', $5, $6)
"""
# Every entry of the ledger that names the repayment.
JOURNALS = """
SELECT kind, ref, limit_minor, available_minor, used_debt_minor, used_authorisation_minor, pending_minor
FROM limit_release.journal WHERE account_id = $1 AND position($2 IN ref) > 0 ORDER BY ref, kind
"""


class For(StrEnum):
    """Who is spoken to."""

    CUSTOMER = "customer"
    AGENT = "agent"
    AUDIT = "audit"


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command("explain", epilog=EPILOG)(explain)


def explain(
    repayment: Named,
    lang: Annotated[Lang | None, typer.Option(help="Default: the account's own.")] = None,
    whom: Annotated[For, typer.Option("--for", help="Who is spoken to.")] = For.CUSTOMER,
    as_of: Annotated[
        str | None, typer.Option(help="What was told at this instant, beside what was true; without offset: local.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say why credit is back or not, and when, as the customer, an agent or an auditor is told."""
    asyncio.run(_explained(repayment, lang, whom, as_of, as_json=as_json))


async def _explained(named: str, lang: Lang | None, whom: For, as_of: str | None, *, as_json: bool) -> None:
    async with connected(attached(), writing=True) as connection:
        found = await journey(connection, named)
        language: Language = (lang.value if lang else None) or found.language or "en"
        if as_of is not None:
            _print_as_told(found, as_told_at(found, as_of), language, as_json=as_json)
            return
        texts = list(explanation(found, language, whom))
        if whom is For.AUDIT:
            texts = [json.dumps(await _everything(connection, found), indent=2, ensure_ascii=False, default=plain_json)]
        version = found.record.version if found.record else None
        shown = "\n".join(texts)
        # What cannot be kept is not shown.
        await connection.execute(SHOW, found.account_id, found.repayment_id, version, whom.value, language, shown)
    if whom is For.AUDIT or not as_json:
        stdout().print(shown, soft_wrap=True, markup=False)
        return
    record = audit(found.record) if found.record else None
    print_json({"repayment_id": found.repayment_id, "language": language, "texts": texts, "record": record})


def explanation(found: Journey, language: Language, whom: For = For.CUSTOMER) -> Iterator[str]:
    """Yield what is true of a repayment now: the decision's own text, else where it waits and why."""
    timezone = found.timezone or TIMEZONE
    if found.record is None:
        yield from _waits(found, language, whom)
    elif whom is For.AGENT:
        yield agent_text(found.record, language=language, timezone=timezone)
    else:
        yield asked_text(found.record, language=language, timezone=timezone, now=found.now)
    if found.conflicts:
        differs = ", ".join(sorted({name for row in found.conflicts for name in row["differs"]}))
        yield from _said("conflict", language, whom, differs=differs)
    if found.record is not None:
        yield from _aside(found, language, whom)
    yield from _answers(found, whom, timezone, language)
    if whom is For.AGENT:
        yield from (timeline for line in found.lines for timeline in _timeline(line, language, timezone))


def _answers(found: Journey, whom: For, timezone: str, language: Language) -> Iterator[str]:
    """Yield what a person answered, as it was written; to others than the customer also what is still owed, by when."""
    for case in found.cases:
        over = case["state"] in ("resolved", "closed")
        if whom is For.CUSTOMER:
            if over and case["answer"]:
                yield case["answer"]
            continue
        due = due_text(case["due_at"], timezone, language)
        owed = f"owed by {due}{'' if case['due_at'] > found.now else ', OVERDUE'}"
        came_to = f"{case['outcome']}: {case['answer'] or '-'}" if over else owed
        yield f"case {case['case_id'][:12]} {case['kind']} {case['state']}, {came_to}"


def as_told_at(found: Journey, as_of: str) -> AsTold:
    """Return what was told and true at an instant; without an offset it is of the account's zone."""
    try:
        instant = datetime.fromisoformat(as_of)
    except ValueError:
        wanted = "an instant such as 2026-11-21T12:00 or 2026-11-21T04:00Z"
        raise Problem(f"--as-of takes {wanted}, not {as_of}", USAGE) from None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=ZoneInfo(found.timezone or TIMEZONE))
    return as_told(found.records, found.told, found.shown, instant)


def _print_as_told(found: Journey, known: AsTold, language: Language, *, as_json: bool) -> None:
    timezone = found.timezone or TIMEZONE
    if as_json:
        print_json({"repayment_id": found.repayment_id, **known.described()})
        return
    stdout().print("\n".join(as_told_lines(known, language, timezone)), soft_wrap=True, markup=False)


async def _everything(connection: Connection, found: Journey) -> dict[str, Any]:
    """Return all that is kept of a repayment: every record, part, entry, message and event's trail."""
    journals = await connection.fetch(JOURNALS, found.account_id, found.repayment_id)
    return {
        **described(found),
        "records": [audit(record) for record in found.records],
        "journals": [dict(row) for row in journals],
        "shown": [dict(row) for row in found.shown],
    }


def _waits(found: Journey, language: Language, whom: For) -> Iterator[str]:
    """Yield where a repayment without a decision is, and why."""
    status = found.settled["status"] if found.settled else None
    line = found.timelines[-1] if found.timelines else None
    if status == "rejected" and found.refused:
        yield rejected_text(Reason(found.refused), language)
        if whom is not For.CUSTOMER:
            yield waiting_line("rejected", language, code=found.refused)
    elif status == "returned_first":
        yield from _said("returned_first", language, whom)
    elif found.aside:
        yield from _aside(found, language, whom)
    elif line is not None and line.stretches:
        last = line.stretches[-1]
        cause = "external.settlement_wait" if status == "waiting" else last.cause
        yield from _said(
            "waiting" if status == "waiting" else "on_its_way",
            language,
            whom,
            waited=duration_text(last.milliseconds, language),
            stage=stage_label(cast(Stage, last.stage), language, audience="agent"),
            cause=cause_label(cast(Cause, cause), language, audience="agent"),
        )
    else:
        yield from _said("unknown", language, whom)


def _said(wait: Wait, language: Language, whom: For, **named: str) -> Iterator[str]:
    """Yield the customer's text and, for others, the exact line below it."""
    yield waiting_text(wait, language, **named)
    if whom is not For.CUSTOMER:
        yield waiting_line(wait, language, **named)


def _aside(found: Journey, language: Language, whom: For) -> Iterator[str]:
    for row in found.aside:
        yield from _said(
            row["kind"],
            language,
            whom,
            service=row["service"],
            since=due_text(row["first_seen_at"], found.timezone or TIMEZONE, language),
            reason=row["reason"],
            id=f"{row['service']}:{row['set_aside_id']}",
        )


def _timeline(line: Timeline, language: Language, timezone: str) -> Iterator[str]:
    """Yield one finished or open timeline, stretch by stretch."""
    stretches = [
        (cast(Stage, stretch.stage), cast(Cause, stretch.cause), stretch.milliseconds, stretch.until)
        for stretch in line.stretches
    ]
    yield from timeline_text(line.tranche, stretches, language=language, timezone=timezone)
