"""Every demand on risk has its row in services/RISK.md, and every row names tests and commands that exist."""

import pytest

from tests.architecture.pages import Row, rows

LINES = 20
ROWS = rows("RISK.md")


def test_every_line_has_a_row_in_order() -> None:
    assert sorted({row.line for row in ROWS}) == list(range(1, LINES + 1))
    assert [row.line for row in ROWS] == sorted(row.line for row in ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.line}: {row.demand}")
def test_what_shows_a_demand_exists(row: Row) -> None:
    assert row.tests or row.commands
    assert not row.absent
