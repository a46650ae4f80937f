"""Rules R6, R9, R14, R16 and R27: tranches, the lag, the instant cap, the calendar and the promise."""

from datetime import UTC, date, datetime, timedelta

import pytest

from schemas.event import lag_by_cause, milliseconds_between
from schemas.reasons import Cause, Reason
from schemas.restoration import CreditRestored, HoldPlaced, HoldReleased, PromiseMade, RestorationDelayed
from schemas.risk import RiskAssessed
from services.decision import TimerFired
from services.limit_release import domain as limit_release
from services.limit_release.model import Account, State
from services.policy import Rest
from services.repayment_ingest import domain as repayment_ingest
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.domain import due_at
from services.risk_scoring.model import Account as RiskAccount
from services.settlement import domain as settlement
from services.settlement.model import Account as Debtor
from tests import builders
from tests.unit.given import (
    ALL_HELD,
    FRIDAY,
    Pipe,
    all_of,
    check_trail,
    china,
    moment,
    only,
    profile,
    profiles,
    weekdays,
)

TUESDAY, NEXT_FRIDAY = china("2026-11-24", "09:00"), china("2026-11-27", "09:00")


@pytest.mark.parametrize(("amount", "last"), [(500_000, 200_000), (500_001, 200_001)])
def test_r06_e21_a_part_comes_back_now_and_the_rest_at_two_and_five_banking_days(amount: int, last: int) -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    facts = pipe.repay(amount, rail="direct_debit")
    tranches = [(t.amount_minor, t.due_at) for t in only(facts, RiskAssessed).tranches]
    assert tranches == [(100_000, pipe.now), (200_000, TUESDAY), (last, NEXT_FRIDAY)]
    assert only(facts, CreditRestored).available_credit_minor == 150_000
    assert [(h.amount_minor, h.until) for h in all_of(facts, HoldPlaced)] == [(200_000, TUESDAY), (last, NEXT_FRIDAY)]
    promises = [(p.promised_by - p.occurred_at, p.basis) for p in all_of(facts, PromiseMade)]
    assert promises[0] == (timedelta(seconds=60), "clear")
    assert [p.promised_by for p in all_of(facts, PromiseMade)[1:]] == [
        TUESDAY + timedelta(seconds=60),
        NEXT_FRIDAY + timedelta(seconds=60),
    ]


def test_r06_a_share_too_small_for_a_minor_unit_is_left_out() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    tranches = only(pipe.repay(100_001, rail="direct_debit"), RiskAssessed).tranches
    assert [t.amount_minor for t in tranches] == [100_000, 1]
    assert tranches[1].due_at == NEXT_FRIDAY


def ms(clock: str, day: int = 23) -> datetime:
    return datetime.fromisoformat(f"2026-11-{day}T{clock}+08:00").astimezone(UTC)


def restored_of_r9() -> list[CreditRestored]:
    """Run R9's repayment with its own instants: Monday 08:59:53.100, decided 09:00:00.000, due Wednesday 09:00."""
    rest = [{"share_bps": 10_000, "banking_days": 2}]
    policy = profiles({"hold.REVERSIBLE.rest": rest})
    opened = builders.account_opened(credit_limit_minor=600_000)
    bought = builders.purchase_posted(amount_minor=550_000)
    report = builders.repayment_reported(amount_minor=500_000, repaid_at=ms("08:59:53.100"))
    taken = repayment_ingest.decide(
        None, repayment_ingest.Reference(report.source, report.external_ref), report, moment(ms("08:59:57.300"))
    )
    debt = Debtor(builders.ACCOUNT)
    for event in (opened, bought):
        debt = settlement.decide(policy, debt, event, moment(FRIDAY)).state
    settled = settlement.decide(policy, debt, taken.events[0], moment(ms("08:59:59.100"), taken_at=ms("08:59:58.000")))
    assessed = risk_scoring.decide(policy, RiskAccount(builders.ACCOUNT), settled.events[0], moment(ms("08:59:59.400")))
    credit = State(Account(builders.ACCOUNT))
    for event in (opened, bought):
        credit = limit_release.decide(policy, credit, event, moment(FRIDAY)).state
    first = limit_release.decide(
        policy, credit, assessed.events[0], moment(ms("09:00:00.000"), taken_at=ms("08:59:59.500"))
    )
    hold = next(timer for timer in first.timers if timer.kind == limit_release.HOLD_DUE)
    fired = TimerFired(builders.ACCOUNT, hold)
    second = limit_release.decide(policy, first.state, fired, moment(ms("09:00:00.000", 25)))
    return all_of((*first.events, *second.events), CreditRestored)


