"""Who is approved how often: groups by what a score never sees, compared after the fact (risk 9)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Final, Literal, NamedTuple

from services.risk_training.evaluation import Judged
from services.risk_training.intervals import Interval, ratio, share
from services.risk_training.measures import auc
from services.scorecard import FEATURES, Feature

FOUR_FIFTHS: Final = 0.8
"""Below this ratio of approvals US agencies ask for a justification (29 CFR 1607.4 D); a rule of thumb, not a proof."""
LEAST: Final = 0.02
"""Groups of a smaller share of those judged are shown and not compared: chance alone moves them."""
Verdict = Literal["reference", "kept", "unclear", "below", "too few"]
Who = Callable[[Mapping[str, int]], bool]


def _is(name: str, *codes: int) -> Who:
    return lambda who: who[name] in codes


GROUPS: Final[Mapping[str, Mapping[str, Who]]] = {
    "sex": {"women": _is("SEX", 2), "men": _is("SEX", 1)},
    "age": {
        "under 25": _is("AGE", *range(25)),
        "25 to 39": _is("AGE", *range(25, 40)),
        "40 to 61": _is("AGE", *range(40, 62)),
        "62 and over": _is("AGE", *range(62, 130)),
    },
    "education": {
        "graduate school": _is("EDUCATION", 1),
        "university": _is("EDUCATION", 2),
        "high school": _is("EDUCATION", 3),
        "other or not said": _is("EDUCATION", 0, 4, 5, 6),
    },
    "marriage": {
        "married": _is("MARRIAGE", 1),
        "single": _is("MARRIAGE", 2),
        "other or not said": _is("MARRIAGE", 0, 3),
    },
}
"""What the data set says of its customers, by the codes its source documents."""
PROXIED: Final[Mapping[str, Who]] = {
    "women": GROUPS["sex"]["women"],
    "under 25": GROUPS["age"]["under 25"],
    "40 to 61": GROUPS["age"]["40 to 61"],
    "high school": GROUPS["education"]["high school"],
    "married": GROUPS["marriage"]["married"],
}


@dataclass(frozen=True, slots=True)
class Group:
    """How a group fares; ``against`` is its ratio of approvals to the reference, the group approved most often."""

    attribute: str
    name: str
    count: int
    approved: Interval
    against: Interval | None
    verdict: Verdict
    mean_score: float
    predicted: float
    seen: Interval
    refused_good: Interval
    """Of those who repaid, how many would have been refused."""


class Proxy(NamedTuple):
    """The one feature that tells a group best, and how well: .5 is not at all, 1 always."""

    group: str
    feature: Feature
    area: float


def audited(people: Sequence[Judged], threshold: int) -> list[Group]:
    """Return every group that is there, attribute by attribute; ``threshold`` is in points."""
    found: list[Group] = []
    for attribute, groups in GROUPS.items():
        members = {name: [one for one in people if who(one.customer.audit)] for name, who in groups.items()}
        there = {name: here for name, here in members.items() if here}
        counts = {name: (sum(one.score >= 100 * threshold for one in here), len(here)) for name, here in there.items()}
        large = {name: count for name, count in counts.items() if count[1] >= LEAST * len(people)}
        found += [_group((attribute, name), here, _fares(name, large), threshold) for name, here in there.items()]
    return found


def _fares(name: str, large: Mapping[str, tuple[int, int]]) -> tuple[Interval | None, Verdict]:
    """Compare a group with the one approved most often; ``large`` are (approved, of) of those large enough."""
    if name not in large:
        return None, "too few"
    reference = max(large, key=lambda group: (large[group][0] / large[group][1], group))
    if name == reference:
        return None, "reference"
    against = ratio(large[name], large[reference])
    return against, _verdict(against)


def _group(
    name: tuple[str, str], here: Sequence[Judged], fares: tuple[Interval | None, Verdict], threshold: int
) -> Group:
    good = [one for one in here if not one.customer.defaulted]
    return Group(
        *name,
        count=len(here),
        approved=share(sum(one.score >= 100 * threshold for one in here), len(here)),
        against=fares[0],
        verdict=fares[1],
        mean_score=fmean(one.score for one in here) / 100,
        predicted=fmean(one.probability for one in here),
        seen=share(sum(one.customer.defaulted for one in here), len(here)),
        refused_good=share(sum(one.score < 100 * threshold for one in good), len(good)),
    )


def _verdict(against: Interval) -> Verdict:
    """Say whether four fifths are kept for sure, missed for sure, or neither."""
    if against.most < FOUR_FIFTHS:
        return "below"
    return "kept" if against.least >= FOUR_FIFTHS else "unclear"


def proxies(people: Sequence[Judged]) -> list[Proxy]:
    """Return for each group how well the best single feature tells who is in it."""
    found: list[Proxy] = []
    for group, who in PROXIED.items():
        inside = [who(one.customer.audit) for one in people]
        if all(inside) or not any(inside):
            continue
        areas = {name: _told_apart(people, name, inside) for name in FEATURES}
        best = max(areas, key=lambda name: (areas[name], name))
        found.append(Proxy(group, best, areas[best]))
    return found


def _told_apart(people: Sequence[Judged], name: Feature, inside: Sequence[bool]) -> float:
    """Return the area of one feature, whichever way round it tells; what is missing is told apart by nothing."""
    known = [(one.customer.known[name], here) for one, here in zip(people, inside, strict=True)]
    pairs = [(value, here) for value, here in known if value is not None]
    there = {here for _, here in pairs}
    if len(there) < len((True, False)):
        return 0.5
    found = auc([value for value, _ in pairs], [here for _, here in pairs])
    return max(found, 1 - found)
