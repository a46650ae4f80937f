"""Hypothesis: 50 examples here, 500 the same ones each time on a build machine, HYPOTHESIS_PROFILE=deep for a hunt."""

import os
import time
from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=500, deadline=None, derandomize=True)
settings.register_profile(
    "deep", max_examples=20_000, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink]
)
settings.load_profile(os.getenv("HYPOTHESIS_PROFILE") or ("ci" if os.getenv("CI") or os.getenv("OTB_CI") else "dev"))


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the machine's own zone be 14 hours ahead of UTC: nothing that is decided may depend on it."""
    monkeypatch.setenv("TZ", "EAST-14")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()
