"""For mutmut: what it asks of pytest under its old name, and properties of few examples, the same each time."""

import pytest
from hypothesis import settings

pytest.Item._nodeid = property(lambda item: item.nodeid)  # type: ignore[attr-defined]
settings.register_profile("mutate", max_examples=25, deadline=None, derandomize=True, database=None)
