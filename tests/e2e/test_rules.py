"""The rules that cross services, with their worked numbers, on the real stack: one account a rule, all side by side."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from schemas.event import Event
from schemas.ids import repayment_id
from schemas.restoration import CreditRestored, NothingToRestore, PromiseMade, RestorationParked, RestorationReversed
from schemas.settlement import RepaymentRejected, RepaymentSettled
from schemas.topics import RESTORATION, RISK, SETTLEMENT, TYPE_OF
from services.billing_simulator.receivable import Receivable
from services.cli.system import System, start_workers, wait_ready
from services.cli.workers import OBSERVERS
from services.console.worker import WORKER as CONSOLE
from services.limit_release import store as limit_release
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from services.settlement import store as settlement
from tests import builders
from tests.conftest import run_apart
from tests.e2e.billing import ROUNDS, Billing, Rule, Said
from tests.e2e.ledger import heard, lag_differences
from tests.e2e.rules_beside_money import ACCOUNTS, Seen, of
from tests.integration.kafka import ends, records, send
from tests.integration.support import load, owner, role, violations

WAIT_SECONDS: Final = 60.0
SHANGHAI: Final = ZoneInfo("Asia/Shanghai")
NAMES: Final = {TYPE_OF[kind].split(".")[-2]: kind for kind in TYPE_OF}


def r01_r17(b: Billing) -> Said:
    return [b.opened(500_000), b.bought(490_000), b.repaid(200_000, rail="direct_debit")]


def r02(b: Billing) -> Said:
    return [b.opened(1_000_000), b.bought(800_000), b.charged(3_000, 12_000), b.repaid(100_000)]


def r03(b: Billing) -> Said:
    return [b.opened(1_000_000), b.bought(800_000), b.charged(3_000, 12_000), b.repaid(10_000)]


def r05(b: Billing) -> Said:
    return [b.opened(100_000), b.bought(30_000), b.repaid(50_000)]


def r06(b: Billing) -> Said:
    return [b.opened(600_000), b.bought(550_000), b.repaid(500_001, rail="direct_debit")]


def r07(b: Billing) -> Said:
    held = b.repaid(500_000, rail="direct_debit")
    return [b.opened(600_000), b.bought(550_000), held, b.returned(500_000, 4, rail="direct_debit")]


def r08(b: Billing) -> Said:
    return [b.opened(300_000), b.bought(280_000), b.repaid(250_000), b.bought(190_000, 2), b.returned(250_000, 3)]


def r10(b: Billing) -> Said:
    once, twice = b.repaid(10_000, ref="a"), b.repaid(10_000, 2, ref="b")
    other = b.repaid(10_000, 1, ref="a", again=1)
    return [b.opened(100_000), b.bought(90_000), once, once, other, twice, (3, twice[1])]


def r11(b: Billing) -> Said:
    by_hand = b.repaid(50_000, ref="manual", method="manual")
    return [b.opened(100_000), b.bought(50_000), by_hand, b.repaid(50_000, 2, ref="auto")]


def r12(b: Billing) -> Said:
    late = (2, b.opened(100_000)[1])
    return [(2, b.bought(50_000)[1]), b.returned(20_000, 1, ref="back"), b.repaid(30_000), late, b.repaid(
        20_000, 3, ref="back")]  # fmt: skip


def r13(b: Billing) -> Said:
    repaid = [b.repaid(200, ref="first"), b.repaid(9_100, 2, ref="second")]
    return [b.opened(10_000), b.bought(9_000), *repaid, b.paid_out(300, 3), b.returned(200, 4, ref="first")]


def r18(b: Billing) -> Said:
    return [b.opened(100_000), b.bought(90_000), b.repaid(20_000), b.limited(60_000, 2)]


def r19_r23(b: Billing) -> Said:
    frozen, thawed = b.status("frozen", "risk_review", 1), b.status("active", "reviewed", 3)
    return [b.opened(200_000), b.bought(120_000), frozen, b.repaid(30_000, 2), thawed]


def r22(b: Billing) -> Said:
    card = b.repaid(30_000, 2, ref="card", rail="card", collection_ref="c1")
    return [b.opened(50_000), b.bought(50_000), b.repaid(20_000, ref="wallet", collection_ref="c1"), card]


def r23_closed(b: Billing) -> Said:
    return [b.opened(200_000), b.bought(120_000), b.status("closed", "customer_left", 1), b.repaid(30_000, 2)]


def r24(b: Billing) -> Said:
    repaid = [b.repaid(100_000, ref="first"), b.repaid(50_000, 2, ref="second")]
    return [*r02(b)[:3], *repaid, b.returned(100_000, 3, ref="first")]


def r26(b: Billing) -> Said:
    return [b.opened(200_000), b.bought(120_000), b.repaid(30_000, currency="USD")]


MONEY: Final[Mapping[str, Rule]] = {
    "r01_r17": Rule(r01_r17, {"available": 210_000, "used": 290_000, "principal": 290_000}),
    "r02": Rule(r02, {"available": 285_000, "used": 715_000, "principal": 715_000}),
    "r03": Rule(r03, {"available": 200_000, "principal": 800_000, "charges": 5_000}),
    "r05": Rule(r05, {"available": 100_000, "used": 0, "balance": 20_000, "principal": 0}),
    "r06": Rule(r06, {"available": 550_001, "used": 49_999, "pending": 0}),
    "r07": Rule(r07, {"available": 50_000, "used": 550_000, "pending": 0, "principal": 550_000}),
    "r08": Rule(r08, {"available": -170_000, "shown": 0, "used": 470_000, "principal": 470_000}),
    "r10": Rule(r10, {"available": 30_000, "principal": 70_000}),
    "r11": Rule(r11, {"available": 100_000, "balance": 50_000, "principal": 0}),
    "r12": Rule(r12, {"available": 80_000, "principal": 20_000}),
    "r13": Rule(r13, {"available": 9_800, "used": 200, "principal": 200, "balance": 0}),
    "r18": Rule(r18, {"available": -10_000, "shown": 0, "principal": 70_000}),
    "r19_r23": Rule(r19_r23, {"available": 110_000, "shown": 110_000, "pending": 0, "principal": 90_000}),
    "r22": Rule(r22, {"available": 50_000, "principal": 0}),
    "r23_closed": Rule(r23_closed, {"available": 80_000, "shown": 0, "pending": 30_000, "principal": 90_000}),
    "r24": Rule(r24, {"available": 235_000, "principal": 765_000, "charges": 0}),
    "r26": Rule(r26, {"available": 80_000, "principal": 120_000}),
}
RULES: Final[Mapping[str, Rule]] = {**MONEY, **ACCOUNTS}


@dataclass(frozen=True)
class Played:
    """Where every rule's account stands, and what was told."""

    system: System
    ledgers: Mapping[str, Mapping[str, int]]
    facts: Mapping[str, list[Event]]


