"""Where is my credit? The journey of one repayment to the millisecond."""

import asyncio
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.console import Console

from schemas.account import Language
from schemas.reasons import Cause, Stage
from services.cli.journey import Journey, Timeline, journey
from services.cli.picture import journey_svg
from services.cli.servers import attached, connected
from services.cli.terminal import EPILOG, NOT_FOUND, Json, Problem, local, print_json, stdout, table
from services.wording import cause_label, duration_text, money_text, stage_label

BAR = 24
Named = Annotated[str, typer.Argument(metavar="REPAYMENT", help="An id, a unique prefix, or billing's reference.")]


class Lang(StrEnum):
    """Languages of texts."""

    ZH = "zh-CN"
    EN = "en"


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command("trace", epilog=EPILOG)(trace)


def trace(
    repayment: Named,
    lang: Annotated[Lang, typer.Option(help="Language of stages and causes.")] = Lang.EN,
    tranche: Annotated[int | None, typer.Option(help="Timeline of this tranche; default: the last restored.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also draw the timeline into this file.")] = None,
    as_json: Json = False,
) -> None:
    """Show where every second between repaid and restored went."""
    found = load(repayment)
    line = _chosen(found, tranche)
    if svg is not None and line is not None:
        svg.write_text(journey_svg(line, lang.value))
    if as_json:
        print_json(described(found))
        return
    console = stdout()
    for text in headline(found, lang.value):
        console.print(text)
    if line is not None:
        show_timeline(console, line, lang.value)
        show_notified(console, found, line, lang.value)
    show_tranches(console, found, lang.value)
    show_told(console, found)
    show_cases(console, found)


def load(named: str) -> Journey:
    """Read a repayment's journey."""
    settings = attached()

    async def read() -> Journey:
        async with connected(settings) as connection:
            return await journey(connection, named)

    return asyncio.run(read())


def headline(found: Journey, language: Language) -> Iterator[str]:
    """Yield what repayment it is and how it stands."""
    reference = found.reference
    if reference is not None:
        amount = money_text(reference["amount_minor"], reference["currency"], language)
        yield f"{reference['source']}:{reference['external_ref']}  {amount} by {reference['rail']}"
    yield f"repayment {found.repayment_id}  account {found.account_id}"
    yield f"state: {standing_of(found)}"


def standing_of(found: Journey) -> str:
    """Return in a few words how a repayment stands."""
    states = [row["state"] for row in found.tranches]
    if len(set(states)) == 1:
        return f"all {states[0]}" if len(states) == 1 else f"all {len(states)} parts {states[0]}"
    if states:
        return ", ".join(f"{states.count(state)} parts {state}" for state in dict.fromkeys(states))
    if found.record is not None:
        return found.record.outcome.replace("_", " ")
    if found.aside:
        return f"{found.aside[0]['kind'].replace('_', ' ')} in {found.aside[0]['service']}"
    if found.settled is not None:
        return str(found.settled["status"]).replace("_", " ")
    return "reported"


def show_timeline(console: Console, line: Timeline, language: Language) -> None:
    """Print the stretches with a bar each, and their sum."""
    shown = table("stage", "because of", "seconds", "", right=("seconds",))
    longest = max((stretch.milliseconds for stretch in line.stretches), default=1)
    for stretch in line.stretches:
        bar = "█" * max(1, round(BAR * stretch.milliseconds / longest)) if longest else ""
        stage = stage_label(cast(Stage, stretch.stage), language, audience="agent")
        cause = cause_label(cast(Cause, stretch.cause), language, audience="agent")
        shown.add_row(stage, cause, f"{stretch.milliseconds / 1000:.3f}", bar)
    whole = "restored" if line.tranche else "until now or the end"
    of = f"tranche {line.tranche}: " if line.tranche else ""
    source = "the lag ledger's: " if line.ledger else ""
    exact = f"{source}adds up exactly" if line.tiles else f"{source}DOES NOT ADD UP: run `otb check`"
    shown.add_row("[bold]total[/]", f"{of}repaid to {whole}", f"[bold]{line.milliseconds / 1000:.3f}[/]", exact)
    console.print()
    console.print(shown)


