"""Ours: the five real workers, as `otb` starts them."""

import asyncio
from typing import Final

from schemas.topics import BILLING_REPAYMENT, NOTIFICATION
from services.cli.system import System, start_workers, wait_ready
from services.cli.workers import WORKERS
from tests.benchmarks.contenders import BOOKS, Contender, told

# What the books hold of repayments.
EFFECTS: Final = """
SELECT (SELECT count(*) FROM repayment_ingest.reference) AS reference,
  (SELECT count(*) FROM settlement.repayment) AS debt_repayment,
  (SELECT count(*) FROM limit_release.journal) AS journal,
  (SELECT count(*) FROM limit_release.repayment) AS credit_repayment,
  (SELECT count(*) FROM limit_release.tranche) AS tranche,
  (SELECT count(*) FROM limit_release.decision_record) AS decision_record,
  (SELECT count(*) FROM notifier.notification) AS notification,
  (SELECT count(*) FROM notifier.delivery) AS delivery
"""


async def _prepare(system: System) -> None:
    """Nothing: topics, schemas and accounts are the bed's."""


async def _start(system: System) -> None:
    await wait_ready(await asyncio.to_thread(start_workers, system))


OURS: Final = Contender(
    name="ours",
    stages=tuple(worker.name for worker in WORKERS),
    inlet=BILLING_REPAYMENT.name,
    outlet=NOTIFICATION.name,
    identify=told,
    prepare=_prepare,
    start=_start,
    # It also delivers on the log channel and tells so: one record more than the naive pipelines write.
    outputs=2,
    effects=EFFECTS,
    effects_each=BOOKS,
)
