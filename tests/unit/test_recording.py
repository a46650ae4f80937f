"""The one statement that writes: parts with nothing to write are left out, parameters are counted anew."""

import re

import pytest

from services.cli.workers import EVERYONE
from services.runtime.outbox import PARAMETERS, recording
from services.runtime.worker import AnyWorker

WRITES = """
guarded AS (INSERT INTO a SELECT * FROM unnest($1::a[]) RETURNING 1),
more AS (INSERT INTO b SELECT * FROM unnest($2::b[]))
"""
EVERY = frozenset(range(PARAMETERS))


def numbers(sql: str) -> list[int]:
    return sorted({int(number) for number in re.findall(r"\$(\d+)", sql)})


def test_all_of_it_takes_every_value_once() -> None:
    statement, taken = recording(WRITES)
    assert taken == [*range(PARAMETERS), PARAMETERS, PARAMETERS + 1, PARAMETERS + 2]
    assert numbers(statement) == [n + 1 for n in taken]
    for name in (
        "moved",
        "remembered",
        "published",
        "kept",
        "set_timers",
        "cleared",
        "acknowledged",
        "guarded",
        "more",
    ):
        assert f"{name} AS (" in statement


def test_what_has_no_rows_is_left_out_and_the_rest_is_counted_from_one() -> None:
    statement, taken = recording(WRITES, EVERY - {0} | {PARAMETERS + 2})
    assert taken == [0, PARAMETERS, PARAMETERS + 1]
    assert numbers(statement) == [1, 2, 3]
    assert "unnest($1::progress[])" in statement
    assert "expect((SELECT count(*) FROM moved), cardinality($1::progress[]), 'OT001')" in statement
    assert "expect((SELECT count(*) FROM guarded), $2, '40001')" in statement
    assert "unnest($3::a[])" in statement
    assert "more AS" not in statement
    assert "published" not in statement


def test_a_guard_that_must_find_rows_stays_though_it_was_given_none() -> None:
    statement, taken = recording(WRITES, EVERY | {PARAMETERS + 1})
    assert taken == [PARAMETERS, PARAMETERS + 1, PARAMETERS + 2]
    assert "expect((SELECT count(*) FROM guarded), $1, '40001')" in statement
    statement, taken = recording(WRITES, EVERY | {PARAMETERS, PARAMETERS + 1})
    assert taken == [PARAMETERS + 2]
    assert "guarded" not in statement


def test_a_batch_that_moves_nothing_is_not_asked_for_its_place() -> None:
    statement, taken = recording("", EVERY - {4, 5})
    assert taken == [4, 5]
    assert "OT001" not in statement
    assert statement.endswith("SELECT 1")


def test_nothing_to_write_is_no_statement() -> None:
    assert recording("", EVERY)[1] == []


@pytest.mark.parametrize("worker", EVERYONE, ids=lambda worker: worker.name)
def test_every_part_of_a_store_is_written_and_its_guard_asked(worker: AnyWorker) -> None:
    statement, taken = recording(worker.keeps.writes)
    for name in re.findall(r"(?m)^(\w+) AS \(", worker.keeps.writes):
        assert f"{name} AS (" in statement
    assert "expect((SELECT count(*) FROM guarded)" in statement
    assert numbers(statement) == [n + 1 for n in range(len(taken))]