def test_r09_the_lag_adds_up_by_stage_and_cause() -> None:
    first, second = restored_of_r9()
    split = lag_by_cause(second.repaid_at, second.trail)
    assert split == {
        ("report", "external.upstream_report"): 4_200,
        ("settlement", "system_delay.kafka_queue"): 700,
        ("settlement", "system_delay.processing"): 1_100,
        ("risk", "system_delay.kafka_queue"): 300,
        ("release", "system_delay.kafka_queue"): 100,
        ("release", "system_delay.processing"): 500,
        ("release", "risk_observation.risk_hold"): 172_800_000,
    }
    own = sum(spent for (_, cause), spent in split.items() if cause.startswith("system_delay"))
    assert own == 2_700
    assert (first.cause, second.cause) == ("external.upstream_report", "risk_observation.risk_hold")


def test_r09_the_amount_weighted_lag_and_the_credit_withheld_follow_from_the_trails() -> None:
    restored = restored_of_r9()
    lags = [(event.amount_minor, milliseconds_between(event.repaid_at, event.restored_at)) for event in restored]
    assert lags == [(100_000, 6_900), (400_000, 172_806_900)]
    for event in restored:
        check_trail(event, event.restored_at)
    weighed = sum(amount * lag for amount, lag in lags)
    assert weighed // sum(amount for amount, _ in lags) == 138_246_900
    assert sum(lag for _, lag in lags) // len(lags) == 86_406_900
    assert weighed // 1_000 == 69_123_450_000


def test_r14_the_instant_cap_is_for_the_account_and_its_window() -> None:
    pipe = Pipe().open(1_000_000, principal=900_000)
    for n in range(5):
        pipe.repay(90_000, ref=f"r{n}", rail="card", at=FRIDAY + timedelta(minutes=n))
    at_once = [
        sum(t.amount_minor for t in e.tranches if t.due_at <= e.occurred_at) for e in all_of(pipe.events, RiskAssessed)
    ]
    assert at_once == [90_000, 10_000, 0, 0, 0]
    assert pipe.account.pending_minor == 350_000


def test_r14_the_cap_comes_back_after_its_window_and_a_return_does_not_bring_it_back() -> None:
    pipe = Pipe().open(1_000_000, principal=900_000)
    pipe.repay(100_000, ref="r1", rail="card")
    pipe.give_back(100_000, ref="r1", rail="card")
    within = pipe.repay(10_000, ref="r2", rail="card", at=FRIDAY + timedelta(hours=71, minutes=59))
    assert only(within, RiskAssessed).outcome == "observe"
    after = pipe.repay(10_000, ref="r3", rail="card", at=FRIDAY + timedelta(hours=72))
    assert only(after, RiskAssessed).outcome == "clear"
    assert only(after, CreditRestored).reason is Reason.RELEASE_WITHIN_CAP


def test_r14_a_final_rail_does_not_use_the_cap_and_is_never_held() -> None:
    pipe = Pipe(profiles({"instant_cap_by_tier.unknown": 0})).open(1_000_000, principal=900_000)
    assessed = only(pipe.repay(800_000), RiskAssessed)
    assert (assessed.outcome, assessed.reasons) == ("clear", (Reason.RELEASE_FINAL_RAIL,))
    assert not pipe.risk.assessments


HOLIDAY = weekdays(holidays=["2026-11-23"])
WORKING_SATURDAY = weekdays(working=["2026-11-21"])


@pytest.mark.parametrize(
    ("cut_off", "made", "days", "due"),
    [
        ("23:00", None, 2, "2026-11-24"),
        ("23:00", None, 5, "2026-11-27"),
        ("17:00", None, 2, "2026-11-25"),
        ("17:00", None, 5, "2026-11-30"),
        ("23:00", HOLIDAY, 2, "2026-11-25"),
        ("23:00", WORKING_SATURDAY, 2, "2026-11-23"),
    ],
)
def test_r16_a_hold_counts_banking_days_from_the_repayment(cut_off: str, made: object, days: int, due: str) -> None:
    calendar = made if made is None else HOLIDAY if made is HOLIDAY else WORKING_SATURDAY
    rules = profile({"calendar.banking_cut_off": cut_off}, made=calendar)
    assert due_at(rules, FRIDAY, Rest(share_bps=10_000, banking_days=days)) == china(due, "09:00")


def test_r16_a_calendar_in_another_shape_is_read_the_same_way() -> None:
    rules = profile({"calendar.banking_cut_off": "13:00", "calendar.release_time": "06:00"})
    due = due_at(rules, china("2026-11-23", "13:30"), Rest(share_bps=10_000, banking_days=3))
    assert due == china("2026-11-27", "06:00")


@pytest.mark.parametrize(("clock", "day"), [("22:59:59.999", 20), ("23:00", 23)])
def test_r16_the_cut_off_itself_belongs_to_the_next_banking_day(clock: str, day: int) -> None:
    assert profile().banking_day(china("2026-11-20", clock)) == date(2026, 11, day)


