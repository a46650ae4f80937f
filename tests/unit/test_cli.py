"""The command line without servers: help, exit codes, one line for what is wrong."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from schemas.reasons import Cause, Stage
from services.cli import declared, pause, workers
from services.cli.checks import Finding, Report, verdict_lines
from services.cli.commands import COMMANDS as LISTED
from services.cli.commands import answer, command_of
from services.cli.declared import WORKERS
from services.cli.journey import Stretch, Timeline, name_of
from services.cli.lag import percentile, phase_of, sample_of, seconds_text
from services.runtime.settings import Settings

ENVIRONMENT, USAGE, OK = 3, 2, 0
REPAID = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
COMMANDS = (
    "demo", "trace", "explain", "account", "lag", "check", "doctor", "conform", "access", "load", "migrate", "topics",
    "run", "config", "version",
    "lag report", "pause", "resume", "republish",
    "dlq list", "dlq show", "dlq replay", "dlq discard",
    "case list", "case show", "case resolve", "case hear", "case move", "hold release", "hold extend",
    "limit request", "limit appeal",
    "policy show", "policy diff", "policy check", "risk replay-decision",
    "risk status", "risk add", "risk promote", "risk rollback",
    "risk train", "risk evaluate", "risk replay", "risk yield",
    "stack up", "stack status", "stack down", "stack reset", "stack logs",
)  # fmt: skip
WHO = ("--actor", "agent_1", "--reason", "customer_called")
CARD = "paid with 4111 1111-1111 1111"
LOOKING = (
    ("check",),
    ("doctor",),
    ("republish",),
    ("conform",),
    ("access",),
    ("lag",),
    ("lag", "report"),
    ("pause", "settlement", "--actor", "a", "--reason", "r"),
    ("resume", "settlement", "--actor", "a", "--reason", "r"),
    ("trace", "rep_1"),
    ("explain", "rep_1"),
    ("account", "acct_1"),
    ("limit", "request", "acct_1", "--actor", "a", "--reason", "r"),
    ("limit", "appeal", "acct_1", "--actor", "a", "--reason", "r"),
    ("dlq", "list"),
    ("migrate",),
    ("topics",),
    ("case", "list"),
    ("case", "show", "abcd"),
    ("risk", "status"),
    ("risk", "replay"),
    ("risk", "yield"),
    ("risk", "rollback", "--actor", "a", "--reason", "r"),
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Use a state folder without a stack."""
    for name in ("OTB_KAFKA_BOOTSTRAP_SERVERS", "OTB_POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OTB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_its_json_and_its_exit_codes(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer([*command.split(), "--help"]) == OK
    said = capsys.readouterr().out
    assert "Exit codes: 0 ok, 1 found a problem, 2 usage, 3 environment" in " ".join(said.split())
    assert "--json" in said


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["--help"]) == OK
    said = capsys.readouterr().out
    assert all(f"  {command.split()[0]} " in said for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nonsense",), USAGE, "nonsense"),
        (("trace",), USAGE, "REPAYMENT"),
        (("explain", "rep_1", "--lang", "de"), USAGE, "de"),
        (("load", "--rate", "0"), USAGE, "positive rate"),
        (("conform", "--topic", "repayment.risk.v1"), USAGE, "billing.repayment.v1"),
        (("run",), USAGE, "repayment-ingest"),
        (("republish", "--yes", "--from", "2026-11-27T04:00:00Z"), USAGE, "--actor"),
        (("republish", "--from", "2026-11-27T04:00:00"), USAGE, "offset"),
        (("republish", "--from", "yesterday"), USAGE, "instant"),
        (("run", "nobody"), USAGE, "repayment-ingest"),
        (("dlq", "replay", "settlement:1", "--yes"), USAGE, "--actor"),
        (("case", "resolve", "abcd", "--actor", "agent_1", "--outcome", "explained"), USAGE, "--reason"),
        (("case", "resolve", "abcd", *WHO, "--outcome", "forgotten"), USAGE, "forgotten"),
        (("case", "resolve", "abcd", *WHO, "--outcome", "explained", "--answer", CARD), USAGE, "card"),
        (("case", "resolve", "abcd", *WHO, "--outcome", "explained", "--answer", "x" * 2_001), USAGE, "2000"),
        (("case", "move", "abcd", "assign", "--actor", "an agent", "--reason", "why"), USAGE, "--actor"),
        (("hold", "release", "rep_1", "--actor", "agent_1"), USAGE, "--reason"),
        (("hold", "release", "rep_1", "--actor", "agent_1", "--reason", "he asked"), USAGE, "no spaces"),
        (("limit", "request", "acct_1", "--reason", "customer_called"), USAGE, "--actor"),
        (("limit", "appeal", "acct_1", "--actor", "agent_1", "--reason", "he called"), USAGE, "no spaces"),
        (("hold", "extend", "rep_1", *WHO, "--until", "tomorrow"), USAGE, "not an instant"),
        (("hold", "extend", "rep_1", *WHO, "--until", "2026-11-27T09:00"), USAGE, "offset"),
        (("stack", "logs", "kafka"), 4, "no log kafka"),
        *((looking, ENVIRONMENT, "`otb stack up`") for looking in LOOKING),
    ],
)
def test_what_is_wrong_is_one_line_on_standard_error(
    arguments: tuple[str, ...], code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(arguments) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert said.err.startswith("otb: ")
    assert words in said.err


def test_an_unknown_setting_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OTB_PARTITION", "6")
    assert answer(["check"]) == ENVIRONMENT
    assert capsys.readouterr().err == "otb: unknown setting OTB_PARTITION; did you mean OTB_PARTITIONS?\n"


def test_what_a_build_machine_sets_is_no_unknown_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("OTB_CI", "1"), ("OTB_ENGINE", "1"), ("OTB_RISK_DATASET", "credit.csv")):
        monkeypatch.setenv(name, value)
    assert answer(["config", "--json"]) == OK


