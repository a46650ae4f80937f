"""A stored verdict reached again: from its stored inputs, the policy of its version gives the same bytes (risk 6)."""

from dataclasses import fields
from typing import Any

from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from services.decision import Moment
from services.policy import Profile
from services.risk_scoring.domain import judge, revised, told
from services.risk_scoring.model import GUARDS, SAID, Question


def asked_of(profile: Profile, fact: RiskAssessed) -> Question:
    """Return what a verdict was about; raise KeyError when an input it needs was not kept."""
    said: dict[str, Any] = {
        **{name: getattr(fact, name) for name in SAID - {"rail", "rail_name", "now"}},
        "rail": profile.rail(fact.rail).rail_class,
        "rail_name": fact.rail,
        "now": fact.occurred_at,
    }
    given: dict[str, Any] = dict(fact.inputs)
    names = [each.name for each in fields(Question) if each.name not in SAID]
    kept = {name: given[name] for name in names if name in given or name not in GUARDS}
    return Question(**said, **kept)


def told_again(profile: Profile, fact: RiskAssessed, settled: RepaymentSettled) -> RiskAssessed:
    """Return the first verdict on ``settled`` once more; equal to ``fact`` when the policy is the same."""
    asked = asked_of(profile, fact)
    return told(profile, asked, judge(profile, asked), settled, _moment(fact, settled))


def revised_again(profile: Profile, before: RiskAssessed, fact: RiskAssessed) -> RiskAssessed | None:
    """Return what moved the dates of ``before`` earlier once more."""
    return revised(profile, before, fact.caused_by, fact.occurred_at)


def _moment(fact: RiskAssessed, settled: RepaymentSettled) -> Moment:
    """Return the instants of the first verdict: the ends of its own stretches, which tile to ``now``."""
    own = fact.trail[len(settled.trail) :]
    begun = settled.trail[-1][2] if settled.trail else settled.repaid_at
    taken = [until for _, cause, until in own if cause == "system_delay.kafka_queue"]
    waits = tuple((cause, until) for _, cause, until in own if cause not in ENDS)
    return Moment(fact.occurred_at, taken[0] if taken else begun, begun, waits)


ENDS = ("system_delay.kafka_queue", "system_delay.processing")
"""The first and the last stretch of every stage."""
