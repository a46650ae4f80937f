"""E7 and E16: whatever order limit-release reads its topics in, both ledgers say the same net debt at rest."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from schemas.account import AccountOpened, ChargesAccrued, PurchaseRefunded
from schemas.event import Event
from schemas.ids import RepaymentId
from schemas.risk import RiskAssessed
from schemas.settlement import Reallocation, RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.decision import Timer, TimerFired
from services.limit_release import domain as limit_release
from services.limit_release.model import Account, Repayment, State
from services.limit_release.movements import absorbed, freed
from services.settlement.model import drawn
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, check_ledger, check_repayment, moment, only, profile
from tests.unit.test_properties import AMOUNTS, LIMIT, POLICIES, Step, event_of

HOUR = timedelta(hours=1)


@dataclass
class Heard(Pipe):
    """The pipe, and every fact limit-release reads in it."""

    heard: list[Event] = field(default_factory=list)

    @override
    def _released(self, event: Any) -> list[Event]:
        if isinstance(event, Event):
            self.heard.append(event)
        return super()._released(event)


def owed(pipe: Pipe) -> int:
    """Return the net debt settlement knows, minor units."""
    return pipe.debt.books.owed() - pipe.debt.credit_balance_minor


def net(account: Account) -> int:
    """Return the net debt limit-release knows, minor units."""
    return account.used_debt_minor + account.charges_minor - account.credit_balance_minor


def read(facts: Iterable[Event]) -> Account:
    """Read an opened account's facts in their order, then let every hold end."""
    policy = POLICIES["PRINCIPAL"]
    now, end = FRIDAY + timedelta(hours=12), FRIDAY + timedelta(days=60)
    state, timers = State(Account(builders.ACCOUNT)), list[Timer]()
    for fact in sorted(facts, key=lambda fact: not isinstance(fact, AccountOpened)):
        decision = limit_release.decide(policy, state, fact, moment(now))
        state, timers = decision.state, [*timers, *decision.timers]
        check_ledger(state.account)
    for timer in sorted(timers, key=lambda t: (t.due_at, t.key)):
        fired = TimerFired(builders.ACCOUNT, timer)
        state = limit_release.decide(policy, state, fired, moment(max(end, timer.due_at))).state
    for repayment in state.repayments.values():
        check_repayment(repayment)
    return state.account


@pytest.mark.parametrize("late", [10, -10])
def test_e07_what_a_late_charge_moved_is_not_lost_when_it_is_read_after_the_return(late: int) -> None:
    # What was read before its account's opening comes back after what was read with the opening.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300, fee=30)
    charge = {"penalty_minor": 0, "fee_minor": late, "interest_minor": 0, "occurred_at": FRIDAY - timedelta(hours=1)}
    pipe.repay(100)
    pipe.take(builders.charges_accrued(**charge, event_id="late"))
    pipe.give_back(100)
    moved, gone = only(pipe.events, RepaymentsReallocated), only(pipe.events, RepaymentReturned)
    assert (gone.allocation.fee_minor, moved.reallocated[0].restorable_delta_minor) == (30 + late, -late)
    others = [fact for fact in pipe.heard if fact not in (moved, gone)]
    for facts in ([*others, moved, gone], [*others, gone, moved]):
        account = read(facts)
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (300, 30 + late, 0)
        assert net(account) == owed(pipe)


