"""Every metric there is: name, type, unit, labels, help. Definitions only, for exporters, rules, panels and tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Final, Literal

from schemas.reasons import STAGES
from services.metrics.labels import (
    CLASS_OF,
    DEAD_LETTER_REASONS,
    LABELS,
    NOTIFY,
    OUTCOME_REASONS,
    STAGE_CAUSES,
    STAGE_PHASES,
)

Kind = Literal["counter", "gauge", "histogram"]
Origin = Literal["ledger", "probe", "worker"]
"""Who exports it: lag_monitor from its ledger, its probes, or every worker of its own attempts."""

SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    *(300.0, 900.0, 3_600.0, 21_600.0, 86_400.0, 172_800.0, 259_200.0, 604_800.0, 1_209_600.0, 2_592_000.0),
)
"""Bucket edges of every lag: from a millisecond to thirty days."""
BATCH_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0)
BATCH_EVENTS: Final = (1.0, 5.0, 20.0, 50.0, 100.0, 200.0, 350.0, 500.0)


@dataclass(frozen=True, slots=True)
class Metric:
    """One family: ``name`` as it is scraped, ``values`` what a label may be where that is not the label's own list.

    ``together`` are values that occur together where not every combination does, of the last of ``labels``. A
    ``sparse`` family's series come with their first fact; every other closed one begins at 0.
    """

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    origin: Origin
    help: str
    buckets: tuple[float, ...] = ()
    values: tuple[tuple[str, tuple[str, ...]], ...] = ()
    together: tuple[tuple[str, ...], ...] = ()
    sparse: bool = False
    exemplar: bool = False

    @property
    def family(self) -> str:
        """Return the name as prometheus_client's constructors want it: a counter's without ``_total``."""
        return self.name.removesuffix("_total") if self.kind == "counter" else self.name

    @property
    def samples(self) -> tuple[str, ...]:
        """Return the names a query can ask for."""
        if self.kind != "histogram":
            return (self.name,)
        return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))

    def label_sets(self, known: Mapping[str, tuple[str, ...]] | None = None) -> list[tuple[str, ...]]:
        """Return every combination of label values; ``known`` are the values of open labels, none by default."""
        own, known = dict(self.values), known or {}
        lists = [own.get(label) or LABELS[label] or known.get(label, ()) for label in self.labels]
        return list(product(*lists)) if not self.together else self._related(lists)

    def _related(self, lists: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
        free = lists[: len(self.labels) - len(self.together[0])]
        return [(*before, *related) for before in product(*free) for related in self.together]


_PAIRS: Final = tuple((stage, phase) for stage, phases in STAGE_PHASES.items() for phase in phases)
_STAGE_CAUSE: Final = tuple((stage, c, CLASS_OF[c]) for stage, causes in STAGE_CAUSES.items() for c in causes)
_SET_ASIDE_IN: Final = ("ingest", "settlement", "risk", "release", NOTIFY, "console")
"""Where a record can be set aside: the console stands in no stage."""
_STAGE_CLASS: Final = tuple(dict.fromkeys((stage, kind) for stage, _, kind in _STAGE_CAUSE if stage != NOTIFY))
_OUTCOMES: Final = tuple((outcome, str(reason)) for outcome, reasons in OUTCOME_REASONS.items() for reason in reasons)
_HELD: Final = (("cause", ("risk_hold", "manual_review", "frozen", "overdue_elsewhere")),)
_MET: Final = (("outcome", ("met", "breached")),)
_TOLD: Final = (("outcome", ("requested", "delivered", "undeliverable", "suppressed", "told_together")),)
_HANDLED: Final = ("applied", "duplicate", "stale", "conflict", "parked", "ignored", "dead_lettered", "retried")
_ASKED: Final = (("topic", ("why_not_restored", "when", "amount", "limit", "other")),)
_TRIED: Final = (("outcome", ("shadow", "canary", "ended", "gone_back")),)
_FIRST: Final = (("outcome", ("at_once", "held")),)
_CLOCKS: Final = (("source", ("billing", "broker")),)


def _counter(name: str, unit: str, labels: tuple[str, ...], text: str, **more: Any) -> Metric:
    return Metric(f"credit_{name}_total", "counter", unit, labels, more.pop("origin", "ledger"), text, **more)


def _gauge(name: str, unit: str, labels: tuple[str, ...], text: str, **more: Any) -> Metric:
    return Metric(f"credit_{name}", "gauge", unit, labels, more.pop("origin", "ledger"), text, **more)


def _histogram(name: str, unit: str, labels: tuple[str, ...], text: str, **more: Any) -> Metric:
    buckets = more.pop("buckets", SECONDS)
    return Metric(
        f"credit_{name}", "histogram", unit, labels, more.pop("origin", "ledger"), text, buckets=buckets, **more
    )


RESTORATION_LAG: Final = _histogram(
    "restoration_lag_seconds",
    "seconds",
    ("tier", "cause"),
    "Time of one restored part from repaid to restored, under the cause that took most of it.",
    values=(("cause", tuple(cause for cause in CLASS_OF if cause != "channel_wait")),),
    sparse=True,
    exemplar=True,
)
ATTRIBUTED: Final = _counter(
    "restoration_attributed_seconds",
    "seconds",
    ("tier", "stage", "cause", "cause_class"),
    "Seconds of restored parts by what they were spent on; together they are the lag.",
    together=tuple(each for each in _STAGE_CAUSE if each[0] != NOTIFY),
)
WITHHELD: Final = _counter(
    "withheld_minor_seconds",
    "minor units x s",
    ("currency", "cause_class"),
    "Amount of restored parts times the seconds each cause class kept it back.",
)
RESTORED_AMOUNT: Final = _counter(
    "restored_minor_units",
    "minor units",
    ("tier", "rail", "currency"),
    "Amount of credit that came back; what amount-weighted figures are divided by.",
)
HELD_SECONDS: Final = _counter(
    "observed_minor_seconds",
    "minor units x s",
    ("tier", "rail", "currency"),
    "Amount of restored parts times the seconds that risk observation kept it back, by whom it met.",
)
STAGE_DURATION: Final = _histogram(
    "stage_duration_seconds",
    "seconds",
    ("stage", "phase"),
    "Time of one restored part in a stage: in the queue before it, in our hands, or waiting for anything else.",
    together=_PAIRS,
    sparse=True,
)
REPAYMENTS: Final = _counter("repayments", "", ("tier", "source"), "Repayments that billing reported as succeeded.")
ASSESSED: Final = _counter(
    "assessed_repayments",
    "",
    ("tier", "rail", "outcome"),
    "Repayments with credit to give back, by whether the first verdict gave back all of it at once or held some.",
    values=_FIRST,
)
RESTORATIONS: Final = _counter("restorations", "", ("tier",), "Parts of repayments whose credit came back.")
OUTCOMES: Final = _counter("outcomes", "", ("outcome", "reason"), "Parts by how they ended.", together=_OUTCOMES)
SLA_OUTCOMES: Final = _counter(
    "sla_outcomes", "", ("slo", "outcome"), "Promises decided: each once, at its deadline or before.", values=_MET
)
SLA_OVERDUE: Final = _gauge(
    "sla_overdue", "", ("slo", "cause"), "Promises past their deadline whose credit is not back, by what it waits for."
)
PENDING: Final = _gauge(
    "pending_repayments",
    "",
    ("tier", "stage", "cause_class"),
    "Repayments that wait, where and for what.",
    together=_STAGE_CLASS,
)
PENDING_AMOUNT: Final = _gauge(
    "pending_amount_minor_units",
    "minor units",
    ("currency", "stage", "cause_class"),
    "Credit that waits, where and for what.",
    together=_STAGE_CLASS,
)
OLDEST_PENDING: Final = _gauge(
    "oldest_pending_repaid_timestamp_seconds",
    "unix seconds",
    ("stage", "cause_class"),
    "When the longest waiting repayment was repaid; absent where nothing waits.",
    together=_STAGE_CLASS,
)
HELD: Final = _gauge("held_tranches", "", ("cause",), "Parts kept back until a date or a condition.", values=_HELD)
HELD_AMOUNT: Final = _gauge(
    "held_amount_minor_units",
    "minor units",
    ("cause", "currency"),
    "Credit kept back until a date or a condition.",
    values=_HELD,
)
NEXT_PROMISED: Final = _gauge(
    "hold_next_promised_timestamp_seconds",
    "unix seconds",
    (),
    "The earliest promised date of what is held; absent where nothing is.",
)
RETURNABLE: Final = _gauge(
    "returnable_amount_minor_units",
    "minor units",
    ("rail", "currency"),
    "Credit given back that the rail can still take away.",
)
DEAD_LETTERS: Final = _gauge(
    "dead_letters",
    "",
    ("stage", "reason"),
    "Records set aside that nobody closed.",
    values=(("stage", _SET_ASIDE_IN), ("reason", DEAD_LETTER_REASONS)),
)
OLDEST_DEAD_LETTER: Final = _gauge(
    "dead_letter_oldest_timestamp_seconds",
    "unix seconds",
    ("stage",),
    "When the oldest open dead letter was set aside; absent where there is none.",
    values=(("stage", _SET_ASIDE_IN),),
)
OUTBOX: Final = _gauge("outbox_unpublished", "", ("service",), "Publications committed and not yet acknowledged.")
OLDEST_OUTBOX: Final = _gauge(
    "outbox_oldest_timestamp_seconds",
    "unix seconds",
    ("service",),
    "When the oldest unacknowledged publication was committed; absent where there is none.",
)
NOTIFICATIONS: Final = _counter(
    "notifications", "", ("channel", "template", "outcome"), "Messages by what became of them.", values=_TOLD
)
NOTIFICATION_LAG: Final = _histogram(
    "notification_lag_seconds", "seconds", ("channel",), "Time from restored to the first delivery acknowledged."
)
FEEDBACK: Final = _counter("feedback", "", ("topic",), "Questions and complaints of customers.", values=_ASKED)
CASES: Final = _gauge("cases_open", "", ("kind", "priority"), "Cases nobody resolved.")
OLDEST_CASE: Final = _gauge(
    "case_oldest_due_timestamp_seconds",
    "unix seconds",
    ("kind", "priority"),
    "The earliest due time of an open case; absent where there is none.",
)
MODEL_TRIALS: Final = _gauge(
    "model_trials",
    "",
    ("outcome",),
    "Return models tried beside the one in force; ended is one that broke a rule and decides nothing any more,"
    " gone_back one that was in force.",
    values=_TRIED,
)
EXPOSED: Final = _gauge(
    "exposed_minor_units",
    "minor units",
    ("product",),
    "Given back on rails that may still take it back: what a product's budget bounds.",
)
OVER_BUDGET: Final = _gauge(
    "over_budget_repayments",
    "",
    (),
    "Repayments of the last 15 minutes that the portfolio's spent budget kept back.",
)
RELIEF: Final = _gauge(
    "relief_in_force",
    "",
    ("product",),
    "1 while the instant cap of tiers A and B is wider because our own delay burns an objective, 0 after.",
)
RELIEF_SPENT: Final = _gauge(
    "relief_spent_minor_units",
    "minor units",
    ("product",),
    "What is expected to be lost of what reliefs of the last day gave back sooner, as last counted.",
)
RELIEF_BUDGET: Final = _gauge(
    "relief_budget_minor_units", "minor units", ("product",), "What a product's reliefs may lose in a day."
)
INVARIANTS: Final = _gauge(
    "invariant_violations", "", ("invariant",), "Rows that break an invariant; anything but 0 is a defect."
)
IMBALANCE: Final = _gauge(
    "ledger_imbalance_minor_units", "minor units", ("currency",), "What the availability ledger is off; must be 0."
)
EXPORTER_SUCCESS: Final = _gauge(
    "lag_exporter_last_success_timestamp_seconds",
    "unix seconds",
    (),
    "When the lag exporter last read its ledger; if it ages, nothing here can be trusted.",
)
PROJECTION_DELAY: Final = _gauge(
    "lag_projection_delay_seconds", "seconds", (), "Age of the oldest fact that is not in the counters yet."
)
UNATTRIBUTED: Final = _counter(
    "unattributed_ms", "ms", (), "Milliseconds of lag that no recorded interval explains; must be 0."
)
CLOCK_SKEW: Final = _gauge(
    "clock_skew_seconds", "seconds", ("source",), "How far another clock is ahead of the database's.", values=_CLOCKS
)
CLOCK_CLAMPED: Final = _counter(
    "clock_skew_clamped",
    "",
    ("source",),
    "Stamps of another clock that were before the previous one and moved up to it.",
    values=_CLOCKS,
)
CONSUMER_LAG: Final = _gauge(
    "consumer_lag_messages",
    "",
    ("group", "topic", "partition"),
    "Records after the group's committed offset.",
    origin="probe",
)
CONSUMER_LAG_SECONDS: Final = _gauge(
    "consumer_lag_seconds",
    "seconds",
    ("group", "topic", "partition"),
    "Age of the first record after the group's committed offset; 0 where there is none.",
    origin="probe",
)
UNCOMMITTED: Final = _gauge(
    "consumer_uncommitted_partitions",
    "",
    ("group", "topic"),
    "Partitions of which the group has no committed offset, so that their lag is unknown.",
    origin="probe",
)
PROBE_ROUNDTRIP: Final = _histogram(
    "probe_roundtrip_seconds",
    "seconds",
    (),
    "Time of a probe's repayment through the whole pipeline, late ones too.",
    origin="probe",
)
PROBES_SENT: Final = _counter("probe_sent", "", (), "Probe repayments sent.", origin="probe")
PROBES_LOST: Final = _counter("probe_lost", "", (), "Probe repayments not back after 60 s.", origin="probe")
PROBE_SEEN: Final = _gauge(
    "probe_last_seen_timestamp_seconds",
    "unix seconds",
    ("stage",),
    "When a probe was last seen leaving a stage.",
    values=(("stage", STAGES),),
    origin="probe",
)
WORKER_MESSAGES: Final = _counter(
    "worker_messages",
    "",
    ("service", "outcome"),
    "Records and timers, by what became of them.",
    values=(("outcome", _HANDLED),),
    origin="worker",
)
WORKER_TIME: Final = _counter(
    "worker_time_seconds", "seconds", ("service", "state"), "Where the loop's time goes.", origin="worker"
)
WORKER_BATCH_SECONDS: Final = _histogram(
    "worker_batch_seconds",
    "seconds",
    ("service", "step"),
    "Time of one batch, by step.",
    buckets=BATCH_SECONDS,
    origin="worker",
)
WORKER_BATCH_EVENTS: Final = _histogram(
    "worker_batch_events", "", ("service",), "Inputs in one batch.", buckets=BATCH_EVENTS, origin="worker"
)
BUILD: Final = _gauge("build_info", "", ("version", "service"), "1, with the version that runs.", origin="worker")

METRICS: Final[tuple[Metric, ...]] = tuple(value for value in vars().values() if isinstance(value, Metric))
BY_NAME: Final = {metric.name: metric for metric in METRICS}
