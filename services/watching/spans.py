"""From a restored part's segments to the spans of a trace (lag 8); the ledger is the truth, a trace a convenience.

The trace's id is the repayment's, as the exemplars and every event's traceparent have it; ids of spans are derived, so
a part that is told twice is the same spans. No account, amount or reference is in a span.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, set_span_in_context
from typing_extensions import override

from schemas.topics import BILLING_REPAYMENT, INTAKE, RISK, SETTLEMENT

NAME: Final = "opentobuy"
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
WAIT: Final = timedelta(seconds=60)
"""What goes on after a longer wait is a trace of its own, linked to the first."""
PROCESSING: Final = "system_delay.processing"
READ_BY: Final = {"ingest": BILLING_REPAYMENT, "settlement": INTAKE, "risk": SETTLEMENT, "release": RISK}
"""The topic whose event each stage's worker processes."""


class Stretch(NamedTuple):
    """A segment of a part's lag."""

    stage: str
    cause: str
    from_at: datetime
    to_at: datetime


class Part(NamedTuple):
    """A restored part and what its lag was made of."""

    repayment_id: str
    tranche: int
    tier: str
    cause: str
    stretches: Sequence[Stretch]


class _Given(IdGenerator):
    """Gives the ids that were derived."""

    trace = span = 1

    @override
    def generate_trace_id(self) -> int:
        return self.trace

    @override
    def generate_span_id(self) -> int:
        return self.span


class _Kept(SpanProcessor):
    """Keeps what ended."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    @override
    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)


class Traces:
    """Makes spans of parts; every part is kept, so what waited long or broke a promise is."""

    def __init__(self) -> None:
        self._ids, self._kept = _Given(), _Kept()
        provider = TracerProvider(
            sampler=ALWAYS_ON,
            resource=Resource({"service.name": NAME}),
            id_generator=self._ids,
            shutdown_on_exit=False,
        )
        provider.add_span_processor(self._kept)
        self._tracer = provider.get_tracer(NAME)

    def of(self, parts: Iterable[Part]) -> list[ReadableSpan]:
        """Return the spans of some parts."""
        for part in parts:
            links: list[Link] = []
            for number, leg in enumerate(legs(part.stretches)):
                first = self._leg(part, number, leg, links)
                links = links or [Link(first)]
        spans, self._kept.spans = self._kept.spans, []
        return spans

    def _leg(self, part: Part, number: int, leg: Sequence[Stretch], links: Sequence[Link]) -> SpanContext:
        """Make a root and a child a stretch; return the root's context."""
        whole = Stretch("restore", part.cause, leg[0].from_at, leg[-1].to_at)
        name = "restore credit" if number == 0 else f"restore credit, after {leg[0].stage} waited"
        self._ids.trace = int(part.repayment_id, 16) if number == 0 else derived(16, part, number)
        root = self._begun(part, name, whole, (number, -1), links=links)
        for n, stretch in enumerate(leg):
            child = self._begun(part, named(stretch), stretch, (number, n), parent=root)
            child.end(nanoseconds(stretch.to_at))
        root.end(nanoseconds(whole.to_at))
        return root.get_span_context()

    def _begun(
        self,
        part: Part,
        name: str,
        stretch: Stretch,
        at: tuple[int, int],
        *,
        parent: Span | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        self._ids.span = derived(8, part, *at)
        ours: dict[str, str | int] = {
            "credit.repayment_id": part.repayment_id,
            "credit.tranche": part.tranche,
            "credit.tier": part.tier,
        }
        read = READ_BY.get(stretch.stage) if stretch.cause == PROCESSING and parent is not None else None
        messaging = {} if read is None else {"messaging.system": "kafka", "messaging.destination.name": read.name}
        return self._tracer.start_span(
            name,
            context=None if parent is None else set_span_in_context(parent),
            kind=SpanKind.INTERNAL if read is None else SpanKind.CONSUMER,
            attributes={**ours, "credit.stage": stretch.stage, "credit.cause": stretch.cause, **messaging},
            links=links,
            start_time=nanoseconds(stretch.from_at),
        )


def legs(stretches: Sequence[Stretch]) -> Iterator[list[Stretch]]:
    """Cut a lag after each long wait; work is never a wait, however long."""
    leg: list[Stretch] = []
    for stretch in stretches:
        leg.append(stretch)
        if stretch.cause != PROCESSING and stretch.to_at - stretch.from_at > WAIT:
            yield leg
            leg = []
    if leg:
        yield leg


def named(stretch: Stretch) -> str:
    """Return a span's name: what a worker processed, or what was waited for."""
    read = READ_BY.get(stretch.stage)
    return f"process {read.name}" if read and stretch.cause == PROCESSING else f"{stretch.stage}: {stretch.cause}"


def nanoseconds(at: datetime) -> int:
    """Return whole nanoseconds since 1970."""
    return (at - EPOCH) // timedelta(microseconds=1) * 1000


def derived(size: int, part: Part, *at: int) -> int:
    """Return an id that is the same whenever it is asked for, and never 0."""
    text = ":".join(map(str, (part.repayment_id, part.tranche, *at)))
    return int.from_bytes(blake2b(text.encode(), digest_size=size).digest()) or 1
