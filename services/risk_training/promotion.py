"""When a candidate may go further: what must be so of the same matured repayments before it decides for anybody.

A shadow becomes a canary, and a canary the model in force, when every check passes and a person says so (risk 6). That
a table is monotone is checked whenever one is read.
"""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from itertools import pairwise
from math import ceil, exp
from random import Random
from statistics import fmean
from typing import Final, NamedTuple

from services.prior import Prices
from services.risk_scoring.trials import Said, Stage, broken, due_of, most_by_chance
from services.risk_training.drift import ACT, BINS, Seen, Watch, binned, edges_of, psi

ROWS_LEAST, RETURNED_LEAST = 1_000, 30
"""Fewer matured repayments, or fewer of them returned, show nothing; both are assumed."""
AUC_TIE, DRAWS, LOWEST = 0.005, 200, 0.05
"""Less than so much of an area is a tie (risk 3); the paired bootstrap's draws, and the share of them left below."""
ECE_MAX, COST_MAX, HELD_MIN, HELD_MAX, RATIO_DOWN_MAX = 0.02, 0.98, 0.8, 1.2, 0.02
GROUP_LEAST: Final = 100
"""The ratio of a smaller group is chance; assumed."""
CANARY_DAYS: Final = 7
JUDGE_SECONDS_MAX: Final = 100e-6
DAY: Final = timedelta(days=1)


class Matured(NamedTuple):
    """What both models said of a repayment of which it is known whether it came back.

    ``groups`` are those whose ratio is watched; ``returned_at`` is None when it stayed; ``spent`` is the share of what
    was given back by then that is lost with a return; ``unused_minor`` is the credit unused before it.
    """

    assessed_at: datetime
    groups: tuple[str, ...]
    restorable_minor: int
    unused_minor: int
    champion: Said
    candidate: Said
    returned_at: datetime | None
    spent: float

    @property
    def on(self) -> date:
        """Return the day it was decided on."""
        return self.assessed_at.date()


class Check(NamedTuple):
    """One thing that must be so: what was seen, and what is wanted."""

    name: str
    passed: bool
    seen: str
    wanted: str


class Load(NamedTuple):
    """What a candidate asks of the system: seconds a verdict, what is exposed now, and the budget; None: no budget."""

    seconds: float
    exposed_minor: int
    budget_minor: int | None


def to_canary(rows: Sequence[Matured], prices: Prices, load: Load) -> tuple[Check, ...]:
    """Return what must be so before a candidate decides for a few accounts."""
    came = sum(row.returned_at is not None for row in rows)
    enough = len(rows) >= ROWS_LEAST and came >= RETURNED_LEAST
    seen = f"{len(rows)} matured, {came} of them came back"
    first = Check("enough", enough, seen, f"at least {ROWS_LEAST} and {RETURNED_LEAST}")
    if not enough:
        return (first,)
    return (
        first,
        _ranks(rows),
        _true(rows),
        _cheaper(rows, prices),
        _holds(rows),
        _fair(rows),
        *_same_world(rows),
        *_bears(rows, load),
    )


def to_force(
    rows: Sequence[Matured],
    prices: Prices,
    load: Load,
    canary: tuple[datetime, Sequence[Stage]] | None,
    survivor: Sequence[float],
    now: datetime,
) -> tuple[Check, ...]:
    """Return what must be so before a candidate decides for everybody: it was a canary, since when and with what."""
    days = 0.0 if canary is None else (now - canary[0]) / DAY
    lasted = Check("canary", days >= CANARY_DAYS, f"{days:.1f} days", f"at least {CANARY_DAYS}")
    stages = () if canary is None else canary[1]
    came, due = sum(each.returned for each in stages), due_of(stages, survivor)
    within = broken(stages, survivor) is None and came <= most_by_chance(due)
    returned = Check("returns", within, f"{came} came back, {due:.2f} were due", f"at most {most_by_chance(due)}")
    return (lasted, returned, *to_canary(rows, prices, load))


def _ranks(rows: Sequence[Matured]) -> Check:
    """Return whether it ranks as well: the low end of the paired bootstrap of the difference of both areas.

    What is drawn is what each repayment adds to the difference: ranking every draw anew would take minutes.
    """
    dice = Random(len(rows))  # noqa: S311  # a drawing that can be repeated, not a secret
    before, after = (_placed(rows, each) for each in _likely(rows))
    came, stayed = ([two - one for one, two in zip(*each, strict=True)] for each in zip(before, after, strict=True))
    gained = fmean(came)
    found = sorted(
        fmean(dice.choices(came, k=len(came))) + fmean(dice.choices(stayed, k=len(stayed))) - gained
        for _ in range(DRAWS)
    )
    low = found[int(DRAWS * LOWEST)]
    return Check("ranks", low >= -AUC_TIE, f"{gained:+.4f}, low end {low:+.4f}", f"low end at least {-AUC_TIE}")


def _likely(rows: Sequence[Matured]) -> tuple[list[float], list[float]]:
    return [row.champion.likely for row in rows], [row.candidate.likely for row in rows]


