"""The catalogue of metrics: names that mean one thing, labels that are closed, and workers that export what it says."""

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from schemas.reasons import CAUSES
from services.cli.workers import WORKERS
from services.metrics.catalogue import BY_NAME, METRICS, RESTORATION_LAG, SECONDS, Metric
from services.metrics.labels import CLASS_OF, LABELS, RAILS, STAGE_CAUSES, dead_letter_label, rail_label
from services.profiles import load_profiles
from services.runtime import metrics
from services.runtime.settings import Settings

ROOT = Path(__file__).parents[2]
FORBIDDEN = re.compile(r"account|repayment_id|customer|message_id|event|trace|user|card|phone|_id$|^id$")
SERIES_DENSE_MAX = 1_500
SERIES_SPARSE_MAX = 1_700
PARTITIONS = 6


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_definition_is_whole(metric: Metric) -> None:
    assert re.fullmatch(r"credit_[a-z][a-z_]*[a-z]", metric.name)
    assert (metric.kind == "counter") == metric.name.endswith("_total")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert metric.help.endswith((".", "0."))
    assert metric.unit != "seconds" or "_seconds" in metric.name
    assert not [label for label in metric.labels if FORBIDDEN.search(label)]


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_label_has_a_list_and_every_value_belongs_to_it(metric: Metric) -> None:
    assert set(metric.labels) <= LABELS.keys()
    assert set(dict(metric.values)) <= set(metric.labels)
    for values in metric.label_sets({"currency": ("CNY",), "service": ("x",)}):
        for label, value in zip(metric.labels, values, strict=True):
            listed = dict(metric.values).get(label) or LABELS[label]
            assert listed is None or value in listed


def test_no_two_metrics_share_a_name() -> None:
    assert len(BY_NAME) == len(METRICS)


def test_causes_without_their_class_are_still_told_apart() -> None:
    assert len(CLASS_OF) == len(CAUSES)
    assert {cause for causes in STAGE_CAUSES.values() for cause in causes} == set(CLASS_OF)


def test_every_rail_of_a_product_has_a_label() -> None:
    assert {rail for profile in load_profiles(Settings()).by_product.values() for rail in profile.rails} == set(RAILS)


def test_every_reason_of_a_dead_letter_has_a_label() -> None:
    said = {reason for path in (ROOT / "services").rglob("*.py") for reason in _malformed(path)}
    assert len(said) > 10
    assert not [reason for reason in said if dead_letter_label(reason) == "other"]
    assert dead_letter_label("unknown_product:of somebody") == "unknown_product"
    assert dead_letter_label("of somebody") == "other"


def test_a_rail_nobody_listed_is_unknown() -> None:
    assert (rail_label("card"), rail_label("carrier pigeon")) == ("card", "unknown")


def test_edges_of_a_lag_grow_from_a_millisecond_to_thirty_days() -> None:
    assert list(SECONDS) == sorted(set(SECONDS))
    assert (SECONDS[0], SECONDS[-1], len(SECONDS)) == (0.001, 30 * 86_400.0, 25)
    assert RESTORATION_LAG.exemplar


def test_the_whole_catalogue_stays_small() -> None:
    sizes = {metric: _series(metric) for metric in METRICS}
    assert sum(size for metric, size in sizes.items() if not metric.sparse) <= SERIES_DENSE_MAX
    assert sum(size for metric, size in sizes.items() if metric.sparse) <= SERIES_SPARSE_MAX


def test_a_worker_exports_its_part_of_the_catalogue_and_nothing_else() -> None:
    metrics.begin("catalogue-test", "0")
    families = {
        family.name: family for family in text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
    }
    workers = {metric.family: metric for metric in METRICS if metric.origin == "worker"}
    assert families.keys() == workers.keys()
    for name, metric in workers.items():
        assert (families[name].type, families[name].documentation) == (metric.kind, metric.help)
        found = {_labels(sample.labels) for sample in families[name].samples if "service" in sample.labels}
        assert {tuple(sorted(metric.labels))} == {tuple(sorted(dict(labels))) for labels in found}


def test_a_worker_s_series_exist_before_anything_happened() -> None:
    metrics.begin("catalogue-test", "0")
    text = generate_latest(metrics.REGISTRY).decode()
    for metric in METRICS:
        if metric.origin == "worker":
            expected = len(metric.label_sets({"service": ("catalogue-test",), "version": ("0",)}))
            name = f"{metric.name}_count" if metric.buckets else metric.name
            lines = [line for line in text.splitlines() if line.startswith(name + "{") and "catalogue-test" in line]
            assert len(lines) == expected


def test_a_series_tells_nothing_of_when_it_began() -> None:
    metrics.begin("catalogue-test", "0")
    assert b"_created" not in generate_latest(metrics.REGISTRY)


def _malformed(path: Path) -> Iterator[str]:
    """Return the reasons a file raises Malformed with, as far as they are written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Malformed":
            first = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value)


def _labels(labels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, value) for name, value in labels.items() if name != "le"))


def _series(metric: Metric) -> int:
    """Return how many series a family has on a stack of six partitions, one currency and billing's source."""
    group_topics = sum(len(worker.topics) for worker in WORKERS) + 12
    if metric.labels[:1] == ("group",):
        return group_topics * (PARTITIONS if "partition" in metric.labels else 1)
    known = {
        "currency": ("CNY",),
        "source": ("core", "probe"),
        "service": tuple(worker.name for worker in WORKERS),
        "invariant": tuple(map(str, range(60))),
        "version": ("0",),
    }
    return len(metric.label_sets(known)) * (len(metric.buckets) + 3 if metric.buckets else 1)
