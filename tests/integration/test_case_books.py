"""Cases on a real PostgreSQL: opened once, moved along the lane only, and an audit nobody changes unseen."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from hashlib import sha256
from itertools import product
from typing import Any, Literal, get_args

import asyncpg
import pytest

from schemas.event import to_millisecond
from schemas.reasons import Reason
from schemas.review import LimitIncreaseDecided, LimitReviewConcluded
from schemas.risk import Tranche
from services.console.domain import (
    CASE_CLOSES,
    AskReview,
    Command,
    ExtendHold,
    MoveCase,
    ReleaseHold,
    TakeFeedback,
)
from services.console.model import ACTS_A_DAY_MAX, ASKED_AGAIN, LANE, SECOND_PERSON_MINOR, CaseOutcome, CaseState
from services.console.store import dead_letters
from services.console.worker import WORKER
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.repayment_ingest.worker import WORKER as INGEST
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.batch import Batch, Committed
from services.runtime.clock import monotonic, utc_now
from services.runtime.fold import Arrived
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests import builders
from tests.integration.support import Feed, Raw, owner, role, violations
from tests.integration.test_lag_exporter import scraped, total, value

MakeFeed = Callable[[AnyWorker], Awaitable[Feed]]
STATES: tuple[CaseState, ...] = get_args(CaseState)
STEP = "INSERT INTO case_step VALUES ($1, $2, $3, $4, clock_timestamp(), 'agent_1', 'checked')"
# How many wait for a row that another holds.
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
LATE = builders.restoration_delayed(cause="system_delay.processing")


async def say(feed: Feed, *commands: Command) -> Committed:
    """Give the worker what people said, as the command line does."""
    arrived = [Arrived(command, 0, utc_now()) for command in commands]
    return await feed.apply(Batch(taken=monotonic(), arrived=arrived))


async def rows(feed: Feed, query: str, *args: object) -> list[dict[str, Any]]:
    return [dict(row) for row in await feed.connection.fetch(query, *args)]


async def resolved(feed: Feed, reason: str = "checked") -> Committed:
    case = await feed.value("SELECT case_id FROM case_file")
    return await say(feed, MoveCase(builders.ACCOUNT, "agent_1", reason, case, "resolve", "explained", "已说明"))


async def test_a_breach_opens_one_case_however_often_it_is_told(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE, builders.repayment_settled(), builders.risk_assessed(), LATE)
    (case,) = await rows(feed, "SELECT kind, priority, state, repayment_id, tranche, record_version FROM case_file")
    assert case == {
        "kind": "promise_broken",
        "priority": "high",
        "state": "open",
        "repayment_id": builders.REPAYMENT,
        "tranche": LATE.tranche,
        "record_version": LATE.record.version,
    }
    assert await feed.value("SELECT count(*) FROM timers WHERE kind = 'case_due'") == 1
    (told,) = await rows(feed, "SELECT kind, priority, cases, overdue FROM case_board")
    assert told == {"kind": "promise_broken", "priority": "high", "cases": 1, "overdue": 0}


async def test_an_open_case_is_scraped_with_its_deadline_until_it_is_resolved(
    feed_of: MakeFeed, settings: Settings
) -> None:
    feed = await feed_of(WORKER)
    async with role(settings, "lag_monitor") as connection:
        await feed.deliver(LATE)
        what = {"kind": "promise_broken", "priority": "high"}
        due_at = await feed.value("SELECT due_at FROM case_file")
        found = await scraped(connection)
        assert value(found, "credit_cases_open", **what) == total(found, "credit_cases_open") == 1
        oldest = value(found, "credit_case_oldest_due_timestamp_seconds", **what)
        assert oldest == pytest.approx(due_at.timestamp())
        await resolved(feed)
        found = await scraped(connection)
        assert total(found, "credit_cases_open") == 0
        assert value(found, "credit_case_oldest_due_timestamp_seconds", **what) is None


async def test_a_case_is_resolved_by_a_person_and_closed_by_its_date(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE)
    assert (await resolved(feed)).counts["applied"] == 1
    (case,) = await rows(feed, "SELECT state, assignee, outcome, answer, version FROM case_file")
    assert case == {
        "state": "resolved",
        "assignee": "agent_1",
        "outcome": "explained",
        "answer": "已说明",
        "version": 2,
    }
    async with owner(settings) as connection:
        past = "UPDATE console.timers SET due_at = clock_timestamp() WHERE kind = $1"
        await connection.execute(past, CASE_CLOSES)
    await feed.fire()
    steps = await rows(feed, "SELECT n, before, state, actor FROM case_step ORDER BY n")
    assert [tuple(step.values()) for step in steps] == [
        (1, None, "open", "console"),
        (2, "open", "assigned", "agent_1"),
        (3, "assigned", "in_review", "agent_1"),
        (4, "in_review", "resolved", "agent_1"),
        (5, "resolved", "closed", "console"),
    ]
    assert (await resolved(feed)).counts["stale"] == 1


async def test_a_dead_letter_of_a_money_service_opens_a_case(feed_of: MakeFeed, settings: Settings) -> None:
    ingest, feed = await feed_of(INGEST), await feed_of(WORKER)
    await ingest.deliver(Raw("billing.repayment.v1", b"{"))
    found = await dead_letters(feed.connection)
    assert [each.account_id for each in found] == ["unknown"]
    for _ in range(2):
        await feed.apply(Batch(taken=monotonic(), arrived=[Arrived(each, -1, utc_now()) for each in found]))
    (case,) = await rows(feed, "SELECT kind, detail, account_id FROM case_file")
    assert case == {"kind": "dead_letter", "detail": found[0].place, "account_id": "unknown"}
    assert found[0].place.startswith("repayment-ingest:")
    assert await dead_letters(feed.connection) == []


async def test_a_complaint_is_an_event_a_case_and_an_audit_entry(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    asked = TakeFeedback(builders.ACCOUNT, "agent_1", "called", "complaint", "restoration", builders.REPAYMENT)
    committed = await say(feed, asked)
    assert [o.topic for o in committed.outgoing] == ["customer.feedback.v1"]
    committed = await resolved(feed)
    assert [o.event_type for o in committed.outgoing] == ["opentobuy.customer.feedback.FeedbackAnswered.v1"]
    assert await feed.value("SELECT count(*) FROM audit") == 2


async def test_two_people_cannot_both_resolve_a_case(feed_of: MakeFeed) -> None:
    one, other = await feed_of(WORKER), await feed_of(WORKER)
    await one.deliver(LATE)
    await resolved(one)
    assert (await resolved(other)).counts["stale"] == 1
    assert await one.value("SELECT count(*) FROM audit") == 1


async def test_a_hold_is_reviewed_on_the_topic_and_in_the_audit_by_one_transaction(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    place = (builders.REPAYMENT, 2)
    until = to_millisecond(utc_now()) + timedelta(days=2)
    committed = await say(
        feed,
        ReleaseHold(builders.ACCOUNT, "reviewer_1", "payer_verified", *place, 50_000),
        ExtendHold(builders.ACCOUNT, "reviewer_1", "payer_unreachable", *place, until),
    )
    assert [o.topic for o in committed.outgoing] == ["review.decision.v1"] * 2
    audits = await rows(feed, "SELECT seq, action, content::jsonb ->> 'event_id' AS event FROM audit ORDER BY seq")
    kept = await rows(feed, "SELECT replace(event_id::text, '-', '') AS event FROM outbox ORDER BY n")
    assert [audit["event"] for audit in audits] == [sent["event"] for sent in kept]
    assert [(audit["seq"], audit["action"]) for audit in audits] == [(1, "release_hold"), (2, "extend_hold")]


async def test_what_is_parked_is_seen_through_a_view_only(feed_of: MakeFeed, settings: Settings) -> None:
    releases, feed = await feed_of(LIMIT_RELEASE), await feed_of(WORKER)
    await releases.deliver(builders.account_opened(credit_limit_minor=1_000_000), builders.purchase_posted())
    await releases.deliver(builders.account_status_changed(status="frozen", reason="risk_team"))
    await releases.deliver(builders.risk_assessed())
    number = await feed.value("SELECT min(number) FROM parked_tranche")
    await feed.deliver(builders.restoration_parked(tranche=number), builders.restoration_parked(tranche=99))
    async with owner(settings) as connection:
        await connection.execute("UPDATE console.timers SET due_at = clock_timestamp()")
    await feed.fire()
    (case,) = await rows(feed, "SELECT kind, tranche FROM case_file")
    assert case == {"kind": "parked_long", "tranche": number}
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await feed.connection.execute("SELECT FROM limit_release.tranche")


async def test_the_database_takes_exactly_the_steps_of_the_table(settings: Settings) -> None:
    """For every pair of states: a case that stands in the first may step to the second as LANE says."""
    allowed: set[tuple[str, str]] = set()
    async with role(settings, "console") as connection:
        for before, after in product(STATES, STATES):
            transaction: Any = connection.transaction()
            await transaction.start()
            for n, (came, to) in enumerate(_way_to(before), start=1):
                await connection.execute(STEP, "c", n, came, to)
            try:
                await connection.execute(STEP, "c", n + 1, before, after)
                allowed.add((before, after))
            except asyncpg.RestrictViolationError as error:
                assert f"from {before} to {after}" in str(error)  # noqa: PT017  # the refusal of one pair of many
            await transaction.rollback()
    assert allowed == LANE


def _way_to(state: CaseState) -> list[tuple[CaseState | None, CaseState]]:
    """Return steps that lead to ``state``."""
    way: list[CaseState] = ["open", "assigned", "in_review", "escalated", "resolved", "closed"]
    line = way[: way.index(state) + 1]
    return list(zip([None, *line[:-1]], line, strict=True))


REFUSED = {
    "UPDATE case_file SET kind = 'referred'": asyncpg.RestrictViolationError,
    "UPDATE case_file SET state = 'assigned', assignee = 'agent_1'": asyncpg.CheckViolationError,
    "UPDATE case_file SET state = 'resolved'": asyncpg.CheckViolationError,
    "UPDATE case_step SET actor = 'another'": asyncpg.InsufficientPrivilegeError,
    "INSERT INTO case_step VALUES ('c', 1, NULL, 'resolved', now(), 'a', 'b')": asyncpg.RestrictViolationError,
    "INSERT INTO case_step VALUES ('c', 2, 'open', 'assigned', now(), 'a', 'b')": asyncpg.RestrictViolationError,
}


@pytest.mark.parametrize("statement", REFUSED)
async def test_a_case_goes_nowhere_without_its_step(feed_of: MakeFeed, statement: str) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE)
    with pytest.raises(REFUSED[statement]):
        await feed.connection.execute(statement)


async def test_a_closed_case_takes_no_change_from_anybody(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE)
    await resolved(feed)
    async with owner(settings) as connection:
        await connection.execute("UPDATE console.timers SET due_at = clock_timestamp()")
        await feed.fire()
        with pytest.raises(asyncpg.RestrictViolationError, match="that stays"):
            await connection.execute("UPDATE console.case_file SET answer = 'other'")


# ---- the audit ---------------------------------------------------------------------------------------------------


async def test_each_entry_of_the_audit_carries_the_hash_of_the_one_before(feed_of: MakeFeed) -> None:
    feed = await feed_of(WORKER)
    await feed.deliver(LATE)
    await resolved(feed, "checked")
    await say(feed, *(ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", builders.REPAYMENT, n) for n in (1, 2)))
    hashed = "0" * 64
    entries = await rows(feed, "SELECT * FROM audit ORDER BY seq")
    assert [entry["seq"] for entry in entries] == [1, 2, 3]
    for entry in entries:
        assert entry["previous"] == hashed
        hashed = _hash(entry)
        assert entry["hash"] == hashed


def _hash(entry: dict[str, Any]) -> str:
    """Count the hash of an entry again, without the database."""
    at = to_millisecond(entry["at"]).strftime("%Y-%m-%dT%H:%M:%S.") + f"{entry['at'].microsecond // 1000:03d}Z"
    names = ("actor", "action", "account_id", "subject", "reason", "content")
    parts = [entry["previous"], str(entry["seq"]), at, *(entry[name] for name in names)]
    return sha256("".join(f"{len(part)}:{part}" for part in parts).encode()).hexdigest()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET reason = 'other'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "UPDATE audit_head SET seq = 0",
        "DELETE FROM audit_head",
    ],
)
async def test_the_console_itself_cannot_change_what_was_audited(feed_of: MakeFeed, statement: str) -> None:
    feed = await feed_of(WORKER)
    await say(feed, ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", builders.REPAYMENT, 1))
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await feed.connection.execute(statement)


async def test_even_the_owner_meets_a_trigger(feed_of: MakeFeed, settings: Settings) -> None:
    feed = await feed_of(WORKER)
    await say(feed, ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", builders.REPAYMENT, 1))
    async with owner(settings) as connection:
        for statement in ("UPDATE console.audit SET reason = 'other'", "TRUNCATE console.audit"):
            with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
                await connection.execute(statement)


@pytest.mark.parametrize(
    "cut",
    [
        "DELETE FROM console.audit WHERE seq = 2",
        "DELETE FROM console.audit WHERE seq = 3",
        "DELETE FROM console.audit",
        "UPDATE console.audit SET content = '{}' WHERE seq = 1",
        "UPDATE console.audit SET at = at + interval '1 ms' WHERE seq = 3",
        "UPDATE console.audit SET actor = 'a', action = 'resolve' WHERE seq = 2",
        "UPDATE console.audit_head SET hash = repeat('1', 64)",
    ],
)
async def test_whoever_goes_around_the_triggers_breaks_the_chain(settings: Settings, cut: str) -> None:
    async with role(settings, "console") as connection:
        feed = await Feed(WORKER, settings, connection).start()
        for n in (1, 2, 3):
            await say(feed, ReleaseHold(builders.ACCOUNT, "reviewer_1", "why", builders.REPAYMENT, n))
    assert await violations(settings) == {}
    async with owner(settings) as connection:
        await connection.execute(f"SET session_replication_role = replica; {cut}")
    assert set(await violations(settings)) == {"console.invariant_audit_chain"}


async def test_much_money_is_known_from_limit_releases_books_and_takes_two(
    feed_of: MakeFeed, settings: Settings
) -> None:
    releases, feed = await feed_of(LIMIT_RELEASE), await feed_of(WORKER)
    far = builders.SECOND_HOLD_UNTIL.replace(year=2030)
    held = (Tranche(1, SECOND_PERSON_MINOR, far, Reason.HOLD_RAIL_REVERSIBLE),)
    much = {"amount_minor": SECOND_PERSON_MINOR, "restorable_minor": SECOND_PERSON_MINOR}
    await releases.deliver(builders.account_opened(credit_limit_minor=5_000_000))
    await releases.deliver(builders.purchase_posted(amount_minor=2_000_000))
    await releases.deliver(builders.risk_assessed(tranches=held, outcome="observe", **much))

    async def told(actor: str) -> int:
        await say(feed, ReleaseHold(builders.ACCOUNT, actor, "payer_verified", builders.REPAYMENT, 1))
        return int(await feed.value("SELECT count(*) FROM outbox"))

    assert [await told("a"), await told("a"), await told("b")] == [0, 0, 1]
    (case,) = (await feed.deliver(LATE), await rows(feed, "SELECT case_id FROM case_file"))[1]
    for actor, state in (("a", "open"), ("b", "resolved")):
        resolve = MoveCase(builders.ACCOUNT, actor, "paid", case["case_id"], "resolve", "credit_restored", "")
        await say(feed, resolve)
        assert await feed.value("SELECT state FROM case_file") == state
    kept = await rows(feed, "SELECT actor, action FROM audit ORDER BY seq")
    said = ["ask_release", "ask_release", "release_hold", "ask_resolve", "resolve"]
    assert [(row["actor"], row["action"]) for row in kept] == list(zip("aabab", said, strict=True))


async def test_a_person_who_did_enough_for_a_day_is_refused_by_the_books_too(
    feed_of: MakeFeed, settings: Settings
) -> None:
    feed = await feed_of(WORKER)
    release = ReleaseHold(builders.ACCOUNT, "busy", "why", builders.REPAYMENT, 1)
    add = (
        "INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content) "
        "SELECT date_trunc('milliseconds', clock_timestamp() - $2::interval), 'busy', 'discard', 'a', 's', 'r', '{}' "
        "FROM generate_series(1, $1::integer)"
    )
    async with owner(settings) as connection:
        await connection.execute(add, 1, timedelta(days=1))
        await connection.execute(add, ACTS_A_DAY_MAX - 1, timedelta(hours=23))
        assert (await say(feed, release)).counts["applied"] == 1
        assert (await say(feed, release)).counts["stale"] == 1
        with pytest.raises(asyncpg.PostgresError, match="busy did enough for a day"):
            await connection.execute(add, 1, timedelta(0))


@pytest.mark.parametrize("asked", ["appeal_review", "request_review"])
async def test_the_same_asked_twice_in_one_instant_is_asked_once(
    feed_of: MakeFeed, settings: Settings, asked: Literal["appeal_review", "request_review"]
) -> None:
    """Both read that nobody asked, and wait for the head of the audit; the second sees the first and decides again."""
    feeds = [await feed_of(WORKER), await feed_of(WORKER)]
    commands = [AskReview(builders.ACCOUNT, f"agent_{n}", "customer_asked", asked) for n in (1, 2)]
    async with owner(settings) as connection:
        async with connection.transaction():
            await connection.execute("SELECT FROM console.audit_head FOR UPDATE")
            both = asyncio.gather(*map(say, feeds, commands), return_exceptions=True)
            for _ in range(500):
                if await connection.fetchval(WAITING) == len(feeds):
                    break
                await asyncio.sleep(0.01)
            assert await connection.fetchval(WAITING) == len(feeds)
        done = await both
    (kept,) = [each for each in done if isinstance(each, Committed)]
    (refused,) = [n for n, each in enumerate(done) if isinstance(each, asyncpg.SerializationError)]
    assert kept.counts["applied"] == 1
    assert (await say(feeds[refused], commands[refused])).counts["stale"] == 1, "it comes again and finds the other's"
    assert await feeds[0].value("SELECT count(*) FROM audit") == 1
    assert await feeds[0].value("SELECT count(*) FROM outbox") == 1


@pytest.mark.parametrize("asked", ["appeal_review", "request_review"])
async def test_the_books_let_the_same_be_asked_again_exactly_after_its_time(
    feed_of: MakeFeed, settings: Settings, asked: Literal["appeal_review", "request_review"]
) -> None:
    feed = await feed_of(WORKER)
    entry = (
        "INSERT INTO console.audit (at, actor, action, account_id, subject, reason, content) "
        "VALUES (timestamptz '2026-11-27Z' + $1::interval, 'agent_1', $2, 'a', 's', 'r', '{}')"
    )
    async with owner(settings) as connection:
        await connection.execute(entry, timedelta(0), asked)
        with pytest.raises(asyncpg.SerializationError):
            await connection.execute(entry, ASKED_AGAIN[asked] - timedelta(milliseconds=1), asked)
        await connection.execute(entry, ASKED_AGAIN[asked], asked)
    assert await feed.value("SELECT count(*) FROM audit") == 2


@pytest.mark.parametrize("batches", [1, 2])
async def test_a_request_and_an_appeal_in_one_instant_open_one_case(feed_of: MakeFeed, batches: int) -> None:
    """Each is answered with a person's look; it is one limit, which one person looks at, and later again."""
    risk, feed, other = await feed_of(RISK_SCORING), await feed_of(WORKER), await feed_of(WORKER)
    await risk.deliver(builders.account_opened())
    ways: tuple[Literal["request_review", "appeal_review"], ...] = ("request_review", "appeal_review")
    asked = [AskReview(builders.ACCOUNT, "agent_1", "customer_asked", way) for way in ways]
    done = await asyncio.gather(say(feed, asked[0]), say(other, asked[1]))
    answers = [builders.limit_increase_decided(refer=True, caused_by=each.outgoing[0].event_id.hex) for each in done]
    for batch in [answers] if batches == 1 else [[each] for each in answers]:
        await feed.deliver(*batch)
    cases = await rows(feed, "SELECT case_id, opened_by FROM case_file")
    assert [case["opened_by"] for case in cases] == [answers[0].event_id]
    second = await feed.value("SELECT reason FROM inbox WHERE event_id = $1::uuid", answers[1].event_id)
    assert second == "looked_at_already"

    case = cases[0]["case_id"]
    await say(feed, MoveCase(builders.ACCOUNT, "reviewer_1", "checked", case, "resolve", "limit_kept"))
    await feed.deliver(builders.limit_increase_decided(refer=True))
    assert await feed.value("SELECT count(*) FROM case_file") == 2