def _placed(rows: Sequence[Matured], likely: Sequence[float]) -> tuple[list[float], list[float]]:
    """Return above which share of those that stayed each that came back is, and below which share each that stayed is.

    Equal ones count half; the mean of either is the area under the curve.
    """
    known = list(zip(likely, rows, strict=True))
    came = sorted(one for one, row in known if row.returned_at is not None)
    stayed = sorted(one for one, row in known if row.returned_at is None)
    above = [
        (bisect_left(stayed, one) + bisect_right(stayed, one)) / (2 * len(stayed))
        for one, row in known
        if row.returned_at is not None
    ]
    below = [
        1 - (bisect_left(came, one) + bisect_right(came, one)) / (2 * len(came))
        for one, row in known
        if row.returned_at is None
    ]
    return above, below


def _true(rows: Sequence[Matured]) -> Check:
    """Return the mean gap between predicted and seen over ten bins of as many repayments; equal ones in their order."""
    ordered = sorted(rows, key=lambda row: row.candidate.likely)
    cuts = [len(ordered) * n // BINS for n in range(BINS + 1)]
    gaps = [
        abs(sum(row.candidate.likely - (row.returned_at is not None) for row in ordered[start:end]))
        for start, end in pairwise(cuts)
    ]
    found = sum(gaps) / len(ordered)
    return Check("calibration", found <= ECE_MAX, f"{found:.4f}", f"at most {ECE_MAX}")


def _cheaper(rows: Sequence[Matured], prices: Prices) -> Check:
    before = sum(cost_of(row.champion, row, prices) for row in rows)
    after = sum(cost_of(row.candidate, row, prices) for row in rows)
    share = after / before if before else 1.0
    return Check("cost", share <= COST_MAX, f"{share:.3f} of the model in force", f"at most {COST_MAX}")


def cost_of(said: Said, row: Matured, prices: Prices) -> float:
    """Return what a verdict cost, in minor units: what was lost, the days held, and purchases declined meanwhile."""
    gone, held = 0.0, row.restorable_minor - said.at_once_minor
    if row.returned_at is not None:
        late = said.until is not None and row.returned_at > said.until
        gone = row.spent * (said.at_once_minor + (held if late else 0))
    if said.until is None or held == 0:
        return gone
    days = ceil((said.until - row.assessed_at) / DAY)
    need = prices.need(days)
    declined = exp(-(row.unused_minor + said.at_once_minor) / need) * (prices.declined_minor + prices.margin * need)
    return gone + prices.day_minor * days + declined


def _holds(rows: Sequence[Matured]) -> Check:
    before = sum(row.champion.verdict != "clear" for row in rows)
    after = sum(row.candidate.verdict != "clear" for row in rows)
    passed = HELD_MIN * before <= after <= HELD_MAX * before
    return Check(
        "hold rate", passed, f"{after} held, {before} by the model in force", f"{HELD_MIN} to {HELD_MAX} of it"
    )


def _fair(rows: Sequence[Matured]) -> Check:
    """Return whether no group is given back at once less often than before, measured by everybody's share."""
    sizes = Counter(group for row in rows for group in row.groups)
    before = _ratios(rows, [row.champion for row in rows])
    after = _ratios(rows, [row.candidate for row in rows])
    down = {group: before[group] - after[group] for group, size in sizes.items() if size >= GROUP_LEAST}
    worst = max(down, key=lambda group: down[group], default=None)
    seen = "no group is large enough" if worst is None else f"{worst}: {-down[worst]:+.3f}"
    return Check(
        "groups", worst is None or down[worst] <= RATIO_DOWN_MAX, seen, f"none down by more than {RATIO_DOWN_MAX}"
    )


def _ratios(rows: Sequence[Matured], said: Sequence[Said]) -> dict[str, float]:
    """Return the share given back at once of each group, over everybody's."""
    cleared: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for row, one in zip(rows, said, strict=True):
        for group in row.groups:
            sizes[group] += 1
            cleared[group] += one.verdict == "clear"
    share = sum(one.verdict == "clear" for one in said) / len(rows)
    return {group: cleared[group] / sizes[group] / share if share else 1.0 for group in sizes}


def _same_world(rows: Sequence[Matured]) -> tuple[Check, Check]:
    """Return whether the world moved meanwhile: what is seen of its later half, and what came back in each segment."""
    ordered = sorted(rows, key=lambda row: row.assessed_at)
    half = len(ordered) // 2
    likely = [row.candidate.likely for row in ordered]
    edges = edges_of(likely[:half])
    index = psi(binned(likely[:half], edges), binned(likely[half:], edges))
    seen = (Seen(row.on, row.groups, row.candidate.likely, row.returned_at is not None) for row in rows)
    alarms = Watch().days(seen).alarms()
    told = ", ".join(f"{segment} on {on}" for segment, on in alarms.items()) or "no segment"
    return (
        Check("shift", index < ACT, f"index {index:.3f}", f"below {ACT}"),
        Check("segments", not alarms, told, "no segment alarms"),
    )


def _bears(rows: Sequence[Matured], load: Load) -> tuple[Check, Check]:
    """Return whether the portfolio's budget and the worker bear it."""
    before = sum(row.champion.at_once_minor for row in rows)
    after = sum(row.candidate.at_once_minor for row in rows)
    exposed = load.exposed_minor * after // before if before else load.exposed_minor
    budget = load.budget_minor
    within = budget is None or exposed <= budget
    return (
        Check("budget", within, f"{exposed} exposed", "no budget is set" if budget is None else f"at most {budget}"),
        Check("latency", load.seconds <= JUDGE_SECONDS_MAX, f"{load.seconds * 1e6:.0f} us a verdict", "at most 100 us"),
    )
