"""Traces are the ledger's lags: the same instants and causes, a long wait in between a link, nothing personal."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Final

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from services.cli.workers import EVERYONE
from services.watching.spans import Part, Stretch, Traces, nanoseconds

BEGUN: Final = datetime(2026, 3, 2, 10, 0, 0, 123_000, UTC)
REPAYMENT: Final = "0af7651916cd43dd8448eb211c80319c"
ATTRIBUTES: Final = {
    *("credit.repayment_id", "credit.tranche", "credit.tier", "credit.stage", "credit.cause"),
    *("messaging.system", "messaging.destination.name"),
}


def part(*stretches: tuple[str, str, float], tranche: int = 1) -> Part:
    """Return a part whose lag is these stretches, each with its seconds."""
    made, at = list[Stretch](), BEGUN
    for stage, cause, seconds in stretches:
        until = at + timedelta(seconds=seconds)
        made.append(Stretch(stage, cause, at, until))
        at = until
    return Part(REPAYMENT, tranche, "low", stretches[0][1], made)


def parent_of(span: ReadableSpan) -> int | None:
    return None if span.parent is None else span.parent.span_id


def ids(span: ReadableSpan) -> tuple[int, int]:
    context = span.get_span_context()
    assert context is not None
    return context.trace_id, context.span_id


WITHOUT: Final = """
import importlib, sys
sys.modules["opentelemetry"] = None
for name in {names}: importlib.import_module(f"services.{{name}}.worker")
from services.watching.traces import main
sys.exit(main())
"""
"""Every worker, then the follower, where OpenTelemetry is not installed."""
FAST: Final = part(
    ("report", "external.upstream_report", 0.2),
    ("ingest", "system_delay.kafka_queue", 0.004),
    ("ingest", "system_delay.processing", 0.012),
    ("release", "system_delay.processing", 0.02),
)
HELD: Final = part(
    ("ingest", "system_delay.processing", 0.012),
    ("release", "risk_observation.risk_hold", 86_400),
    ("release", "system_delay.processing", 0.02),
)


def test_a_fast_part_is_one_trace_under_the_repayment_s_id_tiled_by_its_stretches() -> None:
    *children, root = Traces().of([FAST])
    assert root.parent is None
    assert {ids(span)[0] for span in (root, *children)} == {int(REPAYMENT, 16)}
    assert {parent_of(span) for span in children} == {ids(root)[1]}
    edges = [(span.start_time, span.end_time) for span in children]
    assert edges == [(nanoseconds(each.from_at), nanoseconds(each.to_at)) for each in FAST.stretches]
    assert (root.start_time, root.end_time) == (edges[0][0], edges[-1][1])
    assert not root.links


def test_work_is_a_consumer_of_its_topic_and_a_wait_is_named_by_its_cause() -> None:
    report, queue, ingest, release, _ = Traces().of([FAST])
    assert (report.name, queue.name) == ("report: external.upstream_report", "ingest: system_delay.kafka_queue")
    assert (ingest.name, release.name) == ("process billing.repayment.v1", "process repayment.risk.v1")
    assert [span.kind for span in (queue, ingest, release)] == [SpanKind.INTERNAL, SpanKind.CONSUMER, SpanKind.CONSUMER]
    assert dict(ingest.attributes or {})["messaging.destination.name"] == "billing.repayment.v1"


def test_what_goes_on_after_a_long_wait_is_a_new_trace_linked_to_the_first() -> None:
    spans = Traces().of([HELD])
    first, second = [span for span in spans if span.parent is None]
    assert ids(first)[0] == int(REPAYMENT, 16) != ids(second)[0]
    assert not first.links
    assert [(link.context.trace_id, link.context.span_id) for link in second.links] == [ids(first)]
    assert first.end_time == second.start_time
    assert [span.name for span in spans if parent_of(span) == ids(second)[1]] == ["process repayment.risk.v1"]


def test_long_work_is_no_wait() -> None:
    assert sum(span.parent is None for span in Traces().of([part(("risk", "system_delay.processing", 3_600))])) == 1


def test_a_part_that_ends_with_its_wait_is_one_trace() -> None:
    assert (
        sum(span.parent is None for span in Traces().of([part(("release", "risk_observation.risk_hold", 3_600))])) == 1
    )


def test_told_twice_it_is_the_same_spans_and_every_part_has_its_own() -> None:
    traces, other = Traces(), FAST._replace(tranche=2)
    once, again, beside = (traces.of([each]) for each in (FAST, FAST, other))
    assert [ids(span) for span in once] == [ids(span) for span in again]
    assert {ids(span)[1] for span in once}.isdisjoint(ids(span)[1] for span in beside)
    assert len({ids(span)[1] for span in once}) == len(once)


def test_a_part_that_waited_for_nothing_has_no_trace() -> None:
    assert Traces().of([FAST._replace(stretches=[])]) == []


def test_nothing_personal_is_in_a_span() -> None:
    for span in Traces().of([FAST, HELD]):
        assert (span.attributes or {}).keys() <= ATTRIBUTES


def test_without_opentelemetry_every_worker_runs_and_the_follower_says_what_is_missing() -> None:
    text = WITHOUT.format(names=[worker.package for worker in EVERYONE])
    given = {name: value for name, value in os.environ.items() if not name.startswith("OTB_")}
    done = subprocess.run([sys.executable, "-c", text], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 3, done.stderr
    assert done.stderr == "opentelemetry.exporter is missing: install the extra tracing\n"
