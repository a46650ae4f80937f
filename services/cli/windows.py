"""The live picture as a process of its own: start it beside the workers, and say what its newest window holds."""

from typing import Any, Final

from deploy.embedded import Program
from services.cli.system import System, environment, free_port, hosted
from services.lag_monitor import PICTURE, WINDOW_SECONDS

MODULE: Final = "services.lag_monitor.live"
ANSWER_SECONDS: Final = 0.5
STOP_SECONDS: Final = 2
"""It has nothing to lose, and Faust does not heed a signal while it begins."""


def start_picture(system: System) -> int:
    """Start the live picture under the stack's supervisor, without the database's address; return its web port."""
    port = free_port()
    variables = environment(system.settings.model_copy(update={"postgres_dsn": None}))
    command = [*hosted(MODULE), "-p", str(port)]
    directory = str(system.settings.state_dir)
    program = Program(
        name=PICTURE, command=command, environment=variables, directory=directory, stop_seconds=STOP_SECONDS
    )
    system.stack.run([program])
    return port


def address(port: int) -> str:
    """Return where its windows are shown."""
    return f"http://127.0.0.1:{port}/live"


async def newest(port: int) -> str | None:
    """Return its newest window in a line; None while it has none or does not answer: it is only looked at."""
    import httpx

    try:
        async with httpx.AsyncClient(timeout=ANSWER_SECONDS, trust_env=False) as client:
            windows: list[dict[str, Any]] = (await client.get(address(port))).json()
    except (httpx.HTTPError, ValueError):
        return None
    return said(windows[-1]) if windows else None


def said(window: dict[str, Any]) -> str:
    """Return one window in a line."""
    from services.cli.lag import seconds_text

    longest, mean = seconds_text(window["longest_ms"]), seconds_text(window["mean_ms"])
    begun = window["from"][11:19]
    return (
        f"window of {WINDOW_SECONDS:g} s from {begun}: {window['parts']} parts restored, mean {mean}, longest {longest}"
    )
