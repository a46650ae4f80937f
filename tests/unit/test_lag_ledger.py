"""The lag ledger: segments tile, every cause is reached, and the order of the topics makes no difference."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.event import Event
from schemas.reasons import CAUSES, Cause, Reason
from schemas.restoration import CreditRestored
from schemas.topics import TOPIC_OF
from services.decision import Moment
from services.lag_monitor.domain import decide
from services.lag_monitor.model import Journey
from services.lag_monitor.segments import Lag, Pause, lag_of
from services.lag_monitor.segments import told as told_segments
from services.lag_monitor.store import key
from services.lag_monitor.worker import WORKER
from services.metrics.catalogue import STAGE_DURATION
from services.metrics.labels import STAGE_CAUSES
from tests import builders
from tests.unit.given import ALL_HELD, FRIDAY, Pipe, china, moment, profiles, rid

LATER = FRIDAY + timedelta(days=30)


def observed(events: Sequence[Event], now: datetime = LATER, pauses: tuple[Pause, ...] = ()) -> dict[str, Journey]:
    """Return the journeys after ``events``, each heard when it occurred."""
    found: dict[str, Journey] = {}
    for event in events:
        if type(event) in WORKER.handles:
            at = key(event)
            heard = moment(now, reported_at=event.occurred_at)
            found[at] = decide(None, found.get(at, Journey(at, pauses=pauses)), event, heard).state
    return found


def lags(journey: Journey) -> dict[int, Lag]:
    """Return each restored tranche's lag."""
    return {fact.restored.tranche: fact.lag for fact in journey.facts}


def check_tiles(journey: Journey) -> None:
    """Assert that the segments of every fact tile its lag."""
    for fact in journey.facts:
        at = fact.restored.repaid_at
        for segment in fact.lag.segments:
            assert segment.from_at == at
            assert segment.milliseconds > 0
            at = segment.to_at
        assert at == fact.restored.restored_at
        assert fact.lag.unattributed_ms == 0
        assert fact.lag.milliseconds == (at - fact.restored.repaid_at) // timedelta(milliseconds=1)


def causes(journey: Journey) -> set[Cause]:
    return {segment.cause for fact in journey.facts for segment in fact.lag.segments}


def waits(pipe: Pipe, ref: str = "r1") -> tuple[str, str] | None:
    """Return the stage and cause a repayment waits for now."""
    now = observed(pipe.events)[rid(ref)].standing
    return None if now is None else (now.stage, now.cause)


def test_a_repayment_on_a_final_rail_is_measured_and_over() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    journey = observed(pipe.events)[rid("r1")]
    assert (journey.outcome, journey.tier, [*lags(journey)]) == ("restored", "unknown", [1])
    check_tiles(journey)


def test_held_parts_are_measured_one_by_one_and_the_journey_ends_with_the_last() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    assert waits(pipe) == ("release", "risk_observation.risk_hold")
    assert observed(pipe.events)[rid("r1")].outcome is None
    pipe.pass_until(LATER)
    journey = observed(pipe.events)[rid("r1")]
    assert (journey.outcome, sorted(lags(journey))) == ("restored", [1, 2, 3])
    assert lags(journey)[3].cause == "risk_observation.risk_hold"
    check_tiles(journey)


def test_a_hold_that_is_extended_counts_for_the_review_that_moved_it() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.take(builders.hold_extended(repayment_id=rid("r1"), tranche=1, until=china("2026-11-25")), china("2026-11-23"))
    assert waits(pipe) == ("release", "risk_observation.manual_review")
    pipe.pass_until(LATER)
    journey = observed(pipe.events)[rid("r1")]
    assert {"risk_observation.risk_hold", "risk_observation.manual_review"} <= causes(journey)
    check_tiles(journey)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("overdue", "account_standing.frozen"),
        ("overdue_elsewhere", "account_standing.overdue_elsewhere"),
        ("risk_review", "risk_observation.manual_review"),
    ],
)
def test_a_frozen_account_s_wait_carries_the_freeze_s_cause(reason: str, cause: str) -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.status("frozen", reason)
    pipe.repay(500_000)
    assert waits(pipe) == ("release", cause)
    pipe.status("active", now=FRIDAY + timedelta(days=3))
    journey = observed(pipe.events)[rid("r1")]
    assert cause in causes(journey)
    assert lags(journey)[1].cause == cause
    check_tiles(journey)


