"""E7: what settlement says is owed holds here once both have read the same, in whatever order the topics are read."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from schemas.account import ChargesAccrued, CreditBalanceRefunded, PurchasePosted, PurchaseRefunded
from schemas.event import Event
from schemas.ids import EventId
from schemas.risk import RiskAssessed
from schemas.settlement import EARLIER_MAX, Owed, RepaymentReturned, RepaymentSettled, RepaymentsReallocated
from services.limit_release.heard import LATELY_MAX, NOTHING, Billed, Heard
from services.limit_release.model import Account, State
from services.limit_release.movements import absorbed, agreed, followed, joins, unjoined
from services.values import replace
from tests import builders
from tests.unit import test_any_order as any_order
from tests.unit.given import FRIDAY, all_of, only, profile
from tests.unit.test_any_order import read
from tests.unit.test_properties import LIMIT, POLICIES

HOUR = timedelta(hours=1)


def pipe_of(principal: int) -> any_order.Heard:
    pipe = any_order.Heard(POLICIES["PRINCIPAL"])
    pipe.open(LIMIT, principal=principal)
    return pipe


def charge(pipe: any_order.Heard, ref: str, fee: int, at: int) -> None:
    told = {"penalty_minor": 0, "interest_minor": 0, "event_id": ref, "occurred_at": FRIDAY + at * HOUR}
    pipe.take(builders.charges_accrued(fee_minor=fee, **told), pipe.now + timedelta(minutes=1))


def refund(pipe: any_order.Heard, ref: str, of: str, amount: int, at: int) -> None:
    told = {"refund_id": ref, "purchase_id": of, "event_id": ref, "occurred_at": FRIDAY + at * HOUR}
    pipe.take(builders.purchase_refunded(to_debt_minor=amount, **told), pipe.now + timedelta(minutes=1))


def pay_out(pipe: any_order.Heard, amount: int, at: int) -> None:
    told = {"refund_id": "out", "event_id": "out", "occurred_at": FRIDAY + at * HOUR}
    pipe.take(builders.credit_balance_refunded(amount_minor=amount, **told), pipe.now + timedelta(minutes=1))


def ends(account: Account) -> tuple[int, int, int]:
    return account.used_debt_minor, account.charges_minor, account.credit_balance_minor


def owed(pipe: any_order.Heard) -> tuple[int, int, int]:
    principal = pipe.debt.principal_minor
    return principal, pipe.debt.books.owed() - principal, pipe.debt.credit_balance_minor


def without_words(facts: Sequence[Event]) -> list[Event]:
    """Return facts as an older settlement told them."""
    words = (RepaymentSettled, RepaymentReturned, RepaymentsReallocated)
    return [fact.model_copy(update={"owed": None}) if isinstance(fact, words) else fact for fact in facts]


def test_e07_charges_read_after_what_they_moved_are_owed_as_settlement_owes_them() -> None:
    # The correction finds 5 of charges, not 206: 95 of it frees principal until the charge of 201 is told late.
    pipe = pipe_of(300)
    charge(pipe, "fee", 5, at=3)
    charge(pipe, "off", -100, at=4)
    charge(pipe, "late", 201, at=2)
    *facts, off, late, last = pipe.heard
    moved = only(pipe.events, RepaymentsReallocated)
    assert (type(off), type(late), last) == (ChargesAccrued, ChargesAccrued, moved)
    assert moved.owed == word(1, "late", 300, 106, earlier=("off", "fee", pipe.heard[1].event_id))
    lagging = [*facts, moved, off, late]
    for account in (pipe.account, read(lagging)):
        assert ends(account) == owed(pipe) == (300, 106, 0)
    assert ends(read(without_words(lagging))) == (295, 111, 0), "an older settlement does not say it"


def test_e07_refunds_and_purchases_read_after_what_they_moved_leave_what_settlement_owes() -> None:
    # The last refund is of a plan that owes 8: what is left of it pays charges first, here principal alone.
    pipe = pipe_of(51)
    refund(pipe, "f0", "opening", 100, at=1)
    charge(pipe, "fee", 53, at=2)
    bought = {"purchase_id": "p2", "amount_minor": 8, "plan": "x", "event_id": "p2"}
    pipe.take(builders.purchase_posted(**bought, occurred_at=FRIDAY + 3 * HOUR), pipe.now + 3 * HOUR)
    pay_out(pipe, 100, at=4)
    refund(pipe, "f1", "p2", 100, at=5)
    moved = only(pipe.events, RepaymentsReallocated)
    assert (moved.principal_instead_minor, moved.owed) == (4, word(1, "f1", 12, earlier=("out", "p2", "fee", "f0")))
    opened, purchase, *billed = [fact for fact in pipe.heard if fact is not moved]
    lagging = [opened, purchase, moved, *billed]
    for account in (pipe.account, read(lagging)):
        assert ends(account) == owed(pipe) == (12, 0, 0)
    assert ends(read(without_words(lagging))) == (8, 4, 0)


def test_e07_what_was_credit_balance_in_settlement_pays_no_principal_where_billing_is_read_ahead() -> None:
    # The repayment leaves 50 over, the refund 39 more: they pay the charge. Here the refund finds principal.
    pipe = pipe_of(100)
    pipe.repay(150)
    refund(pipe, "f1", "opening", 39, at=1)
    charge(pipe, "fee", 80, at=2)
    pay_out(pipe, 60, at=3)
    settled, verdict = only(pipe.events, RepaymentSettled), only(pipe.events, RiskAssessed)
    assert settled.owed == Owed(1, pipe.heard[1].event_id, 0, 0, 50)
    billed = [fact for fact in pipe.heard if fact not in (settled, verdict)]
    kinds = [PurchasePosted, PurchaseRefunded, ChargesAccrued, CreditBalanceRefunded]
    assert [type(fact) for fact in billed[1:]] == kinds
    pipe.pass_until(pipe.now + timedelta(days=30))
    assert ends(pipe.account) == owed(pipe) == (51, 0, 0)
    for lagging in ([*billed, settled, verdict], [*billed, verdict, settled]):
        assert ends(read(lagging)) == (51, 0, 0)
        assert ends(read(without_words(lagging))) == (21, 30, 0)


def test_e07_a_word_that_is_read_after_a_newer_one_says_nothing() -> None:
    # As what waited for its account's opening is: the return is read before the settlement it takes back.
    pipe = pipe_of(300)
    pipe.repay(400, rail="card")
    pipe.now += HOUR
    charge(pipe, "fee", 20, at=1)
    pipe.give_back(400, rail="card")
    words = [fact for fact in pipe.heard if isinstance(fact, RepaymentSettled | RepaymentReturned)]
    assert [fact.owed and fact.owed.number for fact in words] == [1, 2]
    others = [fact for fact in pipe.heard if fact not in words]
    assert owed(pipe) == (300, 20, 0)
    for facts in ([*words[::-1], *others], [*others, *words[::-1]], [*others, *words]):
        account = read(facts)
        assert (ends(account), account.unjoined_minor) == ((300, 20, 0), 0)


def test_e07_charges_that_a_repayment_without_a_verdict_pays_are_no_principal_when_it_is_returned() -> None:
    # Billing is read ahead: the charge waits for the overpayment and for what the refund leaves over of its part.
    pipe = pipe_of(300)
    pipe.repay(400, rail="card")
    settled, verdict = only(pipe.events, RepaymentSettled), only(pipe.events, RiskAssessed)
    pipe.give_back(400, rail="card")
    gone = only(pipe.events, RepaymentReturned)
    charge(pipe, "fee", 132, at=1)
    refund(pipe, "f1", "opening", 121, at=2)
    opened, purchase, *_, fee, back = pipe.heard
    account = read([opened, purchase, fee, settled, back, gone, verdict])
    assert ends(account) == owed(pipe) == (179, 132, 0)


def test_every_word_has_the_next_number_and_names_the_last_fact_that_is_no_statement() -> None:
    pipe = any_order.Heard(POLICIES["PRINCIPAL"])
    pipe.take(builders.account_opened(credit_limit_minor=LIMIT))
    pipe.repay(100)
    pipe.take(builders.purchase_posted(event_id="bought", amount_minor=40, occurred_at=FRIDAY + HOUR), FRIDAY + HOUR)
    pipe.take(builders.statement_issued(event_id="issued", occurred_at=FRIDAY + 2 * HOUR), FRIDAY + 2 * HOUR)
    pipe.repay(100, ref="r2", at=FRIDAY + 3 * HOUR)
    pipe.give_back(100, ref="r2")
    first, second = all_of(pipe.events, RepaymentSettled)
    back = only(pipe.events, RepaymentReturned)
    assert first.owed == Owed(1, None, 0, 0, 100)
    assert (second.owed, back.owed) == (Owed(2, EventId("bought"), 0, 0, 160), Owed(3, EventId("bought"), 0, 0, 60))


def word(
    number: int,
    read_to: str | None,
    principal: int = 0,
    charges: int = 0,
    balance: int = 0,
    earlier: Sequence[str] = (),
) -> Owed:
    named = None if read_to is None else EventId(read_to)
    return Owed(number, named, principal, charges, balance, tuple(EventId(ref) for ref in earlier))


def charges_of(heard: Heard) -> int | None:
    return None if heard.now is None else heard.now.charges_minor


def test_a_word_is_followed_from_the_fact_it_names() -> None:
    a, b, c = Billed("a", 100), Billed("b", charges_minor=7), Billed("c", credit_balance_minor=-9)
    ahead = NOTHING.billed(a).billed(b).said(word(1, "a", 100))
    assert (charges_of(ahead), ahead.lately) == (7, (a, b)), "what is before it is not needed any more"
    behind = NOTHING.billed(a).said(word(1, "b", 100, 7, earlier="a"))
    assert (charges_of(behind), charges_of(behind.billed(b))) == (None, 7)
    later = behind.billed(b).billed(c)
    assert (later.owed, later.told, later.followed) == (word(1, "b", 109, 7, earlier="a"), 1, True)
    assert charges_of(later.billed(b)) == 14
    assert charges_of(NOTHING.said(word(1, None)).billed(a)) is None
    assert charges_of(NOTHING.billed(a).said(word(2, "a", 100))) is None, "one before it is still to come"
    assert charges_of(NOTHING.billed(a).said(word(2, "a", 100, 5)).said(word(1, "a", 90, 6))) == 5
    assert charges_of(NOTHING.billed(a).said(word(1, "a", 100, 5)).said(word(2, "a", 90, 6))) == 6
    assert charges_of(NOTHING.said(word(1, "a", 100, 5)).said(None).billed(a)) is None
    older = NOTHING.billed(a).said(word(1, "a", 100, 5)).said(None)
    assert (charges_of(older), charges_of(older.billed(b))) == (None, None)
    assert charges_of(older.said(word(2, "a", 90, 6))) == 6


def test_what_a_word_does_not_name_it_does_not_know_in_whatever_order_billing_is_read() -> None:
    a, b, c = Billed("a", 100), Billed("b", charges_minor=7), Billed("c", charges_minor=-2)
    said = word(1, "c", 100, 5, earlier="ba")
    assert charges_of(NOTHING.billed(a).billed(c).said(said)) is None
    assert charges_of(NOTHING.billed(c).said(said).billed(a).billed(b)) == 5
    assert charges_of(NOTHING.billed(b).billed(c).billed(a).said(word(1, "a", 100))) == 5, "it names all it knows"
    most = word(1, "f", 100, 5, earlier="edcb"[:EARLIER_MAX])
    heard = NOTHING.billed(a).billed(Billed("x", charges_minor=9))
    for ref in "bcd":
        heard = heard.billed(Billed(ref))
    heard = heard.billed(Billed("y", charges_minor=3)).billed(Billed("e")).said(most)
    assert charges_of(heard) is None
    assert charges_of(heard.billed(Billed("f"))) == 8, "what was read before all of as many as it may name it knows"
    assert [fact.event_id for fact in heard.billed(Billed("f")).lately] == [*"bcdyef"]


def test_e07_charges_read_after_their_correction_and_what_paid_them_are_owed_by_nobody() -> None:
    # A billing of another partitioner: the charges are read last here, and in their order by settlement.
    pipe = pipe_of(2_000)
    charge(pipe, "fee", 12, at=1)
    pipe.repay(12, at=FRIDAY + 2 * HOUR)
    charge(pipe, "off", -3, at=3)
    pipe.repay(5, ref="r2", at=FRIDAY + 4 * HOUR)
    fee, off = all_of(pipe.heard, ChargesAccrued)
    others = [fact for fact in pipe.heard if fact not in (fee, off)]
    assert owed(pipe) == (1_992, 0, 0)
    lagging = [*others[:2], off, *others[2:], fee]
    for account in (pipe.account, read(lagging)):
        assert ends(account) == (1_992, 0, 0)
    assert ends(read(without_words(lagging))) == (1_980, 12, 0)


def test_as_many_facts_are_kept_as_a_word_may_be_behind() -> None:
    heard = Heard()
    for n in range(LATELY_MAX + 1):
        heard = heard.billed(Billed(f"e{n}", charges_minor=1))
    assert charges_of(heard.said(word(1, "e0"))) is None
    assert charges_of(heard.said(word(1, "e1"))) == LATELY_MAX - 1


@pytest.mark.parametrize(
    ("before", "fact", "after"),
    [
        ((10, 4, 0), (5, 0, 0), (15, 4, 0)),
        ((10, 4, 0), (-12, 0, 0), (0, 2, 0)),
        ((10, 4, 0), (-20, 0, 0), (0, 0, 6)),
        ((10, 4, 0), (0, -6, 0), (8, 0, 0)),
        ((0, 0, 9), (0, 7, 0), (0, 0, 2)),
        ((0, 0, 9), (20, 0, 0), (11, 0, 0)),
        ((0, 0, 9), (0, 0, -4), (0, 0, 5)),
        ((0, 0, 9), (0, 0, -12), (3, 0, 0)),
    ],
)
def test_what_billing_told_since_is_owed_as_limit_release_owes_it(
    before: tuple[int, int, int], fact: tuple[int, int, int], after: tuple[int, int, int]
) -> None:
    heard = NOTHING.billed(Billed("a")).said(word(1, "a", *before))
    assert heard.billed(Billed("b", *fact)).owed == word(1, "a", *after)


OWES = Account(builders.ACCOUNT, charges_minor=50, used_debt_minor=100, available_minor=900, corrected_minor=12)


@pytest.mark.parametrize(
    ("principal", "told", "unjoined_minor", "moved"),
    [
        (130, 20, 0, 30),
        (130, 20, 10, 20),
        (130, 20, 30, 0),
        (130, 20, -10, 30),
        (130, 50, 0, 0),
        (130, 60, 0, 0),
        (130, None, 0, 0),
        (9, 20, 0, 9),
        (0, 0, 0, 0),
    ],
)
def test_what_is_owed_of_charges_above_settlements_word_and_what_is_held_is_principal(
    principal: int, told: int | None, unjoined_minor: int, moved: int
) -> None:
    heard = NOTHING if told is None else NOTHING.billed(Billed("a")).said(word(1, "a", principal, told))
    before = replace(OWES, heard=heard, unjoined_minor=unjoined_minor)
    after = agreed(before, "ref")
    assert (after.used_debt_minor, after.charges_minor, after.available_minor) == (100 + moved, 50 - moved, 900 - moved)
    assert after.corrected_minor == max(0, 12 - moved)
    assert [(j.kind, j.ref) for j in after.journals] == ([("REALLOCATE", "ref:agreed")] if moved else [])
    assert (after is before) == (not moved)


def test_where_charges_use_the_limit_no_word_is_followed() -> None:
    total, fact = profile({"limit_basis": "TOTAL"}), Billed("a")
    assert followed(total, OWES, fact) is OWES
    event = builders.repayments_reallocated(reallocated=(), owed=word(1, "a", 150))
    assert absorbed(total, State(OWES), event).account.heard is NOTHING
    assert absorbed(profile(), State(followed(profile(), OWES, fact)), event).account.charges_minor == 0
    assert unjoined(State(OWES), 0).account is OWES


def test_what_joins_pays_before_charges_are_held_to_settlements_word() -> None:
    repayment = replace(State(OWES).repayment(builders.REPAYMENT), credit_balance_minor=30)
    before = replace(OWES, heard=NOTHING.billed(Billed("a")).said(word(1, "a", 115, 5)), unjoined_minor=30)
    after, joined = joins(State(before), repayment)
    assert (ends(after.account), after.account.unjoined_minor, joined.joined) == ((115, 5, 0), 0, True)
