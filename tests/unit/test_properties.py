"""What is true of every domain: any cut, twice, any interleaving, money conserved, a lag that tiles."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Any, TypeVar

from hypothesis import example, given
from hypothesis import strategies as st
from typing_extensions import override

from schemas.event import Event
from schemas.reasons import Reason
from schemas.restoration import CreditRestored, RestorationDelayed
from schemas.risk import RiskAssessed, Tranche
from schemas.settlement import RepaymentReturned, RepaymentSettled
from services.decision import Decision, Input, Moment, Timer, TimerFired
from services.limit_release import domain as limit_release
from services.limit_release.heard import NOTHING
from services.limit_release.model import Account, State
from services.notifier import domain as notifier
from services.repayment_ingest import domain as repayment_ingest
from services.repayment_ingest.store import key as reference_of
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.model import Account as RiskAccount
from services.runtime.fold import Arrived, Folded, fold
from services.settlement import domain as settlement
from services.settlement.model import COMPONENTS, drawn
from services.settlement.model import Account as Debtor
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, check_fact, check_ledger, check_repayment, moment, profiles

S = TypeVar("S")
LIMIT = 1_000
POLICIES = {
    name: profiles({"limit_basis": name, "instant_cap_by_tier.unknown": 50, "credit_balance_spendable": True})
    for name in ("PRINCIPAL", "TOTAL")
}
AMOUNTS = st.integers(1, 400)
RAILS = st.sampled_from(["wallet", "direct_debit", "carrier_pigeon"])
STATUSES = st.sampled_from(["active", "frozen", "closed"])


@dataclass(frozen=True)
class Step:
    """Something billing does, or time that passes."""

    kind: str
    number: int
    amount: int
    rail: str
    status: str


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["repay", "repay", "repay", "pending", "fail", "return", "buy", "buy", "authorise", "let_go"])
        | st.sampled_from(["post", "refund", "charge", "pay_out", "limit", "status", "pass", "sleep"]),
        st.integers(0, 3),
        AMOUNTS,
        RAILS,
        STATUSES,
    ),
    max_size=25,
)


def report_of(step: Step, n: int) -> Event:
    """Return a report; those of one number share a reference, an amount and a rail."""
    report: dict[str, Any] = {"external_ref": f"r{step.number}", "event_id": f"event-{n}"}
    report["amount_minor"] = 100 * (step.number + 1)
    report["rail"] = ("wallet", "direct_debit", "carrier_pigeon", "card")[step.number]
    match step.kind:
        case "fail":
            return builders.repayment_failed(**report)
        case "return":
            return builders.repayment_return_reported(**report)
        case _:
            status = "succeeded" if step.kind == "repay" else "pending"
            return builders.repayment_reported(**report, repaid_at=FRIDAY + timedelta(hours=n), status=status)


def event_of(step: Step, n: int) -> Event:
    """Return the billing event of a step; each has an id of its own."""
    unique: dict[str, Any] = {"event_id": f"event-{n}", "occurred_at": FRIDAY + timedelta(hours=n)}
    authorisation = {"authorisation_id": f"a{step.number}"}
    bought = {"purchase_id": f"p{n}", "amount_minor": step.amount}
    match step.kind:
        case "buy":
            return builders.purchase_posted(**unique, **bought, plan="cash" if step.number % 2 else "purchase")
        case "post":
            return builders.purchase_posted(**unique, **bought, **authorisation)
        case "authorise":
            return builders.authorisation_placed(**unique, **authorisation, amount_minor=step.amount)
        case "let_go":
            return builders.authorisation_released(**unique, **authorisation)
        case "refund":
            return builders.purchase_refunded(**unique, refund_id=f"f{n}", to_debt_minor=step.amount)
        case "charge":
            signed = step.amount if step.number else -step.amount
            return builders.charges_accrued(**unique, penalty_minor=0, fee_minor=signed, interest_minor=step.number)
        case "pay_out":
            return builders.credit_balance_refunded(**unique, refund_id=f"b{n}", amount_minor=step.amount)
        case "limit":
            return builders.credit_limit_changed(**unique, credit_limit_minor=step.amount * 5)
        case "status":
            return builders.account_status_changed(**unique, status=step.status, reason="risk_review")
        case _:
            return report_of(step, n)


def run(steps: Sequence[Step], basis: str = "PRINCIPAL", *, times: int = 1) -> Pipe:
    """Run a life of one account; every step is ``times`` times the same event."""
    pipe = Pipe(POLICIES[basis]).open(LIMIT, principal=300)
    for n, step in enumerate(steps):
        now = FRIDAY + timedelta(hours=n, seconds=2)
        if step.kind in ("pass", "sleep"):
            (pipe.pass_until if step.kind == "pass" else pipe.sleep_until)(now + timedelta(days=step.number))
            continue
        event = event_of(step, n)
        for _ in range(times):
            pipe.take(event, max(now, pipe.now))
    return pipe


@given(STEPS, st.sampled_from(sorted(POLICIES)))
def test_the_books_are_true_after_every_step_and_money_is_conserved(steps: list[Step], basis: str) -> None:
    pipe = run(steps, basis)
    for fact in pipe.events:
        check_fact(fact)
    for settled in all_of(pipe.events, RepaymentSettled):
        parts = settled.allocation.model_dump().values()
        assert settled.amount_minor == sum(parts) + settled.credit_balance_minor
    for assessed in all_of(pipe.events, RiskAssessed):
        assert sum(tranche.amount_minor for tranche in assessed.tranches) == assessed.restorable_minor
    for name in (*COMPONENTS, "credit_balance"):
        assert getattr(pipe.debt, f"{name}_minor") >= 0
    owed = sum(getattr(pipe.debt, f"{name}_minor") for name in COMPONENTS)
    assert not (pipe.debt.credit_balance_minor and owed)
    waiting = sum(r.part("held", "parked", "lapsed") for r in pipe.credit.repayments.values())
    assert pipe.account.pending_minor == waiting


def at_rest(steps: list[Step], basis: str) -> Pipe:
    """Run a life to an end in which the account is active and every hold is over."""
    pipe = run([step for step in steps if step.kind != "status" or step.status != "closed"], basis)
    pipe.pass_until(pipe.now + timedelta(days=30))
    pipe.take(builders.account_status_changed(status="active", reason="reviewed", occurred_at=pipe.now))
    return pipe


@given(STEPS)
def test_e07_under_total_both_ledgers_say_the_same_debt_at_rest(steps: list[Step]) -> None:
    pipe = at_rest(steps, "TOTAL")
    owed = sum(getattr(pipe.debt, f"{name}_minor") for name in COMPONENTS)
    assert pipe.account.used_debt_minor == owed
    assert pipe.account.credit_balance_minor == pipe.debt.credit_balance_minor


PAID_OUT_OF_A_REFUND = [
    *(Step("repay", number, 1, "wallet", "active") for number in (0, 1)),
    Step("charge", 1, 1, "wallet", "active"),
    Step("refund", 0, 1, "wallet", "active"),
    Step("pay_out", 0, 1, "wallet", "active"),
]
CORRECTED_THEN_RETURNED = [
    Step("charge", 1, 1, "wallet", "active"),
    Step("repay", 2, 1, "wallet", "active"),
    Step("charge", 0, 1, "wallet", "active"),
    Step("return", 2, 1, "wallet", "active"),
]


RETURNED_WHILE_ITS_OVERPAYMENT_IS_HELD = [
    Step("repay", 3, 1, "wallet", "active"),
    Step("repay", 0, 1, "wallet", "active"),
    Step("charge", 1, 400, "wallet", "active"),
    *[Step("repay", 0, 1, "wallet", "active")] * 5,
    Step("return", 3, 1, "wallet", "active"),
]


REFUNDED_AGAIN_AFTER_A_RETURN = [
    Step("refund", 0, 298, "wallet", "active"),
    Step("charge", 1, 1, "wallet", "active"),
    Step("repay", 1, 1, "wallet", "active"),
    Step("refund", 0, 3, "wallet", "active"),
    Step("buy", 0, 3, "wallet", "active"),
    Step("return", 1, 1, "wallet", "active"),
]


@given(STEPS)
@example(PAID_OUT_OF_A_REFUND)
@example(REFUNDED_AGAIN_AFTER_A_RETURN)
@example(CORRECTED_THEN_RETURNED)
@example(RETURNED_WHILE_ITS_OVERPAYMENT_IS_HELD)
def test_e07_under_principal_both_ledgers_say_the_same_net_debt_and_never_less_is_used(steps: list[Step]) -> None:
    pipe = at_rest(steps, "PRINCIPAL")
    owed = sum(getattr(pipe.debt, f"{name}_minor") for name in COMPONENTS)
    here = pipe.account.used_debt_minor + pipe.account.charges_minor - pipe.account.credit_balance_minor
    assert here == owed - pipe.debt.credit_balance_minor
    assert pipe.account.used_debt_minor >= pipe.debt.principal_minor


@given(STEPS, st.sampled_from(sorted(POLICIES)))
def test_r20_both_ledgers_say_the_same_of_the_debt_drawn_in_cash(steps: list[Step], basis: str) -> None:
    pipe = run(steps, basis)
    assert pipe.account.cash_used_minor == drawn(pipe.debt.books.debts)


@given(STEPS)
def test_each_broken_promise_has_a_cause_told_once(steps: list[Step]) -> None:
    pipe = run(steps)
    pipe.sleep_until(pipe.now + timedelta(days=30))
    delayed = [
        (event.repayment_id, event.tranche, event.promised_by) for event in all_of(pipe.events, RestorationDelayed)
    ]
    assert len(delayed) == len(set(delayed))
    for event in all_of(pipe.events, CreditRestored):
        broken = event.restored_at > event.promised_by
        assert not broken or (event.repayment_id, event.tranche, event.promised_by) in delayed


@given(STEPS)
def test_every_event_id_is_told_once(steps: list[Step]) -> None:
    pipe = run(steps)
    pipe.pass_until(pipe.now + timedelta(days=30))
    ids = [event.event_id for event in pipe.events]
    assert len(ids) == len(set(ids))


REPEATABLE = {"repay", "pending", "fail", "return", "authorise", "let_go", "status", "pass", "sleep"}


@given(STEPS)
def test_e12_twice_is_once_for_every_lane(steps: list[Step]) -> None:
    steps = [step for step in steps if step.kind in REPEATABLE]
    once, twice = run(steps), run(steps, times=2)
    assert twice.credit.account == once.credit.account
    assert twice.debt == once.debt
    assert twice.risk == once.risk
    assert twice.told.notifications.keys() == once.told.notifications.keys()


# ---- any cut ---------------------------------------------------------------------------------------------------

Fed = tuple[Input, Moment]


def recorded(steps: Sequence[Step]) -> dict[str, list[Fed]]:
    """Return what every service was fed in one life, timers included, in order."""
    fed: dict[str, list[Fed]] = {}

    @dataclass
    class Recording(Pipe):
        @override
        def _give(self, service: str, event: Event) -> list[Event]:
            if service != "limit-release":
                fed.setdefault(service, []).append((event, moment(self.now)))
            return super()._give(service, event)

        @override
        def _released(self, event: Any) -> list[Event]:
            fed.setdefault("limit-release", []).append((event, moment(self.now)))
            return super()._released(event)

    pipe = Recording(POLICIES["PRINCIPAL"]).open(LIMIT, principal=300)
    for n, step in enumerate(steps):
        now = FRIDAY + timedelta(hours=n, seconds=2)
        if step.kind in ("pass", "sleep"):
            pipe.pass_until(now + timedelta(days=step.number))
        else:
            pipe.take(event_of(step, n), max(now, pipe.now))
    return fed


def cut_up(
    decide: Callable[..., Decision[S]],
    policy: object,
    states: Mapping[str, S],
    arrivals: Sequence[tuple[Arrived, str, Moment]],
    cuts: Sequence[int],
    reload: Callable[[S], S],
) -> tuple[dict[str, S], list[Event], list[tuple[int, Any]], list[tuple[str, str]]]:
    """Fold batch by batch, states going through what a store keeps of them in between."""
    now: dict[str, S] = dict(states)
    events: list[Event] = []
    timers: list[tuple[int, Any]] = []
    outcomes: list[tuple[str, str]] = []
    bounds = sorted({0, len(arrivals), *(cut % (len(arrivals) + 1) for cut in cuts)})
    for start, end in pairwise(bounds):
        result: Folded[S] = fold(decide, policy, now, arrivals[start:end])
        now = {key: reload(state) for key, state in result.states.items()}
        events += result.events
        timers += result.timers
        outcomes += [(outcome, reason) for _, outcome, reason in result.outcomes]
    return {key: reload(state) for key, state in now.items()}, events, timers, outcomes


def reloaded(state: State) -> State:
    """Return what the store keeps of limit-release's state: no entries, no records, no trail when nothing waits."""
    kept = {
        at: replace(r, records=(), trail=r.trail if r.part("held", "parked") else ())
        for at, r in state.repayments.items()
    }
    return State(replace(state.account, journals=()), kept)