def test_what_waits_for_its_rail_waits_outside_from_when_the_pending_report_was_taken_in() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, status="pending")
    assert waits(pipe) == ("settlement", "external.settlement_wait")
    again = {"external_ref": "r1", "amount_minor": 500_000, "rail": "wallet", "repaid_at": FRIDAY}
    confirmed = FRIDAY + timedelta(hours=7)
    pipe.take(builders.repayment_reported(**again, occurred_at=confirmed), confirmed + timedelta(seconds=1))
    journey = observed(pipe.events)[rid("r1")]
    split = [(s.stage, s.cause, s.milliseconds) for s in lags(journey)[1].segments]
    assert split == [
        ("report", "external.upstream_report", 2_000),
        ("settlement", "external.settlement_wait", 7 * 3_600_000 - 1_000),
    ]
    check_tiles(journey)


def test_what_the_workers_record_of_their_own_delays_is_kept_as_it_is() -> None:
    at = builders.trail(through="risk")[-1][2]
    waits: list[tuple[Cause, int]] = [
        ("system_delay.kafka_queue", 5),
        ("system_delay.dependency_down", 70),
        ("system_delay.dead_letter", 900),
        ("system_delay.operator_pause", 1_000),
        ("system_delay.processing", 1_001),
    ]
    steps = tuple(("release", cause, at + timedelta(milliseconds=ms)) for cause, ms in waits)
    events = [
        builders.repayment_received(),
        builders.risk_assessed(),
        builders.credit_restored(trail=(*builders.trail(through="risk"), *steps)),
    ]
    journey = observed(events)[builders.REPAYMENT]
    assert causes(journey) == {"external.upstream_report", *(cause for cause, _ in waits)}
    check_tiles(journey)


def test_what_falls_into_a_pause_of_a_stage_s_own_service_is_the_pause_s() -> None:
    trail = builders.trail(through="settlement")
    queue = trail[3]
    assert queue[:2] == ("settlement", "system_delay.kafka_queue")
    begin, end = queue[2] - timedelta(milliseconds=9), queue[2] - timedelta(milliseconds=4)
    mine, other = Pause("settlement", begin, end), Pause("risk", trail[0][2], trail[-1][2])
    found = lag_of(builders.REPAID_AT, trail[-1][2], trail, pauses=(other, mine))
    split = [(s.cause.partition(".")[2], s.milliseconds) for s in found.segments if s.stage == "settlement"]
    assert split == [("kafka_queue", 3), ("operator_pause", 5), ("kafka_queue", 4), ("processing", 9)]
    whole = lag_of(builders.REPAID_AT, trail[-1][2], trail)
    assert (found.milliseconds, found.unattributed_ms) == (whole.milliseconds, 0)


def test_a_pause_longer_than_the_wait_takes_all_of_it_and_never_a_hold() -> None:
    trail = builders.trail(through="release")
    held = (*trail[:-2], ("release", "risk_observation.risk_hold", trail[-1][2] + timedelta(days=1)))
    always = Pause("release", builders.OPENED_AT, LATER)
    found = lag_of(builders.REPAID_AT, held[-1][2], held, pauses=(always,))
    assert [s.cause for s in found.segments if s.stage == "release"] == ["risk_observation.risk_hold"]
    found = lag_of(builders.REPAID_AT, trail[-1][2], trail, pauses=(always,))
    assert {s.cause for s in found.segments if s.stage == "release"} == {"system_delay.operator_pause"}


