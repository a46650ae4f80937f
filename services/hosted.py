"""The Faust worker that hosts ours, as on a server: nobody sits at its terminal."""

import os
import tempfile
from typing import Final, NoReturn

import faust
from typing_extensions import override

NICE: Final = 10
"""Where processes share processors, a tenth of the weight of one that moves money (setpriority(2))."""


class Hosted(faust.Worker):
    """A worker no signal halts: SIGUSR2 would open a debugger, which waits for a person until it is killed."""

    @override
    def _enter_debugger(self) -> None:
        """Go on."""


class Observer(Hosted):
    """A process that only looks on: whoever moves money goes first, and it catches up when they rest."""

    @override
    def execute_from_commandline(self) -> NoReturn:
        """Stand back, then run."""
        os.setpriority(os.PRIO_PROCESS, 0, max(NICE, os.getpriority(os.PRIO_PROCESS, 0)))
        super().execute_from_commandline()


def datadir() -> str:
    """Return where Faust writes what it must; it makes the folder, and two users may share a machine."""
    return f"{tempfile.gettempdir()}/opentobuy-{os.getuid()}"
