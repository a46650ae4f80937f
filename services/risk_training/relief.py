"""When our own delay burns an objective, credit of low-risk customers is held back less, within a loss budget (L17).

A pure rule of what was seen: whether the instant cap of tiers A and B is widened, stays so, or is as it was again.
"""

from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from services.policy import Profile
from services.prior import Exposure
from services.risk_scoring.domain import judge
from services.risk_scoring.exposure import narrow
from services.risk_scoring.model import features
from services.risk_scoring.outcomes import Outcome
from services.risk_training.replaying import question

SPENT: Final = "the loss budget is spent"
CALM: Final = "the objective burns no more"
OFF: Final = "the profile allows none"
BURNS: Final = "our delay burns the objective"
Step = Literal["begin", "renew", "end", "none"]


class Kept(NamedTuple):
    """Promises whose date was in a window, and how many of them were broken."""

    due: int
    broken: int

    def burn(self, budget: float) -> float:
        """Return how many times as fast as allowed the ``budget``, a share that may break, is spent."""
        return self.broken / self.due / budget if self.due else 0.0


class Rule(NamedTuple):
    """When a budget burns: over ``factor`` in both windows, with so many broken in the long one."""

    budget: float
    factor: float
    breaches: int


class Turn(NamedTuple):
    """What to do now, and why."""

    step: Step
    why: str


def turn(rule: Rule, short: Kept, long: Kept, exposure: Exposure, spent_minor: int, *, running: bool) -> Turn:
    """Decide one turn of control; ``spent_minor`` is what reliefs of the last day are expected to cost.

    It begins as the alert does that pages, and ends when the short window burns no faster than allowed: what burns on
    and off keeps it, what is over ends it within minutes.
    """
    if exposure.relief_bps <= Exposure.model_fields["relief_bps"].default or not exposure.relief_loss_minor:
        return Turn("end" if running else "none", OFF)
    if spent_minor >= exposure.relief_loss_minor:
        return Turn("end" if running else "none", SPENT)
    if running:
        return Turn("renew", BURNS) if short.burn(rule.budget) > 1 else Turn("end", CALM)
    burns = min(short.burn(rule.budget), long.burn(rule.budget)) > rule.factor and long.broken >= rule.breaches
    return Turn("begin", BURNS) if burns else Turn("none", CALM)


def expected_loss(profile: Profile, outcomes: Iterable[Outcome]) -> int:
    """Return what is expected to be lost of what a wider cap gave back at once, in minor units rounded up.

    Each verdict is asked again as it was and without the relief; what came back sooner is weighed with the odds of the
    table of returns, on the rails that may take it back.
    """
    prior, lost = profile.returns, 0.0
    for outcome in outcomes:
        asked = question(profile, outcome)
        if prior is None or not asked.widened_minor:
            continue
        more = judge(profile, asked).at_once_minor(asked.now) - judge(profile, narrow(asked)).at_once_minor(asked.now)
        lost += max(0, more) * prior.hazard(asked.rail_name, features(asked)).at_once
    return int(-(-lost // 1))