def as_it_is(state: S) -> S:
    return state


CUTS = st.lists(st.integers(0, 500), max_size=8)


@given(STEPS, CUTS)
def test_a_batch_may_be_cut_anywhere(steps: list[Step], cuts: list[int]) -> None:
    fed = recorded(steps)
    account = builders.ACCOUNT
    services: list[tuple[str, Any, object, object, Any]] = [
        ("settlement", settlement.decide, POLICIES["PRINCIPAL"], Debtor(account), as_it_is),
        ("risk-scoring", risk_scoring.decide, POLICIES["PRINCIPAL"], RiskAccount(account), as_it_is),
        ("limit-release", limit_release.decide, POLICIES["PRINCIPAL"], State(Account(account)), reloaded),
        ("notifier", notifier.decide, notifier.Channels(("log", "webhook")), notifier.Account(account), as_it_is),
    ]
    for name, decide, policy, state, reload in services:
        arrivals = [(Arrived(event, 0, FRIDAY), account, at) for event, at in fed.get(name, [])]
        whole = cut_up(decide, policy, {account: state}, arrivals, (), reload)
        assert cut_up(decide, policy, {account: state}, arrivals, cuts, reload) == whole


@given(STEPS, CUTS)
def test_reports_may_be_cut_anywhere(steps: list[Step], cuts: list[int]) -> None:
    fed = [(event, at) for event, at in recorded(steps).get("repayment-ingest", []) if reference_of(event)]
    arrivals = [(Arrived(event, 0, FRIDAY), reference_of(event), at) for event, at in fed]
    states = {key: repayment_ingest.Reference("", key) for _, key, _ in arrivals}

    def reload(state: repayment_ingest.Reference) -> repayment_ingest.Reference:
        return replace(state, conflicts=())

    whole = cut_up(repayment_ingest.decide, None, states, arrivals, (), reload)
    assert cut_up(repayment_ingest.decide, None, states, arrivals, cuts, reload) == whole


