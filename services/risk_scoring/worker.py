"""risk-scoring: settled repayments in, a verdict with dated tranches out."""

from dataclasses import replace

from schemas.account import (
    AccountOpened,
    AccountStatusChanged,
    CreditLimitChanged,
    FundingAccountLinked,
    PurchaseRefunded,
    RepaymentDisputed,
    StatementIssued,
)
from schemas.review import HoldExtended, HoldReleaseApproved, LimitReviewConcluded, LimitReviewRequested
from schemas.settlement import RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from schemas.topics import BILLING_ACCOUNT, LIMIT_REVIEW, REVIEW_DECISION, RISK, RISK_ACTIVE, SETTLEMENT
from services.policy import Profiles
from services.profiles import credit_score, load_profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.store import STORE
from services.runtime.run import host
from services.runtime.settings import Settings
from services.runtime.worker import Worker


def _policy(settings: Settings) -> Profiles:
    """Return the profiles with the table that scores accounts: no other service needs it."""
    return replace(load_profiles(settings), credit=credit_score())


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
            AccountStatusChanged,
            PurchaseRefunded,
            RepaymentDisputed,
            HoldReleaseApproved,
            HoldExtended,
            LimitReviewRequested,
            LimitReviewConcluded,
        }
    ),
    writes=(RISK, LIMIT_REVIEW, RISK_ACTIVE),
    policy=_policy,
    decide=decide,
    keeps=STORE,
)
app = host(WORKER)
