"""The observer's check of all books: one invariant after the other, and a rest after each."""

import asyncio
from typing import Any

import pytest

from services.lag_monitor import gauges
from services.metrics import catalogue

TOOK = {"a.short": 0.5, "b.long": 4.0}


async def test_all_books_are_read_bit_by_bit_and_a_long_look_is_rested_from_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, rests = 0.0, list[float]()

    class Books:
        """Of two invariants, one of which takes long to count."""

        async def execute(self, _: str) -> None: ...

        async def fetch(self, query: str, *asked: str, timeout: float | None = None) -> list[dict[str, Any]]:
            nonlocal now
            if query == gauges.INVARIANTS:
                return [{"invariant": name} for name in TOOK]
            now += TOOK[asked[0]]
            assert timeout == gauges.CHECK_SECONDS
            return [{"invariant": asked[0], "violations": len(asked[0])}]

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    monkeypatch.setattr(gauges, "monotonic", lambda: now)
    monkeypatch.setattr(asyncio, "sleep", sleep)
    books: Any = Books()
    found = await gauges.invariants(books, 30)
    assert found == {(catalogue.INVARIANTS.name, (name,)): float(len(name)) for name in TOOK}
    assert rests == [15.0, 120.0]
    rests.clear()
    await gauges.invariants(books)
    assert rests == [0, 0]
