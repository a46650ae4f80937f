"""The synthetic probe: a repayment like any other, in books of its own and in no business figure."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest

from schemas.event import BillingEvent, Event
from schemas.ids import PROBE_ACCOUNT, repayment_id
from schemas.notification import NotificationRequested, NotificationSuppressed
from schemas.risk import RiskAssessed
from services.billing_simulator.headers import billing_headers
from services.lag_monitor.model import Journey
from services.lag_monitor.probe import EVERY_SECONDS, Probe, bought, message, opened, paid, slot_of
from services.runtime.settings import Settings
from tests import builders
from tests.unit.given import FRIDAY, Pipe, all_of, only
from tests.unit.test_lag_ledger import check_tiles, observed

SLOT = slot_of(FRIDAY)


def probed(monkeypatch: pytest.MonkeyPatch, slots: int = 1) -> Pipe:
    """Send probes through all services."""
    monkeypatch.setattr(builders, "ACCOUNT", PROBE_ACCOUNT)
    pipe = Pipe()
    pipe.take(opened())
    for slot in range(SLOT, SLOT + slots):
        at = FRIDAY + timedelta(seconds=EVERY_SECONDS * (slot - SLOT))
        pipe.take(bought(slot, at), at)
        pipe.take(paid(slot, at), at + timedelta(seconds=1))
    return pipe


def journey(events: list[Event], slot: int = SLOT) -> Journey:
    return observed(events)[repayment_id("probe", f"probe-{slot}")]


def test_a_probe_is_restored_at_once_and_its_lag_is_in_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    found = journey(probed(monkeypatch).events)
    assert (found.outcome, [*found.parts]) == ("restored", [1])
    check_tiles(found)


def test_of_a_probe_only_that_it_was_sent_and_how_long_it_took_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    found = journey(probed(monkeypatch).events)
    assert [(t.metric, t.labels, t.ms) for t in found.tallies] == [
        ("credit_probe_sent_total", (), None),
        ("credit_probe_roundtrip_seconds", (), 1_000),
    ]
    assert {(slo, promise.outcome) for (slo, _), promise in found.promises.items()} == {("probe_60s", "met")}


def test_a_probe_that_waits_is_in_no_figure_of_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    found = journey(probed(monkeypatch).events[:3])
    assert (found.outcome, found.standing) == (None, None)
    assert found.promises["probe_60s", 1].outcome is None


def test_a_late_probe_is_observed_and_counted_as_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail cut off would hide the very problem a probe is for."""
    monkeypatch.setattr(builders, "ACCOUNT", PROBE_ACCOUNT)
    pipe = Pipe()
    pipe.take(opened())
    pipe.take(bought(SLOT, FRIDAY), FRIDAY)
    pipe.take(paid(SLOT, FRIDAY), FRIDAY + timedelta(seconds=90))
    counted = {t.metric: t.ms for t in journey(pipe.events).tallies}
    assert counted["credit_probe_roundtrip_seconds"] == 90_000
    assert "credit_probe_lost_total" in counted


def test_nobody_is_pushed_for_a_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    events = probed(monkeypatch).events
    assert only(events, NotificationSuppressed).reason == "no_channel"
    assert len(all_of(events, NotificationRequested)) == 1


def test_a_day_of_probes_is_no_pattern_to_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    assessed = all_of(probed(monkeypatch, slots=50).events, RiskAssessed)
    assert len(assessed) == 50
    assert {event.patterns for event in assessed} == {()}


def test_two_probes_in_one_slot_send_the_same_ids() -> None:
    later = FRIDAY + timedelta(seconds=EVERY_SECONDS - 1)
    assert slot_of(later) == SLOT
    assert paid(SLOT, FRIDAY).event_id == paid(SLOT, later).event_id
    assert bought(SLOT, FRIDAY).event_id == bought(SLOT, later).event_id
    assert paid(SLOT + 1, FRIDAY).event_id != paid(SLOT, FRIDAY).event_id
    assert opened() == opened()


@pytest.mark.parametrize("event", [opened(), bought(SLOT, FRIDAY), paid(SLOT, FRIDAY)])
def test_a_probe_writes_as_billing_does(event: BillingEvent) -> None:
    sent = message(event)
    assert sent["key"] == b"probe"
    assert sent["headers"] == billing_headers(event, "probe")


async def test_an_account_is_opened_until_kafka_takes_it_and_what_was_not_bought_is_not_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    probe, told = Probe(Settings()), list[str]()
    answers = iter([False, True, False, True, True])

    async def send(events: Sequence[BillingEvent]) -> bool:
        told.extend(type(event).__name__ for event in events)
        taken = next(answers, None)
        if taken is None:
            probe.stopping.set()
        return bool(taken)

    async def at_once(due: datetime) -> None:
        await asyncio.sleep(0)

    monkeypatch.setattr(probe, "send", send)
    monkeypatch.setattr(probe, "_until", at_once)
    await probe.run()
    assert told == [*2 * ["AccountOpened"], *2 * ["PurchasePosted"], "RepaymentReported", "PurchasePosted"]


def test_slots_are_ten_seconds_of_the_clock() -> None:
    assert slot_of(datetime.fromisoformat("2026-11-20T14:00:09+00:00")) + 1 == slot_of(
        datetime.fromisoformat("2026-11-20T14:00:10+00:00")
    )
