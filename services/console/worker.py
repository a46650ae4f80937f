"""console: facts a person should look at in, cases and what people decided out; an observer beside the five."""

from schemas.intake import RepaymentConflicted
from schemas.restoration import RestorationDelayed, RestorationParked
from schemas.review import LimitIncreaseDecided
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, SettlementDelayed
from schemas.topics import FEEDBACK, INTAKE, LIMIT_REVIEW, RESTORATION, REVIEW_DECISION, RISK, SETTLEMENT
from services.console.domain import DeadLettered, decide
from services.console.store import DEAD_LETTERS_MAX, STORE, dead_letters
from services.runtime.run import host
from services.runtime.settings import Settings
from services.runtime.worker import Step, Worker


def _no_policy(_: Settings) -> None:
    """Cases have no product's policy."""


async def looked_at(found: DeadLettered) -> DeadLettered:
    """Hand on what was found: there is nothing to do about it outside the books."""
    return found


WORKER = Worker(
    name="console",
    reads=(RESTORATION, SETTLEMENT, RISK, INTAKE, LIMIT_REVIEW),
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
        }
    ),
    writes=(REVIEW_DECISION, FEEDBACK),
    policy=_no_policy,
    decide=decide,
    keeps=STORE,
    step=lambda _: Step(dead_letters, looked_at, seconds_max=5, at_once_max=DEAD_LETTERS_MAX),
)
app = host(WORKER)