class Working:
    """A clock of workers that take their time: a queue, a database that was away, and work, one after the other."""

    def __init__(self) -> None:
        self.spent = timedelta()

    def __call__(self, now: datetime) -> Moment:
        self.spent += timedelta(milliseconds=40)
        end = now + self.spent
        taken, back = end - timedelta(milliseconds=20), end - timedelta(milliseconds=10)
        return Moment(end, taken, end - timedelta(milliseconds=30), (("system_delay.dependency_down", back),))


def set_aside(now: datetime) -> Moment:
    """Return the moment of a record that a person had handled again an hour after it came (batch.py)."""
    broker_at = now - timedelta(hours=1)
    return Moment(now, broker_at, broker_at, (("system_delay.dead_letter", now),))


def of_every_cause() -> tuple[list[Event], Pause]:
    """Return what the five services tell of an account that met everything that can hold credit back."""
    pipe = Pipe(profiles(ALL_HELD), seen=Working()).open(2_000_000, principal=1_800_000)
    pipe.repay(100_000, ref="prompt")
    paused = Pause("settlement", FRIDAY, pipe.now + timedelta(minutes=1))
    pipe.deliver(pipe.now + timedelta(seconds=3))
    pipe.repay(90_000, ref="waits", status="pending", at=FRIDAY + timedelta(minutes=2))
    confirmed = {"external_ref": "waits", "amount_minor": 90_000, "rail": "wallet", "occurred_at": china("2026-11-21")}
    pipe.take(builders.repayment_reported(**confirmed, repaid_at=FRIDAY + timedelta(minutes=2)), china("2026-11-21"))
    pipe.repay(80_000, ref="held", rail="direct_debit", at=china("2026-11-22"))
    until = {"tranche": 1, "until": china("2026-11-27")}
    pipe.take(builders.hold_extended(repayment_id=rid("held"), **until), china("2026-11-23"))
    for day, reason in (("2026-11-28", "overdue"), ("2026-11-30", "overdue_elsewhere")):
        pipe.pass_until(china(day))
        pipe.status("frozen", reason)
        pipe.repay(70_000, ref=reason, at=pipe.now)
        pipe.status("active", now=pipe.now + timedelta(days=1))
    pipe.seen = set_aside
    dead = {"external_ref": "dead", "amount_minor": 60_000, "rail": "wallet", "repaid_at": china("2026-12-02")}
    pipe.take(builders.repayment_reported(**dead), china("2026-12-02", "13:30"))
    pipe.pass_until(china("2026-12-10"))
    pipe.deliver(pipe.now + timedelta(seconds=9))
    return [event for event in pipe.events if type(event) in WORKER.handles], paused


OF_EVERY_CAUSE, PAUSED = of_every_cause()


def test_every_cause_there_is_is_reached_by_what_the_services_tell() -> None:
    journeys = observed(OF_EVERY_CAUSE, pauses=(PAUSED,)).values()
    found = {(s.stage, s.cause) for journey in journeys for fact in journey.facts for s in fact.lag.segments}
    found |= {(s.stage, s.cause) for journey in journeys for told in journey.told for s in told.segments}
    assert {cause for _, cause in found} == set(CAUSES)
    assert all(cause.partition(".")[2] in STAGE_CAUSES[stage] for stage, cause in found)
    for journey in journeys:
        check_tiles(journey)


def test_what_passes_from_restored_to_told_is_cut_beside_the_lag() -> None:
    journey = observed(OF_EVERY_CAUSE)[rid("prompt")]
    (told,) = journey.told
    restored_at, told_at = journey.parts[1].restored_at, journey.parts[1].told_at
    assert restored_at is not None
    assert [(s.cause.partition(".")[2], s.milliseconds) for s in told.segments[:3]] == [
        ("kafka_queue", 20),
        ("dependency_down", 10),
        ("processing", 10),
    ]
    assert told.segments[3].cause == "external.channel_wait"
    assert [told.segments[0].from_at, *(s.to_at for s in told.segments)] == [
        *(s.from_at for s in told.segments),
        told_at,
    ]
    assert told.segments[0].from_at == restored_at
    counted = {t.labels: t.ms for t in journey.tallies if t.metric == STAGE_DURATION.name}
    wait = told.segments[1].milliseconds + told.segments[3].milliseconds
    assert counted == {("notify", "queue"): 20, ("notify", "process"): 10, ("notify", "wait"): wait}


