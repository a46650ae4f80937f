"""Become a command that is ended when whoever started it is gone, killed or not (on Linux)."""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def tied(*command: str) -> list[str]:
    """Return the command line for it; started by a thread, it ends with the thread."""
    return [sys.executable, "-I", "-S", __file__, *command]


def main(command: list[str]) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execvp(command[0], command)  # noqa: S606  # no shell is wanted


if __name__ == "__main__":
    main(sys.argv[1:])
