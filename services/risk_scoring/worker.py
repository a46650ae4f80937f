"""risk-scoring: settled repayments in, a verdict with dated tranches out."""

from schemas.account import FundingAccountLinked
from schemas.settlement import RepaymentSettled
from schemas.topics import BILLING_ACCOUNT, RISK, SETTLEMENT
from services.profiles import load_profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.store import STORE
from services.runtime.run import host
from services.runtime.worker import Worker

WORKER = Worker(
    name="risk-scoring",
    reads=(SETTLEMENT, BILLING_ACCOUNT),
    handles=frozenset({RepaymentSettled, FundingAccountLinked}),
    writes=(RISK,),
    policy=load_profiles,
    decide=decide,
    keeps=STORE,
)
app = host(WORKER)
