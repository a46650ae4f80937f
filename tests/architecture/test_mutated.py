"""Every pure file of the services that move money is mutated, and it is said of which too few mutants are killed."""

import tomllib
from pathlib import Path

from tests.mutation.__main__ import FILES, SERVICES
from tests.mutation.numbers import changed, numbers
from tests.mutation.outcome import KILLED_MIN, figures_kept, undecorated

ROOT = Path(__file__).parents[2]
BELOW = {"services/risk_scoring/hazard.py"}
"""Files of which fewer are killed, figures in tests/mutation/killed.toml; each survivor has its reason."""

UNTRIED = {
    "services/console/opening.py",
    "services/lag_monitor/model.py",
    "services/lag_monitor/segments.py",
    "services/risk_scoring/accounts.py",
    "services/risk_scoring/credit.py",
    "services/risk_scoring/guards.py",
    "services/risk_scoring/limits.py",
    "services/risk_scoring/trials.py",
}
"""Files that are new and were not mutated yet: nothing is said of them."""


def pure() -> set[str]:
    """Return the files of those services that the contract of purity names."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (purity,) = (contract for contract in contracts if contract["id"] == "purity")
    modules = (str(module).split(".") for module in purity["source_modules"])
    return {"/".join(parts) + ".py" for parts in modules if parts[0] == "services" and parts[1] in SERVICES}


def test_every_pure_file_of_a_service_that_moves_money_is_mutated() -> None:
    assert pure() - UNTRIED <= set(FILES)
    assert not UNTRIED & set(FILES)
    for file in FILES:
        assert (ROOT / file).exists(), file


def test_enough_mutants_were_killed_of_every_file_that_is_not_named_as_below() -> None:
    kept = figures_kept()
    assert set(kept) == set(FILES)
    for file, (killed, tried, _) in kept.items():
        assert (killed / tried >= KILLED_MIN) is (file not in BELOW), file


def test_a_file_is_held_by_tests_there_are() -> None:
    for _, tests in SERVICES.values():
        for name in tests:
            assert (ROOT / "tests" / "unit" / f"{name}.py").exists(), name


def test_a_class_is_decorated_after_it_whatever_decorates_it() -> None:
    text = "@outer\n@inner(frozen=True)\nclass A:\n    x = 1\n\n\ny = A()\n"
    assert undecorated(text) == "class A:\n    x = 1\nA = outer(inner(frozen=True)(A))\n\n\ny = A()\n"


def test_a_number_outside_functions_is_found_and_made_another_one() -> None:
    text = 'X = 60  # \u00e9\nY = (True, "2", 0.5)\n\n\ndef f() -> int:\n    return 7\n'
    one, two = numbers(text)
    assert changed(text, one) == text.replace("60", "61")
    assert changed(text, two) == text.replace("0.5", "0.75")