def test_config_says_where_a_setting_comes_from_and_masks_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    monkeypatch.setenv("OTB_WEBHOOK_SECRET", "whsec_do_not_show")
    assert answer(["config", "--json"]) == OK
    said = capsys.readouterr().out
    shown = json.loads(said)
    assert "do_not_show" not in said
    assert shown["state_dir"] == shown["state_dir"] | {"value": str(folder), "from": "environment"}
    assert shown["partitions"] == shown["partitions"] | {"value": "24", "from": "default"}


def test_a_stack_that_does_not_run_is_said_to_be_stopped(capsys: pytest.CaptureFixture[str]) -> None:
    assert answer(["stack", "status", "--json"]) == ENVIRONMENT
    assert {each["state"] for each in json.loads(capsys.readouterr().out)} == {"stopped"}
    assert answer(["stack", "down"]) == OK
    assert capsys.readouterr().out == "nothing was running\n"


def test_the_entry_listens_for_signals_before_it_imports_anything_slow() -> None:
    code = "import sys, services.cli.main; print([m for m in ('typer', 'faust', 'asyncpg') if m in sys.modules])"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # our own line
    assert done.stdout == "[]\n"


def test_a_timeline_that_does_not_add_up_says_so() -> None:
    end = REPAID + timedelta(milliseconds=300)
    whole = Timeline(1, REPAID, (Stretch("report", "external.upstream_report", end, 300),), end)
    assert (whole.milliseconds, whole.tiles) == (300, True)
    assert not Timeline(1, REPAID, (), end).tiles


def test_a_restored_part_is_split_by_stage_and_phase() -> None:
    trail: list[tuple[Stage, Cause, datetime]] = [
        ("report", "external.upstream_report", REPAID + timedelta(milliseconds=100)),
        ("ingest", "system_delay.kafka_queue", REPAID + timedelta(milliseconds=150)),
        ("ingest", "system_delay.processing", REPAID + timedelta(milliseconds=170)),
        ("release", "risk_observation.risk_hold", REPAID + timedelta(seconds=10)),
    ]
    body = {
        "repaid_at": REPAID.isoformat(),
        "restored_at": (REPAID + timedelta(seconds=10)).isoformat(),
        "trail": [(stage, cause, until.isoformat()) for stage, cause, until in trail],
    }
    sample = sample_of(body)
    assert sample.total_ms == 10_000 == sum(sample.split.values())
    assert sample.held
    assert sample.split["ingest", "queue"] == 50
    assert sample.split["report", "other"] == 100


def test_percentiles_are_of_the_nearest_rank() -> None:
    assert percentile([], 0.5) is None
    assert percentile(range(1, 101), 0.5) == 50
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile([7], 0.99) == 7


def test_small_words() -> None:
    assert seconds_text(999) == "999 ms"
    assert seconds_text(1_040) == "1.0 s"
    assert phase_of("account_standing.frozen") == "hold"
    assert phase_of("system_delay.dead_letter") == "other"
    assert name_of("opentobuy.credit.restoration.CreditRestored.v1") == "CreditRestored"


def test_a_verdict_counts_and_gives_examples() -> None:
    broken = Finding("limit_identity", "limit-release", 2, ({"account_id": "acct_1"},))
    report = Report((Finding("journal_balanced", "limit-release", 0), broken), {"repayments": 3})
    assert verdict_lines(report) == [
        "limit_identity (limit-release), for example: {'account_id': 'acct_1'}",
        "1 of 2 invariants hold over 3 repayments",
    ]
    assert report.violated == (broken,)


def test_a_pause_stops_and_starts_nothing_that_another_supervises(folder: Path) -> None:
    settings = Settings(state_dir=folder)
    assert pause._stop(settings, WORKERS[0]) is False
    assert pause._start(settings, WORKERS[0]) is False


def test_the_list_of_commands_says_what_each_command_says_of_itself() -> None:
    """It is written down, so that a list, or one command, does not wait for the modules of all."""
    for name, (_, about) in LISTED.items():
        assert command_of(name).get_short_help_str(200).rstrip(".") == about.rstrip("."), name


def test_a_command_starts_without_what_only_others_need() -> None:
    for command, needless in (
        ("config", {"faust", "aiokafka", "rich", "services.lag_monitor.watch"}),
        ("check", {"faust", "services.runtime.run", "services.console.domain", "confluent_kafka"}),
        ("explain", {"faust", "aiokafka", "services.runtime.run", "services.cli.workers"}),
    ):
        code = f"import sys; from services.cli.commands import command_of; command_of({command!r}); print(*sys.modules)"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert not needless & set(ran.stdout.split()), command


def test_the_services_read_from_the_file_of_rights_are_the_workers() -> None:
    assert [each.name for each in declared.WORKERS] == [worker.name for worker in workers.WORKERS]
    assert {each.name for each in declared.OBSERVERS} == {worker.name for worker in workers.OBSERVERS}
    for each, worker in zip(declared.EVERYONE, workers.EVERYONE, strict=True):
        assert each.package == worker.package
        assert set(each.topics) == set(worker.topics)
        assert each.writes == tuple(topic.name for topic in worker.writes)
    assert declared.READERS == workers.READERS
    assert declared.CONTROLS == workers.CONTROLS