@pytest.mark.parametrize("unpaid", [0, 4, 10])
def test_e07_what_a_held_overpayment_paid_of_a_charge_taken_off_is_owed_as_principal_when_it_is_returned(
    unpaid: int,
) -> None:
    # The charge and its correction are told late; in between, a purchase and a charge wait for the overpayment.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300)
    pipe.repay(400, rail="card")
    pipe.now = FRIDAY + timedelta(hours=4)
    charges = {"penalty_minor": 0, "interest_minor": 0}
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=3, occurred_at=FRIDAY + timedelta(hours=1)))
    if unpaid:
        later = FRIDAY + timedelta(hours=2)
        pipe.take(builders.charges_accrued(**charges, event_id="later", fee_minor=unpaid, occurred_at=later))
    early = FRIDAY - timedelta(hours=1)
    for fee in (5, -5):
        pipe.take(builders.charges_accrued(**charges, event_id=f"late{fee}", fee_minor=fee, occurred_at=early))
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (3, unpaid), "as if no charge had been told"
    pipe.give_back(400, rail="card", now=FRIDAY + timedelta(hours=5))
    for account in (pipe.account, read(charges_last(pipe.heard))):
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (303, unpaid, 0)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (303, unpaid)


@pytest.mark.parametrize("at", [RepaymentSettled, RepaymentReturned])
@pytest.mark.parametrize("off", [10, 30])
def test_e07_charges_taken_off_that_settlement_reads_after_the_return_of_what_paid_them_free_no_principal(
    at: type[Event], off: int
) -> None:
    # As after a broker lost its tail: limit-release read the correction before `at`, settlement reads it last.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300, fee=30)
    pipe.repay(100)
    pipe.give_back(100)
    told = list(pipe.heard)
    charge = {"penalty_minor": 0, "fee_minor": -off, "interest_minor": 0, "occurred_at": FRIDAY + timedelta(minutes=1)}
    pipe.take(builders.charges_accrued(**charge, event_id="off"))
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (300, 30 - off)
    (correction,) = pipe.heard[len(told) :]  # settlement has nothing to tell: nobody has paid what is taken off
    place = next(n for n, fact in enumerate(told) if isinstance(fact, at))
    account = read([*told[:place], correction, *told[place:]])
    assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (300, 30 - off, 0)


@pytest.mark.parametrize(("refund", "charges"), [(260, 0), (113, 40), (0, 70)])
def test_e07_charges_a_late_refund_took_over_from_a_held_overpayment_are_principal_when_it_is_returned(
    refund: int, charges: int
) -> None:
    # Settlement lets the overpayment pay the charge, here it is owed while that is held; then the refund is told late.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=83)
    pipe.repay(200, rail="card")
    pipe.now = FRIDAY + timedelta(hours=4)
    at = {f"{hours}h": {"occurred_at": FRIDAY + timedelta(hours=hours)} for hours in (1, 2, 3)}
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=70, interest_minor=0, **at["1h"]))
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=393, **at["3h"]))
    if refund:
        pipe.take(builders.purchase_refunded(refund_id="f1", purchase_id="opening", to_debt_minor=refund, **at["2h"]))
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (393 - refund, 70)
    pipe.give_back(200, rail="card", now=FRIDAY + timedelta(hours=5))
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (83 + 393 + 70 - refund - charges, charges)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (pipe.debt.principal_minor, charges)


def test_e07_what_a_late_repayment_leaves_as_principal_instead_is_not_paid_for_by_its_own_part() -> None:
    # It pays all the principal there was, so the refund pays 4 of the fee, and the other repayment 4 more of principal.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=10)
    at = {hours: {"occurred_at": FRIDAY + timedelta(hours=hours)} for hours in (1, 2, 3)}
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=5, interest_minor=0, **at[1]), FRIDAY + HOUR)
    refund = builders.purchase_refunded(refund_id="f1", purchase_id="opening", to_debt_minor=4, **at[2])
    pipe.take(refund, FRIDAY + 2 * HOUR)
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=20, **at[3]), FRIDAY + 3 * HOUR)
    pipe.repay(20, at=FRIDAY + 4 * HOUR)
    pipe.repay(10, ref="late")
    late = all_of(pipe.events, RepaymentSettled)[-1]
    assert (late.restorable_minor, late.reallocated[0].restorable_delta_minor) == (10, 4)
    assert (late.principal_instead_minor, late.principal_beyond_minor) == (1, 3)
    verdict = all_of(pipe.events, RiskAssessed)[-1]
    others = [fact for fact in pipe.heard if fact not in (late, verdict)]
    for account in (pipe.account, read([*others, late, verdict]), read([*others, verdict, late])):
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (1, 0, 0)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (1, 0)


