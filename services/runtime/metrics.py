"""Metrics a worker keeps of its own attempts, as services/metrics/catalogue.py defines them; they restart with it."""

from collections.abc import Callable
from typing import Final, TypeVar, cast

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from services.metrics import catalogue
from services.metrics.catalogue import Metric

M = TypeVar("M", Counter, Gauge)
REGISTRY = CollectorRegistry()


def _kept(kind: type[M], metric: Metric) -> M:
    return kind(metric.family, metric.help, metric.labels, registry=REGISTRY)


def _spread(metric: Metric) -> Histogram:
    return Histogram(metric.family, metric.help, metric.labels, buckets=metric.buckets, registry=REGISTRY)


MESSAGES: Final = _kept(Counter, catalogue.WORKER_MESSAGES)
BATCH_SECONDS: Final = _spread(catalogue.WORKER_BATCH_SECONDS)
BATCH_EVENTS: Final = _spread(catalogue.WORKER_BATCH_EVENTS)
TIME: Final = _kept(Counter, catalogue.WORKER_TIME)
BUILD: Final = _kept(Gauge, catalogue.BUILD)
_OF_A_SERVICE: Final = (
    (MESSAGES, catalogue.WORKER_MESSAGES),
    (BATCH_SECONDS, catalogue.WORKER_BATCH_SECONDS),
    (BATCH_EVENTS, catalogue.WORKER_BATCH_EVENTS),
    (TIME, catalogue.WORKER_TIME),
)


def begin(service: str, version: str) -> None:
    """Make every series of ``service`` exist from the start."""
    cast(Callable[[], None], disable_created_metrics)()
    BUILD.labels(version, service).set(1)
    for kept, metric in _OF_A_SERVICE:
        for values in metric.label_sets({"service": (service,)}):
            kept.labels(*values)