def test_a_notifier_that_stands_still_waits_for_no_channel() -> None:
    paused = Pause("notify", FRIDAY, LATER)
    (told,) = observed(OF_EVERY_CAUSE, pauses=(paused,))[rid("prompt")].told
    assert [s.cause.partition(".")[2] for s in told.segments] == [
        *("operator_pause", "dependency_down", "operator_pause", "operator_pause"),
    ]


def test_a_message_asked_for_before_its_stretches_were_told_was_ours_to_ask_for() -> None:
    asked_at, told_at = FRIDAY + timedelta(seconds=2), FRIDAY + timedelta(seconds=5)
    segments = told_segments(FRIDAY, told_at, asked_at, ())
    assert [(s.cause, s.milliseconds) for s in segments] == [
        ("system_delay.processing", 2_000),
        ("external.channel_wait", 3_000),
    ]


def test_a_trail_with_a_hole_is_filled_and_counted() -> None:
    repaid_at, restored_at = FRIDAY, FRIDAY + timedelta(milliseconds=90)
    trail = (("report", "external.upstream_report", FRIDAY + timedelta(milliseconds=30)),)
    found = lag_of(repaid_at, restored_at, trail)  # type: ignore[arg-type]  # a literal tuple
    assert (found.milliseconds, found.unattributed_ms) == (90, 60)
    assert found.segments[-1].cause == "system_delay.processing"


def test_a_trail_that_runs_past_the_restoration_is_cut() -> None:
    trail = builders.trail(through="release")
    restored_at = trail[2][2]
    found = lag_of(builders.REPAID_AT, restored_at, trail)
    assert found.segments[-1].to_at == restored_at
    assert found.unattributed_ms == 0


def test_nothing_between_repaid_and_restored_is_a_lag_of_nothing() -> None:
    assert lag_of(FRIDAY, FRIDAY, ()) == Lag((), 0)
    assert Lag((), 0).cause == "system_delay.processing"


@pytest.mark.parametrize(("returned_after", "outcome"), [(False, "returned"), (True, "restored")])
def test_a_return_ends_a_journey_as_returned_unless_a_part_was_restored(returned_after: bool, outcome: str) -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    if returned_after:
        pipe.pass_until(LATER)
    pipe.give_back(500_000, rail="direct_debit")
    journey = observed(pipe.events)[rid("r1")]
    assert (journey.outcome, journey.waiting) == (outcome, ())


def test_charges_alone_restore_nothing() -> None:
    pipe = Pipe().open(600_000, fee=500)
    pipe.repay(500)
    journey = observed(pipe.events)[rid("r1")]
    assert (journey.outcome, journey.reason) == ("nothing_to_restore", Reason.PAID_FEES_AND_INTEREST)


def test_a_closed_account_s_parts_lapse() -> None:
    pipe = Pipe(profiles(ALL_HELD)).open(600_000, principal=550_000)
    pipe.repay(500_000, rail="direct_debit")
    pipe.status("closed")
    assert observed(pipe.events)[rid("r1")].outcome == "lapsed"


def test_a_failed_repayment_is_rejected() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000, status="pending")
    pipe.take(builders.repayment_failed(external_ref="r1", amount_minor=500_000, rail="wallet"))
    assert observed(pipe.events)[rid("r1")].outcome == "rejected"


