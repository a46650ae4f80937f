"""The rules of time, risk, products and words on the real stack: their accounts, and what is to be seen of each."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from schemas.event import Event, lag_by_cause, milliseconds_between
from schemas.ids import event_id
from schemas.restoration import CreditRestored, RestorationParked, RestorationReversed
from schemas.risk import RiskAssessed
from schemas.settlement import Part, RepaymentSettled
from schemas.topics import BILLING_ACCOUNT, BILLING_REPAYMENT, TOPICS
from services.cli.system import System
from services.policy import Calendar
from services.profiles import load_profiles
from services.runtime.clock import utc_now
from services.runtime.settings import Settings
from services.wording import limit_text
from tests import builders
from tests.e2e.billing import Billing, Rule, Said, with_more
from tests.integration.kafka import records
from tests.integration.support import owner

FRIDAY: Final = 4
WEEKS: Final = 50
"""Billing may report what is at most 400 days old."""
PERSON: Final = {"customer_name": "Zhang-Wei-canary", "card_number": "4111111111111111", "memo": "rent-canary"}
"""What billing must not send and might; nobody may keep it."""
SENT: Final = (BILLING_ACCOUNT.name, BILLING_REPAYMENT.name)
DOLLARS: Final[dict[str, Any]] = {"currency": "USD"}
# What the lag ledger says an account waited, weighed by amount and plainly, in milliseconds.
LAGS = """
SELECT sum(f.amount_minor * f.lag_ms)::bigint AS weighed, sum(f.amount_minor)::bigint AS amount,
  sum(f.lag_ms)::bigint AS plain, count(*) AS parts
FROM lag_monitor.restoration_fact f JOIN limit_release.repayment r USING (repayment_id) WHERE r.account_id = $1
"""
CASES = "SELECT kind, detail FROM console.case_file WHERE account_id = $1 ORDER BY opened_at, case_id"
MESSAGES = """
SELECT n.template, n.language, n.text, d.state FROM notifier.notification n JOIN notifier.delivery d
USING (notification_id) WHERE n.account_id = $1 ORDER BY n.requested_at
"""
# Messages of an account that another message stands for, with whose that is.
TOLD_TOGETHER = """
SELECT n.repayment_id, m.repayment_id AS told_of FROM notifier.notification n
JOIN notifier.notification m ON m.notification_id = n.told_by WHERE n.account_id = $1
"""
TABLES = """
SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1
"""


def r09(b: Billing) -> Said:
    """A part at once and the rest, 400000, at the end of one hold."""
    linked = b.said(builders.funding_account_linked, 0, 0, {"verified": True})
    held = b.repaid(500_000, rail="direct_debit")
    return [b.opened(600_000), b.bought(550_000), linked, held]


def r14(b: Billing) -> Said:
    five = [b.repaid(90_000, ref=f"r{n}", rail="direct_debit") for n in range(5)]
    return [b.opened(1_000_000, "default"), b.bought(900_000), *five]


def r15(b: Billing) -> Said:
    return [b.opened(100_000, "default"), b.bought(100_000), *rounds_of_all(b, "direct_debit")]


def r15_final(b: Billing) -> Said:
    return [b.opened(100_000, "default"), b.bought(100_000), *rounds_of_all(b, "wallet")]


def rounds_of_all(b: Billing, rail: str) -> Said:
    """Repay and spend the whole limit, four times."""
    repaid: Said = [b.repaid(100_000, n, ref=f"r{n}", rail=rail) for n in range(1, 5)]
    return [*repaid, *(b.bought(100_000, n, seconds=1) for n in range(1, 4))]


def r16(b: Billing) -> Said:
    """Friday 22:00 where the banking day ends at 23:00."""
    return friday_night(b, "default", "Asia/Shanghai", 600_000, 550_000, 500_000, "CNY")


def r16_17h(b: Billing) -> Said:
    """Friday 22:00 where it ends at 17:00, of an amount whose rest is held five days."""
    return friday_night(b, "discover_it", "America/New_York", 3_000_000, 2_000_000, 1_500_000, "USD")


def friday_night(b: Billing, product: str, zone: str, limit: int, debt: int, amount: int, currency: str) -> Said:
    repaid_at = at_local(ordinary_friday(utc_now().date()), time(22), zone)
    before = repaid_at - timedelta(days=1)
    return [
        b.opened(limit, product, currency=currency),
        b.bought(debt, currency=currency, occurred_at=before),
        b.repaid(amount, rail="direct_debit", repaid_at=repaid_at, currency=currency),
    ]


def r20(b: Billing) -> Said:
    """Cash at 25 % and purchases at 17 %, all of it due, its minimum 4000."""
    due = {"due_minor": 200_000, "minimum_minor": 4_000, "due_on": b.start.date() + timedelta(days=20), **DOLLARS}
    return [
        b.opened(500_000, "discover_it", **DOLLARS),
        b.limited(500_000, 0, cash_sub_limit_minor=60_000, **DOLLARS),
        b.bought(50_000, seconds=-2, purchase_id="r20-cash", plan="cash", apr_bps=2_500, **DOLLARS),
        b.bought(150_000, seconds=-1.5, purchase_id="r20-goods", apr_bps=1_700, **DOLLARS),
        b.said(builders.statement_issued, 0, -1, due),
        b.repaid(80_000, **DOLLARS),
    ]


def r21(b: Billing) -> Said:
    parts: dict[str, Any] = {"plan": "instalment", "instalments_minor": (10_000,) * 12}
    refund = {"purchase_id": "r21-p0", "refund_id": "r21-back", "to_debt_minor": 90_000, "to_payer_minor": 30_000}
    refunded = b.said(builders.purchase_refunded, 2, 0, refund)
    return [b.opened(200_000, "jd_baitiao"), b.bought(120_000, **parts), b.repaid(30_000), refunded]


def r19_r23_two(b: Billing) -> Said:
    """Two repayments parked while the account is frozen, and one thaw."""
    frozen, thawed = b.status("frozen", "risk_review", 1), b.status("active", "reviewed", 3)
    both: Said = [b.repaid(amount, 2, ref=f"r{amount}") for amount in (30_000, 20_000)]
    return [b.opened(200_000, language="en"), b.bought(120_000), frozen, *both, thawed]


def r25(b: Billing) -> Said:
    """Case B, in the event that risk-scoring's review of limits writes."""
    decided = b.said(builders.limit_increase_decided, 1, 0, {"event_id": event_id("decided", b.account)})
    return [b.opened(3_000_000, language="en", currency="TWD"), decided]


