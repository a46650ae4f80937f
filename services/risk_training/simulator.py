"""What each way of holding costs in the planted market: ``python -m services.risk_training.simulator``."""

import argparse
import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Final

from services.policy import Profile
from services.prior import Prices
from services.profiles import load_profiles
from services.risk_training.market import MINOR, Repayment, Truth, repayments
from services.risk_training.ways import (
    RELEASE,
    Formula,
    HandRules,
    Oracle,
    Product,
    Way,
    always_release,
    always_three_days,
    cost,
    hold,
)
from services.runtime.settings import Settings

PRODUCT: Final = "the product: guards, then part now"
HAND: Final = "hand rules"
TUNING_SEED: Final = 1_000_003
"""The hand rules are tuned on repayments no table is made of."""
TUNED_ON: Final = 10_000


@dataclass(slots=True)
class Tally:
    """What came of one way so far."""

    count: int = 0
    minor: float = 0.0
    good: int = 0
    good_held: int = 0
    at_once: int = 0
    looked: int = 0

    @property
    def per_thousand(self) -> float:
        """Return the cost of 1,000 repayments, in major units."""
        return self.minor / MINOR / self.count * 1_000

    @property
    def good_held_share(self) -> float:
        """Return the share of repayments that never come back of which something was held."""
        return self.good_held / self.good

    def add(self, repayment: Repayment, way: Way, prices: Prices) -> None:
        """Let ``way`` decide one repayment."""
        act = way(repayment)
        self.count += 1
        self.minor += cost(act, repayment, prices)
        self.good += repayment.good
        self.good_held += repayment.good and act.held
        self.at_once += not act.held
        self.looked += act.looked


def ways(profile: Profile, *, tuned: HandRules | None = None) -> dict[str, Way]:
    """Return the ways by name, in the order of the table; ``profile`` decides by the formula."""
    hold = profile.hold["REVERSIBLE"]
    scheduled = profile.model_copy(update={"hold": {"REVERSIBLE": hold.model_copy(update={"method": "schedule"})}})
    if profile.formula is None:
        raise ValueError("the simulator needs a profile whose method is the formula")
    return {
        "always release": always_release,
        "always 3 days": always_three_days,
        HAND: HandRules(),
        "tuned hand rules": tuned or tune(hold.prices),
        "expected loss": Formula(profile.formula, hold.prices, parts=False),
        "expected loss with part now": Formula(profile.formula, hold.prices, parts=True),
        PRODUCT: Product(profile),
        "the same, unused credit unknown": Product(profile, blind=True),
        "the same, under the instant cap": Product(profile, capped=True),
        "the shipped schedule": Product(scheduled, capped=True),
        "oracle": Oracle(hold.prices),
    }


def play(market: Iterable[Repayment], compared: Mapping[str, Way], prices: Prices) -> dict[str, Tally]:
    """Let every way decide the same repayments."""
    tallies = {name: Tally() for name in compared}
    for repayment in market:
        for name, way in compared.items():
            tallies[name].add(repayment, way, prices)
    return tallies


def tune(prices: Prices, truth: Truth | None = None) -> HandRules:
    """Return the cheapest hand rules of a grid, on repayments of their own."""
    market = [one for one in repayments(TUNING_SEED, TUNED_ON, truth) if one.seen.rail != "FINAL"]
    waits = (2, 3, 5)
    acts = (RELEASE, *map(hold, waits))
    priced = [(one, {act: cost(act, one, prices) for act in acts}) for one in market]
    grid = product(waits, (None, 0.6, 0.9), (True, False), (1, 2), (0.6, None), (True, False))
    return min(
        (HandRules(*choice) for choice in grid), key=lambda rules: sum(costs[rules(one)] for one, costs in priced)
    )


def formula_profile() -> Profile:
    """Return the default product's profile with the formula deciding."""
    profile = load_profiles(Settings()).of("default")
    hold = profile.hold["REVERSIBLE"].model_copy(update={"method": "formula"})
    return profile.model_copy(update={"hold": {"REVERSIBLE": hold}})


def table(runs: Sequence[Mapping[str, Tally]]) -> str:
    """Return the table: cost per 1,000 as mean and range over the seeds, who was held, what came back at once."""
    lines = [f"{'way':<36}{'cost per 1,000':>15}{'range':>18}{'good held':>10}{'at once':>10}{'looked at':>10}"]
    for name in runs[0]:
        found = [run[name] for run in runs]
        costs = [one.per_thousand for one in found]
        held, once = (statistics.mean(getattr(one, key) for one in found) for key in ("good_held_share", "at_once"))
        looked = statistics.mean(one.looked / one.count for one in found)
        span, shares = f"{min(costs):,.0f} - {max(costs):,.0f}", (held, once / found[0].count, looked)
        lines.append(
            f"{name:<36}{statistics.mean(costs):>15,.0f}{span:>18}" + "".join(f"{one:>10.2%}" for one in shares)
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; fail unless the product's part-now policy is worth it."""
    asked = argparse.ArgumentParser(prog="python -m services.risk_training.simulator", description=__doc__)
    asked.add_argument("--repayments", type=int, default=40_000)
    asked.add_argument("--seeds", type=int, default=1, help="seeds 1, 2, ... are played")
    given = asked.parse_args(arguments)
    profile = formula_profile()
    prices = profile.hold["REVERSIBLE"].prices
    compared, runs = ways(profile), []
    for seed in range(1, given.seeds + 1):
        runs.append(play(repayments(seed, given.repayments), compared, prices))
        sys.stderr.write(f"seed {seed} of {given.seeds}: {given.repayments:,} repayments decided\n")
    sys.stdout.write(table(runs) + "\n")
    sys.stdout.write(f"tuned hand rules: {compared['tuned hand rules']}\n")
    return 0 if all(worth_it(run) for run in runs) else 1


def worth_it(run: Mapping[str, Tally]) -> bool:
    """Tell whether part now costs at least 15 % less than the hand rules and holds at most 13 % of good customers."""
    dearest, most_held = 0.85 * run[HAND].per_thousand, 0.13
    return run[PRODUCT].per_thousand <= dearest and run[PRODUCT].good_held_share <= most_held


if __name__ == "__main__":
    sys.exit(main())
