"""Past repayments watched for drift: indexes of what is seen of them, sums of what came back too often (risk 6)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple

from services.policy import Profile, Profiles
from services.risk_scoring.model import Question, features
from services.risk_training.drift import Seen, Shift, Watch, binned, edges_of, psi, shift
from services.risk_training.replaying import YOUNG_MONTHS, Case, question, tenure

NOTHING = "nothing held"


class Moved(NamedTuple):
    """How far a distribution moved between two windows, by the population stability index."""

    name: str
    moved: float
    shift: Shift


class Drift(NamedTuple):
    """What drifted: distributions, most first, and since when a segment's sum alarms; repayments in both windows."""

    moved: tuple[Moved, ...]
    alarms: Mapping[str, date]
    before: int
    after: int


def drifted(cases: Iterable[Case], policy: Profiles, split: datetime) -> Drift:
    """Compare repayments assessed before ``split`` with those from it on, and sum what came back day by day.

    Our own errors and what cannot be asked again are left out, as in a replay. Without repayments in both windows no
    index is told.
    """
    asked = [each for each in (_asked(policy, case) for case in cases) if each is not None]
    before = [one for one in asked if one[0].outcome.assessed_at < split]
    after = [one for one in asked if one[0].outcome.assessed_at >= split]
    moved = [] if not before or not after else list(_moved(policy, before, after))
    seen = sorted((_seen(policy, *one) for one in asked), key=lambda one: one.on)
    alarms = Watch().days(seen).alarms()
    return Drift(tuple(sorted(moved, key=lambda one: -one.moved)), alarms, len(before), len(after))


Asked = tuple[Case, Question]


def _asked(policy: Profiles, case: Case) -> Asked | None:
    profile = policy.by_product.get(case.outcome.product)
    if profile is None or profile.returns is None or case.outcome.returned_by == "issuer":
        return None
    try:
        return case, question(profile, case.outcome)
    except KeyError:
        return None


def _moved(policy: Profiles, before: Sequence[Asked], after: Sequence[Asked]) -> Iterator[Moved]:
    """Yield the index of the score, of each feature in bins of what was before, of tiers, rails and reasons."""
    known = [
        [{"odds of a return": _likely(policy, *one), **features(one[1])} for one in part] for part in (before, after)
    ]
    for name in known[0][0]:
        was, now = ([value for row in part if (value := row[name]) is not None] for part in known)
        edges = edges_of(was) if was else ()
        counts = [
            binned(values, edges) + Counter[object]({"missing": len(part) - len(values)})
            for values, part in zip((was, now), known, strict=True)
        ]
        yield _told(name, *counts)
    for name, of in (("tier", _tier), ("rail", _rail), ("reason of the hold", _rule)):
        yield _told(name, *(Counter[object](of(case) for case, _ in part) for part in (before, after)))


def _told(name: str, was: Mapping[object, int], now: Mapping[object, int]) -> Moved:
    index = psi(was, now)
    return Moved(name, index, shift(index))


def _tier(case: Case) -> str:
    return case.outcome.tier


def _rail(case: Case) -> str:
    return case.outcome.rail


def _rule(case: Case) -> str:
    return NOTHING if case.outcome.rule is None else case.outcome.rule.value


def _likely(policy: Profiles, case: Case, asked: Question) -> float:
    profile: Profile = policy.by_product[case.outcome.product]
    return 0.0 if profile.returns is None else profile.returns.bank.chance(asked.rail_name, features(asked)).likely


def _seen(policy: Profiles, case: Case, asked: Question) -> Seen:
    """Return a repayment as the sums count it: by its fast label, in the segments a wave may hide in."""
    outcome = case.outcome
    segments = [
        "all",
        f"rail={outcome.rail}",
        f"tier={outcome.tier}",
        f"new_funding_account={not asked.verified}",
        *([f"under_{YOUNG_MONTHS}_months"] if tenure(case).startswith("under") else []),
    ]
    fast = outcome.returned_at is not None and outcome.returned_at < outcome.fast_until
    return Seen(outcome.assessed_at.date(), tuple(segments), _likely(policy, case, asked), fast)
