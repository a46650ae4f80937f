"""Is the measurement itself right?"""

from typing import Final

from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.panels import GOOD_AT_ZERO, Ask, figure, graph, rows
from services.watching.promql import PROCESS, age, increase, of, quantile, total

MEASUREMENT: Final = Board(
    uid="opentobuy-measurement",
    title="7 · Is the measurement right?",
    description="What must be true before any other dashboard is believed.",
    sections=(
        Section(
            "The ledger",
            (
                figure(
                    "Invariants violated",
                    "Rows that break a rule that always holds; must be 0.",
                    "short",
                    Ask(total(f"max by (invariant) ({of(catalogue.INVARIANTS)})"), "violations", instant=True),
                    limits=GOOD_AT_ZERO,
                ),
                figure(
                    "Imbalance",
                    "What the availability ledger is off, in minor units; must be 0.",
                    "short",
                    Ask(f"max by (currency) ({of(catalogue.IMBALANCE)})", "{{currency}}", instant=True),
                    limits=GOOD_AT_ZERO,
                ),
                figure(
                    "Exporter's last success",
                    "How long ago the exporter read its ledger.",
                    "s",
                    Ask(f"time() - max({of(catalogue.EXPORTER_SUCCESS)})", "ago", instant=True),
                    limits=((None, "green"), (60, "red")),
                ),
                figure(
                    "Series",
                    "Series scraped from the processes of the pipeline.",
                    "none",
                    Ask(f"sum(scrape_samples_post_metric_relabeling{{{PROCESS}}})", "series", instant=True),
                    limits=((None, "green"), (3000, "red")),
                ),
                graph(
                    "Projection delay",
                    "Age of the oldest fact that is not in the counters yet.",
                    "s",
                    Ask(f"max({of(catalogue.PROJECTION_DELAY)})", "delay"),
                ),
                graph(
                    "Violations by invariant",
                    "Which rule is broken.",
                    "short",
                    Ask(f"max by (invariant) ({of(catalogue.INVARIANTS)})", "{{invariant}}"),
                ),
            ),
        ),
        Section(
            "Clocks and probes",
            (
                graph(
                    "Clock skew",
                    "How far another clock is ahead of the database's.",
                    "s",
                    Ask(f"max by (source) ({of(catalogue.CLOCK_SKEW)})", "{{source}}"),
                ),
                graph(
                    "Stamps moved",
                    "Stamps of another clock that were before the one they follow.",
                    "short",
                    Ask(total(increase(catalogue.CLOCK_CLAMPED), "source"), "{{source}}"),
                ),
                graph(
                    "Probe round trip, 95th percentile",
                    "Time of a test repayment through the whole pipeline, seen from outside.",
                    "s",
                    Ask(quantile(0.95, catalogue.PROBE_ROUNDTRIP, ""), "p95"),
                ),
                graph(
                    "Probes sent and lost",
                    "Test repayments, and those not back after 60 s.",
                    "short",
                    Ask(total(increase(catalogue.PROBES_SENT)), "sent"),
                    Ask(total(increase(catalogue.PROBES_LOST)), "lost"),
                ),
                graph(
                    "Probe heartbeat",
                    "How long ago a probe was last seen leaving each stage.",
                    "s",
                    Ask(age(catalogue.PROBE_SEEN, "stage"), "{{stage}}"),
                ),
            ),
        ),
        Section(
            "Alerts and versions",
            (
                rows(
                    "Alerts",
                    "What speaks now.",
                    Ask('ALERTS{alertname=~"Credit.*", alertstate="firing"}', instant=True),
                    widths={"alertname": 230},
                    hidden=("Time", "__name__", "alertstate", "Value"),
                    width=12,
                    height=8,
                ),
                rows(
                    "Versions",
                    "What runs.",
                    Ask(f"max by (service, version) ({of(catalogue.BUILD)})", instant=True),
                    hidden=("Time", "Value"),
                    width=12,
                    height=8,
                ),
            ),
        ),
    ),
)
