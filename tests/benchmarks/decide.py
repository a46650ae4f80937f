"""How long deciding takes, without I/O: ``python -m tests.benchmarks.decide [WORD ...]``; cases that have a WORD."""

import gc
import statistics
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import partial
from itertools import accumulate, chain
from typing import Any, Final, NamedTuple

from schemas.event import Event
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, HoldPlaced
from schemas.risk import Tranche
from services.cli.workers import WORKERS
from services.decision import Input, Internal, Moment
from services.limit_release import domain as limit_release
from services.limit_release import model as credit
from services.notifier import domain as notifier
from services.policy import Profiles
from services.profiles import credit_score, load_profiles
from services.repayment_ingest import domain as ingest
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring import model as risk
from services.risk_training.market import repayments
from services.risk_training.simulator import formula_profile
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from services.settlement import domain as settlement
from services.settlement import model as debt
from services.statements import features
from tests import builders
from tests.unit import golden

ROUNDS: Final = 400
TURNS: Final = 7
"""Each case is measured so often, in turn with the others: what else runs on a machine is then no case's alone."""
HISTORY: Final = 100
DAY: Final = timedelta(days=1)
NOW: Final = builders.REPAID_AT + timedelta(seconds=2)
MOMENT: Final = Moment(NOW, NOW, NOW)


class Case(NamedTuple):
    """Something that is decided from the same state again and again."""

    service: str
    name: str
    once: Callable[[], object]
    whole: bool = False
    """Whether it is one of the calls that a repayment restored at once causes."""


def main(words: Sequence[str] | None = None) -> int:
    """Print the median of each case in microseconds, and the medians of its best and worst turn.

    The last line is the median of all decide() calls of a repayment restored at once, each of them as often as it is.
    """
    wanted = sys.argv[1:] if words is None else words
    policy = load_profiles(Settings())
    every = (*taking_in(), *settling(policy), *assessing(policy), *restoring(policy), *deciding_one())
    cases = [case for case in every if not wanted or any(word in f"{case.service} {case.name}" for word in wanted)]
    gc.disable()
    turns = [[measured(case.once) for case in cases] for _ in range(TURNS)]
    for case, *spent in zip(cases, *turns, strict=True):
        show(case.service, case.name, [statistics.median(one) for one in spent])
    whole = [n for n, case in enumerate(cases) if case.whole]
    if whole and len(whole) == sum(case.whole for case in every):
        calls = [list(chain.from_iterable(turn[n] for n in whole)) for turn in turns]
        show("the five workers", f"all {len(whole)} calls of that repayment", [statistics.median(one) for one in calls])
    return 0


def show(service: str, name: str, found: Sequence[float]) -> None:
    """Print the median of each turn's median, and the best and the worst of them."""
    line = f"p50 {statistics.median(found):7.1f} us ({min(found):.1f} to {max(found):.1f})"
    sys.stdout.write(f"{service:<17} {name:<44} {line}\n")