def test_r16_a_hold_is_cut_to_the_longest_the_profile_allows() -> None:
    hold = profile().hold["REVERSIBLE"].model_copy(update={"max_calendar_days": 3})
    rules = profile().model_copy(update={"hold": {"REVERSIBLE": hold}})
    assert due_at(rules, FRIDAY, Rest(share_bps=10_000, banking_days=5)) == china("2026-11-23", "09:00")


def test_r16_the_national_holiday_of_october_is_no_banking_day() -> None:
    rules = profile()
    repaid_at = china("2026-09-30", "12:00")
    assert due_at(rules, repaid_at, Rest(share_bps=10_000, banking_days=1)) == china("2026-10-08", "09:00")
    assert rules.banking.name.startswith("cn-banking@holidays-")


def test_r16_a_date_already_past_means_now() -> None:
    pipe = Pipe().open(600_000, principal=550_000)
    pipe.now = FRIDAY + timedelta(days=30)
    facts = pipe.repay(500_000, rail="direct_debit")
    assert [event.amount_minor for event in all_of(facts, CreditRestored)] == [100_000, 200_000, 200_000]
    assert not pipe.waits


def held() -> Pipe:
    pipe = Pipe(profiles(ALL_HELD)).open(500_000, principal=490_000)
    pipe.repay(100_000, rail="direct_debit")
    return pipe


def test_r27_a_hold_that_ends_on_its_date_keeps_its_promise() -> None:
    pipe = held()
    facts = pipe.pass_until(TUESDAY + timedelta(days=1))
    assert only(facts, CreditRestored).restored_at == TUESDAY
    assert not all_of(facts, RestorationDelayed)


def test_r27_a_promise_missed_by_an_outage_is_told_once_before_the_credit() -> None:
    pipe = held()
    facts = pipe.sleep_until(TUESDAY + timedelta(seconds=75))
    told = [type(event) for event in facts if not event.__class__.__name__.startswith("Notification")]
    assert told == [RestorationDelayed, HoldReleased, CreditRestored]
    delayed, restored = only(facts, RestorationDelayed), only(facts, CreditRestored)
    assert (delayed.cause, delayed.promised_by) == ("system_delay.processing", TUESDAY + timedelta(seconds=60))
    assert restored.restored_at - restored.promised_by == timedelta(seconds=15)
    late = lag_by_cause(restored.repaid_at, restored.trail)
    assert late["release", "system_delay.processing"] == 75_000


def test_r27_the_promises_timer_asks_once_at_promised_by() -> None:
    pipe = held()
    promise = next(timer for timer in pipe.timers.values() if timer.kind == limit_release.PROMISE_DUE)
    hold = next(timer for timer in pipe.timers.values() if timer.kind == limit_release.HOLD_DUE)
    asked = limit_release.decide(
        pipe.policy, pipe.credit, TimerFired(builders.ACCOUNT, promise), moment(promise.due_at)
    )
    assert only(asked.events, RestorationDelayed).cause == "system_delay.processing"
    later = moment(promise.due_at + timedelta(seconds=15))
    done = limit_release.decide(pipe.policy, asked.state, TimerFired(builders.ACCOUNT, hold), later)
    assert [type(event) for event in done.events] == [HoldReleased, CreditRestored]
    again = limit_release.decide(pipe.policy, done.state, TimerFired(builders.ACCOUNT, promise), later)
    assert (again.outcome, again.events) == ("stale", ())


def test_r27_a_promise_on_an_account_that_froze_is_late_for_its_standing() -> None:
    pipe = held()
    pipe.status("frozen", "overdue_elsewhere")
    facts = pipe.pass_until(TUESDAY + timedelta(minutes=2))
    cause: Cause = "account_standing.overdue_elsewhere"
    assert only(facts, RestorationDelayed).cause == cause
    restored = only(pipe.status("active", now=TUESDAY + timedelta(days=1)), CreditRestored)
    split = lag_by_cause(restored.repaid_at, restored.trail)
    assert split["release", cause] == 86_400_000
    assert split["release", "risk_observation.risk_hold"] == milliseconds_between(FRIDAY, TUESDAY) - 2_000


def test_a_promise_asked_before_the_holds_date_is_late_for_the_hold() -> None:
    pipe = held()
    promise = next(timer for timer in pipe.timers.values() if timer.kind == limit_release.PROMISE_DUE)
    early = limit_release.decide(pipe.policy, pipe.credit, TimerFired(builders.ACCOUNT, promise), moment(FRIDAY))
    assert only(early.events, RestorationDelayed).cause == "risk_observation.risk_hold"


def test_a_hold_asked_before_its_date_stays() -> None:
    pipe = held()
    hold = next(timer for timer in pipe.timers.values() if timer.kind == limit_release.HOLD_DUE)
    early = limit_release.decide(pipe.policy, pipe.credit, TimerFired(builders.ACCOUNT, hold), moment(FRIDAY))
    assert (early.outcome, early.reason, early.events) == ("stale", "not_due", ())
