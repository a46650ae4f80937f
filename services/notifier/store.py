"""How customers are spoken to and every message, by the batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import get_args

from schemas.account import Language
from schemas.ids import AccountId, NotificationId
from schemas.notification import Channel, Template
from services.decision import Input
from services.notifier.domain import Account, Attempted, Notification, Told, notification_id
from services.runtime.postgres import Connection, Row, columns
from services.runtime.worker import Store

CLAIM_MAX = 500
LEASE_SECONDS = 60
CHANNELS: tuple[Channel, ...] = get_args(Channel)
TOLD = get_args(Told)
# How these customers are spoken to, locked in the order of their keys, and which channels are disabled.
LOAD_ACCOUNTS = """
SELECT account_id, language, timezone FROM notifier.account WHERE account_id = ANY ($1::text[])
ORDER BY account_id FOR UPDATE
"""
LOAD_DISABLED = "SELECT channel FROM notifier.disabled_channel"
# The messages these inputs speak of.
LOAD_NOTIFICATIONS = """
SELECT n.account_id, n.notification_id, n.repayment_id, n.caused_by, n.channel, n.language, n.template,
  n.record_version, n.text, n.requested_at, d.state, d.attempts, d.next_attempt_at, d.ended_at
FROM notifier.notification n JOIN notifier.delivery d USING (notification_id)
WHERE n.notification_id = ANY ($1::text[])
"""
# Writes customers, new messages, how deliveries stand, and channels that said they are gone.
SAVE = """
WITH accounts AS (
  INSERT INTO notifier.account (account_id, language, timezone) SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
  ON CONFLICT (account_id) DO UPDATE SET language = excluded.language, timezone = excluded.timezone),
gone AS (INSERT INTO notifier.disabled_channel (channel) SELECT unnest($19::text[]) ON CONFLICT DO NOTHING),
messages AS (
  INSERT INTO notifier.notification (account_id, notification_id, repayment_id, caused_by, channel, language, template,
    record_version, text, requested_at)
  SELECT * FROM unnest($4::text[], $5::text[], $6::text[], $7::text[], $8::text[], $9::text[], $10::text[],
    $11::integer[], $12::text[], $13::timestamptz[]))
INSERT INTO notifier.delivery (notification_id, state, attempts, next_attempt_at, ended_at)
SELECT * FROM unnest($14::text[], $15::text[], $16::integer[], $17::timestamptz[], $18::timestamptz[])
ON CONFLICT (notification_id) DO UPDATE SET state = excluded.state, attempts = excluded.attempts,
  next_attempt_at = excluded.next_attempt_at, ended_at = excluded.ended_at
"""
# Takes messages that are due under a lease, so that a crash gives them back and two processes share them.
CLAIM = """
UPDATE notifier.delivery AS d SET next_attempt_at = clock_timestamp() + make_interval(secs => $2)
FROM notifier.notification AS n
WHERE n.notification_id = d.notification_id AND d.notification_id IN (
  SELECT notification_id FROM notifier.delivery WHERE state = 'requested' AND next_attempt_at <= clock_timestamp()
  ORDER BY next_attempt_at LIMIT $1 FOR UPDATE SKIP LOCKED)
RETURNING n.account_id, n.notification_id, n.repayment_id, n.channel, n.language, n.template, n.text
"""


@dataclass(frozen=True, slots=True)
class Message:
    """One message to try on its channel; ``notification_id`` is the receiver's idempotency key."""

    account_id: AccountId
    notification_id: NotificationId
    repayment_id: str | None
    channel: Channel
    language: Language
    template: Template
    text: str


def key(event: Input) -> str:
    """Return the account of an input."""
    return event.account_id


async def load(connection: Connection, inputs: Sequence[Input]) -> dict[str, Account]:
    """Return the account of every input, with the messages the inputs may be about."""
    accounts = sorted({event.account_id for event in inputs})
    disabled = frozenset(row["channel"] for row in await connection.fetch(LOAD_DISABLED))
    states = {at: Account(at, disabled=disabled) for at in map(str, accounts)}
    for row in await connection.fetch(LOAD_ACCOUNTS, accounts):
        states[row["account_id"]] = Account(row["account_id"], row["language"], row["timezone"], {}, disabled)
    named = sorted({at for event in inputs for at in _ids(event)})
    found: dict[str, dict[str, Notification]] = {}
    for row in await connection.fetch(LOAD_NOTIFICATIONS, named) if named else ():
        found.setdefault(row["account_id"], {})[row["notification_id"]] = _notification(row)
    return {at: _with(state, found.get(at, {})) for at, state in states.items()}


async def save(connection: Connection, changes: Sequence[tuple[Account, Account]]) -> Sequence[Message]:
    """Write what changed; new messages are leased to this process, which tries them right after the commit."""
    accounts, messages, deliveries = [], [], []
    gone: set[Channel] = set()
    leased: list[Message] = []
    for before, a in changes:
        if (a.language, a.timezone) != (before.language, before.timezone):
            accounts.append((a.account_id, a.language, a.timezone))
        for at, n in a.notifications.items():
            known = before.notifications.get(at)
            if known is n:
                continue
            lease = timedelta(seconds=LEASE_SECONDS if known is None and n.next_attempt_at else 0)
            again = n.next_attempt_at and n.next_attempt_at + lease
            deliveries.append((n.notification_id, n.state, n.attempts, again, n.ended_at))
            if known is None:
                messages.append(_row(a.account_id, n))
                if n.state == "requested":
                    leased.append(_message(a.account_id, n))
        gone |= a.disabled - before.disabled
    await connection.execute(SAVE, *columns(accounts, 3), *columns(messages, 10), *columns(deliveries, 5), sorted(gone))
    return leased


async def claim(connection: Connection) -> Sequence[Message]:
    """Take at most CLAIM_MAX due messages under a lease."""
    return [Message(**row) for row in await connection.fetch(CLAIM, CLAIM_MAX, float(LEASE_SECONDS))]


def _ids(event: Input) -> list[NotificationId]:
    if isinstance(event, Attempted):
        return [event.notification_id]
    if isinstance(event, TOLD):
        return [notification_id(event, channel) for channel in CHANNELS]
    return []


def _row(account_id: str, n: Notification) -> tuple[object, ...]:
    said = (n.channel, n.language, n.template, n.record_version, n.text, n.requested_at)
    return (account_id, n.notification_id, n.repayment_id, n.caused_by, *said)


def _message(account_id: str, n: Notification) -> Message:
    said = (n.channel, n.language, n.template, n.text)
    return Message(AccountId(account_id), n.notification_id, n.repayment_id, *said)


def _with(state: Account, notifications: dict[str, Notification]) -> Account:
    return Account(state.account_id, state.language, state.timezone, notifications, state.disabled)


def _notification(row: Row) -> Notification:
    return Notification(**{name: value for name, value in row.items() if name != "account_id"})


STORE = Store(key=key, load=load, save=save)