def measured(once: Callable[[], object]) -> list[float]:
    """Return what each call of one turn took, in microseconds."""
    for _ in range(ROUNDS // 10):
        once()
    spent = []
    for _ in range(ROUNDS):
        begun = monotonic()
        once()
        spent.append((monotonic() - begun) * 1e6)
    return spent


def settling(policy: Profiles) -> Iterator[Case]:
    """Yield the common repayment and what is rarer."""

    def after(*events: Input, of: debt.Account | None = None) -> debt.Account:
        state = of or debt.Account(builders.ACCOUNT)
        for event in events:
            state = settlement.decide(policy, state, event, MOMENT).state
        return state

    def case(name: str, state: debt.Account, event: Input) -> Case:
        return Case("settlement", name, partial(settlement.decide, policy, state, event, MOMENT))

    one = after(builders.account_opened(), builders.purchase_posted())
    more = after(
        builders.account_opened(),
        builders.purchase_posted(),
        builders.purchase_posted(purchase_id="p2", plan="cash", apr_bps=2_500),
        builders.charges_accrued(occurred_at=builders.OPENED_AT + DAY, fee_minor=20),
        builders.statement_issued(occurred_at=builders.OPENED_AT + 2 * DAY),
    )
    instalments = builders.purchase_posted(purchase_id="p3", plan="instalment", instalments_minor=(50_000,) * 10)
    paid = builders.repayment_received(amount_minor=10_000, rail="wallet")
    minutes = accumulate([timedelta(minutes=1)] * HISTORY, initial=builders.OPENED_AT)
    repaid = [
        builders.repayment_received(repayment_id=f"r{n}", amount_minor=100, repaid_at=at)
        for n, at in enumerate(minutes)
    ]
    long = after(builders.account_opened(), builders.purchase_posted(), *repaid)
    returned = builders.return_received(repayment_id="r0", amount_minor=100)
    yield case("a repayment of one debt", one, paid)
    yield case("a repayment of five debts", more, paid)
    yield case("a repayment of ten instalments and two debts", after(instalments, of=more), paid)
    yield case("a purchase", one, builders.purchase_posted(purchase_id="p4", occurred_at=NOW))
    yield case("a charge", more, builders.charges_accrued(occurred_at=NOW))
    yield case(f"a return, {HISTORY} facts replayed", long, returned)


def assessing(policy: Profiles) -> Iterator[Case]:
    """Yield the score of a customer, the formula's verdict alone, and whole decisions by the schedule and by it."""
    months = golden.told(golden.scored(), *golden.story()).credit.months
    card, profile = credit_score(), formula_profile()
    yield Case("risk-scoring", "the score of six statements", lambda: card.score(features(months, 100)))
    seen = next(one.seen for one in repayments(1, 1_000) if one.seen.rail == "REVERSIBLE")
    yield Case("risk-scoring", "the formula's verdict on a repayment", partial(risk_scoring.judge, profile, seen))
    account = risk.Account(builders.ACCOUNT, credit_limit_minor=600_000)
    event = builders.repayment_settled()
    final = builders.repayment_settled(rail="wallet", finality="final")
    for name, by, settled in (
        ("a repayment given back at once", policy, final),
        ("a repayment held by the schedule", policy, event),
        ("a repayment held in part by the formula", Profiles({profile.product: profile}), event),
    ):
        yield Case("risk-scoring", name, partial(risk_scoring.decide, by, account, settled, MOMENT))


def restoring(policy: Profiles) -> Iterator[Case]:
    """Yield a repayment that settles, the verdict that restores it, and one that holds two thirds of it."""
    state = credit.State(credit.Account(builders.ACCOUNT))
    for event in (builders.account_opened(), builders.purchase_posted()):
        state = limit_release.decide(policy, state, event, MOMENT).state
    settled = builders.repayment_settled()
    owed = limit_release.decide(policy, state, settled, MOMENT).state
    at_once = (Tranche(1, 500_000, NOW, Reason.RELEASE_WITHIN_CAP),)
    cleared = builders.risk_assessed(outcome="clear", tranches=at_once, reasons=(Reason.RELEASE_WITHIN_CAP,))
    for name, before, told in (
        ("a repayment settles", state, settled),
        ("all of it is restored", owed, cleared),
        ("a part is restored, two are held", owed, builders.risk_assessed()),
    ):
        yield Case("limit-release", name, partial(limit_release.decide, policy, before, told, MOMENT))


def taking_in() -> Iterator[Case]:
    """Yield a report that passes."""
    reference = ingest.Reference(builders.SOURCE, builders.EXTERNAL_REF)
    reported = builders.repayment_reported()
    yield Case("repayment-ingest", "a report", partial(ingest.decide, None, reference, reported, MOMENT))


def deciding_one() -> Iterator[Case]:
    """Yield every call that a repayment restored at once causes, in order: each fact goes to whoever handles it."""
    policies: dict[str, Any] = {worker.name: worker.policy(Settings()) for worker in WORKERS}
    states: dict[str, Any] = {
        "repayment-ingest": ingest.Reference(builders.SOURCE, builders.EXTERNAL_REF),
        "settlement": debt.Account(builders.ACCOUNT),
        "risk-scoring": risk.Account(builders.ACCOUNT),
        "limit-release": credit.State(credit.Account(builders.ACCOUNT)),
        "notifier": notifier.Account(builders.ACCOUNT),
    }
    calls: list[Case] = []
    facts: list[Event] = []

    def take(*given: Input) -> None:
        queue = deque(given)
        while queue:
            event = queue.popleft()
            for worker in WORKERS:
                if type(event) in worker.handles or (worker.name == "notifier" and isinstance(event, Internal)):
                    once = partial(worker.decide, policies[worker.name], states[worker.name], event, MOMENT)
                    calls.append(Case(worker.name, f"of one repayment: {type(event).__name__}", once, whole=True))
                    decision = once()
                    states[worker.name] = decision.state
                    read = [type(fact).model_validate_json(fact.model_dump_json()) for fact in decision.events]
                    facts.extend(read)
                    queue.extend(read)

    take(builders.account_opened(), builders.purchase_posted())
    calls.clear()
    take(builders.repayment_reported(rail="wallet", amount_minor=10_000))
    for told in states["notifier"].notifications.values():
        take(notifier.Attempted(builders.ACCOUNT, told.notification_id, "delivered"))
    kinds = {type(fact) for fact in facts}
    if CreditRestored not in kinds or HoldPlaced in kinds:
        raise AssertionError("this repayment is to be restored at once")
    yield from calls


if __name__ == "__main__":
    sys.exit(main())
