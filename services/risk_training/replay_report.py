"""The report of a replay: what another policy would have changed, what holds catch, and whom they are charged to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from services.risk_training.intervals import share
from services.risk_training.pages import bars, page, paragraph, table
from services.risk_training.replaying import ALL, REMOVAL_DAYS, Change, Course, Moved, Replay, Replayed, Side, Sides

DAY: Final = 86_400
LIMITS: Final = (
    "What this shows and does not show. Both policies decide with what was known of each repayment at its time. What "
    "was left of the instant cap is taken as it was, moved by as much as the caps differ: that another policy would "
    "itself have used more or less of it, or of the portfolio's budget, is not played through."
)
LOSSES: Final = (
    "Whether a repayment came back is seen however it was decided, so returns are facts. What would have been lost of "
    "credit given back too early is not: it is assumed by the table of returns in force, as are the prices of a held "
    "day, of a declined purchase and of a look. Repayments that can still come back count as good until they do."
)
HEAD: Final = ("of what", "in force", "the other", "change")
CHANGES: Final[tuple[Change, ...]] = ("sooner", "the same", "later")
SIDES: Final = ("in force", "the other")


@dataclass(frozen=True, slots=True)
class ReplayReport:
    """Everything the report shows; ``run`` is what it was made of, ``until`` the day it was made for."""

    found: Replayed
    run: Mapping[str, str]
    until: date

    @property
    def described(self) -> dict[str, Any]:
        """Return the main figures for programs."""
        return {
            "run": dict(self.run),
            "left_out": dict(self.found.left_out),
            "currencies": {name: _described(one, self.until) for name, one in sorted(self.found.by_currency.items())},
        }


def _described(replay: Replay, until: date) -> dict[str, object]:
    return {
        "changes": dict(replay.changes),
        "as_told": replay.as_told,
        **{name: _figures(side) for name, side in zip(("in_force", "other"), replay.whole, strict=True)},
        "rules": {
            rule: {name: _figures(side) for name, side in zip(("in_force", "other"), sides, strict=True)}
            for rule, sides in replay.by_rule().items()
        },
        "proposed_for_removal": replay.idle(until),
    }


def _figures(side: Side) -> dict[str, object]:
    return {
        "repayments": side.count,
        "holds": side.holds,
        "caught": side.caught,
        "hold_yield": side.hold_yield,
        "good_held": side.good_held,
        "minor_days_withheld": round(side.withheld / DAY),
        "exposed_minor": side.exposed_minor,
        "kept_minor": side.kept_minor,
        "lost_minor_assumed": round(side.lost),
        "cost_minor_assumed": round(side.cost),
    }


def html(report: ReplayReport) -> str:
    """Return the whole page."""
    counted = sum(one.whole[0].count for one in report.found.by_currency.values())
    about = (
        f"{counted:,} repayments whose rail may take them back and whose outcome is known, decided again by the policy "
        "in force and by another. Every figure was computed for this page from the ledger; amounts are minor units."
    )
    return page("Holds decided again", about, _sections(report))


def _sections(report: ReplayReport) -> Iterator[tuple[str, str]]:
    yield (
        "What was run",
        table("What was run", ("of what", "which"), list(report.run.items()), words=True) + _left(report),
    )
    for name, replay in sorted(report.found.by_currency.items()):
        yield f"{name}: what would have changed", _changed(replay)
        yield f"{name}: what holds catch, and what they charge", _yield(replay, report.until)
        yield f"{name}: whom holds are charged to", _fairness(replay)
        if replay.largest:
            yield f"{name}: the largest changes", _largest(replay.largest)
    yield "What to make of it", paragraph(LIMITS, LOSSES)


def _left(report: ReplayReport) -> str:
    rows = [(why, f"{count:,}") for why, count in sorted(report.found.left_out.items())]
    return table("Left out", ("why", "repayments"), rows) if rows else paragraph("Nothing was left out.")


def _changed(replay: Replay) -> str:
    before, after = replay.whole
    told = ", ".join(f"{replay.changes[name]:,} {name}" for name in CHANGES)
    count = max(1, before.count)
    moved = [(name, replay.changes[name]) for name in CHANGES]
    rows = [(name, float(number), f"{number:,}, {number / count:.1%}") for name, number in moved]
    same = (
        f"Of {before.count:,} decisions, the policy in force gives {replay.as_told:,} the same parts and days "
        "again; the others were decided by older versions, revised, moved by people, or by a replay of the account."
    )
    return (
        bars("Credit back by the other policy", f"{told}.", rows)
        + paragraph(same)
        + table("In all", HEAD, _all(before, after))
    )


def _all(before: Side, after: Side) -> Iterator[tuple[str, ...]]:
    counts: Sequence[tuple[str, float, float]] = (
        ("repayments", before.count, after.count),
        ("of them taken back", before.count - before.good, after.count - after.good),
        ("held", before.holds, after.holds),
        ("good ones held", before.good_held, after.good_held),
        ("amount times days withheld from good ones", before.withheld / DAY, after.withheld / DAY),
        ("given back before it was taken back", before.exposed_minor, after.exposed_minor),
        ("kept back until it was taken back", before.kept_minor, after.kept_minor),
        ("lost, assumed", before.lost, after.lost),
        ("cost with waits, declines and looks, assumed", before.cost, after.cost),
    )
    for name, one, two in counts:
        yield name, f"{one:,.0f}", f"{two:,.0f}", _change(one, two)


def _change(one: float, two: float) -> str:
    if round(one) == round(two):
        return "none"
    return f"{two - one:+,.0f}" + (f", {two / one - 1:+.1%}" if one else "")


def _yield(replay: Replay, until: date) -> str:
    rows = [
        (f"{rule}, {name}", f"{side.holds:,}", f"{side.caught:,}", *_yields(side), f"{side.withheld / DAY:,.0f}",
         f"{side.kept_minor:,}", "" if side.price is None else f"{side.price:,.2f}")
        for rule, sides in replay.by_rule().items()
        for name, side in zip(SIDES, sides, strict=True)
        if side.holds
    ]  # fmt: skip
    months = [
        (f"{month}, {rule}", *_short(sides[0]), *_short(sides[1]))
        for (rule, month), sides in sorted(replay.rules.items(), key=lambda each: (each[0][1], each[0][0]))
    ]
    idle = replay.idle(until)
    known = replay.first_on is not None and (until - replay.first_on).days >= REMOVAL_DAYS
    said = (
        "A rule is the first reason of a hold. Its yield is the share that kept something until it was taken back; the "
        "price is what was withheld from good customers, in units times days, for each unit kept back."
    )
    proposed = (
        f"Caught nothing in {REMOVAL_DAYS} days, proposed for removal: {', '.join(idle) or 'no rule'}."
        if known
        else f"Less than {REMOVAL_DAYS} days are known: no rule is proposed for removal."
    )
    head = ("rule and policy", "holds", "caught", "yield", "95 %", "unit-days from good", "kept back", "price")
    split = ("month and rule", "holds", "caught", "yield", "other: holds", "caught", "yield")
    return (
        paragraph(said, proposed)
        + table("Hold yield by rule", head, rows)
        + table("Hold yield by month", split, months)
    )


def _short(side: Side) -> tuple[str, str, str]:
    return f"{side.holds:,}", f"{side.caught:,}", _yields(side)[0]


def _yields(side: Side) -> tuple[str, str]:
    if not side.holds:
        return "", ""
    found = share(side.caught, side.holds)
    return f"{found.value:.1%}", f"{100 * found.least:.1f} to {100 * found.most:.1f} %"


def _fairness(replay: Replay) -> str:
    note = (
        "By what is known of an account and its rail; who customers are is not known here. A false hold is one of a "
        "repayment that was not taken back."
    )
    rows = [
        row for segment, sides in sorted(replay.segments.items()) if segment != ALL for row in _held(segment, sides)
    ]
    head = ("segment and policy", "repayments", "held", "good held", "95 %", "days a good unit waits")
    return paragraph(note) + table("Holds by segment", head, rows)


def _held(segment: tuple[str, str], sides: Sides) -> Iterator[tuple[str, ...]]:
    for name, side in zip(SIDES, sides, strict=True):
        false = share(side.good_held, side.good)
        yield (
            f"{segment[0]} {segment[1]}, {name}",
            f"{side.count:,}",
            f"{side.holds / side.count:.1%}",
            f"{false.value:.1%}",
            f"{100 * false.least:.1f} to {100 * false.most:.1f} %",
            f"{side.days:.2f}",
        )


def _largest(moved: Sequence[Moved]) -> str:
    rows = [
        (one.outcome.repayment_id, f"{one.outcome.restorable_minor:,}", one.outcome.rail, _dates(one.before),
         _dates(one.after), f"{one.by / DAY:+,.1f}", one.outcome.returned_by or "no")
        for one in moved
    ]  # fmt: skip
    head = ("repayment", "restorable", "rail", "in force", "the other", "unit-days", "taken back by")
    return table("Largest changes, by amount and time", head, rows, words=True)


def _dates(course: Course) -> str:
    return ", ".join(f"{each.amount_minor:,} on {each.due_at:%Y-%m-%d %H:%M}Z" for each in course.verdict.tranches)