@pytest.mark.parametrize(("heard", "stage"), [(1, "ingest"), (2, "settlement"), (3, "risk"), (4, "release")])
def test_what_stands_still_waits_for_the_next_service_since_it_was_reported(heard: int, stage: str) -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.repay(500_000)
    (reported,) = [event for event in pipe.events if type(event).__name__ == "RepaymentReported"]
    journey = observed([event for event in pipe.events if type(event) in WORKER.handles][:heard])[rid("r1")]
    now = journey.standing
    assert now is not None
    assert (now.stage, now.cause, now.since) == (stage, "system_delay.kafka_queue", reported.occurred_at)


def everything() -> list[Event]:
    """Return the events of one account that was held, reviewed, frozen, thawed, returned, and paid pending."""
    pipe = Pipe().open(2_000_000, principal=1_800_000, fee=300)
    pipe.repay(300, ref="charges")
    pipe.repay(400_000, ref="held", rail="direct_debit")
    pipe.repay(100_000, ref="waits", status="pending", at=FRIDAY + timedelta(minutes=1))
    pipe.status("frozen", "overdue_elsewhere", now=china("2026-11-23"))
    pipe.repay(90_000, ref="parked", at=china("2026-11-23", "13:00"))
    pipe.pass_until(china("2026-11-24", "12:00"))
    pipe.status("active", now=china("2026-11-25"))
    known = {"external_ref": "waits", "amount_minor": 100_000, "rail": "wallet", "repaid_at": FRIDAY}
    pipe.take(builders.repayment_reported(**known, occurred_at=pipe.now), china("2026-11-25", "14:00"))
    pipe.repay(50_000, ref="back", rail="direct_debit", at=china("2026-11-25", "15:00"))
    pipe.give_back(50_000, ref="back", rail="direct_debit", now=china("2026-11-25", "16:00"))
    pipe.pass_until(LATER)
    pipe.deliver(pipe.now)
    return [event for event in pipe.events if type(event) in WORKER.handles]


EVERYTHING = everything()
TOPICS = sorted({TOPIC_OF[type(event)].name for event in EVERYTHING})


def ledger(events: Sequence[Event]) -> dict[str, object]:
    """Return what is shown of journeys: not the order in which facts were made."""
    found = observed(events)
    for journey in found.values():
        check_tiles(journey)
        assert journey.unplaced == ()
    return {
        at: replace(
            journey,
            facts=tuple(sorted(journey.facts, key=lambda fact: fact.restored.tranche)),
            told=tuple(sorted(journey.told)),
            tallies=tuple(sorted(journey.tallies)),
        )
        for at, journey in found.items()
    }


@given(st.permutations([TOPIC_OF[type(event)].name for event in EVERYTHING]))
def test_topics_may_be_heard_in_any_order(turns: Sequence[str]) -> None:
    """Each topic keeps its own order; how they interleave is chance."""
    queues = {name: [event for event in EVERYTHING if TOPIC_OF[type(event)].name == name] for name in TOPICS}
    heard = [queues[name].pop(0) for name in turns]
    assert ledger(heard) == ledger(EVERYTHING)


def test_every_restored_tranche_of_everything_is_measured() -> None:
    told = {(event.repayment_id, event.tranche) for event in EVERYTHING if isinstance(event, CreditRestored)}
    measured = {(at, fact.restored.tranche) for at, journey in observed(EVERYTHING).items() for fact in journey.facts}
    assert measured == told
    assert len(told) >= 5


def test_hearing_an_event_under_another_id_again_changes_nothing() -> None:
    once = observed(EVERYTHING)
    again = observed([event for event in EVERYTHING for _ in range(2)])
    assert {at: journey.facts for at, journey in again.items()} == {at: journey.facts for at, journey in once.items()}


def test_what_is_not_about_a_repayment_is_let_be() -> None:
    state = Journey(builders.REPAYMENT)
    heard = Moment(FRIDAY, FRIDAY, FRIDAY)
    assert decide(None, state, builders.account_opened(), heard).outcome == "ignored"
