"""Every demand on the lag has its row in services/LAG.md, and every row names tests and commands that exist."""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
LAST_LINE = 12
LIES = (
    *("idle topic", "compacted topic", "paused consumer", "dead group", "rebalance", "rewind"),
    *("no committed offset", "retention", "late probe"),
)


class Row(NamedTuple):
    """A demand of the page."""

    line: int
    demand: str
    shown_by: str

    @property
    def tests(self) -> list[tuple[str, str]]:
        """Return the files and names of the tests it cites."""
        return re.findall(r"`([\w/]+\.py)::(\w+)`", self.shown_by)

    @property
    def commands(self) -> list[str]:
        """Return the commands it cites."""
        return re.findall(r"`((?:make|python -m) [\w.]+)`", self.shown_by)


def rows() -> list[Row]:
    """Read the table."""
    found = []
    for line in (ROOT / "services" / "LAG.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0].isdigit():
            number, demand, shown_by = cells
            found.append(Row(int(number), demand, shown_by))
    return found


ROWS = rows()


@cache
def named(file: str) -> frozenset[str]:
    """Return the names of a file's tests."""
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", (TESTS / file).read_text(), re.MULTILINE))


@cache
def played() -> frozenset[str]:
    """Return the names of the cases promtool plays."""
    files = (ROOT / "deploy" / "prometheus").glob("*_test.yml")
    return frozenset(case["name"] for file in files for case in yaml.safe_load(file.read_text())["tests"])


def exists(command: str) -> bool:
    """Tell whether there is such a target or module."""
    program, _, rest = command.partition(" ")
    if program == "make":
        return re.search(rf"^{rest}:", (ROOT / "Makefile").read_text(), re.MULTILINE) is not None
    return (ROOT / f"{rest.removeprefix('-m ').replace('.', '/')}.py").is_file()


def test_every_line_has_a_row_in_order() -> None:
    assert sorted({row.line for row in ROWS}) == list(range(1, LAST_LINE + 1))
    assert [row.line for row in ROWS] == sorted(row.line for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.line}: {row.demand}")
def test_what_shows_a_demand_exists(row: Row) -> None:
    assert row.tests or row.commands
    assert not [f"{file}::{name}" for file, name in row.tests if name not in named(file)]
    assert not [command for command in row.commands if not exists(command)]
    assert set(re.findall(r'"([^"]+)"', row.shown_by)) <= played()


def test_each_of_the_nine_lies_has_a_test_of_its_own() -> None:
    lies = [row for row in ROWS if row.line == 5]
    assert [row for row, lie in zip(lies, LIES, strict=True) if lie not in row.demand] == []
    assert len({row.tests[0] for row in lies}) == len(LIES)


def test_what_does_not_exist_is_seen() -> None:
    assert not exists("make tea")
    assert not exists("python -m tests.benchmarks.tea")
    assert "test_tea" not in named("unit/test_lag_ledger.py")
