"""Mutate the domains file by file, within a time, and hold what survives to survivors.toml."""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from services.runtime.clock import monotonic
from tests.mutation.outcome import KILLED_MIN, Outcome, known, outcome_of

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "build" / "mutate"
COPIED: Final = ("services", "schemas", "deploy", "tests", "README.md", "Makefile")
DEBT: Final = (
    "test_debt_ledger",
    "test_waterfall",
    "test_settlement",
    "test_replay",
    "test_rules_of_money",
    "test_properties",
)
CREDIT: Final = (
    "test_limit_release",
    "test_replays",
    "test_promises",
    "test_rules_of_money",
    "test_rules_of_availability",
    "test_rules_of_time",
    "test_properties",
)
RISK: Final = ("test_risk_scoring", "test_rules_of_risk", "test_rules_of_time", "test_properties_of_risk")
FILES: Final = {
    **{f"services/settlement/{name}.py": DEBT for name in ("waterfall", "replay", "model", "domain")},
    **{
        f"services/limit_release/{name}.py": CREDIT
        for name in ("model", "movements", "returns", "verdicts", "holds", "domain")
    },
    **{f"services/risk_scoring/{name}.py": RISK for name in ("domain", "model")},
    "services/repayment_ingest/domain.py": ("test_repayment_ingest", "test_rules_of_money", "test_properties"),
    "services/notifier/domain.py": ("test_notifier", "test_properties"),
}
"""What is mutated, and the unit tests that hold it."""


@dataclass(frozen=True)
class Asked:
    """What to mutate, for how long in all, and how many tests at once."""

    files: tuple[str, ...]
    seconds: float
    children: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when enough is killed and every survivor has its reason."""
    asked = _asked(arguments)
    deadline = monotonic() + asked.seconds
    outcomes = []
    for file in asked.files:
        outcome = _mutated(file, max(1.0, deadline - monotonic()), asked.children)
        outcomes.append(outcome)
        sys.stdout.write(f"{outcome.line()}\n")
        sys.stdout.flush()
    return _verdict(outcomes)


def _asked(arguments: Sequence[str] | None) -> Asked:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="files, for example '*/waterfall.py'")
    parser.add_argument("--seconds", type=float, default=5_400, help="bound of the whole run")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants tried at once")
    given = parser.parse_args(arguments)
    files = tuple(file for file in FILES if any(fnmatch(file, pattern) for pattern in given.patterns))
    if not files:
        parser.error("no such file is mutated")
    return Asked(files, given.seconds, given.children)


def _mutated(file: str, seconds: float, children: int) -> Outcome:
    """Run mutmut on one file in a copy of the checkout."""
    _copy(file)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(children)]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutate"}
    with (WORK / "log.txt").open("w") as log:
        try:
            subprocess.run(
                command, cwd=WORK, env=environment, stdout=log, stderr=subprocess.STDOUT, timeout=seconds, check=False
            )
        except subprocess.TimeoutExpired:
            log.write("out of time\n")
    return outcome_of(WORK, file)


def _copy(file: str) -> None:
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, WORK / name, ignore=unwanted)
        else:
            shutil.copy(source, WORK / name)
    tests = ", ".join(f'"tests/unit/{name}.py"' for name in FILES[file])
    settings = f"""
[tool.mutmut]
source_paths = ["services", "schemas", "deploy"]
only_mutate = ["{file}"]
also_copy = ["services", "schemas", "deploy", "README.md", "Makefile"]
pytest_add_cli_args = ["-p", "no:cacheprovider", "-p", "tests.mutation.plugin"]
pytest_add_cli_args_test_selection = [{tests}]
track_dependencies = false
use_git_change_detection = false
"""
    (WORK / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text() + settings)


def _verdict(outcomes: Sequence[Outcome]) -> int:
    killed, tried = sum(o.killed for o in outcomes), sum(o.tried for o in outcomes)
    unexplained = [s for o in outcomes for s in o.survivors if not s.explained(known())]
    for survivor in unexplained:
        sys.stdout.write(f"survived, no reason in survivors.toml:\n{survivor.entry()}\n")
    unreached = sum(o.unreached for o in outcomes)
    share = killed / tried if tried else 0.0
    explained = sum(len(o.survivors) for o in outcomes) - len(unexplained)
    sys.stdout.write(
        f"{killed} of {tried} mutants killed, {share:.1%}; {explained} survivors with a reason, "
        f"{len(unexplained)} without; {unreached} not reached in time\n"
    )
    return 0 if share >= KILLED_MIN and not unexplained and not unreached else 1


if __name__ == "__main__":
    sys.exit(main())
