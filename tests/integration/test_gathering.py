"""The observer reads on a real Kafka, in turns and small batches, and loses and doubles nothing."""

import asyncio
from itertools import chain

import pytest

from schemas.event import Event
from schemas.ids import repayment_id
from services.lag_monitor import gathering
from services.lag_monitor.worker import WORKER
from services.runtime.settings import Settings
from tests import builders
from tests.integration.kafka import send
from tests.integration.support import owner, violations
from tests.integration.test_consumer import assigned, running, until

# Journeys that were measured and whose message was delivered.
HEARD = """
SELECT count(*) FROM lag_monitor.journey j
WHERE EXISTS (SELECT FROM lag_monitor.restoration_fact f WHERE f.repayment_id = j.repayment_id)
  AND EXISTS (SELECT FROM lag_monitor.notice n WHERE n.subject = j.repayment_id AND n.state = 'delivered')
"""
BUILT = {"lag_monitor.invariant_steps_in_order"}
"""What the builders' own instants break."""


def life(n: int) -> list[Event]:
    """Return what eight topics tell of one repayment."""
    reported = builders.repayment_reported(account_id=f"account-{n % 40}", external_ref=f"ref-{n}")
    at, by = repayment_id(reported.source, f"ref-{n}"), reported.account_id
    told = (builders.repayment_settled, builders.risk_assessed, builders.promise_made, builders.credit_restored)
    asked = builders.notification_requested(repayment_id=at, account_id=by, notification_id=f"message-{n}")
    return [
        reported,
        builders.repayment_received(repayment_id=at, account_id=by, external_ref=f"ref-{n}"),
        *(build(repayment_id=at, account_id=by) for build in told),
        asked,
        builders.notification_delivered(repayment_id=at, account_id=by, notification_id=f"message-{n}"),
    ]


async def heard(settings: Settings, count: int) -> None:
    """Wait until all of so many lives is in the ledger."""

    async def all_of_it() -> bool:
        async with owner(settings) as connection:
            return bool(await connection.fetchval(HEARD) == count)

    await until(all_of_it, 60)


async def test_two_observers_that_take_over_from_each_other_lose_and_double_nothing(
    empty_kafka: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering, "REST_SECONDS", (0.1, 0.2))
    settings = empty_kafka.model_copy(update={"batch_max": 5})
    async with running(WORKER, settings) as first:
        await assigned(first)
        await send(empty_kafka, *chain.from_iterable(map(life, range(150))))
        async with running(WORKER, settings) as second:
            sending = asyncio.create_task(send(empty_kafka, *chain.from_iterable(map(life, range(150, 300)))))
            await assigned(first, second)
            await sending
            await heard(empty_kafka, 300)
        await send(empty_kafka, *chain.from_iterable(map(life, range(300, 350))))
        await heard(empty_kafka, 350)
    assert (await violations(empty_kafka)).keys() <= BUILT
