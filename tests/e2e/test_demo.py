"""What a stranger does first: the demo, then the commands it names; and Ctrl-C in the middle."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from deploy.embedded import Stack
from deploy.embedded.programs import inherited_environment
from services.billing_simulator.plan import SCENARIOS
from services.runtime.clock import monotonic
from tests.conftest import cache_dir

DEMO_SECONDS: Final = 150.0
STOP_SECONDS: Final = 10.0


@dataclass(frozen=True)
class Demo:
    """A state folder of its own, and what the demo said in it."""

    folder: Path
    code: int
    said: str

    def otb(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the same state folder."""
        command = [sys.executable, "-m", "services.cli.main", *arguments]
        return run_to_its_end(command, self.folder, seconds=60)

    def json(self, *arguments: str) -> Any:
        """Run a command that succeeds and return what it prints."""
        done = self.otb(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    @property
    def run(self) -> str:
        """Return the label in every reference of this run."""
        found = re.search(r"rep_demo_case_a_(\w+)", self.said)
        assert found is not None, self.said
        return found[1]


def run_to_its_end(command: Sequence[str], folder: Path, *, seconds: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  # our own command line
        command, check=False, env=environment(folder), capture_output=True, text=True, timeout=seconds
    )


def environment(folder: Path) -> dict[str, str]:
    return inherited_environment() | {"OTB_STATE_DIR": str(folder), "OTB_CACHE_DIR": str(cache_dir())}


def processes_of(folder: Path) -> set[psutil.Process]:
    """Return what runs for a state folder: the supervisor and everything below it."""
    found = set()
    for path in (folder / "run").glob("supervisord.pid"):
        try:
            supervisor = psutil.Process(int(path.read_text()))
            found |= {supervisor, *supervisor.children(recursive=True)}
        except (psutil.Error, ValueError):
            continue
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo") / "state"
    command = [sys.executable, "-m", "services.cli.main", "demo", "--seconds", "3", "--plain"]
    try:
        done = run_to_its_end(command, folder, seconds=DEMO_SECONDS)
        yield Demo(folder, done.returncode, done.stdout + done.stderr)
    finally:
        Stack(folder, cache_dir()).down()


def test_the_demo_tells_every_story_and_finds_nothing_wrong(demo: Demo) -> None:
    assert demo.code == 0, demo.said
    told = demo.said.partition("4. What became of each named repayment")[2]
    for name in SCENARIOS:
        assert f"\n{name.replace('_', ' ')}\n" in told
    assert "killed settlement" in demo.said
    assert "settlement is ready again after" in demo.said
    assert "lost: 0" in demo.said
    held = re.search(r"(\d+) of (\d+) invariants hold over \d+ repayments", demo.said)
    assert held is not None
    assert held[1] == held[2]
    assert "您" in told
    assert "\x1b" not in demo.said


def test_its_workers_are_stopped_and_its_servers_run_on(demo: Demo) -> None:
    assert [each["name"] for each in demo.json("stack", "status")] == ["kafka", "postgres"]


def test_trace_adds_up_for_every_part(demo: Demo) -> None:
    traced = demo.json("trace", f"rep_demo_case_a_{demo.run}")
    assert [part["state"] for part in traced["tranches"]] == ["restored"] * 3
    assert [line["tranche"] for line in traced["timelines"]] == [1, 2, 3]
    for line in traced["timelines"]:
        assert line["adds_up"]
        assert sum(each["milliseconds"] for each in line["stretches"]) == line["milliseconds"]
    assert {row["state"] for row in traced["told"]} == {"delivered"}
    assert demo.json("trace", traced["repayment_id"][:12])["repayment_id"] == traced["repayment_id"]


def test_explain_says_the_same_in_both_languages_and_to_everyone(demo: Demo) -> None:
    named = f"billing:rep_demo_held_and_explained_{demo.run}"
    chinese, english = (demo.json("explain", named, "--lang", language) for language in ("zh-CN", "en"))
    assert chinese["record"] == english["record"]
    assert "¥1,000.00" in chinese["texts"][0]
    assert "CN¥1,000.00" in english["texts"][0]
    assert "RELEASE_TIMER" in demo.otb("explain", named, "--for", "agent").stdout
    assert demo.otb("explain", "no_such_repayment").returncode == 4


def test_check_holds_at_rest(demo: Demo) -> None:
    checked = demo.json("check", "--at-rest")
    assert checked["ok"]
    assert {"settled_is_booked", "restored_is_told", "offset_not_ahead", "rest_read_to_the_end"} <= {
        finding["name"] for finding in checked["findings"]
    }


def test_a_dead_letter_is_listed_shown_and_discarded_with_a_reason(demo: Demo) -> None:
    listed = demo.json("dlq", "list")
    assert [row["reason"] for row in listed] == ["not_json", "invalid:amount_minor:int_type"]
    identity = listed[0]["id"]
    assert demo.otb("dlq", "replay", identity).returncode == 1
    assert demo.json("dlq", "show", identity)["now"] == "still cannot be read: not_json"
    assert demo.json("dlq", "discard", identity)["changed"] is False
    assert demo.json("dlq", "discard", identity, "--yes", "--actor", "test", "--reason", "poison")["changed"] is True
    assert [row["id"] for row in demo.json("dlq", "list")] == [listed[1]["id"]]
    assert demo.json("check")["ok"]


def test_lag_splits_what_was_restored(demo: Demo) -> None:
    shown = demo.json("lag", "--seconds", "600")
    assert shown["repaid_to_restored"]["restored after a hold"]["parts"] >= 4
    assert all(stage["waiting"] == 0 for stage in shown["stages"].values())


def test_ctrl_c_in_the_middle_leaves_nothing_running(demo: Demo) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "services.cli.main", "demo", "--seconds", "60", "--plain"],
        env=environment(demo.folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert running.stdout is not None
    with running:
        said = []
        for line in running.stdout:
            said.append(line)
            if line.startswith("2. "):
                break
        processes = processes_of(demo.folder)
        assert len(processes) >= 8, said
        begun = monotonic()
        running.send_signal(signal.SIGINT)
        rest, _ = running.communicate(timeout=60)
        took = monotonic() - begun
    _, left = psutil.wait_procs(list(processes), timeout=1)
    assert left == []
    assert running.returncode == 130
    assert rest.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in rest
    assert took < STOP_SECONDS
