"""console: facts a person should look at in, cases and what people decided out; an observer beside the five."""

from schemas.intake import RepaymentConflicted
from schemas.restoration import RestorationDelayed, RestorationParked
from schemas.review import LimitIncreaseDecided
from schemas.risk import ModelActivated, RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, SettlementDelayed
from schemas.topics import (
    AUDIT_ANCHOR,
    FEEDBACK,
    INTAKE,
    LIMIT_REVIEW,
    RESTORATION,
    REVIEW_DECISION,
    RISK,
    RISK_ACTIVE,
    SETTLEMENT,
)
from services.console.domain import DeadLettered, decide
from services.console.model import AuditMoved
from services.console.store import FOUND_MAX, STORE, found_by_itself
from services.runtime.run import host
from services.runtime.settings import Settings
from services.runtime.worker import Step, Worker


def _no_policy(_: Settings) -> None:
    """Cases have no product's policy."""


async def looked_at(found: DeadLettered | AuditMoved) -> DeadLettered | AuditMoved:
    """Hand on what was found: there is nothing to do about it outside the books."""
    return found


WORKER = Worker(
    name="console",
    reads=(RESTORATION, SETTLEMENT, RISK, INTAKE, LIMIT_REVIEW, RISK_ACTIVE),
    handles=frozenset(
        {
            RestorationDelayed,
            RestorationParked,
            RepaymentSettled,
            RepaymentReturned,
            SettlementDelayed,
            RiskAssessed,
            RepaymentConflicted,
            LimitIncreaseDecided,
            ModelActivated,
        }
    ),
    writes=(REVIEW_DECISION, FEEDBACK, AUDIT_ANCHOR),
    policy=_no_policy,
    decide=decide,
    keeps=STORE,
    step=lambda _: Step(found_by_itself, looked_at, seconds_max=5, at_once_max=FOUND_MAX),
)
app = host(WORKER)
