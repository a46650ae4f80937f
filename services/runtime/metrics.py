"""Metrics a worker keeps of its own attempts; they restart with it and carry no id as a label."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

REGISTRY = CollectorRegistry()
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
EVENTS = (1, 5, 20, 50, 100, 200, 350, 500)
MESSAGES = Counter(
    "credit_worker_messages", "Records and timers, by what became of them.", ["service", "outcome"], registry=REGISTRY
)
BATCH_SECONDS = Histogram(
    "credit_worker_batch_seconds",
    "Time of one batch, by step.",
    ["service", "step"],
    unit="seconds",
    buckets=SECONDS,
    registry=REGISTRY,
)
BATCH_EVENTS = Histogram(
    "credit_worker_batch_events", "Inputs in one batch.", ["service"], buckets=EVENTS, registry=REGISTRY
)
TIME = Counter(
    "credit_worker_time_seconds", "Where the loop's time goes.", ["service", "state"], unit="seconds", registry=REGISTRY
)
BUILD = Gauge("credit_build_info", "1, with the version that runs.", ["version", "service"], registry=REGISTRY)
OUTCOMES = ("applied", "duplicate", "stale", "conflict", "parked", "ignored", "dead_lettered", "retried")
STEPS = ("decode", "store", "publish")
STATES = ("idle", "busy", "rebalancing", "backing_off")


def begin(service: str, version: str) -> None:
    """Make every series of ``service`` exist from the start."""
    BUILD.labels(version, service).set(1)
    BATCH_EVENTS.labels(service)
    for outcome in OUTCOMES:
        MESSAGES.labels(service, outcome)
    for step in STEPS:
        BATCH_SECONDS.labels(service, step)
    for state in STATES:
        TIME.labels(service, state)
