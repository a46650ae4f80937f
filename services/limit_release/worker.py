"""limit-release: settled money, verdicts, reviews and billing's account in; promises, holds, restored credit out."""

from schemas.account import (
    AccountOpened,
    AccountStatusChanged,
    AuthorisationPlaced,
    AuthorisationReleased,
    ChargesAccrued,
    CreditBalanceRefunded,
    CreditLimitChanged,
    PurchasePosted,
    PurchaseRefunded,
)
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from schemas.topics import BILLING_ACCOUNT, RESTORATION, REVIEW_DECISION, RISK, SETTLEMENT
from services.limit_release.domain import decide
from services.limit_release.store import STORE
from services.profiles import load_profiles
from services.runtime.run import host
from services.runtime.worker import Worker

WORKER = Worker(
    name="limit-release",
    reads=(RISK, SETTLEMENT, BILLING_ACCOUNT, REVIEW_DECISION),
    handles=frozenset(
        {
            RiskAssessed,
            RepaymentSettled,
            RepaymentReturned,
            RepaymentsReallocated,
            HoldReleaseApproved,
            HoldExtended,
            AccountOpened,
            AccountStatusChanged,
            CreditLimitChanged,
            PurchasePosted,
            PurchaseRefunded,
            AuthorisationPlaced,
            AuthorisationReleased,
            ChargesAccrued,
            CreditBalanceRefunded,
        }
    ),
    writes=(RESTORATION,),
    policy=load_profiles,
    decide=decide,
    keeps=STORE,
)
app = host(WORKER)
