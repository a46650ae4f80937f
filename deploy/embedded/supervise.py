"""Keep programs running under supervisord, and talk to it."""

import json
import os
import re
import resource
import shlex
import signal
import sys
import xmlrpc.client
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final, Literal, TypedDict, cast
from xml.parsers.expat import ExpatError

from typing_extensions import override

from deploy.embedded.guard import Guard, guarded
from deploy.embedded.programs import (
    Program,
    child_command,
    describe,
    gone,
    inherited_environment,
    recorded_pid,
    send,
    telling_line,
)
from deploy.embedded.state import (
    StackError,
    State,
    free_port,
    remember_port,
    remembered_port,
    wait_until,
    write_private,
)

SUPERVISORD: Final = "supervisord"
NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
RPC_SECONDS: Final = 10.0
START_SECONDS: Final = 20.0
# supervisord sends SIGKILL after a program's own stop time; this is the time to reap it.
REAP_SECONDS: Final = 10.0
BEGIN_SECONDS: Final = 3.0
OPEN_FILES: Final = 16_384

ProcessState = Literal["stopped", "starting", "running", "backoff", "stopping", "exited", "fatal", "unknown"]
UP: Final = ("starting", "running", "backoff")


@dataclass(frozen=True, slots=True)
class Process:
    """Tell how a supervised program fares."""

    name: str
    pid: int | None
    state: ProcessState
    uptime_seconds: float
    restarts: int


class Info(TypedDict):
    """Type what supervisord answers about one process."""

    name: str
    statename: str
    pid: int
    start: int
    now: int


class Transport(xmlrpc.client.Transport):
    """Bound every call in time."""

    @override
    def make_connection(self, host: tuple[str, dict[str, str]] | str) -> HTTPConnection:
        """Return a connection that gives up."""
        connection = super().make_connection(host)
        connection.timeout = RPC_SECONDS
        return connection