def test_e07_what_a_late_repayment_leaves_over_pays_charges_whatever_is_bought_before_its_verdict_is_read() -> None:
    # It pays 10 of principal, of which the refund then finds nothing: its 4 pay charges. A purchase is read before.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=10)
    at = {hours: {"occurred_at": FRIDAY + timedelta(hours=hours)} for hours in (2, 3, 5)}
    refund = builders.purchase_refunded(refund_id="f1", purchase_id="opening", to_debt_minor=4, **at[2])
    pipe.take(refund, FRIDAY + 2 * HOUR)
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=8, interest_minor=0, **at[3]), FRIDAY + 3 * HOUR)
    pipe.repay(10, at=FRIDAY + HOUR)
    late, verdict = only(pipe.events, RepaymentSettled), only(pipe.events, RiskAssessed)
    assert (late.principal_instead_minor, late.principal_beyond_minor) == (0, 4)
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=5, **at[5]), FRIDAY + 5 * HOUR)
    purchase = pipe.heard[-1]
    others = [fact for fact in pipe.heard if fact not in (late, verdict, purchase)]
    for account in (pipe.account, read([*others, late, purchase, verdict]), read([*others, verdict, purchase, late])):
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (5, 4, 0)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (5, 4)


@pytest.mark.parametrize(("charges", "beyond"), [(3, 3), (0, 0)])
def test_e07_no_more_is_taken_beyond_principal_than_pays_charges(charges: int, beyond: int) -> None:
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=10)
    at = {hours: {"occurred_at": FRIDAY + timedelta(hours=hours)} for hours in (2, 3)}
    refund = builders.purchase_refunded(refund_id="f1", purchase_id="opening", to_debt_minor=4, **at[2])
    pipe.take(refund, FRIDAY + 2 * HOUR)
    if charges:
        fee = builders.charges_accrued(penalty_minor=0, fee_minor=charges, interest_minor=0, **at[3])
        pipe.take(fee, FRIDAY + 3 * HOUR)
    pipe.repay(10, at=FRIDAY + HOUR)
    assert only(pipe.events, RepaymentSettled).principal_beyond_minor == beyond
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor, pipe.debt.credit_balance_minor) == (0, 0, 4 - charges)
    account = pipe.account
    assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (0, 0, 4 - charges)


def test_e07_a_late_refund_read_after_what_it_moved_ends_as_one_read_before_it() -> None:
    # In value order it leaves 5 over, which pay the fee; here it would leave 2 over, of what was bought after it.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=10)
    at = {hours: {"occurred_at": FRIDAY + timedelta(hours=hours)} for hours in (1, 2, 3)}
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=8, interest_minor=0, **at[2]), FRIDAY + 2 * HOUR)
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=3, **at[3]), FRIDAY + 3 * HOUR)
    pipe.take(builders.purchase_refunded(refund_id="f1", purchase_id="opening", to_debt_minor=15, **at[1]))
    moved = only(pipe.events, RepaymentsReallocated)
    assert (moved.principal_instead_minor, moved.principal_beyond_minor, moved.refund_id) == (3, 2, "f1")
    *others, refund, last = pipe.heard
    assert (type(refund), last) == (PurchaseRefunded, moved)
    for account in (pipe.account, read([*others, refund, moved]), read([*others, moved, refund])):
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (3, 3, 0)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (3, 3)


