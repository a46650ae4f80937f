"""Tables in memory: rows are tuples in the order of their columns, and a statement is undone whole."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from typing import Any

import asyncpg

Values = Sequence[Any]
RowTuple = tuple[Any, ...]
Change = tuple[dict[Any, RowTuple], Any, RowTuple | None]
"""The rows of a table, the key of one, and what stood there."""


class Table:
    """Rows by their primary key, the first ``keys`` columns; every change is noted in the undo log."""

    def __init__(self, name: str, columns: str, keys: int, undo: list[Change]) -> None:
        self._at = _places(columns)
        self.name, self.columns, self.keys = name, tuple(self._at), keys
        self.rows: dict[Any, RowTuple] = {}
        self._undo = undo

    def key_of(self, row: RowTuple) -> Any:
        return row[0] if self.keys == 1 else row[: self.keys]

    def get(self, key: Any) -> RowTuple | None:
        return self.rows.get(key)

    def put(self, row: RowTuple) -> None:
        """Insert or replace a row."""
        key = row[0] if self.keys == 1 else row[: self.keys]
        self._undo.append((self.rows, key, self.rows.get(key)))
        self.rows[key] = row

    def insert(self, row: RowTuple) -> None:
        """Insert a row; raise as PostgreSQL does when its key is taken."""
        if self.key_of(row) in self.rows:
            raise asyncpg.UniqueViolationError(f'duplicate key value violates unique constraint "{self.name}_pkey"')
        self.put(row)

    def delete(self, key: Any) -> None:
        old = self.rows.pop(key, None)
        if old is not None:
            self._undo.append((self.rows, key, old))

    def changed(self, row: RowTuple, **values: Any) -> RowTuple:
        """Return ``row`` with other values."""
        made = list(row)
        for name, value in values.items():
            made[self._at[name]] = value
        return tuple(made)

    def named(self, row: RowTuple) -> dict[str, Any]:
        return dict(zip(self.columns, row, strict=True))

    def all(self) -> list[dict[str, Any]]:
        """Return every row by name, in the order of the keys."""
        return [self.named(self.rows[key]) for key in sorted(self.rows)]


@cache
def _places(columns: str) -> dict[str, int]:
    return {column: n for n, column in enumerate(columns.split())}


def zipped(columns: Sequence[Sequence[Any] | None]) -> Iterable[RowTuple]:
    """Return the rows that unnest() makes of arrays; null is no rows."""
    return zip(*columns, strict=True) if columns and columns[0] is not None else ()


def listing(found: Any) -> Sequence[Any]:
    """Return an array, which may be null."""
    return found or ()


def check(holds: bool, told: str) -> None:
    """Raise what a CHECK of PostgreSQL raises."""
    if not holds:
        raise asyncpg.CheckViolationError(told)


def restricted(allowed: bool, told: str) -> None:
    """Raise what a trigger of ours raises."""
    if not allowed:
        raise asyncpg.RestrictViolationError(told)


def jsonable(value: Any) -> Any:
    """Write an instant or a day as json_agg() does."""
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def instant(text: str) -> datetime:
    """Return an instant of an event."""
    return datetime.fromisoformat(text)
