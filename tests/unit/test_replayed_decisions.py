"""A stored verdict is reached again, byte by byte, from its stored inputs and the policy of its version (risk 6)."""

from dataclasses import fields
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.reasons import Cause
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from services.decision import Moment
from services.risk_scoring.domain import decide
from services.risk_scoring.model import GUARDS, SAID, Account, Question
from services.risk_scoring.view import asked_of, revised_again, told_again
from services.runtime.codec import encode
from services.values import replace
from tests import builders
from tests.unit.given import FRIDAY, profiles

METHODS = ("schedule", "formula")
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["settled", "settled", "settled", "linked", "returned", "limit", "statement"]),
        st.integers(1, 900_000),
        st.sampled_from(["direct_debit", "direct_debit", "wallet", "cheque", "nobody_knows"]),
        st.integers(0, 30_000),
        st.integers(-40, 40),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)
Story = list[tuple[Event, RiskAssessed]]


def told(method: str, steps: list[tuple[str, int, str, int, int, bool]]) -> Story:
    """Decide on a life of one account; return every verdict with what it is about, read back from its bytes."""
    policy, account = profiles({"hold.REVERSIBLE.method": method}), Account(builders.ACCOUNT)
    found: Story = []
    now, paid = FRIDAY, list[str]()
    for number, (kind, amount, rail, seconds, queued, waits) in enumerate(steps):
        now += timedelta(seconds=seconds + 1)
        ref = f"rep_{number}"
        event: Event
        match kind:
            case "settled":
                event = builders.repayment_settled(
                    repayment_id=ref,
                    amount_minor=amount,
                    restorable_minor=amount if number % 5 else amount // 2,
                    credit_balance_minor=0 if number % 5 else amount - amount // 2,
                    rail=rail,
                    repaid_at=now - timedelta(seconds=2),
                    finality="final" if rail == "wallet" else "provisional",
                )
                paid.append(ref)
            case "linked":
                event = builders.funding_account_linked(verified=True)
            case "returned":
                event = builders.repayment_returned(repayment_id=paid[-1] if paid else ref)
            case "limit":
                event = builders.credit_limit_changed(credit_limit_minor=amount)
            case _:
                event = builders.statement_issued(occurred_at=now)
        now = max(now, event.occurred_at)
        taken = now + timedelta(milliseconds=queued)
        apart: tuple[tuple[Cause, datetime], ...] = (
            (("system_delay.dead_letter", taken + timedelta(milliseconds=5)),) if waits else ()
        )
        decision = decide(policy, account, event, Moment(now + timedelta(milliseconds=9), taken, now, apart))
        account = decision.state
        for fact in decision.events:
            assert isinstance(fact, RiskAssessed)
            found.append((event, RiskAssessed.model_validate_json(encode(fact).payload)))
    return found


@pytest.mark.parametrize("method", METHODS)
@given(steps=STEPS)
def test_every_verdict_is_reached_again_from_what_was_stored_with_it(
    method: str, steps: list[tuple[str, int, str, int, int, bool]]
) -> None:
    policy = profiles({"hold.REVERSIBLE.method": method})
    last: dict[str, RiskAssessed] = {}
    for cause, fact in told(method, steps):
        profile = policy.of(fact.product)
        if isinstance(cause, RepaymentSettled):
            settled = RepaymentSettled.model_validate_json(encode(cause).payload)
            again: RiskAssessed | None = told_again(profile, fact, settled)
            assert asked_of(profile, fact).digest == fact.inputs_digest
        else:
            again = revised_again(profile, last[fact.repayment_id], fact)
        assert again is not None
        assert encode(again).payload == encode(fact).payload
        last[fact.repayment_id] = fact


def test_both_kinds_of_verdict_are_replayed_above() -> None:
    steps = [("settled", 500_001, "direct_debit", 1, 5, False), ("linked", 1, "", 1, 5, False)]
    first, second = (fact for _, fact in told("schedule", steps))
    assert (first.revision, second.revision) == (0, 1)
    assert second.tranches != first.tranches
    assert [told(method, steps)[0][1].outcome for method in METHODS] == ["observe", "observe"]


def test_a_changed_input_changes_what_is_decided_again_and_its_digest() -> None:
    ((settled, fact),) = told("schedule", [("settled", 500_001, "direct_debit", 1, 5, False)])
    profile = profiles().of(fact.product)
    assert isinstance(settled, RepaymentSettled)
    other = fact.model_copy(update={"inputs": tuple({**dict(fact.inputs), "instant_left_minor": 7}.items())})
    again = told_again(profile, other, settled)
    assert again.tranches[0].amount_minor == 7
    assert again.inputs_digest != fact.inputs_digest


def test_no_input_of_a_verdict_is_neither_stored_nor_said() -> None:
    ((_, fact),) = told("schedule", [("settled", 500_001, "direct_debit", 1, 5, False)])
    given = dict(fact.inputs)
    assert given.keys() | SAID | set(GUARDS) == {each.name for each in fields(Question)}
    assert given.keys().isdisjoint(SAID)
    for name in given:
        short = fact.model_copy(update={"inputs": tuple(each for each in fact.inputs if each.name != name)})
        with pytest.raises(KeyError, match=name):
            asked_of(profiles().of(fact.product), short)


def another(value: object) -> object:
    """Return another value of the kind of ``value``."""
    match value:
        case None:
            return 1
        case datetime():
            return value + timedelta(1)
        case str():
            return f"{value}x"
        case _:
            assert isinstance(value, int)
            return value + 1


def test_every_input_counts_in_the_digest() -> None:
    ((_, fact),) = told("schedule", [("settled", 500_001, "direct_debit", 1, 5, False)])
    asked = asked_of(profiles().of(fact.product), fact)
    changes: list[dict[str, Any]] = [{name: another(value)} for name, value in vars(asked).items()]
    digests = [asked.digest, *(replace(asked, **change).digest for change in changes)]
    assert all(len(digest) == 32 for digest in digests)
    assert all(one != other for one, other in pairwise(sorted(digests)))
