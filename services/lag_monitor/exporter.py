"""What the ledger says now, as metrics. Counters and histograms are rows: a restart resets nothing, a replay adds none.

One process at a time exports: the leader reads a snapshot every few seconds and scrapes are answered from it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import accumulate
from typing import Final

from prometheus_client import Metric as Family
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar
from typing_extensions import override

from services.lag_monitor import gauges
from services.metrics.catalogue import METRICS, Metric
from services.runtime.postgres import Connection, Row

COUNTS = "SELECT metric, labels, n FROM lag_monitor.metric_count"
SPREADS = """
SELECT metric, labels, bucket, n, sum_ms, trace_id, trace_ms, trace_at FROM lag_monitor.metric_hist
ORDER BY metric, labels, bucket
"""
# Labels that are open to the deployment, as far as they were seen.
SEEN = """
SELECT ARRAY(SELECT DISTINCT labels[1] FROM lag_monitor.metric_count
  WHERE metric = 'credit_withheld_minor_seconds_total') AS currency,
  ARRAY(SELECT DISTINCT labels[2] FROM lag_monitor.metric_count WHERE metric = 'credit_repayments_total') AS source
"""
Labels = tuple[str, ...]
Edge = tuple[str, float] | tuple[str, float, Exemplar]
MS: Final = 1000
"""The ledger counts milliseconds, what is exported in seconds is divided by it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """One bucket of a histogram: how many were above the edge before it, their sum, and the latest of them."""

    n: int
    sum_ms: int
    exemplar: Exemplar | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The exported figures at one instant; a gauge that is absent has nothing to say."""

    counts: Mapping[tuple[str, Labels], float] = field(default_factory=dict)
    spreads: Mapping[tuple[str, Labels], Mapping[int, Bucket]] = field(default_factory=dict)
    gauges: Mapping[tuple[str, Labels], float] = field(default_factory=dict)
    known: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


async def read(connection: Connection) -> Snapshot:
    """Read everything that is exported from the ledger."""
    counts = {(row["metric"], tuple(row["labels"])): float(row["n"]) for row in await connection.fetch(COUNTS)}
    seen = (await connection.fetch(SEEN))[0]
    known = {name: tuple(sorted(seen[name])) for name in ("currency", "source")}
    return Snapshot(counts, _spreads(await connection.fetch(SPREADS)), await gauges.read(connection, known), known)


def _spreads(rows: Sequence[Row]) -> dict[tuple[str, Labels], dict[int, Bucket]]:
    found: dict[tuple[str, Labels], dict[int, Bucket]] = {}
    for row in rows:
        at: datetime | None = row["trace_at"]
        exemplar = None
        if row["trace_id"] is not None and at is not None:
            exemplar = Exemplar({"trace_id": row["trace_id"]}, row["trace_ms"] / MS, at.timestamp())
        bucket = Bucket(row["n"], row["sum_ms"], exemplar)
        found.setdefault((row["metric"], tuple(row["labels"])), {})[row["bucket"]] = bucket
    return found


class Ledger(Collector):
    """Answers scrapes from the leader's last snapshot; a process that does not lead has none and exports nothing."""

    def __init__(self) -> None:
        self.snapshot: Snapshot | None = None

    @override
    def collect(self) -> Iterator[Family]:
        """Yield every family of the catalogue that comes from the ledger or the probes."""
        if self.snapshot is not None:
            for metric in METRICS:
                if metric.origin != "worker":
                    yield family(metric, self.snapshot)


def family(metric: Metric, snapshot: Snapshot) -> Family:
    """Return one family with all its series; those that are not sparse begin at 0."""
    match metric.kind:
        case "counter":
            return _counter(metric, snapshot)
        case "gauge":
            return _gauge(metric, snapshot)
        case "histogram":
            return _histogram(metric, snapshot)


def _counter(metric: Metric, snapshot: Snapshot) -> Family:
    found = CounterMetricFamily(metric.family, metric.help, labels=metric.labels)
    scale = MS if "_seconds" in metric.name else 1
    for labels in _series(metric, snapshot, (at for name, at in snapshot.counts if name == metric.name)):
        found.add_metric(labels, snapshot.counts.get((metric.name, labels), 0.0) / scale)
    return found


def _gauge(metric: Metric, snapshot: Snapshot) -> Family:
    found = GaugeMetricFamily(metric.family, metric.help, labels=metric.labels)
    for (name, labels), value in snapshot.gauges.items():
        if name == metric.name:
            found.add_metric(labels, value)
    return found


def _histogram(metric: Metric, snapshot: Snapshot) -> Family:
    found = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels in _series(metric, snapshot, (at for name, at in snapshot.spreads if name == metric.name)):
        buckets = snapshot.spreads.get((metric.name, labels), {})
        found.add_metric(labels, _cumulated(metric, buckets), sum(b.sum_ms for b in buckets.values()) / MS)
    return found


def _cumulated(metric: Metric, buckets: Mapping[int, Bucket]) -> list[Edge]:
    """Return (edge, how many up to it, exemplar) for every edge and infinity."""
    edges = [*(str(edge) for edge in metric.buckets), "+Inf"]
    none = Bucket(0, 0, None)
    each = [buckets.get(n, none) for n in range(len(edges))]
    totals = accumulate(bucket.n for bucket in each)
    return [
        (edge, float(n), bucket.exemplar) if bucket.exemplar else (edge, float(n))
        for edge, n, bucket in zip(edges, totals, each, strict=True)
    ]


def _series(metric: Metric, snapshot: Snapshot, seen: Iterable[Labels]) -> list[Labels]:
    dense = [] if metric.sparse else metric.label_sets(snapshot.known)
    return list(dict.fromkeys((*dense, *seen)))
