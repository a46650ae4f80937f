"""Compares the books of all five services with what billing's sender was told is in Kafka."""

import asyncio
from typing import Any

from schemas.ids import repayment_id
from services.billing_simulator.load import Load
from services.billing_simulator.send import Sent
from services.cli.workers import WORKERS
from services.runtime.clock import monotonic
from services.runtime.settings import Settings
from tests.integration.kafka import ends, records
from tests.integration.support import owner, violations

# What must be nothing before the books can be compared.
WAITING = {
    "held tranches": "SELECT count(*) FROM limit_release.tranche WHERE state IN ('held', 'parked')",
    "messages to send": "SELECT count(*) FROM notifier.delivery WHERE state = 'requested'",
    **{
        f"{what} of {worker.name}": f"SELECT count(*) FROM {worker.package}.{rest}"  # noqa: S608  # our own names
        for worker in WORKERS
        for what, rest in (
            ("unpublished events", "publication WHERE published_at IS NULL"),
            ("parked events", "set_aside WHERE kind = 'parked' AND state IN ('open', 'ready')"),
        )
    },
}
PROGRESS = " UNION ALL ".join(
    f"SELECT '{worker.name}' AS service, topic, partition, next_offset FROM {worker.package}.progress"  # noqa: S608
    for worker in WORKERS
)
# Debt that is neither what was bought nor what the settled repayments paid of it.
WRONG_DEBT = """
SELECT a.account_id, a.principal_minor, coalesce(s.paid, 0) AS paid FROM settlement.account a
LEFT JOIN (SELECT account_id, sum(amount_minor) AS paid FROM settlement.repayment WHERE status = 'settled' GROUP BY 1) s
  USING (account_id)
WHERE a.principal_minor <> $1 - coalesce(s.paid, 0) OR a.credit_balance_minor <> 0
"""
# Credit that is not what the limit left plus what was restored and not taken back.
WRONG_CREDIT = """
SELECT a.account_id, a.available_minor, coalesce(t.restored, 0) AS restored FROM limit_release.account a
LEFT JOIN (SELECT account_id, sum(amount_minor) AS restored FROM limit_release.tranche WHERE state = 'restored'
           GROUP BY 1) t USING (account_id)
WHERE a.available_minor <> $1 + coalesce(t.restored, 0) OR a.pending_minor <> 0
"""
# Repayments that two services tell differently.
DIFFERENT = """
SELECT repayment_id, s.status, s.restorable_minor, r.restorable_minor AS released
FROM (SELECT * FROM settlement.repayment WHERE status IN ('settled', 'returned')) s
FULL JOIN limit_release.repayment r USING (repayment_id)
WHERE s.restorable_minor IS DISTINCT FROM r.restorable_minor OR (s.status = 'returned') IS DISTINCT FROM r.returned
"""
# Decisions that were not told exactly once.
NOT_TOLD_ONCE = """
SELECT repayment_id, d.n AS decisions, m.n AS messages
FROM (SELECT repayment_id, count(*) AS n FROM limit_release.decision_record GROUP BY 1) d
FULL JOIN (SELECT repayment_id, count(*) AS n FROM notifier.notification m
           JOIN notifier.delivery d ON d.notification_id = coalesce(m.told_by, m.notification_id)
           WHERE state = 'delivered' GROUP BY 1) m USING (repayment_id)
WHERE d.n IS DISTINCT FROM m.n
"""


async def behind(settings: Settings) -> dict[str, Any]:
    """Return what is still on its way: unread records, held credit, unsent events and messages."""
    found: dict[str, Any] = {}
    topics = sorted({topic for worker in WORKERS for topic in worker.topics})
    until = await ends(settings, topics)
    async with owner(settings) as connection:
        for row in await connection.fetch(PROGRESS):
            unread = until[row["topic"], row["partition"]] - row["next_offset"]
            if unread:
                found[f"{row['topic']}/{row['partition']} to {row['service']}"] = unread
        for what, query in WAITING.items():
            if count := await connection.fetchval(query):
                found[what] = count
    return found


async def settled(settings: Settings, seconds: float, *, but: str = "") -> None:
    """Wait until nothing is on its way, ``but`` what a test leaves there."""
    deadline = monotonic() + seconds
    while left := {what: n for what, n in (await behind(settings)).items() if what != but}:
        assert monotonic() < deadline, f"still on its way after {seconds} s: {left}"
        await asyncio.sleep(0.5)


async def differences(settings: Settings, load: Load, sent: Sent) -> dict[str, Any]:
    """Return every way in which the books are not what billing was told, nothing when they agree."""
    debt = load.repayments * 20_000
    async with owner(settings) as connection:
        known = {
            (row["source"], row["external_ref"])
            for row in await connection.fetch(
                "SELECT source, external_ref FROM repayment_ingest.reference WHERE kinds && ARRAY['succeeded']"
            )
        }
        rows = await connection.fetch("SELECT repayment_id FROM settlement.repayment")
        dead = await connection.fetchval("SELECT count(*) FROM repayment_ingest.set_aside WHERE kind = 'dead_letter'")
        found: dict[str, Any] = {
            "wrong debt": await connection.fetch(WRONG_DEBT, debt),
            "wrong credit": await connection.fetch(WRONG_CREDIT, debt),
            "told differently by two services": await connection.fetch(DIFFERENT),
            "not told once": await connection.fetch(NOT_TOLD_ONCE),
        }
    expected = {repayment_id(*reference) for reference in sent.acknowledged | sent.returned}
    found["lost"] = sent.acknowledged - known
    found["never acknowledged"] = known - sent.acknowledged
    booked = {row["repayment_id"] for row in rows}
    found["not booked"] = expected - booked
    found["booked and not expected"] = booked - expected
    found["dead letters"] = {} if dead == sent.poison else {"counted": dead, "sent": sent.poison}
    found["violated"] = await violations(settings)
    return {what: rows for what, rows in found.items() if rows}


async def restored_twice(settings: Settings) -> list[str]:
    """Return tranches for which two different events say that credit was restored."""
    seen: dict[str, set[str]] = {}
    for record in await records(settings, "credit.restoration.v1"):
        if record.name == "CreditRestored":
            part = f"{record.event['repayment_id']}:{record.event['tranche']}"
            seen.setdefault(part, set()).add(record.event["event_id"])
    return [part for part, events in seen.items() if len(events) > 1]
