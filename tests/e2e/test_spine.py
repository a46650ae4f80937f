"""One repayment through all five workers: every event has its cause, and every millisecond its place."""

import asyncio
from datetime import datetime

from schemas.event import lag_by_cause, milliseconds_between
from schemas.ids import repayment_id
from schemas.restoration import CreditRestored
from schemas.topics import INTAKE, NOTIFICATION, RESTORATION, RISK, SETTLEMENT
from services.billing_simulator.plan import SOURCE
from services.billing_simulator.scenarios import scenario
from services.billing_simulator.send import play
from services.cli.system import System
from services.runtime.clock import monotonic
from tests.integration.kafka import Seen, records
from tests.integration.support import violations

OURS = (INTAKE.name, SETTLEMENT.name, RISK.name, RESTORATION.name, NOTIFICATION.name)
SECONDS = 20.0
CAUSED_BY = {
    "RepaymentReceived": "RepaymentReported",
    "RepaymentSettled": "RepaymentReceived",
    "RiskAssessed": "RepaymentSettled",
    "PromiseMade": "RiskAssessed",
    "CreditRestored": "RiskAssessed",
    "NotificationRequested": "RiskAssessed",
    "NotificationDelivered": "RiskAssessed",
}
STAGES = ["report", "ingest", "settlement", "risk", "release"]


async def journey(system: System, repayment: str) -> dict[str, Seen]:
    """Return the events of a repayment by name, once its customer was told."""
    deadline = monotonic() + SECONDS
    while monotonic() < deadline:
        events = [seen for seen in await records(system.settings, *OURS) if seen.event["repayment_id"] == repayment]
        if any(seen.name == "NotificationDelivered" for seen in events):
            assert len({seen.name for seen in events}) == len(events), "each event came once"
            return {seen.name: seen for seen in events}
        await asyncio.sleep(0.2)
    raise AssertionError("nobody was told in time")


async def test_one_repayment_is_restored_told_and_explained_to_the_millisecond(workers: System) -> None:
    paid = scenario("paid_on_time")
    sent = await play(workers.settings, paid.plan)
    assert sent.acknowledged == {paid.repayments[0].reference}
    events = await journey(workers, repayment_id(SOURCE, paid.repayments[0].external_ref))

    (reported,) = await records(workers.settings, "billing.repayment.v1")
    assert events.keys() == CAUSED_BY.keys()
    named = {name: seen.event["event_id"] for name, seen in events.items()} | {
        "RepaymentReported": reported.event["event_id"]
    }
    assert {name: seen.event["caused_by"] for name, seen in events.items()} == {
        name: named[cause] for name, cause in CAUSED_BY.items()
    }

    restored = CreditRestored.model_validate_json(events["CreditRestored"].value or b"")
    split = lag_by_cause(restored.repaid_at, restored.trail)
    assert sum(split.values()) == milliseconds_between(restored.repaid_at, restored.restored_at)
    assert all(spent > 0 for spent in split.values())
    assert restored.trail[-1][2] == restored.restored_at
    assert list(dict.fromkeys(stage for stage, _, _ in restored.trail)) == [
        stage for stage in STAGES if stage in {stage for stage, _, _ in restored.trail}
    ]
    assert restored.amount_minor == paid.repayments[0].amount_minor
    assert restored.available_credit_minor == 500_000 - 300_000 + paid.repayments[0].amount_minor
    assert restored.restored_at <= restored.promised_by
    for earlier, later in zip(list(CAUSED_BY)[:-1], list(CAUSED_BY)[1:], strict=True):
        assert _at(events[earlier]) <= _at(events[later])
    assert await violations(workers.settings) == {}


def _at(seen: Seen) -> datetime:
    return datetime.fromisoformat(seen.event["occurred_at"])
