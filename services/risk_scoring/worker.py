"""risk-scoring: settled repayments in, a verdict with dated tranches out."""

from schemas.account import AccountOpened, CreditLimitChanged, FundingAccountLinked, StatementIssued
from schemas.review import HoldExtended, HoldReleaseApproved
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from schemas.topics import BILLING_ACCOUNT, REVIEW_DECISION, RISK, SETTLEMENT
from services.profiles import load_profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.store import STORE
from services.runtime.run import host
from services.runtime.worker import Worker

WORKER = Worker(
    name="risk-scoring",
    reads=(SETTLEMENT, BILLING_ACCOUNT, REVIEW_DECISION),
    handles=frozenset(
        {
            RepaymentSettled,
            RepaymentReturned,
            RepaymentsReallocated,
            FundingAccountLinked,
            AccountOpened,
            CreditLimitChanged,
            StatementIssued,
            HoldReleaseApproved,
            HoldExtended,
        }
    ),
    writes=(RISK,),
    policy=load_profiles,
    decide=decide,
    keeps=STORE,
)
app = host(WORKER)
