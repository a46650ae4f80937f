"""The rules and routes as Prometheus' and Alertmanager's own tools and servers understand them."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any, Final

import pytest
import yaml
from typing_extensions import override

from services.cli.system import free_port
from services.runtime.clock import monotonic
from tests.debian import program
from tests.e2e.prometheus import ready
from tests.tied import tied

pytestmark = pytest.mark.debian
DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = DEPLOY / "prometheus" / "rules.yml"
ROUTES: Final = DEPLOY / "alertmanager" / "alertmanager.yml"
START: Final = ROUTES.with_name("start.sh")
SEEN_SECONDS: Final = 5.0
ARRIVED_SECONDS: Final = 60.0


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of Debian's packages."""
    return subprocess.run([program(name), *map(str, arguments)], capture_output=True, text=True)


def test_the_rules_pass_prometheus_own_check() -> None:
    checked = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_the_configuration_passes_prometheus_own_check() -> None:
    checked = run("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("path", sorted((DEPLOY / "prometheus").glob("*_test.yml")), ids=lambda path: path.stem)
def test_alerts_speak_and_are_silent_when_they_should(path: Path) -> None:
    tested = run("promtool", "test", "rules", path)
    assert tested.returncode == 0, tested.stdout + tested.stderr


def test_a_rule_that_speaks_too_late_is_seen(tmp_path: Path) -> None:
    asked = yaml.safe_load((DEPLOY / "prometheus" / "rules_test.yml").read_text())
    asked["tests"] = [each for each in asked["tests"] if each["name"] == "an exporter that falls silent pages"]
    (tmp_path / "rules_test.yml").write_text(yaml.safe_dump(asked))
    (tmp_path / "rules.yml").write_text(RULES.read_text())
    assert run("promtool", "test", "rules", tmp_path / "rules_test.yml").returncode == 0
    (tmp_path / "rules.yml").write_text(RULES.read_text().replace("for: 1m", "for: 5m"))
    assert run("promtool", "test", "rules", tmp_path / "rules_test.yml").returncode == 1


def test_alertmanager_accepts_its_configuration() -> None:
    checked = run("amtool", "check-config", ROUTES)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("severity", ["page", "ticket"])
def test_an_alert_goes_where_its_severity_says(severity: str) -> None:
    told = run("amtool", "config", "routes", "test", f"--config.file={ROUTES}", f"severity={severity}")
    assert told.stdout.strip() == severity


@contextmanager
def running(folder: Path, webhook: str) -> Iterator[str]:
    """Run a real Alertmanager by the committed script with the pager of a secret file; yield its address."""
    at, secret = f"127.0.0.1:{free_port()}", folder / "alert_webhook"
    secret.write_text(webhook)
    given = {"ALERT_WEBHOOK_FILE": str(secret), "ALERTMANAGER_CONFIG": str(folder / "alertmanager.yml")}
    given |= {"ALERTMANAGER": program("prometheus-alertmanager"), "PATH": os.environ["PATH"]}
    command = [str(START), f"--storage.path={folder}", f"--web.listen-address={at}", "--cluster.listen-address="]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(tied(*command), env=given, stdout=log, stderr=log)
        try:
            ready(f"http://{at}/-/ready")
            yield f"http://{at}"
        finally:
            process.terminate()
            process.wait()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Run it without a pager."""
    with running(tmp_path, "none") as at:
        yield at


class Pager(ThreadingHTTPServer):
    """Takes what Alertmanager posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Call)
        self.told: Queue[dict[str, Any]] = Queue()


class Call(BaseHTTPRequestHandler):
    """One call of the pager's webhook."""

    def do_POST(self) -> None:  # the name the library calls
        assert isinstance(self.server, Pager)
        self.server.told.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    @override
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def pager() -> Iterator[Pager]:
    """Run a webhook on this machine."""
    with Pager() as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_a_page_and_a_ticket_arrive_at_the_webhook_of_the_secret(tmp_path: Path, pager: Pager) -> None:
    with running(tmp_path, f"http://127.0.0.1:{pager.server_port}/hook?key=a+b%20c") as at:
        checked = run("amtool", "check-config", tmp_path / "alertmanager.yml")
        assert checked.returncode == 0, checked.stdout + checked.stderr
        for alert, severity in (("CreditRestoreStuck", "page"), ("CreditClockSkew", "ticket")):
            labels = (f"alertname={alert}", f"severity={severity}", "stage=risk")
            run("amtool", f"--alertmanager.url={at}", "alert", "add", *labels).check_returncode()
        told = [pager.told.get(timeout=ARRIVED_SECONDS) for _ in range(2)]
    assert {(each["receiver"], each["alerts"][0]["labels"]["alertname"]) for each in told} == {
        ("page", "CreditRestoreStuck"),
        ("ticket", "CreditClockSkew"),
    }
    assert {each["status"] for each in told} == {"firing"}


@pytest.mark.parametrize("text", ["", "pager.example/hook", 'http://pager.example/"}] #', "http://a b/"])
def test_what_is_no_address_starts_no_alertmanager(tmp_path: Path, text: str) -> None:
    (tmp_path / "alert_webhook").write_text(text)
    given = {"ALERT_WEBHOOK_FILE": str(tmp_path / "alert_webhook"), "ALERTMANAGER_CONFIG": str(tmp_path / "made.yml")}
    done = subprocess.run([START], env=given | {"PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert done.returncode == 3
    assert "alert_webhook" in done.stderr
    assert not (tmp_path / "made.yml").exists()


@pytest.mark.parametrize(
    ("speaking", "others", "muted"),
    [
        (
            ("CreditLagBlind", "severity=page"),
            [
                ("CreditRestoreStuck", "severity=page", "stage=risk"),
                ("CreditLagUnattributed", "severity=ticket"),
                ("CreditSLOBudgetBurn", "severity=page", "slo=low_risk_5s"),
                ("CreditInvariantBroken", "severity=page", "invariant=lag_tiles"),
                ("CreditDeadLetters", "severity=ticket", "stage=ingest"),
            ],
            {"CreditRestoreStuck", "CreditLagUnattributed", "CreditSLOBudgetBurn"},
        ),
        (
            ("CreditSLOBudgetBurn", "severity=page", "slo=notify_60s"),
            [("CreditSLOBudgetBurn", "severity=ticket", "slo=notify_60s"), ("CreditClockSkew", "severity=ticket")],
            {"CreditSLOBudgetBurn"},
        ),
        (
            ("CreditSLOBudgetBurn", "severity=page", "slo=hold_promise"),
            [("CreditSLOBudgetBurn", "severity=ticket", "slo=decided_60s")],
            set(),
        ),
    ],
    ids=["blind", "the same objective", "another objective"],
)
def test_an_alert_mutes_what_it_makes_pointless(
    alertmanager: str, speaking: Sequence[str], others: Sequence[Sequence[str]], muted: set[str]
) -> None:
    for labels in (speaking, *others):
        run("amtool", f"--alertmanager.url={alertmanager}", "alert", "add", *labels).check_returncode()
    began, found = monotonic(), set[str]()
    while found != muted and monotonic() - began < SEEN_SECONDS:
        found = _muted(alertmanager)
    assert found == muted


def _muted(alertmanager: str) -> set[str]:
    """Return the alerts that are there and tell nobody."""
    told = run("amtool", f"--alertmanager.url={alertmanager}", "--output=json", "alert", "query", "--inhibited")
    return {alert["labels"]["alertname"] for alert in json.loads(told.stdout) if alert["status"]["inhibitedBy"]}
