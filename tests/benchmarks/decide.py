"""How long deciding takes, without I/O: ``python -m tests.benchmarks.decide``; microseconds, by what is decided."""

import gc
import statistics
import sys
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Final

from services.decision import Input, Moment
from services.policy import Profiles
from services.profiles import load_profiles
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring import model as risk_model
from services.risk_training.market import repayments
from services.risk_training.simulator import formula_profile
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from services.settlement.domain import decide
from services.settlement.model import Account
from tests import builders

ROUNDS: Final = 2_000
HISTORY: Final = 100
DAY: Final = timedelta(days=1)
NOW: Final = builders.REPAID_AT + timedelta(seconds=2)
MOMENT: Final = Moment(NOW, NOW, NOW)


def main() -> int:
    """Print p50 and p99 of each case; each is decided from the same state again and again."""
    policy = load_profiles(Settings())
    gc.disable()
    for name, state, event in cases(policy):
        p50, p99 = measured(partial(decide, policy, state, event, MOMENT))
        sys.stdout.write(f"settlement    {name:<44} p50 {p50:7.1f} us  p99 {p99:7.1f} us\n")
    for name, once in assessments():
        p50, p99 = measured(once)
        sys.stdout.write(f"risk-scoring  {name:<44} p50 {p50:7.1f} us  p99 {p99:7.1f} us\n")
    return 0


def assessments() -> list[tuple[str, Callable[[], object]]]:
    """Return one verdict by the formula alone, and the whole decision: what would be faster asks for it again."""
    profile = formula_profile()
    policy = Profiles({profile.product: profile})
    account = risk_model.Account(builders.ACCOUNT, credit_limit_minor=600_000)
    settled = builders.repayment_settled()
    seen = next(one.seen for one in repayments(1, 1_000) if one.seen.rail == "REVERSIBLE")
    return [
        ("the formula's verdict on a repayment", partial(risk_scoring.judge, profile, seen)),
        ("a repayment held in part, and its event", partial(risk_scoring.decide, policy, account, settled, MOMENT)),
    ]


def measured(once: Callable[[], object]) -> tuple[float, float]:
    """Return the median and the 99th of a hundred, in microseconds."""
    for _ in range(ROUNDS // 10):
        once()
    spent = []
    for _ in range(ROUNDS):
        begun = monotonic()
        once()
        spent.append((monotonic() - begun) * 1e6)
    spent.sort()
    return statistics.median(spent), spent[ROUNDS * 99 // 100]


def cases(policy: Profiles) -> list[tuple[str, Account, Input]]:
    """Return the common repayment and what is rarer, each with the state it finds."""
    one = after(policy, builders.account_opened(), builders.purchase_posted())
    more = after(
        policy,
        builders.account_opened(),
        builders.purchase_posted(),
        builders.purchase_posted(purchase_id="p2", plan="cash", apr_bps=2_500),
        builders.charges_accrued(occurred_at=builders.OPENED_AT + DAY, fee_minor=20),
        builders.statement_issued(occurred_at=builders.OPENED_AT + 2 * DAY),
    )
    instalments = builders.purchase_posted(purchase_id="p3", plan="instalment", instalments_minor=(50_000,) * 10)
    paid = builders.repayment_received(amount_minor=10_000, rail="wallet")
    repaid = [
        builders.repayment_received(
            repayment_id=f"r{n}", amount_minor=100, repaid_at=builders.OPENED_AT + timedelta(minutes=10 + n)
        )
        for n in range(HISTORY)
    ]
    long = after(policy, builders.account_opened(), builders.purchase_posted(), *repaid)
    return [
        ("a repayment of one debt", one, paid),
        ("a repayment of five debts", more, paid),
        ("a repayment of ten instalments and two debts", after(policy, instalments, of=more), paid),
        ("a purchase", one, builders.purchase_posted(purchase_id="p4", occurred_at=NOW)),
        ("a charge", more, builders.charges_accrued(occurred_at=NOW)),
        (f"a return, {HISTORY} facts replayed", long, builders.return_received(repayment_id="r0", amount_minor=100)),
    ]


def after(policy: Profiles, *events: Input, of: Account | None = None) -> Account:
    """Return the account after these events."""
    state = of or Account(builders.ACCOUNT)
    for event in events:
        state = decide(policy, state, event, MOMENT).state
    return state


if __name__ == "__main__":
    sys.exit(main())
