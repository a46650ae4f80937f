"""Which worker is it?"""

from typing import Final

from services.metrics import catalogue
from services.watching.board import Board, Section
from services.watching.panels import Ask, graph
from services.watching.promql import age, of, quantile, rate, ratio, total

STAGES: Final = Board(
    uid="opentobuy-stages",
    title="3 · Stages and workers",
    description="How long each stage takes, what its worker does with its time, and what is before it in Kafka.",
    sections=(
        Section(
            "Stages",
            (
                graph(
                    "Stage duration, 99th percentile",
                    "Time of a restored part in a stage: in the queue before it, in our hands, or waiting"
                    " for anything else.",
                    "s",
                    Ask(quantile(0.99, catalogue.STAGE_DURATION, "stage, phase"), "{{stage}} {{phase}}"),
                    log=True,
                    width=24,
                ),
            ),
        ),
        Section(
            "Workers: attempts of each process, begun anew when it restarts",
            (
                graph(
                    "What the loop's time goes to",
                    "Share of each state of the workers' loops.",
                    "s",
                    Ask(total(rate(catalogue.WORKER_TIME), "service, state"), "{{service}} {{state}}"),
                    stack="percent",
                ),
                graph(
                    "Records by outcome",
                    "Records and timers a second, by what became of them.",
                    "cps",
                    Ask(total(rate(catalogue.WORKER_MESSAGES), "service, outcome"), "{{service}} {{outcome}}"),
                ),
                graph(
                    "Batch size",
                    "Mean inputs of a batch; at the bound the worker is behind.",
                    "short",
                    Ask(
                        ratio(
                            total(rate(catalogue.WORKER_BATCH_EVENTS, part="_sum"), "service"),
                            total(rate(catalogue.WORKER_BATCH_EVENTS, part="_count"), "service"),
                        ),
                        "{{service}}",
                    ),
                ),
                graph(
                    "Batch time by step, 99th percentile",
                    "Decoding, deciding and storing in one transaction, publishing.",
                    "s",
                    Ask(quantile(0.99, catalogue.WORKER_BATCH_SECONDS, "service, step"), "{{service}} {{step}}"),
                    log=True,
                ),
            ),
        ),
        Section(
            "Kafka and the outbox",
            (
                graph(
                    "Consumer lag in records",
                    "Records after the group's committed offset, by topic. The offset is a hint, at most a"
                    " batch behind the"
                    " books.",
                    "short",
                    Ask(f"sum by (group, topic) ({of(catalogue.CONSUMER_LAG)})", "{{group}} {{topic}}"),
                ),
                graph(
                    "Consumer lag in seconds",
                    "Age of the first record after the group's committed offset, read and not estimated; the"
                    " worst partition.",
                    "s",
                    Ask(f"max by (group, topic) ({of(catalogue.CONSUMER_LAG_SECONDS)})", "{{group}} {{topic}}"),
                ),
                graph(
                    "Partitions without a committed offset",
                    "Their lag is unknown, and not 0.",
                    "short",
                    Ask(f"sum by (group, topic) ({of(catalogue.UNCOMMITTED)})", "{{group}} {{topic}}"),
                ),
                graph(
                    "Outbox",
                    "Publications committed and not acknowledged by Kafka.",
                    "short",
                    Ask(f"max by (service) ({of(catalogue.OUTBOX)})", "{{service}}"),
                ),
                graph(
                    "Oldest in the outbox",
                    "Age of the oldest publication Kafka has not acknowledged; nothing where there is none.",
                    "s",
                    Ask(age(catalogue.OLDEST_OUTBOX, "service"), "{{service}}"),
                ),
            ),
        ),
    ),
)
