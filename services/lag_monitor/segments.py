"""From the trail an event carries to segments that tile [repaid_at, restored_at] in whole milliseconds (lag 1)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, NamedTuple

from schemas.event import Segment as Step
from schemas.event import milliseconds_between, to_millisecond
from schemas.reasons import CAUSES, Cause, Stage
from services.values import at_once, replace

Place = Stage | Literal["notify"]
"""A stage of the lag, or the one beside it: from restored to told."""
PAUSABLE: Final[frozenset[Cause]] = frozenset(
    {"system_delay.kafka_queue", "system_delay.processing", "external.channel_wait"}
)
"""What a service that stands still cannot go on with, nor be waiting for."""
UNEXPLAINED: Cause = "system_delay.processing"
"""What a stretch counts as that no record explains; its milliseconds are counted apart and must be 0."""


@at_once
@dataclass(frozen=True)
class Segment:
    """A stretch of one tranche's lag, of one stage and one cause."""

    stage: Place
    cause: Cause
    from_at: datetime
    to_at: datetime

    @property
    def milliseconds(self) -> int:
        """Return its length."""
        return milliseconds_between(self.from_at, self.to_at)


class Pause(NamedTuple):
    """A person had the service of ``stage`` stand still from one instant to another."""

    stage: Place
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class Lag:
    """A tranche's whole lag; ``unattributed_ms`` of it had no record."""

    segments: tuple[Segment, ...]
    unattributed_ms: int

    @property
    def milliseconds(self) -> int:
        """Return the lag."""
        return sum(segment.milliseconds for segment in self.segments)

    @property
    def cause(self) -> Cause:
        """Return the cause with most time; ties go to the order of the list of causes."""
        total = dict.fromkeys(CAUSES, 0)
        for segment in self.segments:
            total[segment.cause] += segment.milliseconds
        most = max(total.values())
        return next(cause for cause in CAUSES if total[cause] == most) if most else UNEXPLAINED


def lag_of(
    repaid_at: datetime,
    restored_at: datetime,
    trail: Sequence[Step],
    pending: Sequence[Step] = (),
    pauses: Sequence[Pause] = (),
) -> Lag:
    """Cut [repaid_at, restored_at] where ``trail`` does; ``pending`` is the trail of an earlier, pending report.

    What a stage's queue or work overlaps with a pause of its service is the pause's.
    Each end is clamped to the one before and to ``restored_at``; what then is left is ours, and counted apart.
    """
    begin, end = to_millisecond(repaid_at), to_millisecond(restored_at)
    segments, at = tiled(begin, end, awaited(begin, trail, pending))
    if at < end:
        segments.append(Segment(segments[-1].stage if segments else "report", UNEXPLAINED, at, end))
    return Lag(tuple(split(segments, pauses)), max(0, milliseconds_between(at, end)))


def told(
    restored_at: datetime,
    told_at: datetime,
    asked_at: datetime,
    waits: Sequence[tuple[Cause, datetime]],
    pauses: Sequence[Pause] = (),
) -> tuple[Segment, ...]:
    """Cut [restored_at, told_at] where the notifier did; from when it asked for the message its channel was waited for.

    A request that tells of no stretches was ours to make until ``asked_at``.
    """
    steps: list[tuple[Place, Cause, datetime]] = [("notify", cause, until) for cause, until in waits]
    steps += [("notify", UNEXPLAINED, asked_at), ("notify", "external.channel_wait", told_at)]
    segments, _ = tiled(to_millisecond(restored_at), to_millisecond(told_at), steps)
    return tuple(split(segments, pauses))


def tiled(
    begin: datetime, end: datetime, steps: Iterable[tuple[Place, Cause, datetime]]
) -> tuple[list[Segment], datetime]:
    """Return segments from ``begin`` on, each end clamped to the one before and to ``end``; and where they end."""
    segments: list[Segment] = []
    at = begin
    for stage, cause, until in steps:
        to = min(to_millisecond(until), end)
        if to > at:
            segments.append(Segment(stage, cause, at, to))
            at = to
    return segments, at


def split(segments: Sequence[Segment], pauses: Sequence[Pause]) -> Iterator[Segment]:
    """Yield segments with the parts that fell into a pause of their service under that cause."""
    ordered = sorted(pauses, key=lambda pause: pause.from_at)
    for segment in segments:
        at = segment.from_at
        for pause in ordered if segment.cause in PAUSABLE else ():
            begin, end = max(at, to_millisecond(pause.from_at)), min(segment.to_at, to_millisecond(pause.to_at))
            if pause.stage == segment.stage and begin < end:
                if at < begin:
                    yield replace(segment, from_at=at, to_at=begin)
                yield replace(segment, cause="system_delay.operator_pause", from_at=begin, to_at=end)
                at = end
        if at < segment.to_at:
            yield segment if at == segment.from_at else replace(segment, from_at=at)


def awaited(repaid_at: datetime, trail: Sequence[Step], pending: Sequence[Step]) -> Iterator[Step]:
    """Yield ``trail``; what it calls the report's wait was the rail's, from when a pending report was taken in.

    The trail of the report that said succeeded knows nothing of an earlier one, the observer heard both.
    """
    reported = trail[0] if trail and trail[0][0] == "report" else None
    if reported is None or not pending or pending[-1][2] >= reported[2]:
        yield from trail
        return
    yield from (step for step in pending if step[2] > repaid_at)
    yield "settlement", "external.settlement_wait", reported[2]
    yield from trail[1:]
