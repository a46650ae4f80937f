"""The compose file on a real engine: healthy, unprivileged, unreachable from outside, right, and back after kills."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
import pytest

from services.cli.declared import principals, read_access
from services.cli.relief import CONTROL
from services.cli.workers import EVERYONE, READERS
from services.lag_monitor import PICTURE, PROBE
from tests.debian import program
from tests.e2e.compose.asking import eventually, healthy, psql, sent, settled, taken
from tests.e2e.compose.engine import PROJECT, Done, Engine
from tests.e2e.compose.images import OURS
from tests.integration.secured import Secured
from tests.integration.test_access import TOPICS, allowed, described, read, written

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500)]
WORKERS: Final = tuple(worker.name for worker in EVERYONE)
OBSERVERS: Final = ("prometheus", "alertmanager")
RUNNING: Final = ("postgres", "kafka", *WORKERS, PICTURE, PROBE, CONTROL, *OBSERVERS, "push-sink")
ROLES: Final = (*(worker.package for worker in EVERYONE), *READERS)
PRINCIPALS: Final = tuple(who["name"] for who in principals(read_access()))
RELATIONS: Final = """
SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v') ORDER BY 1"""
WAITS: Final = "SELECT count(*) FROM lag_monitor.journey WHERE stage = 'settlement'"
PAUSED: Final = """
SELECT coalesce(sum(ms) > 0, false) FROM lag_monitor.lag_segment
WHERE stage = 'settlement' AND cause = 'system_delay.operator_pause'"""
PROBED: Final = "SELECT count(*) > 1 FROM lag_monitor.restoration_fact WHERE account_id = 'probe'"
IMAGE_BYTES_MAX: Final = 250 * 10**6
MESSAGES_MIN: Final = 5
LOAD: Final = 300
LOAD_RATE: Final = 3
PROMISED: Final = {"all healthy": 90, "all healthy, from down": 90, "postgres": 10, "kafka": 30}
"""Seconds until healthy that the design names; any other container 15. Shown beside what was measured and the load."""


class Took(NamedTuple):
    """Seconds until something was so, what the design names for it, and how busy the machine was by then."""

    seconds: float
    named: int
    load: float


class Measured(dict[str, Took]):
    """What took how long."""

    def since(self, begun: float, what: str) -> None:
        """Write down how long ago ``begun`` is."""
        self[what] = Took(time.monotonic() - begun, PROMISED.get(what, 15), os.getloadavg()[0])


@pytest.fixture(scope="module")
def measured(pytestconfig: pytest.Config) -> Iterator[Measured]:
    """Collect seconds, and show them beside what the design names."""
    found = Measured()
    yield found
    shown = "".join(
        f"\n  {what}: {took.seconds:.1f} s (named: {took.named} s; load {took.load:.0f})"
        for what, took in found.items()
    )
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nuntil healthy, from the start or the kill:{shown}")


@pytest.fixture(scope="module")
def up(running: Engine, measured: Measured) -> Iterator[Engine]:
    """Start the whole system as a platform team does, then the demo's two beside it."""
    begun = time.monotonic()
    running.run("make", "up")
    eventually(lambda: all(healthy(running, service) for service in RUNNING[:-1]), "all healthy")
    measured.since(begun, "all healthy")
    running.start_demo()
    yield running
    running.clear()


def refused_as_root_or_writer(up: Engine, service: str) -> None:
    status = up.inside(service, "cat", "/proc/self/status").stdout
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert "0" not in told["Uid"].split("\t")
    assert int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0
    assert told["NoNewPrivs"] == "1"
    written = up.inside(service, "touch", "/written")
    assert written.returncode != 0
    assert "Read-only file system" in written.stderr


def test_make_up_ends_well_and_prints_the_links(up: Engine) -> None:
    assert {up.inspect(job, "{{.State.ExitCode}}") for job in ("migrate", "topics", "ready")} == {"0"}
    links = up.run(*up.compose("--profile", "obs", "logs", "--no-color", "ready"))
    for port in ("PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT", "KAFKA_PORT"):
        assert up.address(port) in links
    listed = up.run("make", "ps")
    assert [service for service in RUNNING if up.name(service) not in listed] == []


def test_make_logs_follows_what_each_container_says(up: Engine, tmp_path: Path) -> None:
    said = tmp_path / "logs"

    def silent() -> list[str]:
        told = "\n".join(line.partition("|")[0] for line in said.read_text().splitlines())
        return [service for service in ("postgres", "kafka", *WORKERS) if f"{service}_1 " not in told]

    with said.open("wb") as written:
        command, where = (program("make"), "logs"), up.checkout
        following = subprocess.Popen(command, cwd=where, env=up.environment, stdout=written, start_new_session=True)
    try:
        eventually(lambda: silent() == [], "every container's log is followed")
        assert following.poll() is None
    finally:
        os.killpg(following.pid, signal.SIGINT)
        following.wait(60)


