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
from services.runtime.postgres import Connection, Row, instant, listed
from services.runtime.worker import Saved, Store

CLAIM_MAX = 500
LEASE_SECONDS = 60
CHANNELS: tuple[Channel, ...] = get_args(Channel)
TOLD = get_args(Told)
# How these customers are spoken to, which channels are disabled, and the messages these inputs speak of, with those
# they stand for.
READS = """
(SELECT json_agg(a) FROM (
  SELECT account_id, language, timezone FROM notifier.account WHERE account_id = ANY ($1::text[])) AS a) AS accounts,
(SELECT json_agg(d) FROM notifier.disabled_channel AS d) AS disabled,
(SELECT json_agg(m) FROM (
  SELECT n.account_id, n.notification_id, n.repayment_id, n.caused_by, n.channel, n.language, n.template,
    n.record_version, n.text, n.requested_at, n.told_by, d.state, d.attempts, d.next_attempt_at, d.ended_at
  FROM notifier.notification n JOIN notifier.delivery d ON d.notification_id = coalesce(n.told_by, n.notification_id)
  WHERE n.notification_id = ANY ($2::text[]) OR n.told_by = ANY ($2::text[])) AS m) AS messages
"""
# Writes customers, new messages, how deliveries stand, and channels that said they are gone; a delivery only when no
# other process counted a try since it was read.
WRITES = """
accounts AS (
  INSERT INTO notifier.account SELECT * FROM unnest($1::notifier.account[])
  ON CONFLICT (account_id) DO UPDATE SET language = excluded.language, timezone = excluded.timezone),
gone AS (INSERT INTO notifier.disabled_channel (channel) SELECT unnest($5::text[]) ON CONFLICT DO NOTHING),
messages AS (
  INSERT INTO notifier.notification SELECT * FROM unnest($2::notifier.notification[])),
started AS (
  INSERT INTO notifier.delivery SELECT * FROM unnest($3::notifier.delivery[])),
guarded AS (
  UPDATE notifier.delivery AS d SET state = n.state, attempts = n.attempts, next_attempt_at = n.next_attempt_at,
    ended_at = n.ended_at
  FROM unnest($4::notifier.delivery_change[]) AS n
  WHERE d.notification_id = n.notification_id AND d.state = 'requested' AND d.attempts = n.attempts_before
  RETURNING 1)
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


def ask(inputs: Sequence[Input]) -> Sequence[object]:
    """Return the accounts of the inputs and the messages the inputs may be about."""
    return (sorted({event.account_id for event in inputs}), sorted({at for event in inputs for at in _ids(event)}))


def states(inputs: Sequence[Input], row: Row) -> dict[str, Account]:
    """Return the account of every input, with the messages the inputs may be about."""
    messages: dict[str, dict[str, Notification]] = {}
    for m in listed(row["messages"]):
        messages.setdefault(m["account_id"], {})[m["notification_id"]] = _notification(m)
    disabled: frozenset[Channel] = frozenset(d["channel"] for d in listed(row["disabled"]))
    known = {a["account_id"]: (a["language"], a["timezone"]) for a in listed(row["accounts"])}
    return {
        at: Account(at, *known.get(at, (None, "")), messages.get(at, {}), disabled)
        for at in sorted({event.account_id for event in inputs})
    }


def save(changes: Sequence[tuple[Account, Account]]) -> Saved:
    """Write what changed; new messages are leased to this process, which tries them right after the commit."""
    accounts, messages, started, tried = [], [], [], []
    gone: set[Channel] = set()
    leased: list[Message] = []
    for before, a in changes:
        if (a.language, a.timezone) != (before.language, before.timezone):
            accounts.append((a.account_id, a.language, a.timezone))
        for at, n in a.notifications.items():
            known = before.notifications.get(at)
            if known is n:
                continue
            if n.told_by is not None:  # the delivery of that message is its own
                messages += [_row(a.account_id, n)] if known is None else []
                continue
            lease = timedelta(seconds=LEASE_SECONDS if known is None and n.next_attempt_at else 0)
            again = n.next_attempt_at and n.next_attempt_at + lease
            delivery = (n.notification_id, n.state, n.attempts, again, n.ended_at)
            if known is not None:
                tried.append((*delivery, known.attempts))
            else:
                started.append(delivery)
                messages.append(_row(a.account_id, n))
                if n.state == "requested":
                    leased.append(_message(a.account_id, n))
        gone |= a.disabled - before.disabled
    values = (accounts or None, messages or None, started or None, tried or None, sorted(gone) or None)
    return Saved(values, len(tried), leased)


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
    said = (n.channel, n.language, n.template, n.record_version, n.text, n.requested_at, n.told_by)
    return (account_id, n.notification_id, n.repayment_id, n.caused_by, *said)


def _message(account_id: str, n: Notification) -> Message:
    said = (n.channel, n.language, n.template, n.text)
    return Message(AccountId(account_id), n.notification_id, n.repayment_id, *said)


def _notification(row: Row) -> Notification:
    instants = {name: instant(row[name]) for name in ("requested_at", "next_attempt_at", "ended_at")}
    return Notification(**{name: value for name, value in row.items() if name != "account_id"} | instants)


STORE = Store(key=key, reads=READS, ask=ask, states=states, writes=WRITES, save=save)
