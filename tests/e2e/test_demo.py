"""What a stranger does first: the demo, then the commands it names; and Ctrl-C in the middle."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from deploy.embedded import Stack
from deploy.embedded.programs import inherited_environment
from services.billing_simulator.scenarios import SCENARIOS
from services.cli.commands import answer
from services.runtime.clock import monotonic
from tests.conftest import cache_dir

DEMO_SECONDS: Final = 150.0
STOP_SECONDS: Final = 10.0
# What each story tells the customer, in the account's language and in the other one.
TOLD: Final = {
    "held and explained": (
        "told: Your repayment of CN¥3,000.00 on ",
        "CN¥1,000.00 of credit is back; available now: CN¥2,000.00. The other CN¥2,000.00 comes back",
        "the same in Chinese: 您 ",
        "已恢复额度 ¥1,000.00，当前可用额度 ¥2,000.00。其余 ¥2,000.00 将",
    ),
    "returned after restoration": (
        "told: 更正：",
        "the same in English: Correction: your repayment of CN¥2,500.00 on ",
        "available in the books: -CN¥1,700.00",
    ),
    "frozen then active": (
        "available now: CN¥0.00",
        "另有 ¥500.00 因账户恢复正常而可以使用。",
        "available now: CN¥740.00. Another CN¥500.00 is usable because your account is active again.",
        "waited for the account ",
    ),
    "case a": (
        "已恢复额度 ¥1,000.00，当前可用额度 ¥1,500.00。其余 ¥4,000.00 将分两次恢复",
        "CN¥1,000.00 of credit is back; available now: CN¥1,500.00. The other CN¥4,000.00 comes back in two parts",
    ),
    "priced at once": (
        "; all restored",
        "expected cost: all at once CN¥0.39, taken; ",
        "reasons: RELEASE_LOW_RISK (",
        "the same in English: Your repayment of CN¥2,000.00 on ",
    ),
    "priced in part": (
        "expected cost: CN¥338.81 at once and the rest after 2 banking days CN¥5.09, taken; ",
        "reasons: HOLD_RAIL_REVERSIBLE (",
        "CN¥338.81 of credit is back; available now: CN¥538.81. The other CN¥2,661.19 comes back on ",
        "the same in Chinese: 您 ",
    ),
    "priced held": (
        "expected cost: all after 3 banking days CN¥7.26, taken; ",
        "all at once CN¥98.46",
        "HOLD_AMOUNT_UNUSUAL (",
        "the same in English: Your repayment of CN¥1,000.00 on ",
    ),
    "case b": (
        "6 of 6 on time, score 610 of 640, 30 missing; limit refused",
        "SMALL_PAYMENTS -27.3, HIGH_UTILISATION -12.1",
        "您的评分为 610，提额需要 640。",
        "the same in English: Your limit was not raised this time and stays at CN¥7,500.00. Your score is 610; ",
    ),
}


@dataclass(frozen=True)
class Demo:
    """A state folder of its own, and what the demo said in it."""

    folder: Path
    code: int
    said: str

    @property
    def run(self) -> str:
        """Return the label in every reference of this run."""
        found = re.search(r"rep_demo_case_a_(\w+)", self.said)
        assert found is not None, self.said
        return found[1]

    def story(self, heading: str) -> str:
        """Return what was said of one named story."""
        told = self.said.partition("4. What became of each named repayment")[2].partition("5. Verdict")[0]
        after = told.partition(f"\n{heading}\n")[2]
        others = [f"\n{name.replace('_', ' ')}\n" for name in SCENARIOS]
        return after[: min((at for other in others if (at := after.find(other)) >= 0), default=len(after))]


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


def _ended(process: psutil.Process) -> bool:
    """Tell whether a process is over: one whose parent went first stays listed until the system collects it."""
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@dataclass(frozen=True)
class Otb:
    """The command line on the demo's state folder, in this process."""

    capsys: pytest.CaptureFixture[str]

    def says(self, *arguments: str, code: int = 0) -> str:
        """Run a command that leaves with ``code`` and return what it prints."""
        left = answer(arguments)
        said = self.capsys.readouterr()
        assert (left, said.err == "") == (code, code not in (3, 4)), said
        return said.out

    def json(self, *arguments: str) -> Any:
        """Run a command that succeeds and return what it prints for programs."""
        return json.loads(self.says(*arguments, "--json"))