def test_secrets_are_made_once_behind_a_folder_of_ones_own(up: Engine) -> None:
    folder = up.checkout / "deploy" / "secrets"
    assert folder.stat().st_mode & 0o777 == 0o700
    made = {path.name: path.read_text() for path in folder.iterdir()}
    assert len(set(made.values())) == len(made)
    up.run("deploy/secrets.sh")
    assert {path.name: path.read_text() for path in folder.iterdir()} == made


@pytest.mark.parametrize("service", RUNNING)
def test_nobody_is_root_nobody_writes_to_the_image_and_nobody_has_a_capability(up: Engine, service: str) -> None:
    if service == "push-sink":
        eventually(lambda: healthy(up, service), "push-sink is healthy")
    refused_as_root_or_writer(up, service)


@pytest.mark.parametrize("service", RUNNING)
def test_ports_are_open_on_loopback_only(up: Engine, service: str) -> None:
    bound = json.loads(up.inspect(service, "{{json .NetworkSettings.Ports}}"))
    assert {each["HostIp"] for ports in bound.values() for each in ports or ()} <= {"127.0.0.1"}


def test_the_image_is_small_and_has_no_compiler(up: Engine) -> None:
    assert int(up.run("docker", "image", "inspect", "--format", "{{.Size}}", OURS)) <= IMAGE_BYTES_MAX
    for tool in ("gcc", "cc", "c++", "make", "pip"):
        assert up.inside("settlement", "sh", "-c", f"command -v {tool}").stdout == ""


def test_the_demo_s_scenarios_run_and_the_invariants_hold(up: Engine) -> None:
    repayments = sent(up, up.name("billing-simulator"))
    eventually(lambda: len(inbox(up)) >= MESSAGES_MIN, "customers were told")
    settled(up, repayments)


def test_the_probe_s_repayments_come_back(up: Engine) -> None:
    eventually(lambda: psql(up, "otb_owner", PROBED) == (["t"], []), "probes were restored")


def inbox(up: Engine) -> list[dict[str, Any]]:
    """Return what the push platform's stand-in received, its signatures right."""
    found = httpx.get(f"http://{up.address('PUSH_SINK_PORT')}/inbox.json", trust_env=False).json()
    assert found["refused"] == 0
    messages: list[dict[str, Any]] = found["messages"]
    return messages


def test_prometheus_scrapes_every_worker_and_knows_alertmanager(up: Engine) -> None:
    api = f"http://{up.address('PROMETHEUS_PORT')}/api/v1"

    def scraped() -> set[tuple[str, str]]:
        query = {"query": 'up{job!="prometheus"}'}
        result = httpx.get(f"{api}/query", params=query, trust_env=False).json()["data"]["result"]
        return {(each["metric"]["job"], each["value"][1]) for each in result}

    eventually(lambda: scraped() == {(name, "1") for name in (*WORKERS, PICTURE)}, "every worker is scraped")
    managers = httpx.get(f"{api}/alertmanagers", trust_env=False).json()["data"]["activeAlertmanagers"]
    assert [each["url"] for each in managers] == ["http://alertmanager:9093/api/v2/alerts"]


@pytest.mark.parametrize("name", PRINCIPALS)
def test_a_principal_is_refused_on_each_topic_of_others(up: Engine, name: str) -> None:
    broker = Secured(up.address("KAFKA_PORT"), up.checkout / "deploy" / "secrets")
    not_written, not_read = set(TOPICS) - allowed(name, "write"), set(TOPICS) - allowed(name, "read")
    assert described(broker, name) == allowed(name, "write") | allowed(name, "read")
    assert written(broker, name, not_written) == set()
    assert read(broker, name, not_read) == set()


@pytest.fixture(scope="module")
def tables(up: Engine) -> dict[str, list[str]]:
    """Return every table and view of every schema of ours."""
    found, _ = psql(up, "otb_owner", RELATIONS)
    return {package: [name for name in found if name.startswith(f"{package}.")] for package in ROLES}


