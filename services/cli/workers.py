"""The five workers in the order of the pipeline, and those beside them that no money waits for."""

from services.console.worker import WORKER as CONSOLE
from services.lag_monitor.worker import WORKER as LAG_MONITOR
from services.limit_release.worker import WORKER as LIMIT_RELEASE
from services.notifier.worker import WORKER as NOTIFIER
from services.repayment_ingest.worker import WORKER as REPAYMENT_INGEST
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.worker import AnyWorker
from services.settlement.worker import WORKER as SETTLEMENT

WORKERS: tuple[AnyWorker, ...] = (REPAYMENT_INGEST, SETTLEMENT, RISK_SCORING, LIMIT_RELEASE, NOTIFIER)
OBSERVERS: tuple[AnyWorker, ...] = (CONSOLE, LAG_MONITOR)
EVERYONE: tuple[AnyWorker, ...] = (*WORKERS, *OBSERVERS)
READERS: tuple[str, ...] = ("watching",)
"""Packages with views for people's tools: a schema and a role that only reads."""
CONTROLS: tuple[str, ...] = ("relief_control",)
"""Logins without a schema of their own, for what changes a rule that others follow."""
