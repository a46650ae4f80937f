"""repayment-ingest: billing's reports in, each repayment once, re-keyed by account."""

from schemas.repayment import RepaymentFailed, RepaymentReported, RepaymentReturnReported
from schemas.topics import BILLING_REPAYMENT, INTAKE
from services.repayment_ingest.domain import decide
from services.repayment_ingest.store import STORE
from services.runtime.run import host
from services.runtime.worker import Worker

WORKER = Worker(
    name="repayment-ingest",
    reads=(BILLING_REPAYMENT,),
    handles=frozenset({RepaymentReported, RepaymentFailed, RepaymentReturnReported}),
    writes=(INTAKE,),
    policy=lambda settings: None,
    decide=decide,
    keeps=STORE,
    # All workers after it move in its rhythm: a batch of one record costs each of them as much as one of three.
    gathers_seconds=0.03,
)
app = host(WORKER)
