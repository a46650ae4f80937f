"""How good a score is: does it rank, does it part, is it true? Plain arithmetic on scores and outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise

BINS = 10


@dataclass(frozen=True, slots=True)
class Measures:
    """Area under the curve, Kolmogorov-Smirnov distance, Brier score and calibration error of ten equal bins."""

    auc: float
    ks: float
    brier: float
    ece: float


def measured(probabilities: Sequence[float], defaulted: Sequence[bool]) -> Measures:
    """Return the measures of predicted probabilities of default."""
    return Measures(
        auc(probabilities, defaulted),
        ks(probabilities, defaulted),
        sum((p - y) ** 2 for p, y in zip(probabilities, defaulted, strict=True)) / len(defaulted),
        ece(probabilities, defaulted),
    )


def auc(probabilities: Sequence[float], defaulted: Sequence[bool]) -> float:
    """Return how often a customer who defaulted was ranked above one who did not; ties count half."""
    good, won = 0, 0.0
    for bad_here, good_here in by_rank(probabilities, defaulted):
        won += bad_here * (good + good_here / 2)
        good += good_here
    bad = len(defaulted) - good
    return won / (good * bad)


def ks(probabilities: Sequence[float], defaulted: Sequence[bool]) -> float:
    """Return the widest gap between the shares of both kinds below a probability."""
    counts = list(by_rank(probabilities, defaulted))
    bad, good = sum(bad for bad, _ in counts), sum(good for _, good in counts)
    shares = zip(accumulate(one for one, _ in counts), accumulate(two for _, two in counts), strict=True)
    return max(abs(below_bad / bad - below_good / good) for below_bad, below_good in shares)


def ece(probabilities: Sequence[float], defaulted: Sequence[bool]) -> float:
    """Return the mean gap between predicted and seen over ten bins of as many customers each."""
    ordered = sorted(zip(probabilities, defaulted, strict=True))
    size = len(ordered)
    cuts = [size * n // BINS for n in range(BINS + 1)]
    parts = [ordered[start:end] for start, end in pairwise(cuts)]
    return sum(abs(sum(p for p, _ in part) - sum(y for _, y in part)) for part in parts) / size


def by_rank(probabilities: Sequence[float], defaulted: Sequence[bool]) -> list[tuple[int, int]]:
    """Return (defaulted, not) for each probability, lowest first."""
    ordered = sorted(zip(probabilities, defaulted, strict=True))
    found = []
    for _, same in groupby(ordered, key=lambda one: one[0]):
        outcomes = [outcome for _, outcome in same]
        found.append((sum(outcomes), len(outcomes) - sum(outcomes)))
    return found


def approval_ratio(approved: Sequence[bool], one: Sequence[bool], other: Sequence[bool]) -> float:
    """Return the approval rate of the customers who are ``one``, over that of those who are ``other``."""
    rates = []
    for group in (one, other):
        picked = [ok for ok, here in zip(approved, group, strict=True) if here]
        rates.append(sum(picked) / len(picked))
    return rates[0] / rates[1]