def r28(b: Billing) -> Said:
    """A person's name and card number in fields nobody asked for, and a return with the bank's own code."""
    told: Said = [b.opened(300_000, language="en"), b.bought(280_000), b.repaid(250_000)]
    told.append(b.returned(250_000, 3, code="R02"))
    return [with_more((n, event), PERSON) for n, event in told if isinstance(event, Event)]


ACCOUNTS: Final[Mapping[str, Rule]] = {
    "r09": Rule(r09, {"available": 550_000, "used": 50_000, "pending": 0, "principal": 50_000}),
    "r14": Rule(r14, {"available": 200_000, "pending": 350_000, "principal": 450_000}),
    "r15": Rule(r15, {"available": -200_000, "shown": 0, "pending": 300_000, "principal": 0}),
    "r15_final": Rule(r15_final, {"available": 100_000, "pending": 0, "principal": 0}),
    "r16": Rule(r16, {"available": 550_000, "pending": 0, "principal": 50_000}),
    "r16_17h": Rule(r16_17h, {"available": 2_500_000, "pending": 0, "principal": 500_000}),
    "r20": Rule(r20, {"available": 380_000, "used": 120_000, "principal": 120_000, "cash": 60_000}),
    "r21": Rule(r21, {"available": 200_000, "used": 0, "balance": 0, "principal": 0}),
    "r19_r23_two": Rule(r19_r23_two, {"available": 130_000, "shown": 130_000, "pending": 0, "principal": 70_000}),
    "r25": Rule(r25, {"available": 3_000_000, "used": 0, "principal": 0}),
    "r28": Rule(r28, {"available": 20_000, "used": 280_000, "principal": 280_000}),
}


def at_local(day: date, clock: time, zone: str) -> datetime:
    """Return a local instant in UTC."""
    return datetime.combine(day, clock, ZoneInfo(zone)).astimezone(UTC)