# ---- any interleaving ------------------------------------------------------------------------------------------


@st.composite
def verdicts(draw: st.DrawFn) -> tuple[list[Event], list[Event]]:
    """Draw verdicts on up to five repayments, and the returns of some of them."""
    assessed: list[Event] = []
    returned: list[Event] = []
    for n in range(draw(st.integers(1, 5))):
        parts = draw(st.lists(st.integers(1, 100), max_size=3))
        balance = draw(st.integers(0, 80))
        if not parts and not balance:
            balance = 1
        tranches = tuple(
            Tranche(at, part, FRIDAY + timedelta(days=2 * (at - 1)), Reason.HOLD_RAIL_REVERSIBLE)
            for at, part in enumerate(parts, start=1)
        )
        common: dict[str, Any] = {"repayment_id": f"repayment-{n}", "amount_minor": sum(parts) + balance}
        common |= {"restorable_minor": sum(parts), "credit_balance_minor": balance}
        assessed.append(builders.risk_assessed(**common, tranches=tranches))
        if draw(st.booleans()):
            returned.append(builders.repayment_returned(**common, reallocated=()))
    return assessed, returned


def end_of(inputs: Sequence[Event], *, holds_over: bool) -> Account:
    """Decide the inputs in their order, then every timer; return the account."""
    policy = POLICIES["TOTAL"]
    opened = builders.account_opened(credit_limit_minor=LIMIT)
    state = State(Account(builders.ACCOUNT))
    timers: list[Timer] = []
    for event in (opened, *inputs):
        decision = limit_release.decide(policy, state, event, moment(FRIDAY))
        state, timers = decision.state, [*timers, *decision.timers]
        check_ledger(state.account)
    if holds_over:
        for timer in sorted(timers, key=lambda t: (t.due_at, t.key)):
            fired = TimerFired(builders.ACCOUNT, timer)
            state = limit_release.decide(policy, state, fired, moment(timer.due_at)).state
            check_ledger(state.account)
    for repayment in state.repayments.values():
        check_repayment(repayment)
    return replace(state.account, journals=(), limit_lowered_at=None)


