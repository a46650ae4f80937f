"""The report on a credit score: how well it ranks, how true it is, what each cut-off does, whom it refuses."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from services.risk_training.dataset import Part
from services.risk_training.drift import shift
from services.risk_training.evaluation import DEARNESS, GRID, PARTS, Evaluation, cheapest
from services.risk_training.fairness import FOUR_FIFTHS, LEAST, Group, Proxy
from services.risk_training.holding import Held
from services.risk_training.intervals import Interval
from services.risk_training.learned import Training, training
from services.risk_training.pages import Axis, Line, bars, lines, page, paragraph, table
from services.scorecard import FACTOR_OF

SHARES: Final = [(n / 5, f"{20 * n} %") for n in range(6)]
RATES: Final = ("group", "customers", "approved", "95 %", "ratio", "95 %", "four fifths")
TRUTH: Final = ("group", "mean score", "default predicted", "seen", "95 %", "good refused", "95 %")
EQUAL: Final = (
    "What this shows and does not show. No feature is a customer's sex, age, education or marriage, and the score is "
    "about as true in each group as overall where prediction and outcome agree below. That does not make groups equal: "
    "who has a shorter or rougher history is refused more often, also among those who would have repaid. Being equally "
    "true in groups that default unequally, and refusing good customers of each equally often, cannot both hold."
)
LIMITS: Final = (
    "An issuer usually does not know these attributes, so this audit cannot be repeated on its own customers by this "
    "program; the figures speak of Taiwan in 2005. A ratio below four fifths is where a justification is asked for; "
    "whether there is one is a question of law that no figure here answers."
)


@dataclass(frozen=True, slots=True)
class Market:
    """Ways of holding compared in the planted market of a seed."""

    seed: int
    count: int
    held: Mapping[str, Held]


@dataclass(frozen=True, slots=True)
class CreditReport:
    """Everything the report shows; ``run`` are what it was made of: data, seeds, versions."""

    evaluation: Evaluation
    groups: Sequence[Group]
    proxies: Sequence[Proxy]
    run: Mapping[str, str]
    market: Market | None = None
    training: Training | None = None

    @property
    def described(self) -> dict[str, object]:
        """Return the main figures for programs."""
        found = self.evaluation
        return {
            "run": dict(self.run),
            "parts": {part: self._part(part) for part in PARTS},
            "psi": dict(found.shifts),
            "cut_offs": [one._asdict() for one in found.confusions],
            "fairness": [_told(one) for one in self.groups],
        }

    def _part(self, part: Part) -> dict[str, object]:
        found = self.evaluation
        (count, bad), m = found.counts[part], found.measures[part]
        figures = {"auc": m.auc, "ks": m.ks, "brier": m.brier, "ece": m.ece, "auc_interval": found.areas[part][1:]}
        return {"count": count, "defaults": bad, **figures}


def _told(one: Group) -> dict[str, object]:
    rates = {"approved": one.approved, "ratio": one.against, "verdict": one.verdict}
    return {"attribute": one.attribute, "group": one.name, "count": one.count, **rates}


def html(report: CreditReport) -> str:
    """Return the whole page."""
    found = report.evaluation
    count, bad = found.counts["test"]
    about = (
        f"Will this customer default? The table {found.table.version} on {count:,} customers it was not trained on, of "
        f"whom {bad:,} defaulted. A limit may grow from {found.table.threshold} points on. Every figure was computed "
        "for this page; intervals hold 95 %."
    )
    return page(f"Credit score {found.table.version}", about, _sections(report))


def _sections(report: CreditReport) -> Iterator[tuple[str, str]]:
    found = report.evaluation
    yield "What was run", table("What was run", ("of what", "which"), list(report.run.items()), words=True)
    yield "Does it rank?", _discrimination(found)
    yield "Is it true?", _calibration(found)
    yield "Has it moved?", _shifts(found)
    yield "What does each cut-off do?", _cut_offs(found)
    yield "What does a cut-off cost?", _costs(found)
    yield "Why are customers refused?", _reasons(found)
    yield "Fairness: audited, and never an input", fairness(report.groups, report.proxies)
    if report.training is not None:
        yield "How was it trained?", training(report.training)
    if report.market is not None:
        yield "What do holds catch, and what do they cost?", holds(report.market)


def _discrimination(found: Evaluation) -> str:
    test = found.areas["test"]
    told = (
        f"The curve of the test part runs above the diagonal of pure chance; the area below it is {test.value:.3f} "
        f"({_between(test, 3)})."
    )
    drawn = [Line("the score", found.curve), Line("chance", [(0, 0), (1, 1)])]
    x, y = Axis("share of those who repaid", 0, 1, SHARES), Axis("share of those who defaulted", 0, 1, SHARES)
    rows = [
        (part, f"{found.counts[part][0]:,}", f"{found.counts[part][1]:,}", f"{m.auc:.4f}", _between(a, 4),
         f"{2 * m.auc - 1:.4f}", f"{m.ks:.3f}", f"{m.brier:.4f}", f"{m.ece:.4f}")
        for part in PARTS
        for m, a in ((found.measures[part], found.areas[part]),)
    ]  # fmt: skip
    head = ("part", "customers", "defaults", "AUC", "95 %", "Gini", "KS", "Brier", "ECE, 10 bins")
    return lines("ROC: refusing the riskiest first", told, drawn, x, y) + table("Ranking and error by part", head, rows)


def _calibration(found: Evaluation) -> str:
    most = max(max(one.predicted, one.seen.most) for one in found.bins)
    ticks = [(n / 10, f"{10 * n} %") for n in range(11) if n / 10 <= most]
    gap = max(abs(one.predicted - one.seen.value) for one in found.bins)
    told = f"Ten bins of as many customers each; the widest gap between what was predicted and seen is {gap:.1%}."
    drawn = [
        Line("seen", [(one.predicted, one.seen.value) for one in found.bins], dots=True),
        Line("exactly true", [(0, 0), (most, most)]),
    ]
    x, y = Axis("predicted share of defaults", 0, most, ticks), Axis("share seen", 0, most, ticks)
    head = ("scores", "customers", "predicted", "seen", "95 % of seen")
    rows = [_bin_row(f"{one.least:.0f} to {one.most:.0f}", *one[2:]) for one in found.bins]
    tiers = [_bin_row(f"{tier}: {one.least:.0f} to {one.most:.0f}", *one[2:]) for tier, one in found.tiers.items()]
    return lines("Calibration", told, drawn, x, y) + table("By tenths", head, rows) + table("By tier", head, tiers)


def _bin_row(name: str, count: int, predicted: float, seen: Interval) -> tuple[str, ...]:
    return (name, f"{count:,}", f"{predicted:.1%}", f"{seen.value:.1%}", _percent(seen))


def _shifts(found: Evaluation) -> str:
    rows = [(f"score, training to {part}", f"{index:.4f}", shift(index)) for part, index in found.shifts.items()]
    most = found.moved[:10]
    rows += [(f"feature {one.feature}, training to test", f"{one.psi:.4f}", shift(one.psi)) for one in most]
    note = (
        "The population stability index compares distributions: from 0.10 on it warns, from 0.25 on it asks to act. "
        "The parts here are a random split of one data set, so little may move; the file has no time axis and says "
        "nothing of later months. The index is blind to customers who look the same and default more often."
    )
    return paragraph(note) + table(
        "Population stability, the ten features that moved most", ("of", "PSI", "asks"), rows
    )


def _cut_offs(found: Evaluation) -> str:
    head = ("from points on", "approved", "of them default", "defaults refused", "good refused",
            "good approved", "default approved", "good refused, count", "default refused")  # fmt: skip
    rows = []
    for one in found.confusions:
        bad, good = one.bad_approved + one.bad_refused, one.good_approved + one.good_refused
        shares = (one.approved / one.people, _part(one.bad_approved, one.approved), _part(one.bad_refused, bad),
                  _part(one.good_refused, good))  # fmt: skip
        counts = (one.good_approved, one.bad_approved, one.good_refused, one.bad_refused)
        name = f"{one.cut_off}, in force" if one.cut_off == found.table.threshold else str(one.cut_off)
        rows.append((name, *[f"{each:.1%}" for each in shares], *[f"{each:,}" for each in counts]))
    return table("Confusion at each cut-off, customers of the test part", head, rows)


def _costs(found: Evaluation) -> str:
    least = [cheapest(found.grid, dearness) for dearness in DEARNESS]
    told = " ".join(
        f"If an approved default costs {dearness} refusals of a good customer, {one.cut_off} points cost least."
        for dearness, one in zip(DEARNESS, least, strict=True)
    )
    note = (
        "Assumed, because no file says it: what a default costs, in refusals of a customer who would have repaid. Each "
        "line is the cost of a cut-off as a share of its dearest, so that lines can be compared."
    )
    drawn = [Line(f"{dearness} times", _cost_line(found, dearness)) for dearness in DEARNESS]
    x = Axis("cut-off in points", GRID[0], GRID[-1], [(n, str(n)) for n in range(500, 741, 40)])
    rows = [
        (f"{dearness} times", str(one.cut_off), f"{one.cost(dearness):,.0f}", f"{now.cost(dearness):,.0f}")
        for dearness, one in zip(DEARNESS, least, strict=True)
        for now in found.confusions
        if now.cut_off == found.table.threshold
    ]
    head = ("a default costs", "cheapest cut-off", "cost of 1,000 there", "cost of 1,000 in force")
    return (
        paragraph(note)
        + lines("Cost of a cut-off", told, drawn, x, Axis("share of the dearest", 0, 1, SHARES))
        + table("Cheapest cut-offs, cost in refusals of a good customer", head, rows)
    )


def _cost_line(found: Evaluation, dearness: int) -> list[tuple[float, float]]:
    costs = [(float(one.cut_off), one.cost(dearness)) for one in found.grid]
    most = max(cost for _, cost in costs)
    return [(at, cost / most) for at, cost in costs]


def _reasons(found: Evaluation) -> str:
    refused = sum(found.reasons.values()) + found.without_reason
    if not refused:
        return paragraph("Nobody was refused.")
    rows = [
        (reason.value, float(count), f"{count:,}, {count / refused:.1%}") for reason, count in found.reasons.items()
    ]
    told = f"Of {refused:,} customers below the threshold, by what spoke most against each beside those just approved."
    silent = (
        f"{found.without_reason:,} refused customers have no factor below the mean of those just approved."
        if found.without_reason
        else "Every refused customer has a factor below the mean of those just approved."
    )
    factors = sorted({*FACTOR_OF.values()} - found.reasons.keys())
    never = f"Never the first reason: {', '.join(factors)}." if factors else ""
    return bars("First reason of those refused", told, rows) + paragraph(*(text for text in (silent, never) if text))


def fairness(groups: Sequence[Group], proxies: Sequence[Proxy]) -> str:
    """Return what the audit found, in words and tables."""
    rates = [
        (_name(one), f"{one.count:,}", f"{one.approved.value:.1%}", _percent(one.approved), *_ratio(one), one.verdict)
        for one in groups
    ]
    truth = [
        (_name(one), f"{one.mean_score:.0f}", f"{one.predicted:.1%}", f"{one.seen.value:.1%}", _percent(one.seen),
         f"{one.refused_good.value:.1%}", _percent(one.refused_good))
        for one in groups
    ]  # fmt: skip
    below, unclear = (
        "; ".join(f"{one.name} ({one.attribute}) {_ratio(one)[0]}" for one in groups if one.verdict == verdict)
        for verdict in ("below", "unclear")
    )
    method = (
        f"The reference of an attribute is its group that is approved most often, of those with {LEAST:.0%} of all; a "
        f"ratio is the group's share of approvals over the reference's, compared with {FOUR_FIFTHS}."
    )
    said = (
        f"Below four fifths of the reference, beyond chance: {below or 'no group'}.",
        f"Within chance of four fifths, either way: {unclear or 'no group'}.",
        method,
    )
    told = [(one.group, one.feature, f"{one.area:.3f}") for one in proxies]
    note = "How well the best single feature tells a group, as an area under the curve: 0.5 not at all, 1 always."
    return (
        paragraph(*said)
        + table("Approvals by group, test part", RATES, rates)
        + table("Scores, truth and errors by group, test part", TRUTH, truth)
        + paragraph(note)
        + table("Proxies", ("group", "best feature", "area"), told)
        + paragraph(EQUAL, LIMITS)
    )


def _name(one: Group) -> str:
    return f"{one.attribute}: {one.name}"


def _ratio(one: Group) -> tuple[str, str]:
    if one.against is None:
        return "", ""
    return f"{one.against.value:.3f}", _between(one.against, 3)


def holds(market: Market) -> str:
    """Return what ways of holding come to, said to be of a market we made up."""
    note = (
        f"Of a simulated market with a planted truth, never of real repayments: {market.count:,} repayments of seed "
        f"{market.seed}. The hold yield is the share of holds that a return ends; the price is what was withheld "
        "from good customers, in money times banking days, for each unit of loss that holding spared."
    )
    head = ("way", "cost of 1,000", "held", "good held", "hold yield", "price: withheld for each 1 spared")
    rows = [
        (name, f"{one.per_thousand:,.0f}", f"{one.holds / one.count:.1%}", f"{_part(one.good_held, one.good):.1%}",
         "" if one.hold_yield is None else f"{one.hold_yield:.1%}", "" if one.price is None else f"{one.price:,.1f}")
        for name, one in market.held.items()
    ]  # fmt: skip
    drawn = [(name, one.per_thousand, f"{one.per_thousand:,.0f}") for name, one in market.held.items()]
    told = "Lost, waited, declined and looked at, of 1,000 repayments in major units."
    return paragraph(note) + bars("Cost of each way of holding", told, drawn) + table("Ways of holding", head, rows)


def _part(count: float, of: float) -> float:
    return count / of if of else 0.0


def _between(one: Interval, digits: int) -> str:
    return f"{one.least:.{digits}f} to {one.most:.{digits}f}"


def _percent(one: Interval) -> str:
    return f"{100 * one.least:.1f} to {100 * one.most:.1f} %"