def ordinary_friday(today: date) -> date:
    """Return the last Friday whose next eleven days are over and have no holiday and no working weekend."""
    calendars = {profile.banking.name: profile.banking for profile in load_profiles(Settings()).by_product.values()}
    friday = today - timedelta(days=(today.weekday() - FRIDAY) % 7)
    for _ in range(WEEKS):
        friday -= timedelta(weeks=1)
        days = [friday + timedelta(days=n) for n in range(12)]
        if days[-1] < today and all(ordinary(calendar, day) for calendar in calendars.values() for day in days):
            return friday
    raise AssertionError("a year of weeks with holidays")


def ordinary(calendar: Calendar, day: date) -> bool:
    """Tell whether banks work on a weekday and do not at a weekend."""
    return calendar.is_banking_day(day) == (day.weekday() <= FRIDAY)


def of(facts: Mapping[str, Iterable[Event]], rule: str, kind: type[Any]) -> list[Any]:
    """Return the facts of one kind about a rule's account, in the order they were told."""
    return [event for event in facts.get(rule, ()) if isinstance(event, kind)]


@dataclass(frozen=True)
class Seen:
    """What is to be seen of the accounts beside their ledgers."""

    system: System
    facts: Mapping[str, list[Event]]

    async def rows(self, query: str, rule: str) -> list[dict[str, Any]]:
        async with owner(self.system.settings) as connection:
            return [dict(row) for row in await connection.fetch(query, f"acct_{rule}")]

    async def check(self) -> None:
        """Check what each rule says is told beside where the ledgers stand."""
        await self.r09()
        self.r14()
        await self.r15()
        self.r16()
        self.r20_r21()
        await self.r19_r23_two()
        await self.r25()
        await self.r28()

    async def r09(self) -> None:
        """The lag adds up by stage and cause, and the ledger weighs it by amount."""
        parts = sorted(of(self.facts, "r09", CreditRestored), key=lambda part: part.tranche)
        lags = [(part.amount_minor, milliseconds_between(part.repaid_at, part.restored_at)) for part in parts]
        assert [amount for amount, _ in lags] == [100_000, 400_000]
        for part, (_, lag) in zip(parts, lags, strict=True):
            assert sum(lag_by_cause(part.repaid_at, part.trail).values()) == lag
        (assessed,) = of(self.facts, "r09", RiskAssessed)
        held = lag_by_cause(parts[1].repaid_at, parts[1].trail)["release", "risk_observation.risk_hold"]
        began = parts[0].restored_at
        assert held == milliseconds_between(began, assessed.tranches[1].due_at)
        (ledger,) = await self.rows(LAGS, "r09")
        weighed, plain = sum(amount * lag for amount, lag in lags), sum(lag for _, lag in lags)
        assert ledger == {"weighed": weighed, "amount": 500_000, "plain": plain, "parts": 2}
        assert weighed / 500_000 > plain / 2, "the larger part waited longer"

    def r14(self) -> None:
        """Five repayments within one window share one cap."""
        assert [at_once(fact) for fact in of(self.facts, "r14", RiskAssessed)] == [90_000, 10_000, 0, 0, 0]

    async def r15(self) -> None:
        """The third and fourth round are referred on a reversible rail; on a final one they are restored and seen."""
        assert [fact.outcome for fact in of(self.facts, "r15", RiskAssessed)] == [
            "clear", "observe", "refer", "refer"]  # fmt: skip
        final = of(self.facts, "r15_final", RiskAssessed)
        assert [fact.outcome for fact in final] == ["clear"] * 4
        assert [fact.patterns for fact in final] == [(), (), ("credit_cycling",), ("credit_cycling",)]
        assert [fact.amount_minor for fact in of(self.facts, "r15_final", CreditRestored)] == [100_000] * 4
        assert await self.rows(CASES, "r15") == [{"kind": "referred", "detail": "credit_cycling"}] * 2
        assert await self.rows(CASES, "r15_final") == [{"kind": "pattern_seen", "detail": "credit_cycling"}] * 2

    def r16(self) -> None:
        """Before the cut-off Friday is T, after it Monday is: Tuesday and Friday, or the Monday after."""
        friday = ordinary_friday(utc_now().date())
        assert self.dates("r16", "Asia/Shanghai") == [friday + timedelta(days=4), friday + timedelta(days=7)]
        assert self.dates("r16_17h", "America/New_York") == [friday + timedelta(days=10)]
        for rule in ("r16", "r16_17h"):
            (assessed,) = of(self.facts, rule, RiskAssessed)
            restored = of(self.facts, rule, CreditRestored)
            assert {fact.restored_at for fact in restored} == {restored[0].restored_at}, "a date already past means now"
            assert "@" in assessed.calendar_version, "the calendar that counted is named with its version"

    def dates(self, rule: str, zone: str) -> list[date]:
        """Return the days of the held parts, all of which end at 09:00."""
        (assessed,) = of(self.facts, rule, RiskAssessed)
        local = [part.due_at.astimezone(ZoneInfo(zone)) for part in assessed.tranches[1:]]
        assert {instant.time() for instant in local} == {time(9)}
        return [instant.date() for instant in local]

    def r20_r21(self) -> None:
        """The minimum goes to purchases and the excess to the dearest; a refund is not a restoration."""
        (settled,) = of(self.facts, "r20", RepaymentSettled)
        parts = (Part("due", "principal", "purchase", 30_000), Part("due", "principal", "cash", 50_000))
        assert settled.parts == parts
        assert load_profiles(self.system.settings).of("discover_it").minimum_due(200_000, 200_000) == 4_000
        assert [fact.amount_minor for fact in of(self.facts, "r20", CreditRestored)] == [80_000]
        assert [fact.amount_minor for fact in of(self.facts, "r21", CreditRestored)] == [30_000], "a refund has no lag"

    async def r19_r23_two(self) -> None:
        """One text tells of both parts that one thaw gave back; the other's own message is this one."""
        assert len(of(self.facts, "r19_r23_two", RestorationParked)) == 2
        restored = of(self.facts, "r19_r23_two", CreditRestored)
        assert sorted(fact.amount_minor for fact in restored) == [20_000, 30_000]
        assert len({fact.caused_by for fact in restored}) == 1
        (told,) = [m for m in await self.rows(MESSAGES, "r19_r23_two") if m["template"] == "restored"]
        assert told["text"].startswith(
            "From 2 of your repayments, CN¥500.00 of credit is back; available now: CN¥1,300."
        )
        (other,) = await self.rows(TOLD_TOGETHER, "r19_r23_two")
        assert {other["repayment_id"], other["told_of"]} == {fact.repayment_id for fact in restored}

    async def r25(self) -> None:
        """The customer reads at most the scored factors, most adverse first, with score and threshold."""
        messages = await self.rows(MESSAGES, "r25")
        decided = builders.limit_increase_decided()
        assert [(m["template"], m["text"]) for m in messages] == [("limit_review", limit_text(decided, language="en"))]
        text = messages[0]["text"]
        assert "Your score is 612; an increase needs 640." in text
        assert text.index("your monthly payments are small") < text.index("you use 91 % of your limit")

    async def r28(self) -> None:
        """What billing must not send is kept by nobody, and a bank's code reaches no customer."""
        (taken,) = of(self.facts, "r28", RestorationReversed)
        assert taken.return_class == "RETURNED_ACCOUNT_CLOSED"
        messages = await self.rows(MESSAGES, "r28")
        assert [m["template"] for m in messages] == ["restored", "reversed"]
        assert not any("R02" in m["text"] for m in messages)
        sent = {seen.topic for topic in SENT for seen in await records(self.system.settings, topic) if has(seen.value)}
        assert sent == set(SENT), "billing did send it"
        assert {found async for found in self.kept()} == set()

    async def kept(self) -> AsyncIterator[str]:
        """Yield every place that keeps something of a person: topics of ours, tables, logs."""
        for topic in sorted(TOPICS.keys() - set(SENT)):
            for seen in await records(self.system.settings, topic):
                if has(seen.value):
                    yield topic
        async with owner(self.system.settings) as connection:
            for table in await connection.fetch(TABLES):
                rows = await connection.fetch(f"SELECT t::text AS row FROM {table['name']} AS t")  # noqa: S608  # pg_class
                if any(has(row["row"].encode()) for row in rows):
                    yield table["name"]
        for path in self.system.stack.logs_dir.iterdir():
            if has(path.read_bytes()):
                yield path.name


def has(found: bytes | None) -> bool:
    """Tell whether something of the person is there, in plain or as PostgreSQL writes bytes."""
    canaries = [text.encode() for text in PERSON.values()]
    return any(canary in (found or b"") or canary.hex().encode() in (found or b"") for canary in canaries)


def at_once(fact: RiskAssessed) -> int:
    """Return what was due at once, minor units."""
    return sum(part.amount_minor for part in fact.tranches if part.due_at <= fact.occurred_at)
