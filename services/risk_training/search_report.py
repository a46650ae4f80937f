"""The report of a search for a cheaper hold policy: what was tried, what it came to, and what is proposed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import mean
from typing import Any, Final

from services.policy import Profile
from services.risk_training.pages import Axis, Line, lines, page, paragraph, table
from services.risk_training.searching import FINALISTS, TRIED, Found, Score, Setting, under

IN_FORCE: Final = "in force"
HEAD: Final = ("setting", "repayments", "cost per 1,000", "against in force", "held", "good ones held")
ABOUT: Final = {
    "day": "a held day costs, % of the profile's price",
    "declined": "a declined purchase costs",
    "need": "a customer needs to spend",
    "review": "a look costs",
    "cap": "the instant caps",
}
TELLING: Final = (
    "A setting is what the formula is told, in percent of the profile in force. What it then decides is counted at the "
    "prices of the profile in force: what the formula is told is worth something only where it decides better by it. "
    "The settings, and which repayments a round decides, are drawn by the seed: the same input gives the same page."
)
LUCK: Final = (
    "What wins among so many wins partly by luck. So it is decided once more on repayments that chose nothing, and "
    "only those figures count for the proposal. Whether a repayment came back is known; what is lost of one that did, "
    "and what waiting costs, are assumed. Nothing is changed by a search: a person changes a profile, and its version."
)


@dataclass(frozen=True, slots=True)
class SearchReport:
    """Everything the report shows; ``run`` is what it was made of."""

    found: Found
    profile: Profile
    run: Mapping[str, str]

    @property
    def described(self) -> dict[str, Any]:
        """Return the main figures for programs."""
        found = self.found
        return {
            "run": dict(self.run),
            "rounds": [len(scores) - 1 for scores in found.rounds],
            "in_force": _figures(found.in_force),
            "best": _figures(found.best),
            "checks": dict(found.checks),
            "proposed": None if found.proposed is None else told(self.profile, found.proposed),
        }


def told(profile: Profile, setting: Setting) -> dict[str, Any]:
    """Return what a profile would say under a setting, by the keys of its file."""
    changed = under(profile, setting)
    prices = changed.hold["REVERSIBLE"].prices
    return {
        "hold.REVERSIBLE.method": "formula",
        "hold.REVERSIBLE.prices.day_minor": prices.day_minor,
        "hold.REVERSIBLE.prices.declined_minor": prices.declined_minor,
        "hold.REVERSIBLE.prices.need_minor": prices.need_minor,
        "hold.REVERSIBLE.prices.review_minor": prices.review_minor,
        **{f"instant_cap_by_tier.{tier}": cap for tier, cap in sorted(changed.instant_cap_by_tier.items())},
    }


def html(report: SearchReport) -> str:
    """Return the whole page."""
    about = (
        f"{report.run['settings']} settings of the hold policy of {report.profile.policy_version}, each deciding "
        "repayments whose outcome is known. Every figure was computed for this page; amounts are minor units."
    )
    return page("A search for a cheaper hold policy", about, _sections(report))


def _sections(report: SearchReport) -> Iterator[tuple[str, str]]:
    found, run = report.found, list(report.run.items())
    yield "What was run", table("What was run", ("of what", "which"), run, words=True)
    yield "What is proposed", _proposed(report)
    yield "What was tried", _picture(found)
    yield "What each part of a setting does", _parts(found)
    rows = [_row(one, _of_force(found.rounds[-1])) for one in found.rounds[-1]]
    yield f"The last {FINALISTS}", table("On all repayments they were tuned on", HEAD, rows)
    yield "What to make of it", paragraph(TELLING, LUCK)


def _proposed(report: SearchReport) -> str:
    found = report.found
    checks = [(words, "yes" if met else "no") for words, met in found.checks]
    rows = [_row(one, found.in_force) for one in (found.in_force, found.best)]
    judged = table("On repayments that chose nothing", HEAD, rows) + table("Checks", ("what must hold", "does"), checks)
    if found.proposed is None:
        return paragraph("Nothing: no setting is worth a change of the profile in force.") + judged
    keys = [(key, str(value)) for key, value in told(report.profile, found.proposed).items()]
    return (
        paragraph(f"{name(found.proposed)}, if a person agrees.")
        + judged
        + table("In the profile", ("key", "value"), keys)
    )


def _picture(found: Found) -> str:
    first = found.rounds[0]
    force = _of_force(first)
    costs = [one.per_thousand for one in first]
    most = max(costs) or 1.0
    words = (
        f"{len(first) - 1:,} settings on the first round's {force.count:,} repayments cost from {min(costs):,.0f} to "
        f"{max(costs):,.0f} per 1,000; the profile in force {force.per_thousand:,.0f}, holding {force.hold_rate:.1%}."
    )
    dots = [(one.hold_rate, one.per_thousand) for one in first if one.setting is not None]
    drawn = [Line("settings", dots, dots=True), Line(IN_FORCE, [(force.hold_rate, force.per_thousand)], dots=True)]
    across = Axis("share held", 0, 1, [(one / 5, f"{20 * one} %") for one in range(6)])
    return lines(
        "Cost and holds of every setting",
        words,
        drawn,
        across,
        Axis("cost per 1,000", 0, most, [(most * one / 4, f"{most * one / 4:,.0f}") for one in range(5)]),
    )


def _parts(found: Found) -> str:
    scores = [one for one in found.rounds[0] if one.setting is not None]
    rows = []
    for n, part in enumerate(Setting._fields):
        for value in TRIED[n]:
            among = [one for one in scores if one.setting and one.setting[n] == value]
            if among:
                held, dear = mean(one.hold_rate for one in among), mean(one.per_thousand for one in among)
                rows.append((f"{ABOUT[part]}: {value} %", f"{len(among):,}", f"{dear:,.0f}", f"{held:.1%}"))
    head = ("part and value", "settings", "mean cost per 1,000", "mean held")
    return paragraph("Means over all settings of the first round that have the value; the flatter, the less it "
                     "matters.") + table("By part", head, rows)  # fmt: skip


def _of_force(scores: tuple[Score, ...]) -> Score:
    return next(one for one in scores if one.setting is None)


def _row(one: Score, force: Score) -> tuple[str, ...]:
    change = f"{one.per_thousand / force.per_thousand - 1:+.1%}" if force.cost else ""
    label = IN_FORCE if one.setting is None else name(one.setting)
    shares = f"{one.hold_rate:.1%}", f"{one.good_held_share:.1%}"
    return label, f"{one.count:,}", f"{one.per_thousand:,.0f}", change, *shares


def name(setting: Setting) -> str:
    """Return a setting in words."""
    parts = zip(Setting._fields, setting, strict=True)
    return ", ".join(f"{part} {value} %" for part, value in parts)


def _figures(one: Score) -> dict[str, Any]:
    return {
        "setting": None if one.setting is None else one.setting._asdict(),
        "repayments": one.count,
        "cost_minor_per_1000": round(one.per_thousand),
        "hold_rate": one.hold_rate,
        "good_held": one.good_held_share,
    }