@pytest.fixture
def otb(demo: Demo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Otb:
    for name, text in environment(demo.folder).items():
        if name.startswith("OTB_"):
            monkeypatch.setenv(name, text)
    for name in ("OTB_KAFKA_BOOTSTRAP_SERVERS", "OTB_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    return Otb(capsys)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo") / "state"
    command = [sys.executable, "-m", "services.cli.main", "demo", "--seconds", "3", "--plain"]
    try:
        done = subprocess.run(  # our own command line
            command, check=False, env=environment(folder), capture_output=True, text=True, timeout=DEMO_SECONDS
        )
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


@pytest.mark.parametrize("heading", TOLD)
def test_a_story_is_told_as_the_customer_reads_it_in_both_languages(demo: Demo, heading: str) -> None:
    said = demo.story(heading)
    for sentence in TOLD[heading]:
        assert sentence in said, said


def test_its_workers_are_stopped_and_its_servers_run_on(otb: Otb) -> None:
    assert [each["name"] for each in otb.json("stack", "status")] == ["kafka", "postgres"]


def test_trace_adds_up_for_every_part(demo: Demo, otb: Otb) -> None:
    traced = otb.json("trace", f"rep_demo_case_a_{demo.run}")
    assert [part["state"] for part in traced["tranches"]] == ["restored"] * 3
    assert [line["tranche"] for line in traced["timelines"]] == [1, 2, 3]
    for line in traced["timelines"]:
        assert line["adds_up"]
        assert sum(each["milliseconds"] for each in line["stretches"]) == line["milliseconds"]
    assert [(line["tranche"], line["milliseconds"]) for line in traced["measured"]] == [
        (line["tranche"], line["milliseconds"]) for line in traced["timelines"]
    ]
    assert {row["state"] for row in traced["told"]} == {"delivered"}
    assert otb.json("trace", traced["repayment_id"][:12])["repayment_id"] == traced["repayment_id"]
    assert "the lag ledger's: adds up exactly" in otb.says("trace", traced["repayment_id"])


def test_explain_says_the_same_in_both_languages_and_to_everyone(demo: Demo, otb: Otb) -> None:
    named = f"billing:rep_demo_held_and_explained_{demo.run}"
    chinese, english = (otb.json("explain", named, "--lang", language) for language in ("zh-CN", "en"))
    assert chinese["record"] == english["record"]
    assert "¥1,000.00" in chinese["texts"][0]
    assert "CN¥1,000.00" in english["texts"][0]
    assert "RELEASE_TIMER" in otb.says("explain", named, "--for", "agent")
    told = otb.json("explain", named, "--as-of", english["record"]["decided_at"])
    assert told["true"] == english["record"]
    assert {row["language"] for row in told["told"]} == {"en"}


def test_every_verdict_of_a_story_is_reached_again_from_its_inputs(demo: Demo, otb: Otb) -> None:
    priced = ("priced_at_once", "priced_in_part", "priced_held_again")
    for label in ("case_a", "on_time", "frozen", "held_and_explained", "duplicate", *priced):
        replayed = otb.json("risk", "replay-decision", f"rep_demo_{label}_{demo.run}")
        assert [each["same"] for each in replayed["decisions"]] == [True]
    explained = otb.json("explain", f"rep_demo_on_time_{demo.run}")
    decided = otb.json("risk", "replay-decision", f"rep_demo_on_time_{demo.run}")["decisions"][0]
    assert explained["record"]["inputs_digest"] == decided["inputs_digest"]


def test_explain_is_honest_without_a_decision(demo: Demo, otb: Otb) -> None:
    refused = otb.says("explain", f"rep_demo_return_first_{demo.run}", "--lang", "en")
    assert refused == (
        "This repayment did not count, and no credit comes back from it. Why: the bank took this repayment back before "
        "it counted. You can repay again in another way.\n"
    )
    exact = ("--lang", "en", "--for", "agent")
    unreadable = otb.says("explain", f"rep_demo_poison_{demo.run}_bad_2", *exact)
    assert "could not be read (invalid:amount_minor:int_type)" in unreadable
    assert "differs (amount_minor)" in otb.says("explain", f"rep_demo_conflict_{demo.run}", *exact)
    otb.says("explain", "no_such_repayment", code=4)


def test_check_holds_at_rest(otb: Otb) -> None:
    checked = otb.json("check", "--at-rest")
    assert checked["ok"]
    assert {"settled_is_booked", "restored_is_told", "offset_not_ahead", "rest_read_to_the_end"} <= {
        finding["name"] for finding in checked["findings"]
    }


def test_a_dead_letter_is_listed_shown_and_discarded_with_a_reason(otb: Otb) -> None:
    listed = otb.json("dlq", "list")
    assert [row["reason"] for row in listed] == ["not_json", "invalid:amount_minor:int_type"]
    identity = listed[0]["id"]
    assert "nothing was changed" in otb.says("dlq", "replay", identity, code=1)
    assert otb.json("dlq", "show", identity)["now"] == "still cannot be read: not_json"
    assert otb.json("dlq", "discard", identity)["changed"] is False
    assert otb.json("dlq", "discard", identity, "--yes", "--actor", "test", "--reason", "poison")["changed"] is True
    assert [row["id"] for row in otb.json("dlq", "list")] == [listed[1]["id"]]
    assert otb.json("check")["ok"]


def test_lag_splits_what_was_restored(otb: Otb) -> None:
    shown = otb.json("lag", "--seconds", "900")
    assert shown["repaid_to_restored"]["restored after a hold"]["parts"] >= 4
    assert all(stage["waiting"] == 0 for stage in shown["stages"].values())


def test_the_lag_report_is_a_page_whose_figures_are_those_of_otb_lag(demo: Demo, otb: Otb) -> None:
    page = demo.folder / "since.html"
    said = otb.says("lag", "report", "--since", "1h", "--out", str(page))
    assert re.fullmatch(rf"wrote {page}: \d+ parts restored\n", said)
    text = page.read_text()
    assert text.startswith("<!doctype html>")
    reported, shown = otb.json("lag", "report", "--since", "1h"), otb.json("lag", "--seconds", "3600")["ledger"]
    assert [total["parts"] for total in reported["totals"]] == [int(said.split()[2])]
    assert (reported["totals"], reported["lines"]) == (shown["totals"], shown["lines"])
    assert f"<td>{reported['totals'][0]['parts']}<" in text


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
    assert [each for each in left if not _ended(each)] == []
    assert running.returncode == 130
    assert rest.splitlines()[-1].startswith("interrupted: ")
    assert "Traceback" not in rest
    assert took < STOP_SECONDS