@given(verdicts(), st.lists(st.integers(1, 200), max_size=3), st.data())
def test_e07_e16_any_interleaving_ends_with_the_same_availability(
    drawn: tuple[list[Event], list[Event]], bought: list[int], data: st.DataObject
) -> None:
    assessed, returned = drawn
    holds_over = data.draw(st.booleans())
    purchases: list[Event] = [
        builders.purchase_posted(purchase_id=f"p{n}", amount_minor=amount) for n, amount in enumerate(bought)
    ]
    inputs = [*purchases, *assessed, *returned]
    shuffled = data.draw(st.permutations(inputs))
    assert end_of(shuffled, holds_over=holds_over) == end_of(inputs, holds_over=holds_over)


@given(st.lists(AMOUNTS, min_size=1, max_size=4), st.integers(0, 15), st.data())
def test_e16_any_order_of_reports_and_returns_ends_with_the_same_debt(
    amounts: list[int], which: int, data: st.DataObject
) -> None:
    reports = [
        builders.repayment_reported(external_ref=f"r{n}", amount_minor=amount, rail="wallet", repaid_at=FRIDAY)
        for n, amount in enumerate(amounts)
    ]
    returns = [
        builders.repayment_return_reported(external_ref=f"r{n}", amount_minor=amount, rail="wallet")
        for n, amount in enumerate(amounts)
        if which >> n & 1
    ]
    ends = []
    for order in ([*reports, *returns], data.draw(st.permutations([*reports, *returns]))):
        pipe = Pipe(POLICIES["PRINCIPAL"]).open(LIMIT, principal=500)
        for event in order:
            pipe.take(event)
        account = replace(pipe.account, journals=(), heard=NOTHING)  # how often what is owed was told may differ
        ends.append((account, replace(pipe.debt, repayments={}, told=0)))
        assert len(all_of(pipe.events, RepaymentReturned)) <= len(returns)
    assert ends[0] == ends[1]