@pytest.mark.parametrize(
    ("told", "known", "booked", "more"),
    [
        ({"refund_id": "f1"}, {}, (), 2),
        ({"refund_id": "f1"}, {}, ("f1",), 0),
        ({"refund_id": None}, {}, (), 0),
        ({}, {}, (), 2),
        ({}, {"assessed": True}, (), 0),
        ({}, {"returned": True}, (), 0),
    ],
)
def test_e07_what_was_taken_beyond_what_is_owed_counts_until_what_took_it_is_booked(
    told: dict[str, Any], known: dict[str, Any], booked: tuple[str, ...], more: int
) -> None:
    said = {"reallocated": (), "principal_instead_minor": 3, "principal_beyond_minor": 2}
    event = builders.repayments_reallocated(**said, **told) if told else builders.repayment_settled(**said)
    before = Account(builders.ACCOUNT, charges_minor=50, used_debt_minor=100, available_minor=900)
    state = State(replace(before, booked=frozenset(booked))).put(Repayment(builders.REPAYMENT, **known))
    after = absorbed(profile(), state, event).account
    assert (after.used_debt_minor, after.charges_minor, after.available_minor) == (103 + more, 47 - more, 897 - more)
    assert [(j.kind, j.ref) for j in after.journals] == [("REALLOCATE", event.event_id)]


def test_e07_a_charge_read_before_the_return_that_settlement_read_after_it_stays_a_charge() -> None:
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300)
    pipe.repay(400, rail="card")
    pipe.give_back(400, rail="card")
    pipe.take(builders.charges_accrued(penalty_minor=0, fee_minor=10, interest_minor=0, occurred_at=FRIDAY))
    *others, charge = pipe.heard
    place = next(n for n, fact in enumerate(others) if isinstance(fact, RepaymentReturned))
    account = read([*others[:place], charge, *others[place:]])
    assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (300, 10, 0)


@pytest.mark.parametrize("off", [10, 30])
def test_e07_a_return_told_by_an_older_writer_after_charges_were_taken_off_frees_no_principal(
    off: int,
) -> None:
    # While an upgrade is under way: a settlement of before principal_instead_minor tells, limit-release is new.
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300, fee=30)
    pipe.repay(100)
    charge = {"penalty_minor": 0, "fee_minor": -off, "interest_minor": 0, "occurred_at": FRIDAY + timedelta(minutes=1)}
    pipe.take(builders.charges_accrued(**charge, event_id="off"))
    pipe.give_back(100)
    gone = only(pipe.events, RepaymentReturned)
    assert gone.principal_instead_minor == off
    newer = {"principal_instead_minor", "cash_moved_minor", "finality"}
    older = RepaymentReturned.model_validate_json(gone.model_dump_json(exclude=newer))
    for told in (gone, older):
        account = read([told if fact is gone else fact for fact in pipe.heard])
        assert (account.used_debt_minor, account.charges_minor, account.credit_balance_minor) == (300, 30 - off, 0)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (300, 30 - off)


def charges_last(facts: Sequence[Event]) -> list[Event]:
    """Return facts as they are read where billing's topic of charges is behind settlement's."""
    return sorted(facts, key=lambda fact: isinstance(fact, ChargesAccrued))


def test_e07_what_a_held_overpayment_paid_of_principal_is_used_until_the_charges_it_pays_here_are_repaid() -> None:
    pipe = Pipe(POLICIES["PRINCIPAL"]).open(LIMIT, principal=300)
    pipe.repay(400, rail="card")
    pipe.now = FRIDAY + timedelta(hours=3)
    pipe.take(builders.purchase_posted(purchase_id="p2", amount_minor=160, occurred_at=FRIDAY + timedelta(hours=1)))
    charge = {"penalty_minor": 0, "fee_minor": 356, "interest_minor": 0, "occurred_at": FRIDAY + timedelta(hours=2)}
    pipe.take(builders.charges_accrued(**charge))
    pipe.pass_until(pipe.now + timedelta(days=30))
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (60, 356)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (160, 256), "what was held paid charges first"
    pipe.repay(356, ref="r2", at=pipe.now)
    assert (pipe.debt.principal_minor, pipe.debt.fee_minor) == (60, 0)
    assert (pipe.account.used_debt_minor, pipe.account.charges_minor) == (60, 0)


