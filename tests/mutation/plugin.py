"""For mutmut: tests called without pytest around them, and few examples of each property, the same each time."""

import contextlib
import inspect
import io
import sys
import warnings
from collections.abc import Iterable
from typing import Any, Final

import pytest
from hypothesis import Phase, settings

pytest.Item._nodeid = property(lambda item: item.nodeid)  # type: ignore[attr-defined]
settings.register_profile(
    "mutate",
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    report_multiple_bugs=False,
)
ITEMS: Final[dict[str, pytest.Function]] = {}
"""The tests of the run before the first mutant; each mutant is a fork of that process."""


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keep the tests for the forks, and let them be called there."""
    ITEMS.update({item.nodeid: item for item in session.items if isinstance(item, pytest.Function)})
    for name in ("__main__", "mutmut.__main__"):
        runner = getattr(sys.modules.get(name), "PytestRunner", None)
        if runner is not None and not hasattr(runner, "run_by_pytest"):
            runner.run_by_pytest, runner.run_tests = runner.run_tests, _run_tests


def _run_tests(runner: Any, *, mutant_name: str | None, tests: Iterable[str]) -> int:
    """Call the tests of a mutant one after the other until one fails; pytest would take twenty times as long."""
    if mutant_name is None:
        return int(runner.run_by_pytest(mutant_name=None, tests=tests))
    items = [ITEMS[name] for name in tests]
    plain = [item for item in items if _plain(item)]
    if any(_fails(item) for item in plain):
        return 1
    others = [item.nodeid for item in items if not _plain(item)]
    return int(runner.run_by_pytest(mutant_name=mutant_name, tests=others)) if others else 0


def _arguments(item: pytest.Function) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


def _plain(item: pytest.Function) -> bool:
    """Tell whether a test needs nothing of pytest's but its parameters."""
    needed = set(item.fixturenames) - set(_arguments(item))
    return not needed and not inspect.iscoroutinefunction(item.obj) and item.cls is None


def _fails(item: pytest.Function) -> bool:
    failed = True
    with contextlib.suppress(Exception, pytest.fail.Exception):
        _call(item)
        failed = False
    return failed


def _call(item: pytest.Function) -> None:
    quiet = contextlib.redirect_stdout(io.StringIO())
    with contextlib.suppress(pytest.skip.Exception), warnings.catch_warnings(), quiet:
        warnings.simplefilter("error")
        item.obj(**_arguments(item))
