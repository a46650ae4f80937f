"""The otb command's entry: signals first, then the rest, so that an interrupt is never a traceback."""

import os
import signal
import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave with its exit code: 130 or 143 when interrupted."""
    terminated = _listen()
    try:
        from services.cli.commands import answer

        code = answer(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        code = 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(128 + signal.SIGTERM if terminated and code == 128 + signal.SIGINT else code)


def _listen() -> list[int]:
    """Make SIGTERM and SIGHUP interrupt as Ctrl-C does; return where such a signal is noted."""
    noted: list[int] = []

    def interrupt(number: int, _: object) -> None:
        noted.append(number)
        signal.raise_signal(signal.SIGINT)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    return noted


if __name__ == "__main__":
    main()
