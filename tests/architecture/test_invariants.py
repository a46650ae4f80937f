"""Every invariant has its row in services/INVARIANTS.md, every view is in it, and every row names a test there is."""

import ast
import re
from pathlib import Path
from typing import NamedTuple

import pytest

from services.cli.workers import EVERYONE
from services.migrate import texts_of

ROOT = Path(__file__).parents[2]
LAST = 25
VIEW = re.compile(r"^CREATE (?:OR REPLACE )?VIEW invariant_(\w+)", re.MULTILINE)
PYTHON = {"told_once", "offset_not_ahead", "accepted_is_decided", "source_reconciled", "audit_anchored"}
"""What no view can ask: Kafka, the receiver, and ids that SQL cannot derive."""


class Row(NamedTuple):
    """An invariant of the page."""

    number: int
    name: str
    where: str
    file: str
    test: str


def rows() -> list[Row]:
    """Read the table."""
    found = []
    for line in (ROOT / "services" / "INVARIANTS.md").read_text().splitlines():
        cells = [cell.strip().strip("`") for cell in line.strip("|").split(" | ")]
        if cells[0].isdigit():
            number, name, where, shown_by = cells
            file, _, test = shown_by.partition("::")
            found.append(Row(int(number), name, where, file, test))
    return found


ROWS = rows()


def views() -> dict[str, set[str]]:
    """Return the invariant views of every service's migrations."""
    return {worker.name: set(VIEW.findall("\n".join(texts_of(worker.package).values()))) for worker in EVERYONE}


def test_every_invariant_has_a_row_in_order() -> None:
    numbers = [row.number for row in ROWS]
    assert sorted(set(numbers)) == list(range(1, LAST + 1))
    assert numbers == sorted(numbers)


def test_every_view_has_a_row_where_it_is() -> None:
    told = {(row.where, row.name) for row in ROWS if row.name not in PYTHON}
    made = views()
    everywhere = set.intersection(*made.values())
    found = {("every service", name) for name in everywhere}
    found |= {(service, name) for service, names in made.items() for name in names - everywhere}
    assert told == found
    assert {row.name for row in ROWS} >= PYTHON


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_shows_that_an_invariant_can_fail_exists(row: Row) -> None:
    tree = ast.parse((ROOT / "tests" / row.file).read_text())
    assert row.test in {
        node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
