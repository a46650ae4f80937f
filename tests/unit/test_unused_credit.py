"""Unused credit before a repayment: settlement says what is owed, risk-scoring counts, the books agree (risk 4.2)."""

from dataclasses import dataclass, field
from datetime import UTC, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import override

from schemas.event import Event
from schemas.reasons import Reason
from schemas.risk import RiskAssessed
from schemas.settlement import Reallocation, RepaymentSettled
from services.policy import Profiles
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from services.risk_scoring.view import told_again
from services.runtime.codec import encode
from services.values import replace
from tests import builders
from tests.unit.debts import Ledger
from tests.unit.given import FRIDAY, Pipe, all_of, china, moment, only, profiles

NOW = FRIDAY + timedelta(seconds=5)
LIMIT = 600_000
FORMULA = profiles({"hold.REVERSIBLE.method": "formula", "instant_cap_by_tier.unknown": 500_000})
POLICIES = {
    f"{basis} {method}": profiles({"limit_basis": basis, "hold.REVERSIBLE.method": method})
    for basis in ("PRINCIPAL", "TOTAL")
    for method in ("schedule", "formula")
}


def settled(ref: str = "r1", amount: int = 300_000, owed: int | None = 0, **changes: object) -> RepaymentSettled:
    money = {"amount_minor": amount, "restorable_minor": amount, "owed_minor": owed}
    return builders.repayment_settled(**{"repayment_id": ref, "repaid_at": FRIDAY, **money, **changes})


def assessed(*events: Event, account: Account | None = None, policy: Profiles = FORMULA) -> RiskAssessed:
    """Return the verdict on the last of ``events``."""
    state = account or Account(builders.ACCOUNT, credit_limit_minor=LIMIT)
    *before, last = events
    for event in before:
        state = decide(policy, state, event, moment(NOW)).state
    return only(decide(policy, state, last, moment(NOW)).events, RiskAssessed)


def unused(*events: Event, account: Account | None = None, policy: Profiles = FORMULA) -> object:
    """Return the unused credit stored with the verdict on the last of ``events``."""
    return dict(assessed(*events, account=account, policy=policy).inputs)["unused_minor"]


@pytest.mark.parametrize(
    ("owed", "amount", "credit"),
    [
        (280_000, 300_000, 20_000),  # of 600,000 there were 580,000 in use
        (300_000, 300_000, 0),  # all of it
        (299_999, 300_000, 1),
        (500_000, 300_000, 0),  # over the limit by 200,000: nothing, never less
        (0, 300_000, 300_000),  # all is paid; what was paid is no unused credit before it
        (0, 1, 599_999),
    ],
)
def test_it_is_the_limit_less_what_was_owed_before_the_repayment(owed: int, amount: int, credit: int) -> None:
    assert unused(settled(amount=amount, owed=owed)) == credit


def test_an_overpayment_is_no_credit_before_it() -> None:
    paid = settled(amount=100_000, owed=0, restorable_minor=60_000, credit_balance_minor=40_000)
    assert unused(paid) == LIMIT - 60_000


def test_what_is_held_of_earlier_repayments_is_not_unused_and_what_comes_back_today_is() -> None:
    """Of 300,000 the cap of 100,000 is back at once; 200,000 wait for Tuesday and Friday."""
    policy = profiles()
    first, second = settled("r1", owed=200_000), settled("r2", 50_000, owed=150_000)
    assert unused(first, second, policy=policy) == LIMIT - 150_000 - 50_000 - 200_000
    freed = builders.hold_release_approved(repayment_id="r1", tranche=2)
    assert unused(first, freed, second, policy=policy) == LIMIT - 150_000 - 50_000 - 100_000
    gone = builders.repayment_returned(repayment_id="r1", reallocated=())
    again = settled("r2", 50_000, owed=450_000)
    assert unused(first, gone, again, policy=policy) == LIMIT - 450_000 - 50_000, "what is returned is owed, not held"


