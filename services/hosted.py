"""The Faust worker that hosts ours, as on a server: nobody sits at its terminal."""

import os
import tempfile

import faust
from typing_extensions import override


class Hosted(faust.Worker):
    """A worker no signal halts: SIGUSR2 would open a debugger, which waits for a person until it is killed."""

    @override
    def _enter_debugger(self) -> None:
        """Go on."""


def datadir() -> str:
    """Return where Faust writes what it must; it makes the folder, and two users may share a machine."""
    return f"{tempfile.gettempdir()}/opentobuy-{os.getuid()}"