async def stands(settings: Settings) -> dict[str, dict[str, int]]:
    """Read both ledgers of every rule's account."""
    asked = {rule: builders.account_status_changed(account_id=f"acct_{rule}") for rule in RULES}
    async with role(settings, "settlement") as connection:
        debts = await load(settlement.STORE, connection, list(asked.values()))
    async with role(settings, "limit_release") as connection:
        accounts = await load(limit_release.STORE, connection, list(asked.values()))
    found = {}
    for rule, event in asked.items():
        debt, account = debts[event.account_id], accounts[event.account_id].account
        found[rule] = {
            "available": account.available_minor,
            "shown": account.shown(spendable=account.spendable),
            "used": account.used_debt_minor,
            "pending": account.pending_minor,
            "balance": account.credit_balance_minor,
            "principal": debt.principal_minor,
            "charges": debt.fee_minor + debt.interest_minor,
            "cash": account.cash_shown() or 0,
        }
        assert debt.credit_balance_minor == account.credit_balance_minor or account.pending_minor
    return found


def short(ledgers: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Return what of every rule's end is not so."""
    wrong = {rule: {name: ledgers[rule][name] for name in known.ends} for rule, known in RULES.items()}
    return {rule: ends for rule, ends in wrong.items() if ends != dict(RULES[rule].ends)}


async def play_all(settings: Settings) -> None:
    """Say what every rule's billing says, round by round."""
    begun, start = monotonic(), utc_now()
    said = [each for rule, known in RULES.items() for each in known.says(Billing(rule, start))]
    for number, seconds in enumerate(ROUNDS):
        await asyncio.sleep(max(0.0, begun + seconds - monotonic()))
        await send(settings, *(event for of_round, event in said if of_round == number))


async def at_rest(settings: Settings, deadline: float) -> dict[str, dict[str, int]]:
    """Return where every account stands once it is as its rule says, or at the deadline."""
    while True:
        ledgers = await stands(settings)
        if not short(ledgers) or monotonic() > deadline:
            return ledgers
        await asyncio.sleep(1)


async def read_by_all(settings: Settings, seconds: float) -> None:
    """Wait until those who watch have read everything."""
    await heard(settings, seconds)
    deadline = monotonic() + seconds
    until = await ends(settings, sorted(CONSOLE.topics))
    async with owner(settings) as connection:
        while True:
            rows = await connection.fetch("SELECT topic, partition, next_offset FROM console.progress")
            read = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            if all(read.get(at, 0) >= end for at, end in until.items()):
                return
            assert monotonic() < deadline, "the console is behind"
            await asyncio.sleep(0.5)


@pytest.fixture
def watched(workers: System) -> Iterator[System]:
    """Run the observers beside the five."""
    ports = start_workers(workers, OBSERVERS)
    try:
        run_apart(wait_ready(ports))
        yield workers
    finally:
        workers.stack.stop(list(ports))


@pytest.fixture
async def played(watched: System) -> Played:
    settings = watched.settings
    await play_all(settings)
    ledgers = await at_rest(settings, monotonic() + WAIT_SECONDS)
    await read_by_all(settings, WAIT_SECONDS)
    facts: dict[str, list[Event]] = {}
    for seen in await records(settings, SETTLEMENT.name, RISK.name, RESTORATION.name):
        event = NAMES[seen.name].model_validate_json(seen.value or b"")
        facts.setdefault(event.account_id.removeprefix("acct_"), []).append(event)
    return Played(watched, ledgers, facts)


@pytest.mark.timeout(280)
async def test_every_rule_ends_with_its_worked_numbers_on_the_real_stack(played: Played) -> None:
    assert short(played.ledgers) == {}
    assert await violations(played.system.settings) == {}
    told(played.facts)
    await Seen(played.system, played.facts).check()
    assert await lag_differences(played.system.settings) == {}


def told(facts: Mapping[str, list[Event]]) -> None:
    """Check what the rules say was told beside where the ledgers stand."""
    amounts = {rule: [e.amount_minor for e in of(facts, rule, CreditRestored)] for rule in facts}
    assert sorted(amounts["r06"]) == [100_000, 200_000, 200_001]
    assert amounts["r02"] == [85_000]
    assert (amounts["r03"], of(facts, "r03", NothingToRestore)[0].reason) == ([], "PAID_FEES_AND_INTEREST")
    (taken,) = of(facts, "r07", RestorationReversed)
    assert taken.from_hold_minor + taken.from_available_minor == 500_000
    (over,) = of(facts, "r08", RestorationReversed)
    assert (over.available_raw_minor, over.available_credit_minor, over.zero_reason) == (-170_000, 0, "OVER_LIMIT")
    assert amounts["r10"] == [10_000, 10_000]
    assert of(facts, "r11", NothingToRestore)[0].reason == "PAID_CREDIT_BALANCE"
    assert of(facts, "r12", RepaymentRejected)[0].reason == "RETURNED_FIRST"
    (chain,) = of(facts, "r13", RestorationReversed)
    assert (chain.from_available_minor, chain.reallocated_minor, chain.uncovered_minor) == (200, 200, 200)
    assert of(facts, "r19_r23", RestorationParked)[0].cause == "risk_observation.manual_review"
    assert of(facts, "r23_closed", NothingToRestore)[0].reason == "ACCOUNT_CLOSED"
    (replayed,) = of(facts, "r24", RestorationReversed)
    assert (replayed.from_available_minor, replayed.reallocated_minor) == (85_000, -15_000)
    assert of(facts, "r26", RepaymentRejected)[0].reason == "CURRENCY_MISMATCH"
    assert len({e.repayment_id for e in of(facts, "r01_r17", RepaymentSettled)}) == 1
    kept(facts)


def kept(facts: Mapping[str, list[Event]]) -> None:
    """R4 and R27: the credited date is the day of the repayment, and every restored part was promised by a date."""
    (settled,) = of(facts, "r06", RepaymentSettled)
    assert settled.repayment_id == repayment_id(builders.SOURCE, "r06-r")
    assert settled.credited_on == settled.repaid_at.astimezone(SHANGHAI).date()
    billing = Receivable(550_000, 0, date.max, 500).follow(settled)
    assert billing.interest_minor(settled.credited_on) == (550_000 - 500_001) * 5 // 10_000
    for rule in facts:
        made = [fact for fact in of(facts, rule, PromiseMade) if not fact.revision]
        promised = {(fact.repayment_id, fact.tranche): fact.promised_by for fact in made}
        for restored in of(facts, rule, CreditRestored):
            assert promised[restored.repayment_id, restored.tranche] == restored.promised_by, rule
