"""A state machine over the real stores on real PostgreSQL, beside the simulated one: whatever comes, no difference.

It is what holds the simulated database to the real one, and what drives the real constraints, triggers and guards with
everything the simulation's lives can do.
"""

import asyncio
import os
from datetime import timedelta
from random import Random
from typing import Any, cast
from unittest.mock import patch

import asyncpg
import pytest
from hypothesis import HealthCheck, Phase
from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from typing_extensions import override

from services.cli.workers import WORKERS
from services.runtime import batch
from services.runtime.postgres import connect
from services.runtime.settings import Settings
from services.runtime.worker import AnyWorker
from tests.conftest import dsn_of
from tests.integration.support import violations
from tests.simulation.twins import Twins, pinned

WORKER = st.sampled_from(WORKERS)
SECONDS = st.sampled_from((0.001, 1, 59, 61, 3_600, 86_400, 200_000))
MANY = os.getenv("OTB_CI") == "1"
EXAMPLES, STEPS = (200, 50) if MANY else (12, 30)


class Machine(RuleBasedStateMachine):
    """Lives of accounts, workers that take batches in any order, timers, zombies and time."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connections: dict[str, Any], owner: Any) -> None:
        super().__init__()
        self.loop, self.connections, self.owner = loop, connections, owner

    @initialize(chance=st.randoms(use_true_random=False))
    def begin(self, chance: Random) -> None:
        self.twins = Twins(self.connections, self.owner, chance)
        self.loop.run_until_complete(self.twins.begin())
        self.settle_down()

    def settle_down(self) -> None:
        """Change nothing; a machine with a defect does."""

    @rule(times=st.integers(1, 6))
    def live(self, times: int) -> None:
        for _ in range(times):
            self.twins.billing.act()

    @rule(worker=WORKER, most=st.sampled_from((1, 3, 250)))
    def turn(self, worker: AnyWorker, most: int) -> None:
        self.loop.run_until_complete(self.twins.turn(worker, most))

    @rule()
    def flow(self) -> None:
        for worker in WORKERS:
            self.loop.run_until_complete(self.twins.turn(worker, 250))

    @rule(worker=WORKER)
    def fire(self, worker: AnyWorker) -> None:
        self.loop.run_until_complete(self.twins.fire(worker))

    @rule(worker=WORKER)
    def again(self, worker: AnyWorker) -> None:
        self.loop.run_until_complete(self.twins.again(worker))

    @rule(worker=WORKER)
    def zombie(self, worker: AnyWorker) -> None:
        self.loop.run_until_complete(self.twins.repeat(worker))

    @rule(seconds=SECONDS)
    def wait(self, seconds: float) -> None:
        self.twins.pass_time(timedelta(seconds=seconds))

    @override
    def teardown(self) -> None:
        if hasattr(self, "twins"):
            self.loop.run_until_complete(self.twins.compare())


async def opened(settings: Settings) -> tuple[dict[str, Any], Any]:
    """Connect as every service and as the owner, on a database whose clock is pinned."""
    owner = await asyncpg.connect(dsn_of(settings))
    await pinned(owner)
    return {worker.package: await connect(settings, worker.package) for worker in WORKERS}, owner


async def closed(connections: dict[str, Any], owner: Any) -> None:
    for connection in (*connections.values(), owner):
        await connection.close(timeout=5)


def run(settings: Settings, machine: type[Machine], **how: Any) -> None:
    """Let a machine run on one loop and one database."""
    loop = asyncio.new_event_loop()
    try:
        connections, owner = loop.run_until_complete(opened(settings))
        try:
            options: dict[str, Any] = {"stateful_step_count": STEPS, "deadline": None, "derandomize": MANY, **how}
            with patch.object(batch, "monotonic", lambda: 0.0):
                run_state_machine_as_test(
                    cast(Any, lambda: machine(loop, connections, owner)),
                    settings=profile(suppress_health_check=list(HealthCheck), **options),
                )
            found = loop.run_until_complete(violations(settings))
            # What joins services is judged by the server's clock, and the machine stops in the middle of things.
            own = {name for name in found if not name.startswith("lag_monitor.")}
            assert {name for name in own if "waits_explained" not in name and "outbox" not in name} == set()
        finally:
            loop.run_until_complete(closed(connections, owner))
    finally:
        loop.close()


def test_the_real_stores_and_the_simulated_ones_never_differ(settings: Settings) -> None:
    run(settings, Machine, max_examples=EXAMPLES)


class ForgetsTimers(Machine):
    """The simulated database with a defect: no timer is kept."""

    @override
    def settle_down(self) -> None:
        for books in self.twins.books.values():
            books.timers.put = lambda row: None  # type: ignore[method-assign]


def test_a_difference_would_be_seen(settings: Settings) -> None:
    with pytest.raises(AssertionError):
        run(
            settings,
            ForgetsTimers,
            max_examples=200,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
