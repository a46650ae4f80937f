"""Check that the embedded stack starts, heals, refuses and leaves nothing behind."""

import asyncio
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.embedded import Endpoints, Process, Program, Stack, StackError
from deploy.embedded.jars import fetch, read_lock

REPOSITORY: Final = Path(__file__).parents[2]
CACHE: Final = Path(os.environ.get("OTB_CACHE_DIR") or REPOSITORY / ".otb" / "cache")
HEAL_SECONDS: Final = 20.0
SECOND_START_SECONDS: Final = 20.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run one stack for the module."""
    stack = Stack(tmp_path_factory.mktemp("stack") / "state", CACHE, tied=True)
    stack.up()
    try:
        yield stack
    finally:
        stack.down()


def find(stack: Stack, name: str) -> Process:
    return next(process for process in stack.status() if process.name == name)


def eventually(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + HEAL_SECONDS
    while not met():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.05)


def kill(stack: Stack, name: str) -> None:
    pid = find(stack, name).pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def sleeper(name: str, seconds: int = 600) -> Program:
    code = f"import time; print('awake', flush=True); time.sleep({seconds})"
    return Program(name, (sys.executable, "-c", code), {"OTB_MARK": '50% "so"; #'}, "/")


def refusal(stack: Stack) -> str:
    with pytest.raises(StackError) as caught:
        stack.up()
    message = str(caught.value)
    assert "\n" not in message
    return message


async def test_both_answer(stack: Stack) -> None:
    endpoints = await asyncio.to_thread(stack.up)
    assert await durable_settings(endpoints) == ("on", "on", "UTF8", "UTC")
    assert await echo(endpoints, b"repaid") == b"repaid"


async def durable_settings(endpoints: Endpoints) -> tuple[str, ...]:
    names = ("fsync", "synchronous_commit", "server_encoding", "TimeZone")
    connection = await asyncpg.connect(endpoints.postgres_dsn)
    try:
        return tuple([await connection.fetchval(f"SHOW {name}") for name in names])
    finally:
        await connection.close()


async def echo(endpoints: Endpoints, message: bytes) -> bytes:
    """Send a message and read it back through a group and a transaction."""
    servers = endpoints.kafka_bootstrap_servers
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic("echo", 1, 1)])
    await admin.close()
    reader = AIOKafkaConsumer("echo", bootstrap_servers=servers, group_id="echo", auto_offset_reset="earliest")
    writer = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="echo")
    async with writer, writer.transaction():
        await writer.send_and_wait("echo", message)
    async with reader:
        record = await asyncio.wait_for(reader.getone(), HEAL_SECONDS)
    assert record.timestamp_type == 1, "LogAppendTime"
    return bytes(record.value)


def test_up_again_changes_nothing(stack: Stack) -> None:
    before = [process.pid for process in stack.processes()]
    assert stack.up() == stack.endpoints()
    assert [process.pid for process in stack.processes()] == before


@pytest.mark.parametrize("part", ["postgres", "kafka"])
def test_killed_part_comes_back(stack: Stack, part: str) -> None:
    before = find(stack, part)
    kill(stack, part)
    eventually(lambda: find(stack, part).restarts > before.restarts)
    stack.up()
    after = find(stack, part)
    assert after.state in ("running", "starting")
    assert after.pid != before.pid


def test_program_runs_restarts_and_stops(stack: Stack) -> None:
    stack.run([sleeper("fold"), sleeper("gate")])
    eventually(lambda: "awake" in (stack.logs_dir / "fold.log").read_text())
    first = find(stack, "fold").pid
    assert first is not None
    assert psutil.Process(first).environ()["OTB_MARK"] == '50% "so"; #'

    stack.run([sleeper("fold")])
    assert find(stack, "fold").pid == first, "the same program is left alone"

    kill(stack, "fold")
    eventually(lambda: find(stack, "fold").restarts == 1)
    stack.restart(["fold"])
    assert find(stack, "fold").restarts == 0

    pids = [find(stack, name).pid for name in ("fold", "gate")]
    stack.stop(["fold", "gate"])
    assert not any(psutil.pid_exists(pid) for pid in pids if pid)
    assert {process.name for process in stack.status()} == {"kafka", "postgres"}


def test_secrets_are_private(stack: Stack) -> None:
    open_to_others = [
        path
        for path in (stack.state_dir / "secrets").iterdir()
        if path.stat().st_mode & 0o077 or path.parent.stat().st_mode & 0o077
    ]
    assert open_to_others == []


def test_parts_end_when_their_supervisor_is_killed(stack: Stack) -> None:
    pids = [process.pid for process in stack.processes() if process.pid]
    supervisor = int((stack.state_dir / "run" / "supervisord.pid").read_text())
    os.kill(supervisor, signal.SIGKILL)
    if sys.platform == "linux":
        eventually(lambda: not any(map(psutil.pid_exists, pids)))
    stack.up()
    assert {process.state for process in stack.status()} <= {"running", "starting"}


def test_down_leaves_no_process_and_second_start_is_fast(
    stack: Stack, record_property: Callable[[str, object], None]
) -> None:
    endpoints = stack.up()
    stack.run([sleeper("gate")])
    pids = [process.pid for process in stack.processes() if process.pid]
    stack.down()
    assert len(pids) == 3
    assert not any(map(psutil.pid_exists, pids))
    assert {process.state for process in stack.status()} == {"stopped"}

    started = time.monotonic()
    assert stack.up() == endpoints, "ports and password are remembered"
    took = time.monotonic() - started
    record_property("second_start_seconds", round(took, 2))
    assert took < SECOND_START_SECONDS


def test_taken_port_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        monkeypatch.setenv("OTB_POSTGRES_PORT", str(port))
        stack = Stack(tmp_path / "state", CACHE)
        message = refusal(stack)
    assert str(port) in message
    assert "OTB_POSTGRES_PORT" in message
    assert stack.processes() == []


def test_older_state_is_refused_until_reset(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "state", CACHE)
    stack.state_dir.mkdir()
    marker = {"kind": "opentobuy embedded stack", "layout": "0"}
    (stack.state_dir / "versions.json").write_text(json.dumps(marker))
    (stack.state_dir / "mine.txt").touch()
    assert "otb stack reset" in refusal(stack)
    assert stack.reset() == [str(stack.state_dir / "versions.json")]
    assert (stack.state_dir / "mine.txt").exists()


def test_reset_spares_a_foreign_folder(tmp_path: Path) -> None:
    (tmp_path / "kafka").mkdir()
    stack = Stack(tmp_path, CACHE)
    with pytest.raises(StackError, match="not a stack's folder"):
        stack.reset()
    assert "OTB_STATE_DIR" in refusal(stack)
    assert (tmp_path / "kafka").exists()


def test_no_network_on_first_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTB_MAVEN_REPOSITORY", "http://127.0.0.1:1/maven")
    stack = Stack(tmp_path / "state", tmp_path / "cache")
    with pytest.raises(StackError, match="OTB_MAVEN_REPOSITORY"):
        stack.up(["kafka"])
    assert stack.processes() == []


def test_interrupted_up_leaves_no_process(tmp_path: Path) -> None:
    state = tmp_path / "state"
    code = f"from pathlib import Path; from deploy.embedded import Stack; Stack(Path({str(state)!r})"
    with subprocess.Popen([sys.executable, "-c", f"{code}, Path({str(CACHE)!r})).up()"], cwd=REPOSITORY) as starting:
        eventually((state / "logs" / "postgres.log").exists)
        starting.send_signal(signal.SIGTERM)
        assert starting.wait(HEAL_SECONDS) == 128 + signal.SIGTERM
    assert naming(state) == []
    assert Stack(state, CACHE).processes() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a guard that a process was killed")
def test_what_is_tied_ends_with_whoever_started_it_though_killed(tmp_path: Path) -> None:
    state = tmp_path / "state"
    code = f"from pathlib import Path; from deploy.embedded import Stack; Stack(Path({str(state)!r}), tied=True)"
    script = f"{code}.up(['postgres']); print('up', flush=True); import time; time.sleep(600)"
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, start_new_session=True) as owner:
        said = owner.stdout.readline() if owner.stdout is not None else b""
        before = naming(state)
        os.killpg(owner.pid, signal.SIGKILL)
    assert said == b"up\n"
    assert any("supervisord" in command for command in before)
    assert any("postgres" in command for command in before)
    eventually(lambda: naming(state) == [])


def naming(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder."""
    commands = [" ".join(each.info["cmdline"] or ()) for each in psutil.process_iter(["cmdline"])]
    return [command for command in commands if str(folder) in command]


class Tampered(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b"not the jar"
        if self.path.endswith(".sha1"):
            content = hashlib.sha1(content).hexdigest().encode()  # noqa: S324  # what a Maven repository serves beside a jar
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def test_changed_jar_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jar = read_lock()[0]
    with ThreadingHTTPServer(("127.0.0.1", 0), Tampered) as mirror:
        threading.Thread(target=mirror.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTB_MAVEN_REPOSITORY", f"http://127.0.0.1:{mirror.server_port}")
        with pytest.raises(StackError, match=rf"{jar.coordinate} does not match kafka\.lock"):
            fetch(tmp_path, [jar])
        mirror.shutdown()
    assert list(tmp_path.rglob("*.jar")) == []
