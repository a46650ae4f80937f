"""PromQL for panels: every selector filters the process it asks, and what the dashboard's variables choose."""

from typing import Final

from services.metrics.catalogue import Metric

CHOSEN: Final = ("tier", "stage", "slo", "currency")
"""Labels with a variable of their own on every dashboard."""
PROCESS: Final = 'job=~"$job", instance=~"$instance"'
STEP: Final = "$__rate_interval"
RANGE: Final = "$__range"
"""The whole time shown, for figures that stand for it."""


def of(metric: Metric, *matchers: str, part: str = "") -> str:
    """Return the selector of a metric; a label named in ``matchers`` is not chosen by its variable."""
    named = {matcher.partition("=")[0].rstrip("!") for matcher in matchers}
    chosen = [f'{label}=~"${label}"' for label in CHOSEN if label in metric.labels and label not in named]
    return f"{metric.name}{part}{{{', '.join([PROCESS, *matchers, *chosen])}}}"


def rate(metric: Metric, *matchers: str, part: str = "", over: str = STEP) -> str:
    """Return a counter's rate a second."""
    return f"rate({of(metric, *matchers, part=part)}[{over}])"


def increase(metric: Metric, *matchers: str, part: str = "", over: str = STEP) -> str:
    """Return by how much a counter grew."""
    return f"increase({of(metric, *matchers, part=part)}[{over}])"


def total(expression: str, by: str = "") -> str:
    """Return a sum, over everything or by labels."""
    return f"sum by ({by}) ({expression})" if by else f"sum({expression})"


def quantile(share: float, metric: Metric, by: str, *matchers: str) -> str:
    """Return a quantile of a classic histogram."""
    return f"histogram_quantile({share:g}, {total(rate(metric, *matchers, part='_bucket'), f'{by}, le'.lstrip(', '))})"


def ratio(above: str, below: str) -> str:
    """Return one sum divided by another, nothing where the other is 0."""
    return f"{above} / ({below} > 0)"


def age(metric: Metric, by: str, *matchers: str) -> str:
    """Return how long ago the earliest of a metric's instants is, in seconds."""
    return f"time() - min by ({by}) ({of(metric, *matchers)})"