class Supervisor:
    """Own the supervisord of one state folder."""

    def __init__(self, state: State, *, tied: bool = False) -> None:
        """Talk to the supervisord of this state folder, running or not; one started ``tied`` ends with this process."""
        self.state = state
        self._tied = tied
        self._guard: Guard | None = None

    def alive(self) -> bool:
        """Tell whether our supervisord answers."""
        try:
            return cast(dict[str, int], self._call("getState"))["statecode"] == 1
        except (OSError, HTTPException, xmlrpc.client.Error, ExpatError):
            return False

    def start(self) -> None:
        """Start supervisord out of reach of the terminal, ending first what a dead one left."""
        self.end_leftovers()
        for spec in self.state.run.glob("*.json"):
            spec.unlink()
        remember_port(self.state, SUPERVISORD, free_port(self.state))
        self._configure()
        with signals_held() as free:
            pid = self._spawn(free)
            (self.state.run / f"{SUPERVISORD}.pid").write_text(str(pid))
            self._watch(pid, free)
        wait_until(lambda: self.alive() or gone(pid), seconds=START_SECONDS)
        if not self.alive():
            raise StackError(f"supervisord did not start: {self.reason(SUPERVISORD)}")

    def _spawn(self, signals: Collection[int]) -> int:
        command = [sys.executable, "-P", "-X", "utf8", "-W", "ignore"]
        command += ["-m", "supervisor.supervisord", "-c", str(self._configuration)]
        log = str(self.state.logs / f"{SUPERVISORD}.log")
        writing = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, writing, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        # Not subprocess: it would own a process meant to outlive us, in a session of its own.
        return os.posix_spawn(
            command[0],
            command,
            inherited_environment(),
            file_actions=files,
            setsid=True,
            setsigmask=signals,
        )

    def _watch(self, pid: int, signals: Collection[int]) -> None:
        self._dismiss()
        if self._tied:
            self._guard = guarded(pid, signals)

    def _dismiss(self) -> None:
        if self._guard is not None:
            self._guard.dismiss()
            self._guard = None

    def shut_down(self) -> None:
        """Stop supervisord, and wait until it and all it ran are gone."""
        pid = self._recorded().get(SUPERVISORD)
        if pid and self.alive():
            self._call("shutdown")
            wait_until(lambda: gone(pid), seconds=START_SECONDS)
        self.end_leftovers()
        self._dismiss()

    def run(self, programs: Iterable[Program]) -> None:
        """Start programs side by side; one that already runs as described is left alone."""
        wanted = list(programs)
        self.halt([program.name for program in wanted if self._differs(program)])
        for program in wanted:
            write_private(self._spec(program.name), describe(program))
        self._adopt()
        running = {each.name for each in self.processes() if each.state in UP}
        for program in wanted:
            if program.name not in running:
                self._start(program.name)

    def restart(self, names: Collection[str]) -> None:
        """Stop these programs and start them as they were described."""
        self.halt(names)
        for name in names:
            self._start(name)

    def stop(self, names: Collection[str]) -> None:
        """Stop these programs and forget them."""
        self.halt(names)
        for name in names:
            self._spec(name).unlink(missing_ok=True)
        self._adopt()

    def halt(self, names: Collection[str]) -> None:
        """Stop these programs side by side, and wait until they are gone."""
        running = [each for each in self.processes() if each.name in names and each.state in UP]
        # A signal sent between supervisord's fork and the exec of the child would be lost.
        wait_until(lambda: all(map(self._began, running)), seconds=BEGIN_SECONDS)
        for each in running:
            self._call("stopProcess", each.name, False)
        patience = max((self._stop_seconds(name) for name in names), default=0) + REAP_SECONDS
        if not wait_until(lambda: not self._busy(names), seconds=patience):
            raise StackError(f"{', '.join(self._busy(names))} did not stop in {patience:.0f} s")

    def processes(self) -> list[Process]:
        """Return every program under supervision, in the order of their names."""
        found = cast(list[Info], self._call("getAllProcessInfo"))
        return [self._process(info) for info in sorted(found, key=lambda info: info["name"])]

    def reason(self, name: str) -> str:
        """Return the last telling line of a program's log."""
        path = self.state.logs / f"{name}.log"
        return telling_line(path.read_text(errors="replace") if path.exists() else "")

    def end_leftovers(self) -> None:
        """End what a supervisord that was killed left behind, known by pid and start time."""
        pids = list(self._recorded().values())
        for pid in pids:
            send(pid, signal.SIGTERM)
        if not wait_until(lambda: all(map(gone, pids)), seconds=START_SECONDS):
            for pid in pids:
                send(pid, signal.SIGKILL)
            wait_until(lambda: all(map(gone, pids)), seconds=REAP_SECONDS)
        for path in self.state.run.rglob("*.pid"):
            path.unlink(missing_ok=True)

    def _call(self, method: str, *arguments: str | bool) -> object:
        port = remembered_port(self.state, SUPERVISORD)
        user = f"otb:{self.state.secret(SUPERVISORD)}"
        url = f"http://{user}@127.0.0.1:{port}/RPC2"
        with xmlrpc.client.ServerProxy(url, transport=Transport()) as server:
            return getattr(server.supervisor, method)(*arguments)

    def _start(self, name: str) -> None:
        self._spec(name).with_suffix(".starts").unlink(missing_ok=True)
        self._call("startProcess", name, False)

    def _began(self, process: Process) -> bool:
        recorded = recorded_pid(self._spec(process.name).with_suffix(".pid"))
        return process.pid is None or process.pid == recorded

    def _busy(self, names: Collection[str]) -> list[str]:
        states = (*UP, "stopping")
        return [one.name for one in self.processes() if one.name in names and one.state in states]

    def _process(self, info: Info) -> Process:
        name, up = info["name"], info["statename"] in ("RUNNING", "STARTING")
        starts = self._spec(name).with_suffix(".starts")
        count = int(starts.read_text() or "1") if starts.exists() else 1
        return Process(
            name=name,
            pid=info["pid"] or None,
            state=cast(ProcessState, info["statename"].lower()),
            uptime_seconds=float(info["now"] - info["start"]) if up else 0.0,
            restarts=max(0, count - 1),
        )

    def _recorded(self) -> dict[str, int]:
        """Return the pids on file that still belong to the process that wrote them."""
        pids = {path.stem: recorded_pid(path) for path in self.state.run.rglob("*.pid")}
        return {name: pid for name, pid in pids.items() if pid}

    def _spec(self, name: str) -> Path:
        return self.state.run / f"{name}.json"

    def _differs(self, program: Program) -> bool:
        if not NAME.fullmatch(program.name):
            raise StackError(f"{program.name!r} cannot name a program: use a-z, 0-9, - and _")
        spec = self._spec(program.name)
        return not spec.exists() or spec.read_text() != describe(program)

    def _stop_seconds(self, name: str) -> int:
        spec = self._spec(name)
        return int(json.loads(spec.read_text())["stop_seconds"]) if spec.exists() else 0

    def _adopt(self) -> None:
        """Bring supervisord's programs in line with the described ones."""
        self._configure()
        [[added, changed, removed]] = cast(list[list[list[str]]], self._call("reloadConfig"))
        for name in (*changed, *removed):
            self._call("removeProcessGroup", name)
        for name in (*added, *changed):
            self._call("addProcessGroup", name)

    @property
    def _configuration(self) -> Path:
        return self.state.run / f"{SUPERVISORD}.conf"

    def _configure(self) -> None:
        specs = sorted(self.state.run.glob("*.json"))
        sections = (self._head(), *(self._section(spec) for spec in specs))
        write_private(self._configuration, "\n".join(sections))

    def _head(self) -> str:
        run, logs = self.state.run, self.state.logs
        return f"""\
[supervisord]
nodaemon=true
silent=true
nocleanup=true
minfds={open_files()}
logfile={logs}/{SUPERVISORD}.log
logfile_maxbytes=5MB
logfile_backups=2
childlogdir={logs}
pidfile={run}/{SUPERVISORD}.pid
{"user=0" if os.geteuid() == 0 else ""}
[inet_http_server]
port=127.0.0.1:{remembered_port(self.state, SUPERVISORD)}
username=otb
password={self.state.secret(SUPERVISORD)}
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

    def _section(self, spec: Path) -> str:
        described = json.loads(spec.read_text())
        command = shlex.join(child_command(spec)).replace("%", "%%")
        return f"""\
[program:{spec.stem}]
command={command}
autostart=false
autorestart=true
startsecs=1
startretries=1000000
stopsignal={described["stop_signal"].removeprefix("SIG")}
stopwaitsecs={described["stop_seconds"]}
killasgroup=true
redirect_stderr=true
stdout_logfile={self.state.logs}/{spec.stem}.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups=3
"""


def open_files() -> int:
    """Return how many files the parts may open: what they like, within what is allowed."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """Hold signals back between a start and its record; yield the mask to start with."""
    held = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    try:
        yield {int(each) for each in before}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
