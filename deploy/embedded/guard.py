"""Tie a supervisor to the life of whoever started it, however that ends: a time limit's SIGKILL tells nobody.

The guard is a process of its own, out of reach of the terminal and of what ends a whole group; it runs without
any package. Linux alone has what it needs; elsewhere nothing is tied.
"""

import os
import select
import signal
import sys
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Guard:
    """Hold the end of a pipe that closes with this process, however it dies."""

    pid: int
    held: int

    def dismiss(self) -> None:
        """Let go of a supervisor that has ended, and reap the guard."""
        os.close(self.held)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def guarded(supervisor: int, signals: Collection[int]) -> Guard | None:
    """Start a guard that ends this supervisor, and so all it runs, once we are gone; None where it cannot."""
    if sys.platform != "linux":
        return None
    read, held = os.pipe()
    command = [sys.executable, "-I", "-S", __file__, str(supervisor)]
    files = [(os.POSIX_SPAWN_DUP2, read, 0)]
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True, setsigmask=signals)
    os.close(read)
    return Guard(pid, held)


def main(supervisor: int) -> None:
    """Wait until standard input closes or the supervisor ends, whichever is first."""
    with suppress(ProcessLookupError):
        watched = os.pidfd_open(supervisor)
        ended, _, _ = select.select([0, watched], [], [])
        if watched not in ended:
            signal.pidfd_send_signal(watched, signal.SIGTERM)


if __name__ == "__main__":
    main(int(sys.argv[1]))
