"""Every demand on the lag has its row in services/LAG.md, and every row names tests and commands that exist."""

import re
from functools import cache

import pytest
import yaml

from tests.architecture.pages import ROOT, Row, exists, named, rows

LAST_LINE = 12
LIES = (
    *("idle topic", "compacted topic", "paused consumer", "dead group", "rebalance", "rewind"),
    *("no committed offset", "retention", "late probe"),
)


ROWS = rows("LAG.md")


@cache
def played() -> frozenset[str]:
    """Return the names of the cases promtool plays."""
    files = (ROOT / "deploy" / "prometheus").glob("*_test.yml")
    return frozenset(case["name"] for file in files for case in yaml.safe_load(file.read_text())["tests"])


def test_every_line_has_a_row_in_order() -> None:
    assert sorted({row.line for row in ROWS}) == list(range(1, LAST_LINE + 1))
    assert [row.line for row in ROWS] == sorted(row.line for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.line}: {row.demand}")
def test_what_shows_a_demand_exists(row: Row) -> None:
    assert row.tests or row.commands
    assert not row.absent
    assert set(re.findall(r'"([^"]+)"', row.shown_by)) <= played()


def test_each_of_the_nine_lies_has_a_test_of_its_own() -> None:
    lies = [row for row in ROWS if row.line == 5]
    assert [row for row, lie in zip(lies, LIES, strict=True) if lie not in row.demand] == []
    assert len({row.tests[0] for row in lies}) == len(LIES)


def test_what_does_not_exist_is_seen() -> None:
    assert not exists("make tea")
    assert not exists("python -m tests.benchmarks.tea")
    assert "test_tea" not in named("unit/test_lag_ledger.py")