def show_notified(console: Console, found: Journey, line: Timeline, language: Language) -> None:
    """Print what passed from restored to told of the part whose timeline is shown, beside its lag."""
    for told in found.notified:
        if told.tranche == line.tranche:
            shown = table("beside", "because of", "seconds", right=("seconds",))
            for stretch in told.stretches:
                cause = cause_label(cast(Cause, stretch.cause), language, audience="agent")
                shown.add_row("restored to told", cause, f"{stretch.milliseconds / 1000:.3f}")
            console.print()
            console.print(shown)


def show_tranches(console: Console, found: Journey, language: Language) -> None:
    """Print the parts with their state and promise."""
    if not found.tranches:
        return
    currency = found.reference["currency"] if found.reference else "CNY"
    lag = {line.tranche: line.milliseconds for line in found.lines}
    shown = table("part", "amount", "state", "promised by", "restored at", "after", right=("amount", "after"))
    for row in found.tranches:
        after = duration_text(lag[row["number"]], language) if row["number"] in lag else ""
        restored = local(row["restored_at"]) if row["restored_at"] else ""
        amount = money_text(row["amount_minor"], currency, language)
        shown.add_row(str(row["number"]), amount, row["state"], local(row["promised_by"]), restored, after)
    console.print()
    console.print(shown)


def show_told(console: Console, found: Journey) -> None:
    """Print what the customer was sent."""
    if not found.told:
        return
    shown = table("told", "channel", "state", "requested at")
    for row in found.told:
        shown.add_row(row["template"], row["channel"], row["state"], local(row["requested_at"]))
    console.print()
    console.print(shown)


def show_cases(console: Console, found: Journey) -> None:
    """Print what a person has or had to look at."""
    if not found.cases:
        return
    shown = table("case", "kind", "because of", "state", "due", "assignee")
    for row in found.cases:
        about = (row["kind"], row["detail"] or "-", row["state"], local(row["due_at"]), row["assignee"] or "-")
        shown.add_row(row["case_id"][:12], *about)
    console.print()
    console.print(shown)


def described(found: Journey) -> dict[str, Any]:
    """Return a journey for programs."""
    reference = dict(found.reference) if found.reference else None
    return {
        "repayment_id": found.repayment_id,
        "account_id": found.account_id,
        "reference": reference,
        "state": standing_of(found),
        "settlement": dict(found.settled) if found.settled else None,
        "timelines": [_line(line) for line in found.timelines],
        "measured": [_line(line) for line in found.measured],
        "notified": [_line(line) for line in found.notified],
        "tranches": [dict(row) for row in found.tranches],
        "told": [dict(row) for row in found.told],
        "conflicts": [dict(row) for row in found.conflicts],
        "cases": [dict(row) for row in found.cases],
        "set_aside": [dict(row) for row in found.aside],
    }


def _line(line: Timeline) -> dict[str, Any]:
    stretches = [
        {"stage": s.stage, "cause": s.cause, "until": s.until, "milliseconds": s.milliseconds} for s in line.stretches
    ]
    return {
        "tranche": line.tranche,
        "repaid_at": line.repaid_at,
        "ended_at": line.ended_at,
        "milliseconds": line.milliseconds,
        "adds_up": line.tiles,
        "stretches": stretches,
    }


def _chosen(found: Journey, tranche: int | None) -> Timeline | None:
    if tranche is None:
        return max(found.lines, key=lambda line: line.milliseconds, default=None)
    for line in found.lines:
        if line.tranche == tranche:
            return line
    raise Problem(f"no restored tranche {tranche} of {found.name}", NOT_FOUND)
