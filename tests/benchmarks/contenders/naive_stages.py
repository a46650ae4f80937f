"""What both naive pipelines do with one message: a transaction with the effects ours has, decided by our decide().

A row at a time, as a careful engineer writes it first: remember the event, lock the state, decide, write, commit;
the caller publishes afterwards. A crash between the two loses what was not published, which ours does not.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final, cast
from uuid import UUID

import asyncpg

from schemas.event import Event, to_millisecond
from schemas.intake import RepaymentReceived
from schemas.repayment import RepaymentReported
from schemas.restoration import CreditRestored
from schemas.risk import RiskAssessed
from schemas.settlement import RepaymentSettled
from schemas.topics import TYPE_OF
from services.decision import Moment
from services.limit_release import domain as limit_release
from services.limit_release.model import Account as Credit
from services.limit_release.model import Repayment as CreditRepayment
from services.limit_release.model import State
from services.notifier import domain as notifier
from services.policy import Profiles
from services.profiles import load_profiles
from services.repayment_ingest import domain as repayment_ingest
from services.risk_scoring import domain as risk_scoring
from services.risk_scoring.model import Account as RiskAccount
from services.runtime.clock import utc_now
from services.runtime.codec import Outgoing, encode
from services.runtime.postgres import COMMAND_SECONDS, SESSION, Connection
from services.runtime.settings import Settings
from services.settlement import model as settlement
from services.settlement.domain import decide as decide_settlement
from services.settlement.store import account_of, account_row, repayment_row
from tests.benchmarks.bed import dsn

# The tables of ours that the naive pipelines fill, with their columns, keys and checks, and the same accounts.
TABLES: Final = """
CREATE TABLE inbox (stage text NOT NULL, event_id uuid NOT NULL, PRIMARY KEY (stage, event_id));
CREATE TABLE reference (LIKE repayment_ingest.reference INCLUDING ALL);
CREATE TABLE debt_account (LIKE settlement.account INCLUDING ALL);
CREATE TABLE debt_repayment (LIKE settlement.repayment INCLUDING ALL);
CREATE TABLE credit_account (LIKE limit_release.account INCLUDING ALL);
CREATE TABLE journal (LIKE limit_release.journal INCLUDING ALL);
CREATE TABLE credit_repayment (LIKE limit_release.repayment INCLUDING ALL);
CREATE TABLE tranche (LIKE limit_release.tranche INCLUDING ALL);
CREATE TABLE decision_record (LIKE limit_release.decision_record INCLUDING ALL);
CREATE TABLE customer (LIKE notifier.account INCLUDING ALL);
CREATE TABLE notification (LIKE notifier.notification INCLUDING ALL);
CREATE TABLE delivery (LIKE notifier.delivery INCLUDING ALL);
INSERT INTO debt_account SELECT * FROM settlement.account;
INSERT INTO credit_account SELECT * FROM limit_release.account;
INSERT INTO customer SELECT * FROM notifier.account;
"""
# What the books hold of repayments.
EFFECTS: Final = """
SELECT (SELECT count(*) FROM reference) AS reference,
  (SELECT count(*) FROM debt_repayment) AS debt_repayment,
  (SELECT count(*) FROM journal) AS journal,
  (SELECT count(*) FROM credit_repayment) AS credit_repayment,
  (SELECT count(*) FROM tranche) AS tranche,
  (SELECT count(*) FROM decision_record) AS decision_record,
  (SELECT count(*) FROM notification) AS notification,
  (SELECT count(*) FROM delivery) AS delivery
"""
REMEMBER: Final = "INSERT INTO inbox (stage, event_id) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING event_id"
FIND_REFERENCE: Final = """
SELECT account_id, amount_minor, currency, rail, kinds FROM reference WHERE source = $1 AND external_ref = $2 FOR UPDATE
"""
ADD_REFERENCE: Final = """
INSERT INTO reference (source, external_ref, account_id, amount_minor, currency, rail, kinds)
VALUES ($1, $2, $3, $4, $5, $6, $7)
"""
FIND_DEBT: Final = """
SELECT to_json(a) AS account FROM debt_account AS a WHERE account_id = $1 FOR UPDATE
"""
FIND_DEBT_REPAYMENT: Final = "SELECT status, amount_minor FROM debt_repayment WHERE repayment_id = $1"
CHANGE_DEBT: Final = """
UPDATE debt_account SET buckets = $2, credit_balance_minor = $3, books = $4, last_at = $5, latest = $6,
  kept = $7, fold_at = $8, penalty_minor = $9, fee_minor = $10, interest_minor = $11, principal_minor = $12,
  version = $13
WHERE account_id = $1
"""
ADD_DEBT_REPAYMENT: Final = """
INSERT INTO debt_repayment (repayment_id, account_id, status, amount_minor, method, repaid_at, credited_on, final_on,
  portions, penalty_minor, fee_minor, interest_minor, principal_minor, credit_balance_minor, restorable_minor,
  reallocated_minor, folded)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