@pytest.mark.parametrize("package", ROLES)
def test_a_role_is_refused_on_each_table_of_each_schema_of_others(
    up: Engine, tables: dict[str, list[str]], package: str
) -> None:
    assert all(tables.values())
    tried = [f"CREATE TABLE {name}.mine ()" for name in ROLES if name != package]
    for others in (tables[name] for name in ROLES if name != package):
        tried += [f"{act} {table}" for table in others for act in ("TABLE", "INSERT INTO", "TRUNCATE")]
    tried = [f"{line} DEFAULT VALUES" if line.startswith("INSERT") else line for line in tried]
    _, refused = psql(up, f"otb_{package}", "SET default_transaction_read_only = off", *tried)
    assert len(refused) == len(tried)
    assert [line for line in refused if "permission denied" not in line] == []
    own = [f"SELECT FROM {table} LIMIT 0" for table in tables[package] if not table.endswith(".migration")]
    assert psql(up, f"otb_{package}", *own) == ([], [])


WRONG: Final = {
    "the name of another at Kafka": "OTB_KAFKA_USERNAME=settlement",
    "no secret for PostgreSQL": "OTB_SECRETS_DIR=/nowhere",
    "a wrong password at PostgreSQL": "OTB_SECRETS_DIR=/tmp",
}


@pytest.fixture(scope="module")
def refused(up: Engine) -> dict[str, Done]:
    """Start the notifier with each wrong password, side by side, and return what became of it."""
    start = "echo wrong > /tmp/otb_notifier; exec /opt/otb/entry.sh faust -q -A services.notifier.worker worker -l info"

    def started(what: str) -> Done:
        run = ("run", "--rm", "-T", "--no-deps", "-e", WRONG[what], "--entrypoint", "sh", "notifier", "-c", start)
        return up.ask(*up.compose(*run), seconds=120)

    with ThreadPoolExecutor() as beside:
        return dict(zip(WRONG, beside.map(started, WRONG), strict=True))


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_password_gives_one_clear_line(refused: dict[str, Done], what: str) -> None:
    done = refused[what]
    assert done.returncode != 0
    lines = [json.loads(line) for line in (done.stdout + done.stderr).splitlines() if "cannot_start" in line]
    (why,) = [line["why"] for line in lines]
    assert "settlement" in why if "USERNAME" in WRONG[what] else "otb_notifier" in why
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture(scope="module")
def load(up: Engine) -> str:
    """Let repayments come in while containers are killed; return the name of what sends them."""
    return up.start_load(LOAD, LOAD_RATE)


@pytest.mark.usefixtures("load")
def test_a_paused_container_stands_still_and_its_queue_is_the_pause_s(up: Engine) -> None:
    who = ("SERVICE=settlement", "ACTOR=tester", "REASON=drill")
    assert "has to stop it" in up.run("make", "pause", *who)
    assert up.inspect("settlement", "{{.State.Status}}") == "exited"
    eventually(lambda: psql(up, "otb_owner", WAITS) != (["0"], []), "something waits for settlement")
    assert "has to start it" in up.run("make", "resume", *who)
    eventually(lambda: healthy(up, "settlement"), "settlement goes on")
    eventually(lambda: psql(up, "otb_owner", PAUSED) == (["t"], []), "the pause explains the wait")


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize("service", RUNNING)
def test_a_killed_container_comes_back(up: Engine, service: str, measured: Measured) -> None:
    started, pid = (up.inspect(service, f"{{{{.State.{field}}}}}") for field in ("StartedAt", "Pid"))
    begun = time.monotonic()
    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: up.inspect(service, "{{.State.StartedAt}}") != started, f"started again: {service}")
    eventually(lambda: healthy(up, service), f"healthy again: {service}")
    measured.since(begun, service)


def test_what_came_in_while_they_were_killed_is_in_the_books_once(up: Engine, load: str) -> None:
    settled(up, sent(up, up.name("billing-simulator")) + sent(up, load))


def test_down_and_up_keep_the_data_and_the_secrets(up: Engine, measured: Measured) -> None:
    eventually(lambda: all(healthy(up, service) for service in RUNNING), "all healthy")
    before = taken(up)
    up.run("make", "down")
    assert up.run("docker", "ps", "--all", "--quiet") == ""
    begun = time.monotonic()
    up.run("make", "up")
    measured.since(begun, "all healthy, from down")
    settled(up, before)


def test_make_clean_leaves_nothing_of_the_project(up: Engine) -> None:
    ours = ("--quiet", "--filter", f"label=com.docker.compose.project={PROJECT}")
    left = (("ps", "--all"), ("volume", "ls"), ("network", "ls"))
    assert all(up.run("docker", *each, *ours) for each in left)
    up.run("make", "clean")
    assert [up.run("docker", *each, *ours) for each in left] == ["", "", ""]
    assert not (up.checkout / "deploy" / "secrets").exists()


@pytest.mark.release
def test_every_time_that_the_design_names_is_kept(measured: Measured) -> None:
    """Before a release, on a machine that does nothing else."""
    assert measured.keys() > PROMISED.keys()
    assert {what: took for what, took in measured.items() if took.seconds > took.named} == {}
