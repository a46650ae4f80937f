"""Run a real Kafka and a real PostgreSQL from wheels and jars, without root or containers."""

import signal
import sys
import threading
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from deploy.embedded import jars, kafka, postgres
from deploy.embedded import state as states
from deploy.embedded.programs import Program
from deploy.embedded.state import StackError, State, wait_until
from deploy.embedded.supervise import UP, Process, Supervisor
from deploy.embedded.wheels import check_platform

__all__ = ["Endpoints", "Part", "Process", "Program", "Stack", "StackError"]

Part = Literal["kafka", "postgres"]
PARTS: Final[tuple[Part, ...]] = ("postgres", "kafka")
READY_SECONDS: Final = 60.0
# A part that crashed this often while starting will not get better by waiting.
HOPELESS_RESTARTS: Final = 3


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Tell where the parts answer."""

    kafka_bootstrap_servers: str
    postgres_dsn: str


class Stack:
    """Start, watch and stop the stack of one state folder."""

    def __init__(self, state_dir: Path, cache_dir: Path | None = None, *, tied: bool = False) -> None:
        """Use a state folder; the cache of jars may be shared (OTB_CACHE_DIR by default).

        What a ``tied`` one starts ends with this process, however it is killed (on Linux); otherwise it outlives us.
        """
        self._state: State = states.locate(state_dir, cache_dir)
        self._supervisor = Supervisor(self._state, tied=tied)

    @property
    def state_dir(self) -> Path:
        """Return the state folder."""
        return self._state.root

    @property
    def logs_dir(self) -> Path:
        """Return the folder of `<name>.log` files."""
        return self._state.logs

    def up(self, parts: Sequence[Part] = PARTS) -> Endpoints:
        """Start what is not running yet; return once it answers, and undo when interrupted."""
        check_platform()
        with states.locked(self._state), _termination_raises():
            states.prepare(self._state, _versions())
            before = self._running()
            try:
                self._bring_up(parts)
            except BaseException as error:
                with _uninterrupted():
                    self._undo(before)
                if isinstance(error, OSError):
                    raise StackError(f"cannot start in {self.state_dir}: {error}") from error
                raise
        return self.endpoints()

    def down(self) -> None:
        """Stop programs, then Kafka, then PostgreSQL; return once no process is left."""
        if states.known(self._state):
            with states.locked(self._state):
                self._bring_down()

    def reset(self) -> list[str]:
        """Stop everything, remove what the stack keeps but its jars, and return the paths."""
        if not self._state.root.exists():
            return []
        if not states.known(self._state):
            raise StackError(f"{self.state_dir} is not a stack's folder: nothing was removed")
        with states.locked(self._state):
            self._bring_down()
            return states.remove(self._state)

    def status(self) -> list[Process]:
        """Return every part and program; parts that do not run are "stopped"."""
        found = {process.name: process for process in self.processes()}
        absent = [name for name in PARTS if name not in found]
        stopped = [Process(name, None, "stopped", 0.0, 0) for name in absent]
        return [*found.values(), *stopped]

    def processes(self) -> list[Process]:
        """Return what is under supervision, nothing when the stack is down."""
        return self._supervisor.processes() if self._alive() else []

    def endpoints(self) -> Endpoints:
        """Return where the parts answer, or would once up."""
        if not states.known(self._state):
            raise StackError(f"no stack in {self.state_dir}: run `otb stack up`")
        return Endpoints(
            kafka_bootstrap_servers=f"127.0.0.1:{self._port('kafka')}",
            postgres_dsn=postgres.dsn(self._state, self._port("postgres")),
        )

    def run(self, programs: Iterable[Program]) -> None:
        """Start programs side by side under supervision; those already running stay."""
        with self._supervised():
            self._supervisor.run(programs)

    def stop(self, names: Collection[str]) -> None:
        """Stop programs side by side and forget them; return once they are gone."""
        with self._supervised():
            self._supervisor.stop(names)

    def restart(self, names: Collection[str]) -> None:
        """Stop programs or parts and start them again."""
        with self._supervised():
            self._supervisor.restart(names)

    @contextmanager
    def _supervised(self) -> Iterator[None]:
        if not self._alive():
            raise StackError(f"no stack runs in {self.state_dir}: run `otb stack up`")
        with states.locked(self._state):
            yield

    def _alive(self) -> bool:
        return states.known(self._state) and self._supervisor.alive()

    def _running(self) -> set[str]:
        return {process.name for process in self.processes() if process.state in UP}

    def _port(self, part: Part) -> int:
        return states.remembered_port(self._state, part)

    def _bring_up(self, parts: Sequence[Part]) -> None:
        running = self._running()
        self._refuse_moving(running)
        if not self._alive():
            self._supervisor.start()
        for part in (part for part in PARTS if part in parts and part not in running):
            self._supervisor.run([self._prepare(part)])
        for part in parts:
            self._await(part)

    def _refuse_moving(self, running: Collection[str]) -> None:
        for part in PARTS:
            forced = states.forced_port(part)
            if part in running and forced and forced != self._port(part):
                raise StackError(
                    f"{part} already runs on port {self._port(part)}, not on "
                    f"{states.variable_of(part)}={forced}: run `otb stack down` first"
                )

    def _prepare(self, part: Part) -> Program:
        port = states.claim_port(self._state, part)
        if part == "kafka":
            return kafka.prepare(self._state, port)
        return postgres.prepare(self._state, port)

    def _answers(self, part: Part) -> bool:
        if part == "kafka":
            return kafka.answers(self._port(part))
        return postgres.answers(self._state, self._port(part))

    def _await(self, part: Part) -> None:
        wait_until(lambda: self._answers(part) or self._hopeless(part), seconds=READY_SECONDS)
        if not self._answers(part):
            log = self._state.logs / f"{part}.log"
            raise StackError(f"{part} did not start: {self._supervisor.reason(part)} (see {log})")

    def _hopeless(self, part: Part) -> bool:
        return any(each.name == part and each.restarts >= HOPELESS_RESTARTS for each in self.processes())

    def _undo(self, before: Collection[str]) -> None:
        if not before:
            self._bring_down()
        elif self._alive():
            self._supervisor.stop(self._running() - set(before))

    def _bring_down(self) -> None:
        if self._alive():
            programs = self._running() - set(PARTS)
            for names in (programs, {"kafka"}, {"postgres"}):
                self._supervisor.halt(names)
        self._supervisor.shut_down()


def _versions() -> dict[str, str]:
    return {"kafka": jars.kafka_version(jars.read_lock()), "postgres": postgres.MAJOR}


@contextmanager
def _termination_raises() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into an exception, so that what was started gets stopped."""
    signals = (signal.SIGTERM, signal.SIGHUP)
    main = threading.current_thread() is threading.main_thread()
    ours = [each for each in signals if main and signal.getsignal(each) is signal.SIG_DFL]
    for each in ours:
        signal.signal(each, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        for each in ours:
            signal.signal(each, signal.SIG_DFL)


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Finish cleaning up whatever the terminal or a service manager sends meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    handlers = [(each, signal.signal(each, signal.SIG_IGN)) for each in signals]
    try:
        yield
    finally:
        for each, handler in handlers:
            signal.signal(each, handler)