def test_what_a_late_repayment_takes_from_held_parts_is_not_held_before_it() -> None:
    moved = (Reallocation(builders.repayment_settled(repayment_id="r1").repayment_id, -70_000, 0),)
    late = settled("late", 70_000, owed=200_000, reallocated=moved)
    assert unused(settled("r1", owed=200_000), late, policy=profiles()) == LIMIT - 200_000 - 70_000 - 130_000


@pytest.mark.parametrize(("limit", "owed"), [(None, 280_000), (LIMIT, None), (None, None)])
def test_what_nobody_said_is_not_known_and_decided_as_none(limit: int | None, owed: int | None) -> None:
    fact = assessed(settled(owed=owed), account=Account(builders.ACCOUNT, credit_limit_minor=limit))
    none = assessed(settled(owed=300_000), account=Account(builders.ACCOUNT, credit_limit_minor=LIMIT))
    assert dict(fact.inputs)["unused_minor"] is None
    assert dict(none.inputs)["unused_minor"] == 0
    if limit is not None:
        assert (fact.tranches, fact.reasons) == (none.tranches, none.reasons)


@pytest.mark.parametrize("rail", ["wallet", "nobody_knows"])
def test_it_is_asked_only_where_it_may_decide(rail: str) -> None:
    finality = "final" if rail == "wallet" else "provisional"
    assert unused(settled(owed=280_000, rail=rail, finality=finality)) is None


def test_an_event_from_before_the_field_is_read_and_decided_as_before() -> None:
    said = settled(owed=0).model_dump_json().replace(',"owed_minor":0', "")
    assert "owed_minor" not in said
    old = RepaymentSettled.model_validate_json(said)
    assert old.owed_minor is None
    fact = assessed(old)
    assert [part.amount_minor for part in fact.tranches] == [53_881, 246_119]
    assert encode(told_again(FORMULA.of("default"), fact, old)).payload == encode(fact).payload


@pytest.mark.parametrize(
    ("credit", "parts", "days"), [(0, [53_881, 246_119], 2), (20_000, [33_881, 266_119], 2), (300_000, [300_000], 3)]
)
def test_the_worked_vectors_are_decided_by_events_alone(credit: int, parts: list[int], days: int) -> None:
    """338.8 of 3,000 now where 200 are unused; where there is much, nobody notices a hold to day 3 (risk 4.3)."""
    paid = settled(owed=LIMIT - 300_000 - credit)
    fact = assessed(paid)
    assert [part.amount_minor for part in fact.tranches] == parts
    default = FORMULA.of("default")
    assert fact.tranches[-1].due_at == default.due_at(FRIDAY, days)
    assert fact.tranches[-1].reason is Reason.HOLD_RAIL_REVERSIBLE
    assert encode(told_again(default, fact, paid)).payload == encode(fact).payload


@pytest.mark.parametrize(("basis", "owed", "restorable"), [("PRINCIPAL", 715_000, 85_000), ("TOTAL", 715_000, 100_000)])
def test_r02_settlement_says_what_uses_the_limit_after_the_repayment(basis: str, owed: int, restorable: int) -> None:
    """Charges are paid first, so both bases owe the same after it: of 815,000 in all 100,000 are repaid."""
    ledger = Ledger(
        profiles({"limit_basis": basis, "waterfall.component": ["fee", "interest", "penalty", "principal"]})
    )
    ledger.buy(china("2026-02-01"), 800_000)
    ledger.charge(china("2026-03-01"), interest=12_000, fee=3_000)
    paid = ledger.repay(china("2026-03-05"), 100_000)
    assert (paid.owed_minor, paid.restorable_minor) == (owed, restorable)


