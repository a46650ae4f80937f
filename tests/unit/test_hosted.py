"""A worker goes on whatever signal nobody meant for it."""

import asyncio
import os
import pdb  # noqa: T100 - the one that must not open
import signal

import pytest
from faust import App, Worker

from services.hosted import NICE, Hosted, Observer
from services.lag_monitor import live
from services.lag_monitor import worker as observer
from services.settlement.worker import app


@pytest.mark.parametrize("worker", [Hosted, Worker])
def test_no_signal_opens_a_debugger_in_a_worker(worker: type[Worker], monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(pdb, "set_trace", lambda: opened.append("a debugger"))
    loop = asyncio.new_event_loop()
    hosting = worker(live.app, loop=loop)
    hosting.install_signal_handlers()
    loop.call_soon(os.kill, os.getpid(), signal.SIGUSR2)
    loop.run_until_complete(asyncio.sleep(0.05))
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        loop.remove_signal_handler(one)
    loop.close()
    assert opened == ([] if worker is Hosted else ["a debugger"])


@pytest.mark.parametrize("hosted", [app, live.app, observer.app])
def test_every_worker_is_hosted_so(hosted: App) -> None:
    assert isinstance(hosted.Worker(), Hosted)


@pytest.mark.parametrize("hosted", [live.app, observer.app])
@pytest.mark.parametrize(("was", "becomes"), [(0, NICE), (19, 19)])
def test_who_looks_on_stands_back(hosted: App, was: int, becomes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, int, int]] = []
    monkeypatch.setattr(os, "getpriority", lambda which, who: was)
    monkeypatch.setattr(os, "setpriority", lambda *given: asked.append(given))
    monkeypatch.setattr(Worker, "execute_from_commandline", lambda _: asked.append((-1, -1, -1)))
    hosted.Worker().execute_from_commandline()
    assert asked == [(os.PRIO_PROCESS, 0, becomes), (-1, -1, -1)]
    assert not isinstance(app.Worker(), Observer)
