"""Which objectives a repayment is owed, and how each ends: once, whatever is heard first (lag 3.1, 6)."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from schemas.reasons import Cause
from services.lag_monitor.model import Journey, Notice, NoticeState, Part, Promise, Slo, Tally, Told
from services.lag_monitor.segments import told
from services.metrics.catalogue import NOTIFICATION_LAG, PROBES_LOST, SLA_OUTCOMES, STAGE_DURATION
from services.metrics.labels import NOTIFY
from services.values import replace

DECIDED = timedelta(seconds=60)
LOW_RISK = timedelta(seconds=5)
TOLD = timedelta(seconds=60)
LOST = timedelta(seconds=60)
PROBED = 1
"""The tranche of a probe: its rail is final, so there is one."""
LOW = frozenset({"low", "unknown"})
PHASE_OF: Final[Mapping[Cause, str]] = {"system_delay.kafka_queue": "queue", "system_delay.processing": "process"}
"""The phases of a stage (projector); every other cause is a wait."""


def judged(state: Journey) -> Journey:
    """Make the promises all of whose terms were heard, and end those whose end was."""
    state = state if state.probe else _told(state)
    new = [Promise(slo, number, by) for slo, number, by in _owed(state) if (slo, number) not in state.promises]
    state = state.owe(*new) if new else state
    ended = [after for before in state.promises.values() if (after := _ended(state, before)) is not before]
    if not ended:
        return state
    verdicts = [p for p in ended if p.outcome != "void" and state.promises[p.slo, p.tranche].outcome is None]
    return state.owe(*ended).count(*(tally for promise in verdicts for tally in _verdict(promise)))


def _verdict(promise: Promise) -> Iterator[Tally]:
    """Yield what a promise's end counts as; of the probe only what was lost is counted."""
    if promise.slo != "probe_60s":
        yield Tally(SLA_OUTCOMES.name, (promise.slo, str(promise.outcome)))
    elif promise.outcome == "breached":
        yield Tally(PROBES_LOST.name, ())


def _owed(state: Journey) -> Iterator[tuple[Slo, int, datetime]]:
    """Yield what is owed to which tranche by when; most of it is promised already."""
    if state.probe:
        if state.reported_at is not None:
            yield "probe_60s", PROBED, state.reported_at + LOST
        return
    if state.settled_at is not None:
        yield "decided_60s", 0, state.settled_at + DECIDED
    for part in state.parts.values():
        yield from _owed_to(state, part)


def _owed_to(state: Journey, part: Part) -> Iterator[tuple[Slo, int, datetime]]:
    """Yield what one tranche is owed; a promise made to a parked one is out of the objectives (domain 7)."""
    if part.promised_by is not None and part.basis == "hold":
        yield "hold_promise", part.number, part.promised_by
    low = state.clear and state.tier in LOW and state.settled_at is not None
    if part.promised_by is not None and part.basis == "clear" and low and state.settled_at is not None:
        yield "low_risk_5s", part.number, state.settled_at + LOW_RISK
        yield "low_risk_60s", part.number, part.promised_by
    if part.state in ("restored", "reversed") and part.restored_at is not None:
        yield "notify_60s", part.number, part.restored_at + TOLD


def _ended(state: Journey, promise: Promise) -> Promise:
    """Return the promise as it ended, or the very same."""
    if promise.over_at is not None:
        return promise
    if promise.slo == "decided_60s":
        return promise if state.decided_at is None else _kept(promise, state.decided_at)
    part = state.parts.get(promise.tranche)
    if part is None:
        return promise
    if promise.slo == "notify_60s":
        if part.told_at is not None:
            return _kept(promise, part.told_at)
        unreachable = _first(state, part, "suppressed")
        return promise if unreachable is None else _void(promise, unreachable.at)
    if part.restored_at is not None:
        return _kept(promise, part.restored_at)
    return promise if part.state in ("promised", "held") else _void(promise, part.since)


def _kept(promise: Promise, at: datetime) -> Promise:
    over = replace(promise, over_at=at)
    if promise.outcome is not None:
        return over
    return replace(over, outcome="met" if at <= promise.deadline_at else "breached", decided_at=at)


def _void(promise: Promise, at: datetime) -> Promise:
    """End a promise that lost its object: in time for nothing, after its deadline as broken."""
    over = replace(promise, over_at=at)
    if promise.outcome is not None:
        return over
    return replace(over, outcome="void" if at <= promise.deadline_at else "breached", decided_at=at)


def _told(state: Journey) -> Journey:
    """Note for each restored tranche when its customer was told first; what told it names the same commit."""
    for part in state.of("restored", "reversed"):
        notice = None if part.told_at else _first(state, part, "delivered", "told_together")
        if notice is not None and part.restored_at is not None:
            ms = max(0, (notice.at - part.restored_at) // timedelta(milliseconds=1))
            state = state.put(replace(part, told_at=notice.at))
            state = state.count(Tally(NOTIFICATION_LAG.name, (notice.channel,), ms))
            state = _cut(state, part.number, part.restored_at, notice)
    return state


def _cut(state: Journey, number: int, restored_at: datetime, notice: Notice) -> Journey:
    """Keep what the time until a customer was told was made of, where it is known when that was asked for."""
    if notice.asked_at is None:
        return state
    segments = told(restored_at, notice.at, notice.asked_at, notice.waits, state.pauses)
    spent: Counter[str] = Counter()
    for segment in segments:
        spent[PHASE_OF.get(segment.cause, "wait")] += segment.milliseconds
    durations = (Tally(STAGE_DURATION.name, (NOTIFY, phase), ms) for phase, ms in spent.items())
    return replace(state, told=(*state.told, Told(number, segments))).count(*durations)


def _first(state: Journey, part: Part, *became: NoticeState) -> Notice | None:
    found: Iterable[Notice] = (n for n in state.notices.values() if n.caused_by == part.caused_by and n.state in became)
    return min(found, key=lambda notice: (notice.at, notice.notification_id), default=None)
