"""Mutate the domains file by file, within a time, and hold what survives to survivors.toml."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Final

from services.runtime.clock import monotonic
from tests.mutation.outcome import KILLED_MIN, Outcome, known, outcome_of, recorded, try_again, undecorated

ROOT: Final = Path(__file__).parents[2]
WORK: Final = ROOT / "build" / "mutate"
COPIED: Final = ("services", "schemas", "deploy", "tests", "README.md", "Makefile", "pyproject.toml")
MONEY: Final = ("test_rules_of_money", "test_properties")
SERVICES: Final = {
    "limit_release": (
        ("heard", "movements", "returns", "domain", "holds", "verdicts", "facts", "model"),
        (
            "test_limit_release",
            "test_edges_of_credit",
            "test_edges_of_charges",
            "test_edges_of_waiting",
            "test_replays",
            "test_any_order",
            "test_heard",
            "test_promises",
            "test_rules_of_availability",
            "test_rules_of_time",
            "test_latest_word",
            "test_told_together",
            *MONEY,
        ),
    ),
    "settlement": (
        ("model", "facts", "domain", "replay", "waterfall"),
        (
            "test_debt_ledger",
            "test_edges_of_debt",
            "test_waterfall",
            "test_settlement",
            "test_replay",
            "test_edges_of_replay",
            *MONEY,
        ),
    ),
    "risk_scoring": (
        ("model", "hazard", "domain", "outcomes", "asking", "courses", "exposure"),
        (
            "test_risk_scoring",
            "test_guards_before_the_formula",
            "test_holds_decided_again",
            "test_limit_reviews",
            "test_referred_limits",
            "test_asked_reviews",
            "test_credit_months",
            "test_outcomes",
            "test_trials",
            "test_edges_of_reviews",
            "test_edges_of_risk",
            "test_rules_of_risk",
            "test_rules_of_time",
            "test_properties_of_risk",
            "test_hold_formula",
            "test_formula_decides",
            "test_edges_of_pricing",
            "test_latest_word",
            "test_replayed_decisions",
            "test_relief",
            "test_credit_score",
            "test_unused_credit",
            "test_return_read_first",
            "test_edges_of_exposure",
        ),
    ),
    "repayment_ingest": (("domain",), ("test_repayment_ingest", "test_edges_of_intake", *MONEY)),
    "notifier": (("domain",), ("test_notifier", "test_told_together", "test_edges_of_intake", "test_properties")),
    "console": (
        ("model", "domain"),
        ("test_cases", "test_edges_of_cases", "test_second_person", "test_referred_limits", "test_asked_reviews"),
    ),
    "lag_monitor": (("domain",), ("test_edges_of_lag", "test_lag_promises", "test_lag_ledger", "test_told_together")),
}
"""The files of each service that are mutated, and the unit tests that hold them."""
FILES: Final = {f"services/{service}/{name}.py": service for service, (names, _) in SERVICES.items() for name in names}
"""Every file that is mutated, and its service."""
PLUGINS: Final = (
    "cacheprovider",
    "unraisableexception",
    "threadexception",
    "faulthandler",
    "anyio",
    "asyncio",
    "timeout",
)
"""What of pytest no mutant needs; each would cost every one of thousands some milliseconds."""


@dataclass(frozen=True)
class Asked:
    """What to mutate, for how long in all, and how many tests at once."""

    files: tuple[str, ...]
    seconds: float
    children: int
    resume: bool
    again: bool
    record: bool


def main(arguments: Sequence[str] | None = None) -> int:
    """Return 0 when enough is killed and every survivor has its reason."""
    asked = _asked(arguments)
    deadline = monotonic() + asked.seconds
    outcomes = []
    for service, files in groupby(asked.files, FILES.__getitem__):
        for outcome in _mutated(service, tuple(files), max(1.0, deadline - monotonic()), asked):
            outcomes.append(outcome)
            sys.stdout.write(f"{outcome.line()}\n")
            sys.stdout.flush()
            if asked.record and not outcome.unreached:
                recorded(outcome)
    return _verdict(outcomes)


def _asked(arguments: Sequence[str] | None) -> Asked:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__)
    parser.add_argument("patterns", nargs="*", default=["*"], help="files, for example '*/waterfall.py'")
    parser.add_argument("--seconds", type=float, default=5_400, help="bound of the whole run")
    parser.add_argument("--children", type=int, default=os.cpu_count() or 1, help="mutants tried at once")
    parser.add_argument("--resume", action="store_true", help="try only what was not reached last time")
    parser.add_argument("--again", action="store_true", help="try what was not reached or survived last time")
    parser.add_argument("--record", action="store_true", help="write the figures to killed.toml")
    given = parser.parse_args(arguments)
    files = tuple(file for file in FILES if any(fnmatch(file, pattern) for pattern in given.patterns))
    if not files:
        parser.error("no such file is mutated")
    return Asked(files, given.seconds, given.children, given.resume, given.again, given.record)


def _mutated(service: str, files: Sequence[str], seconds: float, asked: Asked) -> list[Outcome]:
    """Run mutmut on files of one service in a copy of the checkout."""
    work = WORK / service
    if asked.again:
        try_again(work, files)
    elif not asked.resume:
        shutil.rmtree(work, ignore_errors=True)
    # Which tests reach which function is noted there: it would be that of the files and tests of last time.
    (work / "mutants" / "mutmut-stats.json").unlink(missing_ok=True)
    copied(work)
    for file in files:
        (work / file).write_text(undecorated((work / file).read_text()))
        shutil.copystat(ROOT / file, work / file)
    _configure(work, service, files)
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(asked.children)]
    environment = {**os.environ, "HYPOTHESIS_PROFILE": "mutate"}
    with (work / "log.txt").open("w") as log:
        run = subprocess.Popen(command, cwd=work, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(run.pid, signal.SIGKILL)
            run.wait()
            log.write("out of time\n")
    return [outcome_of(work, file) for file in files]


def copied(work: Path) -> None:
    """Copy the checkout as it is now; what mutmut noted stays."""
    work.mkdir(parents=True, exist_ok=True)
    unwanted = shutil.ignore_patterns("__pycache__", ".*")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.rmtree(work / name, ignore_errors=True)
            shutil.copytree(source, work / name, ignore=unwanted)
        else:
            shutil.copy(source, work / name)


def _configure(work: Path, service: str, files: Sequence[str]) -> None:
    """Write what mutmut and pytest are told."""
    _, tests = SERVICES[service]
    arguments = ["-p", "tests.mutation.plugin"]
    for plugin in PLUGINS:
        arguments += ["-p", f"no:{plugin}"]
    settings = f"""
[tool.mutmut]
source_paths = ["services", "schemas", "deploy"]
only_mutate = {_listed(files)}
also_copy = ["services", "schemas", "deploy", "README.md", "Makefile"]
pytest_add_cli_args = {_listed(arguments)}
pytest_add_cli_args_test_selection = {_listed(f"tests/unit/{name}.py" for name in tests)}
timeout_multiplier = 5.0
timeout_constant = 5.0
track_dependencies = false
use_git_change_detection = false

[tool.pytest.ini_options]
addopts = ["--strict-markers"]
filterwarnings = ["error"]
"""
    kept = (ROOT / "pyproject.toml").read_text().partition("[tool.pytest.ini_options]")[0]
    (work / "pyproject.toml").write_text(kept + settings)


def _listed(values: Iterable[str]) -> str:
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"


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
