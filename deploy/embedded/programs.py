"""Describe programs, and run them through the wrapper that ties them to their parent."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import psutil

from deploy.embedded.state import StackError, State, wait_until, write_private

CHILD: Final = Path(__file__).with_name("child.py")
UNREACHABLE: Final = 77
KILL_SECONDS: Final = 5.0
TELLING: Final = re.compile(r"FATAL|ERROR|Exception|Error|error:|cannot|could not")


@dataclass(frozen=True, slots=True)
class Program:
    """Describe a service to keep running; any exit it was not asked for restarts it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    directory: str
    stop_seconds: int = 15
    stop_signal: str = "SIGTERM"
    user: int = 0
    reaches: Sequence[str] = field(default=())
    needs_account: bool = False


def describe(program: Program) -> str:
    """Return the specification the wrapper reads."""
    return json.dumps({**asdict(program), "environment": dict(program.environment)}, indent=1)


def child_command(spec: Path) -> list[str]:
    """Return the command that becomes the described program."""
    # One name of the interpreter, however the caller was started: another name would look like another program.
    python = Path(sys.executable).with_name("python3")
    return [str(python if python.exists() else sys.executable), "-I", "-S", str(CHILD), str(spec)]


def inherited_environment() -> dict[str, str]:
    """Return our environment without settings, so that programs get only those given to them."""
    return {key: text for key, text in os.environ.items() if not key.startswith("OTB_")}


def run_once(state: State, program: Program, seconds: float) -> None:
    """Run a preparing program to its end, and leave nothing of it when interrupted."""
    folder = state.run / "once"
    folder.mkdir(mode=0o700, exist_ok=True)
    spec = folder / f"{program.name}.json"
    write_private(spec, describe(program))
    status, output = _complete(child_command(spec), program.name, seconds)
    spec.with_suffix(".pid").unlink(missing_ok=True)
    if status == UNREACHABLE:
        raise StackError(
            f"PostgreSQL does not run as root and {telling_line(output)}: "
            f"set OTB_STATE_DIR to a folder every user may enter, or run as an ordinary user"
        )
    if status:
        raise StackError(f"{program.name} failed: {telling_line(output)}")


def _complete(command: Sequence[str], name: str, seconds: float) -> tuple[int, str]:
    with subprocess.Popen(
        command,
        env=inherited_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
        errors="replace",
    ) as process:
        try:
            output, _ = process.communicate(timeout=seconds)
        except BaseException as error:
            _kill_group(process)
            if isinstance(error, subprocess.TimeoutExpired):
                raise StackError(f"{name} did not end in {seconds:.0f} s") from error
            raise
        return process.returncode, output


def _kill_group(process: subprocess.Popen[str]) -> None:
    """End a program and what it started: initdb runs servers of its own."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not _group_lives(process.pid), seconds=KILL_SECONDS)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def telling_line(text: str) -> str:
    """Return the last line that tells what went wrong, else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if TELLING.search(line)]
    return (telling or lines or ["it said nothing"])[-1][:400]


def recorded_pid(path: Path) -> int:
    """Return the pid in a file while the process that wrote it lives, else 0."""
    try:
        pid, written = int(path.read_text()), path.stat().st_mtime
        # A process younger than the file only reuses the number.
        return pid if psutil.Process(pid).create_time() <= written + 2 and not gone(pid) else 0
    except (OSError, ValueError, psutil.Error):
        return 0


def gone(pid: int) -> bool:
    """Tell whether a process has ended, reaping it when it was our own child."""
    try:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return True
    except ChildProcessError:
        pass
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return True


def send(pid: int, number: signal.Signals) -> None:
    """Signal a process that may just have ended."""
    try:
        psutil.Process(pid).send_signal(number)
    except psutil.Error:
        return
