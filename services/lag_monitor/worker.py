"""lag-monitor: every topic in, the lag ledger out; it writes no topic."""

from schemas.intake import RepaymentReceived
from schemas.notification import (
    NotificationDelivered,
    NotificationRequested,
    NotificationSuppressed,
    NotificationUndeliverable,
)
from schemas.repayment import RepaymentReported
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    PromiseMade,
    RestorationParked,
    RestorationReversed,
)
from schemas.review import FeedbackReceived
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentRejected, RepaymentSettled
from schemas.topics import TOPICS
from services.hosted import Observer
from services.lag_monitor.domain import decide
from services.lag_monitor.gathering import Gathering
from services.lag_monitor.store import STORE
from services.lag_monitor.watch import LEDGER, Watch
from services.runtime import metrics
from services.runtime.run import host
from services.runtime.settings import Settings
from services.runtime.worker import Worker


def no_policy(_: Settings) -> None:
    """Observing needs no policy."""


WORKER = Worker(
    name="lag-monitor",
    reads=tuple(TOPICS.values()),
    handles=frozenset(
        {
            RepaymentReported,
            RepaymentReceived,
            RepaymentSettled,
            RepaymentRejected,
            RiskAssessed,
            PromiseMade,
            HoldPlaced,
            RestorationParked,
            CreditRestored,
            NothingToRestore,
            RestorationReversed,
            NotificationRequested,
            NotificationDelivered,
            NotificationUndeliverable,
            NotificationSuppressed,
            FeedbackReceived,
        }
    ),
    writes=(),
    policy=no_policy,
    decide=decide,
    keeps=STORE,
    at_once=4,
    consumer=Gathering,
)
app = host(WORKER, Observer)
app.service(Watch)
metrics.REGISTRY.register(LEDGER)
