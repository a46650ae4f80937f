"""What a store saves is what it loads, for any state of the five services."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_args

import pytest
from asyncpg import CheckViolationError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.event import MILLISECOND, extended
from schemas.ids import REFERENCE_PATTERN, AccountId, EventId, NotificationId, RepaymentId
from schemas.notification import Channel, Template
from schemas.reasons import CAUSES, STAGES, Reason
from schemas.risk import RiskAssessed, Tier
from schemas.settlement import Owed
from services.console import model as console
from services.console.domain import MoveCase
from services.console.store import STORE as CONSOLE
from services.decision import Input, Timer, TimerFired
from services.limit_release import model as release
from services.limit_release.heard import Billed, Heard
from services.limit_release.store import STORE as RELEASE
from services.notifier import domain as notifier
from services.notifier.store import LEASE_SECONDS
from services.notifier.store import STORE as NOTIFIER
from services.repayment_ingest import domain as ingest
from services.repayment_ingest.store import STORE as INGEST
from services.risk_scoring import model as risk
from services.risk_scoring.credit import Credit
from services.risk_scoring.store import STORE as RISK
from services.runtime.clock import utc_now
from services.runtime.postgres import Connection
from services.runtime.settings import Settings
from services.runtime.worker import Store
from services.scorecard import TIERS
from services.settlement import model as settlement
from services.settlement.store import STORE as SETTLE
from services.statements import Month
from tests import builders
from tests.integration.support import load, role, save

FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
AMOUNTS = st.integers(0, 10**15)
POSITIVE = st.integers(1, 10**15)
CHANGES = st.integers(-(10**15), 10**15)
CURRENCIES = st.from_regex(r"[A-Z]{3}", fullmatch=True)
WORDS = st.text("abcXYZ0189_.:/@+-", min_size=1, max_size=128)
SAID = st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=200)
INSTANTS = st.integers(0, 10**12).map(lambda ms: datetime(2000, 1, 1, tzinfo=UTC) + ms * MILLISECOND)
DAYS = st.dates(date(2000, 1, 1), date(2199, 12, 31))
REASONS = st.sampled_from(Reason)
ACCOUNT = AccountId("account-1")


@asynccontextmanager
async def trial(given: Settings, package: str) -> Any:
    """Give a connection whose work is undone."""
    async with role(given, package) as connection:
        transaction: Any = connection.transaction()
        await transaction.start()
        try:
            yield connection
        finally:
            await transaction.rollback()


async def kept(store: Store[Any], connection: Connection, key: str, state: Any, inputs: Sequence[Input]) -> Any:
    """Save a state over what there is and return what is loaded then."""
    before = (await load(store, connection, inputs))[key]
    await save(store, connection, [(before, state)])
    return (await load(store, connection, inputs))[key]


CONTENTS = st.builds(ingest.Content, WORDS, POSITIVE, CURRENCIES, WORDS)
KINDS = st.frozensets(st.sampled_from(get_args(ingest.Kind)), min_size=1)
NAMES = st.from_regex(REFERENCE_PATTERN, alphabet="abcXYZ0189_.:/@+-", fullmatch=True)
REFERENCES = st.builds(ingest.Reference, NAMES, NAMES, CONTENTS, KINDS)


@FEW
@given(first=REFERENCES, more=KINDS)
async def test_references(settings: Settings, first: ingest.Reference, more: frozenset[str]) -> None:
    asked = [builders.repayment_reported(source=first.source, external_ref=first.external_ref)]
    key = INGEST.key(asked[0])
    async with trial(settings, "repayment_ingest") as connection:
        assert await kept(INGEST, connection, key, first, asked) == first
        later = replace(first, kinds=first.kinds | more)
        assert await kept(INGEST, connection, key, later, asked) == later


MINOR = st.integers(1, 10**12)
DEBTS = st.lists(
    st.builds(
        settlement.Debt,
        st.sampled_from(settlement.STANDINGS),
        st.sampled_from(settlement.COMPONENTS),
        MINOR,
        st.just("") | WORDS,
        st.integers(0, 100_000),
        st.none() | DAYS,
        st.just("") | WORDS,
        st.integers(0, 120),
        st.integers(0, 120),
    ),
    max_size=6,
).map(tuple)
CYCLES = st.lists(st.builds(settlement.Cycle, DAYS, AMOUNTS), max_size=3).map(tuple)


@st.composite
def books(draw: st.DrawFn) -> settlement.Books:
    debts = draw(DEBTS)
    return settlement.Books(debts, 0 if debts else draw(AMOUNTS), draw(CYCLES), draw(DAYS))


@st.composite
def settled(draw: st.DrawFn) -> settlement.Repayment:
    portions, balance = draw(DEBTS), draw(MINOR)
    amount = balance + sum(portion.amount_minor for portion in portions)
    told = draw(st.integers(0, amount))
    return settlement.Repayment(
        builders.REPAYMENT,
        "settled",
        amount,
        method=draw(st.sampled_from(["auto", "manual"])),
        repaid_at=draw(INSTANTS),
        credited_on=draw(DAYS),
        final_on=draw(DAYS),
        portions=portions,
        credit_balance_minor=balance,
        restorable_minor=told,
        reallocated_minor=draw(st.integers(-told, amount - told)),
        folded=draw(st.booleans()),
    )


LANES = st.sampled_from(["waiting", "rejected", "returned_first"])
MONEY_LANES = st.builds(settlement.Repayment, st.just(builders.REPAYMENT), LANES, MINOR) | settled()
ENTRIES = st.builds(
    settlement.Entry,
    st.just("purchase:purchase_1"),
    st.sampled_from(get_args(settlement.EntryKind)),
    INSTANTS,
    DAYS,
    st.lists(AMOUNTS, min_size=1, max_size=13).map(tuple),
    st.just("") | WORDS,
    st.just("") | WORDS,
    st.integers(0, 100_000),
    st.none() | DAYS,
    st.booleans(),
)
LATEST = st.builds(settlement.Latest, WORDS, st.sampled_from(["auto", "manual"]), INSTANTS)
DEBTORS = st.builds(
    settlement.Account,
    st.just(ACCOUNT),
    WORDS,
    CURRENCIES,
    books(),
    INSTANTS,
    st.none() | LATEST,
    st.integers(0, 100),
    st.integers(200, 300),
    read_to=st.just("") | WORDS,
    told=st.integers(0, 100),
    base=books(),
    entries=ENTRIES.map(lambda one: {one.ref: one}),
    repayments=MONEY_LANES.map(lambda one: {one.repayment_id: one}),
)


@FEW
@given(debtor=DEBTORS, paid=books())
async def test_debts(settings: Settings, debtor: settlement.Account, paid: settlement.Books) -> None:
    """Everything comes back when a return asks for the history, and only what an input names when nothing is late."""
    later = datetime(2199, 1, 1, tzinfo=UTC)
    late: list[Input] = [builders.return_received(account_id=ACCOUNT), builders.purchase_posted(account_id=ACCOUNT)]
    timely: list[Input] = [builders.repayment_received(account_id=ACCOUNT, repaid_at=later)]
    async with trial(settings, "settlement") as connection:
        assert await kept(SETTLE, connection, ACCOUNT, debtor, late) == replace(debtor, version=1)
        after = replace(debtor, books=paid, entries={}, repayments={})
        found = await kept(SETTLE, connection, ACCOUNT, after, late)
        assert found == replace(debtor, books=paid, version=2), "what was not touched is as it was"
        (found,) = (await load(SETTLE, connection, timely)).values()
    alone = replace(debtor, books=paid, base=settlement.Books(), entries={}, complete=False)
    assert found == replace(alone, version=2)


@pytest.mark.parametrize(
    "change",
    [
        {"books": settlement.Books((settlement.Debt("due", "fee", -1),))},
        {"books": settlement.Books((settlement.Debt("due", "fee", 1),), 1)},
        {"books": settlement.Books((), -1)},
        {"kept": -1},
    ],
)
async def test_books_that_cannot_be_true_are_refused_by_the_database(settings: Settings, change: Any) -> None:
    impossible = settlement.Account(ACCOUNT, "default", "CNY", **change)
    async with trial(settings, "settlement") as connection:
        with pytest.raises(CheckViolationError):
            await save(SETTLE, connection, [(settlement.Account(ACCOUNT), impossible)])


def _running(ref: str) -> RiskAssessed:
    until = utc_now() + timedelta(days=2)
    return builders.risk_assessed(repayment_id=ref, tranches=((1, 500_000, until, Reason.HOLD_RAIL_REVERSIBLE),))


MONTHS = st.builds(Month, *[st.integers(0, 10**12)] * 8, st.integers(0, 99))
CREDITS = st.builds(
    Credit,
    st.none() | WORDS,
    st.none() | CURRENCIES,
    st.none() | INSTANTS,
    st.lists(MONTHS, max_size=7).map(tuple),
    st.none() | st.integers(-100_000, 100_000),
    st.none() | INSTANTS,
    st.none() | INSTANTS,
    st.none() | INSTANTS,
    st.none() | DAYS,
    st.integers(0, 99),
)


@st.composite
def risks(draw: st.DrawFn) -> risk.Account:
    """Draw an account whose uses, strikes and holds are all recent enough to be loaded."""
    now = utc_now()
    sources = draw(st.dictionaries(WORDS, st.booleans(), max_size=3))
    said_at = st.none() | INSTANTS
    assessed = [
        risk.Assessment(
            f"r-{n}",
            draw(st.none() | st.sampled_from(sorted(sources) or ["f"])),
            now - timedelta(days=draw(st.integers(0, 99)), seconds=n),
            draw(POSITIVE),
            draw(st.sampled_from([None, _running(f"r-{n}")])),
            draw(st.none() | INSTANTS),
        )
        for n in range(draw(st.integers(0, 4)))
    ]
    funding = {}
    for name, verified in sources.items():
        struck = [risk.Strike(f"{name}-{n}", now - timedelta(days=n)) for n in range(3, draw(st.integers(3, 6)))]
        funding[name] = risk.FundingAccount(
            name, verified, tuple(sorted(struck, key=lambda one: one.struck_at)), draw(said_at)
        )
    started = draw(st.none() | INSTANTS)
    cycle = risk.Cycle(started, draw(AMOUNTS), 0 if started is None else draw(AMOUNTS))
    limit = draw(st.none() | AMOUNTS)
    found = {one.repayment_id: one for one in assessed}
    credit = draw(CREDITS)
    tier: Tier = "unknown" if credit.score is None else draw(st.sampled_from(TIERS))
    early = draw(st.dictionaries(WORDS, st.integers(-(10**12), 10**12), max_size=3))
    return risk.Account(ACCOUNT, limit, cycle, funding, found, tier, limit_at=draw(said_at), credit=credit, early=early)


@FEW
@given(account=risks(), paid=AMOUNTS)
async def test_risks(settings: Settings, account: risk.Account, paid: int) -> None:
    asked = [builders.repayment_settled(account_id=ACCOUNT), builders.funding_account_linked(account_id=ACCOUNT)]
    async with trial(settings, "risk_scoring") as connection:
        assert await kept(RISK, connection, ACCOUNT, account, asked) == replace(account, version=1)
        later = replace(account.without_holds(account.assessments), credit_limit_minor=paid)
        assert await kept(RISK, connection, ACCOUNT, later, asked) == replace(later, version=2)


async def test_r14_a_use_is_loaded_for_as_long_as_any_window_may_be_and_no_longer(settings: Settings) -> None:
    now = utc_now()
    uses = [risk.Assessment(f"r-{n}", None, now - timedelta(days=days), 5) for n, days in enumerate((0, 99, 101))]
    account = risk.Account(ACCOUNT).put(*uses)
    asked = [builders.repayment_settled(account_id=ACCOUNT)]
    async with trial(settings, "risk_scoring") as connection:
        found = await kept(RISK, connection, ACCOUNT, account, asked)
    assert set(found.assessments) == {"r-0", "r-1"}


async def test_a_return_finds_its_assessment_however_old(settings: Settings) -> None:
    old = risk.Assessment(builders.REPAYMENT, "f", utc_now() - timedelta(days=300), 0)
    asked = [builders.repayment_returned(account_id=ACCOUNT, reallocated=())]
    async with trial(settings, "risk_scoring") as connection:
        found = await kept(RISK, connection, ACCOUNT, risk.Account(ACCOUNT).put(old), asked)
    assert found.assessments == {builders.REPAYMENT: old}


@st.composite
def trails(draw: st.DrawFn, repaid_at: datetime) -> tuple[Any, ...]:
    waits = draw(
        st.lists(st.tuples(st.sampled_from(STAGES), st.sampled_from(CAUSES), st.integers(1, 10**6)), max_size=6)
    )
    trail: tuple[Any, ...] = ()
    for stage, cause, ms in waits:
        end = trail[-1][2] if trail else repaid_at
        trail = extended(repaid_at, trail, stage, (cause, end + ms * MILLISECOND))
    return trail


@st.composite
def credit_lanes(draw: st.DrawFn) -> release.Repayment:
    """Draw a repayment with a part held, so that all of its story is kept."""
    repaid_at, states = draw(INSTANTS), draw(st.lists(st.sampled_from(get_args(release.TrancheState)), max_size=4))
    tranches = {
        n: release.Tranche(
            builders.REPAYMENT,
            n,
            draw(POSITIVE),
            state,
            draw(INSTANTS),
            draw(REASONS),
            draw(INSTANTS),
            draw(INSTANTS) if state in ("restored", "reversed") else None,
            promises=draw(st.integers(0, 9)),
            extensions=draw(st.integers(0, 9)),
            delayed=draw(st.booleans()),
        )
        for n, state in enumerate(["held", *states], start=1)
    }
    return release.Repayment(
        builders.REPAYMENT,
        assessed=draw(st.booleans()),
        returned=draw(st.booleans()),
        late=draw(st.booleans()),
        joined=draw(st.booleans()),
        amount_minor=10**15,
        restorable_minor=draw(AMOUNTS),
        credit_balance_minor=draw(AMOUNTS),
        reallocated_minor=draw(CHANGES),
        reallocated_available_minor=draw(CHANGES),
        reallocated_balance_minor=draw(CHANGES),
        currency=draw(CURRENCIES),
        rail=draw(WORDS),
        repaid_at=repaid_at,
        version=draw(st.integers(0, 9_999)),
        revision=draw(st.integers(0, 99)),
        trail=draw(trails(repaid_at)),
        reasons=tuple(draw(st.lists(REASONS, max_size=4))),
        faster=tuple(draw(st.lists(st.sampled_from(["final_rail", "verified_account", "within_cap"]), max_size=3))),
        policy_version=draw(WORDS),
        model_version=draw(WORDS),
        calendar_version=draw(WORDS),
        clear_seconds=draw(st.integers(1, 86_400)),
        hold_slack_seconds=draw(st.integers(0, 86_400)),
        tranches=tranches,
    )


HEARD = st.builds(
    Heard,
    st.none()
    | st.builds(Owed, AMOUNTS, st.none() | WORDS, AMOUNTS, AMOUNTS, AMOUNTS, st.lists(WORDS, max_size=4).map(tuple)),
    st.lists(st.builds(Billed, WORDS, CHANGES, CHANGES, CHANGES), max_size=3).map(tuple),
    st.integers(0, 100),
    st.booleans(),
)


@st.composite
def availabilities(draw: st.DrawFn) -> release.Account:
    limit, used = draw(AMOUNTS), draw(st.just(0) | st.integers(0, 10**12))
    opened = release.Journal("OPEN", "opened", available_minor=limit)
    taken = release.Journal("PURCHASE", "purchase", available_minor=-used, used_debt_minor=used)
    account = release.Account(ACCOUNT, draw(WORDS), draw(CURRENCIES)).book(opened).book(taken)
    return replace(
        account,
        status=draw(st.sampled_from(["active", "frozen", "closed"])),
        status_reason=draw(WORDS),
        credit_balance_minor=0 if used else draw(AMOUNTS),
        charges_minor=draw(AMOUNTS),
        overpaid_minor=draw(AMOUNTS),
        overpaid_until=draw(st.none() | INSTANTS),
        limit_lowered_at=draw(st.none() | INSTANTS),
        spendable=draw(st.booleans()),
        cash_sub_limit_minor=draw(st.none() | AMOUNTS),
        cash_used_minor=draw(CHANGES),
        status_at=draw(st.none() | INSTANTS),
        limit_at=draw(st.none() | INSTANTS),
        cash_limit_at=draw(st.none() | INSTANTS),
        corrected_at=draw(st.none() | INSTANTS),
        corrected_minor=draw(AMOUNTS),
        heard=draw(HEARD),
        unjoined_minor=draw(CHANGES),
    )


@FEW
@given(account=availabilities(), repayment=credit_lanes(), authorised=AMOUNTS)
async def test_availability_and_credit_lanes(
    settings: Settings, account: release.Account, repayment: release.Repayment, authorised: int
) -> None:
    due = Timer(ACCOUNT, "hold_due", repayment.repayment_id, 1, repayment.tranches[1].until)
    asked: list[Input] = [
        TimerFired(ACCOUNT, due),
        builders.authorisation_placed(account_id=ACCOUNT, authorisation_id="a-1"),
    ]
    authorisations = {"a-1": release.Authorisation("a-1", authorised)}
    state = release.State(replace(account, authorisations=authorisations), {repayment.repayment_id: repayment})
    expected = release.State(replace(state.account, journals=(), version=1), state.repayments)
    async with trial(settings, "limit_release") as connection:
        found = await kept(RELEASE, connection, ACCOUNT, state, asked)
        assert found == expected
        restored = replace(repayment.tranches[1], state="restored", restored_at=repayment.repaid_at)
        later = found.put(repayment.put(restored))
        assert (await kept(RELEASE, connection, ACCOUNT, later, asked)).repayments[builders.REPAYMENT].tranches == {
            **repayment.tranches,
            1: restored,
        }


@st.composite
def messages(draw: st.DrawFn) -> notifier.Notification:
    state = draw(st.sampled_from(get_args(notifier.State)))
    channel = draw(st.sampled_from(get_args(Channel)))
    template = draw(st.sampled_from(get_args(Template)))
    return notifier.Notification(
        notifier.notification_id(builders.credit_restored(account_id=ACCOUNT), channel),
        None if template == "limit_review" else RepaymentId(draw(WORDS)),
        EventId(draw(WORDS)),
        channel,
        draw(st.sampled_from(["zh-CN", "en"])),
        template,
        draw(st.integers(1, 9_999)),
        draw(SAID),
        draw(INSTANTS),
        state,
        draw(st.integers(0, 10)),
        draw(INSTANTS) if state == "requested" else None,
        None if state == "requested" else draw(INSTANTS),
    )


@FEW
@given(message=messages(), language=st.sampled_from(["zh-CN", "en"]), timezone=WORDS, gone=st.booleans())
async def test_customers_and_messages(
    settings: Settings, message: notifier.Notification, language: Any, timezone: str, gone: bool
) -> None:
    disabled: frozenset[Channel] = frozenset({message.channel}) if gone else frozenset()
    account = notifier.Account(ACCOUNT, language, timezone, {message.notification_id: message}, disabled)
    asked: list[Input] = [builders.credit_restored(account_id=ACCOUNT)]
    async with trial(settings, "notifier") as connection:
        assert await kept(NOTIFIER, connection, ACCOUNT, account, asked) == _leased(account, message)
        if message.state != "requested":
            return
        ended_at = message.ended_at or builders.REPAID_AT
        done = replace(
            message, state="delivered", attempts=message.attempts + 1, next_attempt_at=None, ended_at=ended_at
        )
        later = replace(account, notifications={message.notification_id: done})
        assert await kept(NOTIFIER, connection, ACCOUNT, later, asked) == later
        attempt = notifier.Attempted(ACCOUNT, NotificationId(message.notification_id), "delivered")
        assert (await load(NOTIFIER, connection, [attempt]))[ACCOUNT] == later


@FEW
@given(message=messages())
async def test_messages_that_stand_for_others(settings: Settings, message: notifier.Notification) -> None:
    beside: dict[str, notifier.Notification] = {
        at: replace(message, notification_id=at, told_by=message.notification_id, record_version=n)
        for n, at in enumerate((NotificationId("beside-1"), NotificationId("beside-2")), start=1)
    }
    messages: dict[str, notifier.Notification] = {message.notification_id: message, **beside}
    account = notifier.Account(ACCOUNT, "en", "UTC", messages)
    attempt = notifier.Attempted(ACCOUNT, message.notification_id, "delivered")
    async with trial(settings, "notifier") as connection:
        found = await kept(NOTIFIER, connection, ACCOUNT, account, [attempt])
        due_at = _leased(account, message).notifications[message.notification_id].next_attempt_at
        assert found.notifications == {at: replace(each, next_attempt_at=due_at) for at, each in messages.items()}
        if message.state != "requested":
            return
        ended = {"state": "delivered", "next_attempt_at": None, "ended_at": builders.REPAID_AT}
        later = replace(found, notifications={at: replace(each, **ended) for at, each in found.notifications.items()})
        assert await kept(NOTIFIER, connection, ACCOUNT, later, [attempt]) == later
        assert (await connection.fetchval("SELECT count(*) FROM delivery")) == 1


def _leased(account: notifier.Account, message: notifier.Notification) -> notifier.Account:
    """Return what is kept: the process that asked for a message has it under a lease at once."""
    if message.next_attempt_at is not None:
        message = replace(message, next_attempt_at=message.next_attempt_at + timedelta(seconds=LEASE_SECONDS))
    return replace(account, notifications={message.notification_id: message})


OPENED = st.builds(
    console.Case,
    st.just(console.case_id("cause")),
    st.sampled_from(get_args(console.Kind)),
    st.sampled_from(get_args(console.Priority)),
    st.just(EventId("0" * 32)),
    INSTANTS,
    INSTANTS,
    st.none() | WORDS,
    st.none() | st.integers(1, 99),
    st.just("") | WORDS,
    st.none() | st.integers(1, 9_999),
    steps=st.just((console.Step(None, "open", builders.REPAID_AT, "console", "why"),)),
).filter(lambda case: case.due_at >= case.opened_at)


@FEW
@given(case=OPENED, answer=SAID, outcome=st.sampled_from(get_args(console.CaseOutcome)))
async def test_cases(settings: Settings, case: console.Case, answer: str, outcome: Any) -> None:
    asked: list[Input] = [MoveCase(ACCOUNT, "agent_1", "checked", case.case_id, "resolve", outcome, answer)]
    async with trial(settings, "console") as connection:
        desk = console.Desk(ACCOUNT).put(case)
        kept_open = replace(case, steps=(), version=1)
        assert await kept(CONSOLE, connection, ACCOUNT, desk, asked) == console.Desk(ACCOUNT).put(kept_open)
        done = kept_open
        for state in console.way("open", "resolve"):
            done = done.to(state, case.due_at, "agent_1", "checked")
        done = replace(done, outcome=outcome, answer=answer, resolved_at=case.due_at, assignee="agent_1")
        found = await kept(CONSOLE, connection, ACCOUNT, console.Desk(ACCOUNT).put(done), asked)
        assert found == console.Desk(ACCOUNT).put(replace(done, steps=(), version=2))


@pytest.mark.parametrize("count", [0, 3])
async def test_an_unknown_key_gives_an_empty_state(settings: Settings, count: int) -> None:
    asked = [builders.repayment_received(account_id=f"account-{n}") for n in range(count)]
    async with trial(settings, "settlement") as connection:
        found = await load(SETTLE, connection, asked)
    assert found == {f"account-{n}": settlement.Account(f"account-{n}") for n in range(count)}