async def test_a_limit_near_the_threshold_is_a_case_until_a_person_decides(
    feed_of: MakeFeed, settings: Settings
) -> None:
    risk, feed = await feed_of(RISK_SCORING), await feed_of(WORKER)
    await risk.deliver(builders.account_opened(credit_limit_minor=600_000))
    await feed.deliver(builders.limit_increase_decided(refer=True, score=635))
    (case,) = await rows(feed, "SELECT case_id, kind, priority, state, detail, repayment_id FROM case_file")
    assert tuple(case.values())[1:] == ("limit_referred", "normal", "open", "score_635", None)

    def concluded(outcome: CaseOutcome, limit: int | None = None) -> MoveCase:
        at = case["case_id"]
        return MoveCase(builders.ACCOUNT, "reviewer_1", "long_known", at, "resolve", outcome, "", limit)

    assert (await say(feed, concluded("explained"))).counts["stale"] == 1
    assert (await say(feed, concluded("limit_raised", 600_000))).counts["stale"] == 1
    done = await say(feed, concluded("limit_raised", 700_000))
    fact = LimitReviewConcluded.model_validate_json(done.outgoing[0].payload)
    assert (fact.outcome, fact.amount_minor, fact.currency) == ("approved", 700_000, "CNY")
    assert await rows(feed, "SELECT state, outcome FROM case_file") == [
        {"state": "resolved", "outcome": "limit_raised"}
    ]
    assert await rows(feed, "SELECT actor, action, reason FROM audit") == [
        {"actor": "reviewer_1", "action": "resolve", "reason": "long_known"}
    ]
    # An account nothing is known of has tier unknown, whose limit grows by nothing: risk-scoring has the last word.
    await risk.deliver(fact)
    assert await risk.value("SELECT reason FROM inbox WHERE event_id = $1::uuid", fact.event_id) == "beyond_the_cap"
    await say(feed, MoveCase(builders.ACCOUNT, "reviewer_1", "refused", case["case_id"], "object"))
    kept = await say(feed, concluded("limit_kept"))
    await risk.deliver(LimitReviewConcluded.model_validate_json(kept.outgoing[0].payload))
    told = await risk.value("SELECT convert_from(payload, 'UTF8') FROM outbox ORDER BY publication_id DESC LIMIT 1")
    assert LimitIncreaseDecided.model_validate_json(told).amount_minor == 600_000
    async with role(settings, "lag_monitor") as connection:
        assert total(await scraped(connection), "credit_cases_open") == 0
