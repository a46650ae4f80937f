"""A machine whose own zone is none of ours."""

import time
from collections.abc import Iterator

import pytest


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine's own zone be 14 hours ahead of UTC: nothing that is decided may depend on it."""
    monkeypatch.setenv("TZ", "EAST-14")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