"""
FIND_CREDIT: Final = """
SELECT account_id, product, currency, status, status_reason, credit_limit_minor, available_minor, used_debt_minor,
  used_authorisation_minor, pending_minor, credit_balance_minor, limit_lowered_at, spendable
FROM credit_account WHERE account_id = $1 FOR UPDATE
"""
FIND_CREDIT_REPAYMENT: Final = "SELECT assessed, returned FROM credit_repayment WHERE repayment_id = $1"
CHANGE_CREDIT: Final = """
UPDATE credit_account SET credit_limit_minor = $2, available_minor = $3, used_debt_minor = $4,
  used_authorisation_minor = $5, pending_minor = $6, credit_balance_minor = $7, limit_lowered_at = $8, shown_minor = $9,
  zero_reason = $10 WHERE account_id = $1
"""
ADD_JOURNAL: Final = """
INSERT INTO journal (kind, ref, account_id, limit_minor, available_minor, used_debt_minor, used_authorisation_minor,
  pending_minor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""
ADD_CREDIT_REPAYMENT: Final = """
INSERT INTO credit_repayment (account_id, repayment_id, assessed, returned, amount_minor, restorable_minor,
  credit_balance_minor, currency, rail, repaid_at, version, trail, reasons, faster, policy_version, model_version,
  calendar_version, clear_seconds, hold_slack_seconds, late, joined, reallocated_minor, reallocated_available_minor,
  reallocated_balance_minor, revision)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, '[]', $12, $13, $14, $15, $16, $17, $18, false, true, 0, 0, 0, 0)
"""
ADD_TRANCHE: Final = """
INSERT INTO tranche (account_id, repayment_id, number, amount_minor, state, until, reason, promised_by, restored_at,
  promises, extensions, delayed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
"""
ADD_RECORD: Final = """
INSERT INTO decision_record (repayment_id, version, account_id, decided_at, record) VALUES ($1, $2, $3, $4, $5)
"""
FIND_CUSTOMER: Final = "SELECT account_id, language, timezone FROM customer WHERE account_id = $1 FOR UPDATE"
FIND_NOTIFICATION: Final = "SELECT notification_id FROM notification WHERE notification_id = $1"
ADD_NOTIFICATION: Final = """
INSERT INTO notification (account_id, notification_id, repayment_id, caused_by, channel, language, template,
  record_version, text, requested_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
"""
ADD_DELIVERY: Final = """
INSERT INTO delivery (notification_id, state, attempts, next_attempt_at) VALUES ($1, $2, $3, $4)
"""
CHANNELS: Final = notifier.Channels(("log",))


async def ingest(db: Connection, policy: Profiles, event: RepaymentReported, moment: Moment) -> Sequence[Event]:
    """Let the first report of a reference through."""
    row = await db.fetchrow(FIND_REFERENCE, event.source, event.external_ref)
    state = repayment_ingest.Reference(event.source, event.external_ref)
    if row is not None:
        content = repayment_ingest.Content(row["account_id"], row["amount_minor"], row["currency"], row["rail"])
        state = repayment_ingest.Reference(event.source, event.external_ref, content, frozenset(row["kinds"]))
    decision = repayment_ingest.decide(None, state, event, moment)
    content_after = decision.state.content
    if row is None and content_after is not None:
        c = content_after
        kinds = sorted(decision.state.kinds)
        values = (c.account_id, c.amount_minor, c.currency, c.rail, kinds)
        await db.execute(ADD_REFERENCE, event.source, event.external_ref, *values)
    return decision.events


async def settle(db: Connection, policy: Profiles, event: RepaymentReceived, moment: Moment) -> Sequence[Event]:
    """Allocate the repayment to the debt."""
    row = _known(await db.fetchrow(FIND_DEBT, event.account_id))
    lane = await db.fetchrow(FIND_DEBT_REPAYMENT, event.repayment_id)
    known = {} if lane is None else {str(event.repayment_id): settlement.Repayment(str(event.repayment_id), **lane)}
    before = account_of(
        event.account_id, json.loads(row["account"]), known, {}, base=settlement.Books(), complete=False
    )
    decision = decide_settlement(policy, before, event, moment)
    a = decision.state
    _, _, _, *books, version, _, _ = account_row(a, before.version + 1)
    await db.execute(CHANGE_DEBT, a.account_id, *books, version)
    if lane is None:
        await db.execute(ADD_DEBT_REPAYMENT, *repayment_row(a.account_id, a.repayments[event.repayment_id]))
    return decision.events


async def assess(db: Connection, policy: Profiles, event: RepaymentSettled, moment: Moment) -> Sequence[Event]:
    """Assess the repayment: the wallet rail is final, so there is no state to load or to write, here as in ours."""
    return risk_scoring.decide(policy, RiskAccount(event.account_id), event, moment).events


async def release(db: Connection, policy: Profiles, event: RiskAssessed, moment: Moment) -> Sequence[Event]:
    """Give the credit back and keep the books of it."""
    account = _known(await db.fetchrow(FIND_CREDIT, event.account_id))
    row = await db.fetchrow(FIND_CREDIT_REPAYMENT, event.repayment_id)
    known = {} if row is None else {str(event.repayment_id): CreditRepayment(event.repayment_id, **row)}
    decision = limit_release.decide(policy, State(Credit(**account), known), event, moment)
    if row is None:
        await _keep(db, decision.state.account, decision.state.repayments[event.repayment_id])
    return decision.events


async def _keep(db: Connection, a: Credit, r: CreditRepayment) -> None:
    sums = (a.credit_limit_minor, a.available_minor, a.used_debt_minor, a.used_authorisation_minor, a.pending_minor)
    shown = (a.shown(spendable=a.spendable), a.zero_reason(spendable=a.spendable))
    await db.execute(CHANGE_CREDIT, a.account_id, *sums, a.credit_balance_minor, a.limit_lowered_at, *shown)
    for j in a.journals:
        legs = (j.limit_minor, j.available_minor, j.used_debt_minor, j.used_authorisation_minor, j.pending_minor)
        await db.execute(ADD_JOURNAL, j.kind, j.ref, a.account_id, *legs)
    amounts = (r.amount_minor, r.restorable_minor, r.credit_balance_minor)
    rest = (r.currency, r.rail, r.repaid_at, r.version, ",".join(r.reasons), ",".join(r.faster))
    versions = (r.policy_version, r.model_version, r.calendar_version)
    flags = (r.assessed, r.returned)
    promise = (r.clear_seconds, r.hold_slack_seconds)
    await db.execute(ADD_CREDIT_REPAYMENT, a.account_id, r.repayment_id, *flags, *amounts, *rest, *versions, *promise)
    for t in r.tranches.values():
        ends = (t.amount_minor, t.state, t.until, t.reason, t.promised_by, t.restored_at)
        told = (t.promises, t.extensions, t.delayed)
        await db.execute(ADD_TRANCHE, a.account_id, t.repayment_id, t.number, *ends, *told)
    for x in r.records:
        await db.execute(ADD_RECORD, r.repayment_id, x.version, a.account_id, x.decided_at, x.model_dump_json())


async def notify(db: Connection, policy: Profiles, event: CreditRestored, moment: Moment) -> Sequence[Event]:
    """Ask for the customer's message, with its text."""
    customer = _known(await db.fetchrow(FIND_CUSTOMER, event.account_id))
    at = notifier.notification_id(event, "log")
    if await db.fetchrow(FIND_NOTIFICATION, at) is not None:
        return ()
    decision = notifier.decide(CHANNELS, notifier.Account(**customer), event, moment)
    n = decision.state.notifications[at]
    said = (n.channel, n.language, n.template, n.record_version, n.text, n.requested_at)
    await db.execute(ADD_NOTIFICATION, event.account_id, n.notification_id, n.repayment_id, n.caused_by, *said)
    await db.execute(ADD_DELIVERY, n.notification_id, n.state, n.attempts, n.next_attempt_at)
    return decision.events


def _known(row: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if row is None:
        raise LookupError("no such account")
    return row


Handle = Callable[[Connection, Profiles, Any, Moment], Awaitable[Sequence[Event]]]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage: the only event it handles, and what it does with it."""

    name: str
    handles: type[Event]
    handle: Handle


STAGES: Final = (
    Stage("repayment-ingest", RepaymentReported, ingest),
    Stage("settlement", RepaymentReceived, settle),
    Stage("risk-scoring", RepaymentSettled, assess),
    Stage("limit-release", RiskAssessed, release),
    Stage("notifier", CreditRestored, notify),
)


class Pipeline:
    """One stage's process: its pool and its policy."""

    def __init__(self, settings: Settings, stage: Stage, schema: str) -> None:
        self.stage = stage
        self._settings = settings
        self._schema = schema
        self._policy = load_profiles(settings)
        self._pool: Any = None

    async def open(self) -> None:
        """Connect, with the session settings ours has."""
        self._pool = await asyncpg.create_pool(
            dsn(self._settings),
            min_size=1,
            max_size=4,
            command_timeout=COMMAND_SECONDS,
            server_settings={**SESSION, "search_path": self._schema, "application_name": self._schema},
        )

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def handle(self, kind: str, body: bytes, reported_at: datetime) -> list[Outgoing]:
        """Handle one message in one transaction; return what to publish next."""
        if kind != _type(self.stage.handles):
            return []
        taken_at = to_millisecond(utc_now())
        event = self.stage.handles.model_validate_json(body)
        async with self._pool.acquire() as connection, connection.transaction():
            db = cast(Connection, connection)
            if await db.fetchrow(REMEMBER, self.stage.name, UUID(event.event_id)) is None:
                return []
            moment = Moment(to_millisecond(utc_now()), taken_at, reported_at)
            facts = await self.stage.handle(db, self._policy, event, moment)
        return [encode(fact) for fact in facts]


@cache
def _type(event: type[Event]) -> str:
    return TYPE_OF[event]
