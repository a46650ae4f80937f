"""settlement: repayments and billing's account in, what each repayment paid out."""

from schemas.account import (
    AccountOpened,
    ChargesAccrued,
    CreditBalanceRefunded,
    PurchasePosted,
    PurchaseRefunded,
    StatementIssued,
)
from schemas.intake import RepaymentReceived, ReturnReceived
from schemas.topics import BILLING_ACCOUNT, INTAKE, SETTLEMENT
from services.profiles import load_profiles
from services.runtime.run import host
from services.runtime.worker import Worker
from services.settlement.domain import decide
from services.settlement.store import STORE

WORKER = Worker(
    name="settlement",
    reads=(INTAKE, BILLING_ACCOUNT),
    handles=frozenset(
        {
            RepaymentReceived,
            ReturnReceived,
            AccountOpened,
            PurchasePosted,
            PurchaseRefunded,
            ChargesAccrued,
            StatementIssued,
            CreditBalanceRefunded,
        }
    ),
    writes=(SETTLEMENT,),
    policy=load_profiles,
    decide=decide,
    keeps=STORE,
)
app = host(WORKER)