@pytest.mark.parametrize(("basis", "owed"), [("PRINCIPAL", 800_000), ("TOTAL", 805_000)])
def test_r03_charges_that_stay_use_the_limit_in_one_basis_alone(basis: str, owed: int) -> None:
    ledger = Ledger(profiles({"limit_basis": basis}))
    ledger.buy(china("2026-02-01"), 800_000)
    ledger.charge(china("2026-03-01"), interest=12_000, fee=3_000)
    assert ledger.repay(china("2026-03-05"), 10_000).owed_minor == owed
    assert ledger.repay(china("2026-03-06"), 900_000, "r2").owed_minor == 0, "the rest is credit balance"


@dataclass
class Watched(Pipe):
    """A life of an account that remembers, of each verdict, what was available in the books just before it."""

    before: list[tuple[object, int]] = field(default_factory=list)

    @override
    def _give(self, service: str, event: Event) -> list[Event]:
        if service == "risk-scoring":  # as its store does: each batch reads what is held of the day it is
            spans = [span for one in self.risk.outcomes.values() for span in one.spans.items()]
            held = sum(minor for (since, _), minor in spans if since > self.now.astimezone(UTC).date())
            self.risk = replace(self.risk, held_minor=held)
        if service == "limit-release" and isinstance(event, RiskAssessed) and not event.revision and not self.overpaid:
            self.before.append((dict(event.inputs)["unused_minor"], self.account.available_minor))
        return super()._give(service, event)

    @property
    def overpaid(self) -> bool:
        """Tell whether anything ever became credit balance: that pays debt later in one ledger than in the other."""
        told = all_of(self.events, RepaymentSettled)
        return any(one.credit_balance_minor or any(moved[2] for moved in one.reallocated) for one in told)


KINDS = st.sampled_from(["repay", "repay", "late", "buy", "buy", "charge", "limit", "return", "linked", "pass"])
STEPS = st.lists(st.tuples(KINDS, st.integers(1, 90_000), st.integers(0, 4)), max_size=25)


def lived(policy: Profiles, steps: list[tuple[str, int, int]]) -> Watched:
    """Live a life at noon, when what comes back on a day is back."""
    pipe = Watched(policy, now=builders.OPENED_AT)
    pipe.open(LIMIT, principal=450_000).pass_until(china("2026-11-20"))
    paid = list[tuple[str, int, str]]()
    for n, (kind, amount, number) in enumerate(steps):
        now, at = pipe.now + timedelta(seconds=60), {"event_id": f"e{n}"}
        match kind:
            case "repay" | "late":
                rail = ("direct_debit", "cheque", "wallet", "direct_debit", "nobody_knows")[number]
                back = timedelta(days=number, hours=1) if kind == "late" else timedelta(0)
                source = {"funding_account_id": f"bank_{number % 2}"}
                pipe.repay(amount, ref=f"r{n}", at=now - back, rail=rail, **at, **source)
                paid.append((f"r{n}", amount, rail))
            case "return" if paid:
                ref, minor, rail = paid.pop(number % len(paid))
                pipe.give_back(minor, ref=ref, rail=rail, now=now, **at)
            case "buy":
                pipe.take(
                    builders.purchase_posted(purchase_id=f"p{n}", amount_minor=amount, occurred_at=now, **at), now
                )
            case "charge":
                owed = {"penalty_minor": 0, "fee_minor": amount // 100, "interest_minor": number}
                pipe.take(builders.charges_accrued(**owed, occurred_at=now, **at), now)
            case "limit":
                pipe.take(builders.credit_limit_changed(credit_limit_minor=8 * amount, occurred_at=now, **at), now)
            case "linked":
                pipe.take(builders.funding_account_linked(funding_account_id="bank_1", occurred_at=now, **at), now)
            case _:
                pipe.pass_until(now + timedelta(days=number))
    return pipe


@pytest.mark.parametrize("name", POLICIES)
@given(steps=STEPS)
def test_what_is_counted_from_events_is_what_was_available_in_the_books(
    name: str, steps: list[tuple[str, int, int]]
) -> None:
    for said, available in lived(POLICIES[name], steps).before:
        assert said in (None, max(0, available))