@pytest.mark.parametrize(
    ("held", "settled", "owed", "told", "moved"),
    [(40, 30, 5, 7, 37), (20, 30, 5, 7, 27), (40, 99, 5, 7, 45), (0, 30, 5, 7, 7), (40, 30, 60, 0, 0)],
)
def test_e07_what_of_charges_is_principal_is_within_what_was_held_what_refunds_paid_and_what_is_not_owed(
    held: int, settled: int, owed: int, told: int, moved: int
) -> None:
    said = {"charges_settled_minor": settled, "charges_owed_minor": owed, "principal_instead_minor": told}
    event = builders.repayment_returned(reallocated=(), **said)
    before = Account(builders.ACCOUNT, charges_minor=50, used_debt_minor=100, available_minor=900)
    after = absorbed(profile(), State(before), event, held_minor=held).account
    assert (after.used_debt_minor, after.charges_minor, after.available_minor) == (100 + moved, 50 - moved, 900 - moved)
    assert [(j.kind, j.ref) for j in after.journals] == ([("REALLOCATE", event.event_id)] if moved else [])


@pytest.mark.parametrize(
    ("basis", "corrected", "deltas", "taken"),
    [
        ("PRINCIPAL", 10, (), 7),
        ("PRINCIPAL", 10, (-4, 1), 4),
        ("PRINCIPAL", 10, (2, 1), 7),
        ("PRINCIPAL", 3, (), 3),
        ("TOTAL", 10, (), 0),
    ],
)
def test_e07_a_return_takes_back_no_more_than_was_freed_than_it_paid_and_than_others_do_not_pay_again(
    basis: str, corrected: int, deltas: tuple[int, ...], taken: int
) -> None:
    moved = (Reallocation(RepaymentId("other"), *deltas),) if deltas else ()
    state = State(Account(builders.ACCOUNT, corrected_minor=corrected, credit_balance_minor=20))
    event = builders.repayment_returned(reallocated=moved)
    after, amount = freed(profile({"limit_basis": basis}), state, event, 7)
    assert amount == taken
    assert (after.account.corrected_minor, after.account.credit_balance_minor) == (corrected - taken, 20 - taken)


KINDS = st.sampled_from(["repay", "repay", "return", "charge", "charge", "buy", "refund", "pay_out"])
LIVES = st.lists(
    st.builds(Step, KINDS, st.integers(0, 1), AMOUNTS, st.just("wallet"), st.just("active")), min_size=1, max_size=12
)


def told_late(steps: Sequence[Step], hours: Sequence[int]) -> Heard:
    """Run a life in which billing tells what happened up to so many hours before."""
    pipe = Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=300)
    for n, step in enumerate(steps):
        event = event_of(step, n)
        back = timedelta(hours=hours[n % len(hours)])
        changes = {name: getattr(event, name) - back for name in ("occurred_at", "repaid_at") if hasattr(event, name)}
        pipe.take(event.model_copy(update=changes), FRIDAY + timedelta(hours=n, seconds=2))
    pipe.pass_until(pipe.now + timedelta(days=30))
    return pipe


@given(LIVES, st.lists(st.integers(0, 8), min_size=1, max_size=5), st.data())
def test_e07_e16_any_order_of_everything_read_ends_with_the_same_net_debt(
    steps: list[Step], hours: list[int], data: st.DataObject
) -> None:
    pipe = told_late(steps, hours)
    facts = list({fact.event_id: fact for fact in pipe.heard}.values())
    assert net(pipe.account) == owed(pipe)
    account = read(data.draw(st.permutations(facts)))
    assert net(account) == owed(pipe)
    assert account.cash_used_minor == drawn(pipe.debt.books.debts)
