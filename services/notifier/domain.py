"""One message a decision and channel: what to say once, how often to try, when to stop."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Literal

from schemas.account import AccountOpened, Language
from schemas.event import Event
from schemas.ids import PROBE_ACCOUNT, AccountId, EventId, NotificationId, RepaymentId, derived_id, event_id
from schemas.made import made
from schemas.notification import (
    Channel,
    NotificationDelivered,
    NotificationRequested,
    NotificationSuppressed,
    NotificationUndeliverable,
    SuppressedReason,
    Template,
)
from schemas.reasons import Reason
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    RestorationDelayed,
    RestorationParked,
    RestorationReversed,
    Together,
    ToldRecord,
)
from schemas.review import LimitIncreaseDecided
from services.decision import Decision, Input, Internal, Moment
from services.values import at_once, built, replace
from services.wording import limit_text, message_text, template_of

RETRY_SECONDS = (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Waits between tries (reliability 5); after the last one the message is undeliverable."""
JITTER = 0.2
_make_requested = made(NotificationRequested)
_make_delivered = made(NotificationDelivered)
Restoration = (
    CreditRestored | HoldPlaced | NothingToRestore | RestorationParked | RestorationDelayed | RestorationReversed
)
Told = Restoration | LimitIncreaseDecided
State = Literal["requested", "delivered", "undeliverable", "suppressed"]
Result = Literal["delivered", "retry", "refused", "gone"]


@dataclass(frozen=True)
class Channels:
    """The channels every customer is told through."""

    names: tuple[Channel, ...]


@at_once
@dataclass(frozen=True)
class Notification:
    """One message on one channel; ``text`` is what was said, in ``language``, of the record's ``record_version``.

    ``repayment_id`` is None of a review of the limit; ``ended_at`` is when it was delivered or given up. Where
    ``told_by`` is given, another repayment's message tells of this one too: its delivery is this one's.
    """

    notification_id: NotificationId
    repayment_id: RepaymentId | None
    caused_by: EventId
    channel: Channel
    language: Language
    template: Template
    record_version: int
    text: str
    requested_at: datetime
    state: State = "requested"
    attempts: int = 0
    next_attempt_at: datetime | None = None
    ended_at: datetime | None = None
    told_by: NotificationId | None = None


_make_notification = built(Notification)


@dataclass(frozen=True)
class Account:
    """How a customer is spoken to; ``language`` is None until the account was opened."""

    account_id: AccountId
    language: Language | None = None
    timezone: str = ""
    notifications: Mapping[str, Notification] = field(default_factory=dict)
    disabled: frozenset[Channel] = frozenset()


@dataclass(frozen=True)
class Attempted(Internal):
    """What one try at a channel came to."""

    notification_id: NotificationId
    result: Result
    retry_after_seconds: int = 0


def decide(policy: Channels, state: Account, event: Input, moment: Moment) -> Decision[Account]:
    """Request a message for each decision, and follow its tries to an end."""
    match event:
        case Attempted():
            return _attempted(state, event, moment)
        case (
            CreditRestored()
            | HoldPlaced()
            | NothingToRestore()
            | RestorationParked()
            | RestorationDelayed()
            | RestorationReversed()
            | LimitIncreaseDecided()
        ):
            return _requested(policy, state, event, moment)
        case AccountOpened(language=language, timezone=timezone):
            return Decision(replace(state, language=language, timezone=timezone), wakes=True)
        case _:
            return Decision(state, outcome="ignored")


def notification_id(event: Told, channel: Channel) -> NotificationId:
    """Return the id of the message about what caused ``event``: facts of one commit share it."""
    return _id_of(event.caused_by, _about(event)[0], channel)


def _id_of(caused_by: EventId, repayment_id: RepaymentId | None, channel: Channel) -> NotificationId:
    return NotificationId(derived_id("notification", caused_by, repayment_id or "", channel))


def _about(event: Told) -> tuple[RepaymentId | None, Together | None]:
    """Return which repayment an event tells of, and what is told with it; a review of the limit tells of none."""
    return (None, None) if isinstance(event, LimitIncreaseDecided) else (event.repayment_id, event.record.together)


def retry_at(notification: Notification, now: datetime, after_seconds: int) -> datetime | None:
    """Return when to try again, spread by a jitter that depends on the message alone; None when tries are spent."""
    if notification.attempts > len(RETRY_SECONDS):
        return None
    wait = max(RETRY_SECONDS[notification.attempts - 1], after_seconds)
    spread = int.from_bytes(blake2b(notification.notification_id.encode(), digest_size=4).digest(), "big") / 2**32
    return now + timedelta(seconds=wait * (1 + JITTER * spread))


def _requested(policy: Channels, state: Account, event: Told, moment: Moment) -> Decision[Account]:
    """Ask for one message a channel unless an event of the same commit asked before; all channels say the same."""
    repayment_id, together = _about(event)
    if together is not None and together.told_with is not None:  # another repayment's message tells of this one
        return Decision(state, outcome="stale", reason="told_together")
    if state.language is None:
        return Decision(state, outcome="parked", reason=Reason.ACCOUNT_UNKNOWN)
    known, caused_by = state.notifications, event.caused_by
    owed = [(at, channel) for channel in policy.names if (at := _id_of(caused_by, repayment_id, channel)) not in known]
    if not owed:
        return Decision(state, outcome="stale", reason="told_before")
    template, version, text = _said(event, state.language, state.timezone)
    others = together.tells_of if together else ()
    facts: list[Event] = []
    notifications = dict(known)
    for at, channel in owed:
        told = _make_notification(
            notification_id=at,
            repayment_id=repayment_id,
            caused_by=caused_by,
            channel=channel,
            language=state.language,
            template=template,
            record_version=version,
            text=text,
            requested_at=moment.now,
            next_attempt_at=moment.now,
        )
        ended = _ended(state, channel)
        if ended is not None:
            told = replace(told, state="suppressed", next_attempt_at=None, ended_at=moment.now)
        for each in (told, *_beside(told, others)) if others else (told,):
            notifications[each.notification_id] = each
            facts.append(_request(state, each, moment))
            if ended is not None:
                facts.append(_suppressed(state, each, moment, ended))
    return Decision(replace(state, notifications=notifications), tuple(facts))


def _ended(state: Account, channel: Channel) -> SuppressedReason | None:
    """Return why nothing is sent through a channel; None where it is. Nobody is behind the probe."""
    if state.account_id == PROBE_ACCOUNT:
        return "no_channel"
    return "endpoint_disabled" if channel in state.disabled else None


def _request(state: Account, told: Notification, moment: Moment) -> NotificationRequested:
    return _make_requested(
        event_id=event_id("NotificationRequested", told.notification_id),
        account_id=state.account_id,
        occurred_at=moment.now,
        caused_by=told.caused_by,
        notification_id=told.notification_id,
        repayment_id=told.repayment_id,
        channel=told.channel,
        template=told.template,
        language=told.language,
        record_version=told.record_version,
        waits=moment.stretches(),
    )


def _beside(told: Notification, others: Sequence[ToldRecord]) -> Sequence[Notification]:
    """Return the messages of other repayments that this one stands for."""
    return [
        replace(
            told,
            notification_id=_id_of(told.caused_by, record.repayment_id, told.channel),
            repayment_id=record.repayment_id,
            record_version=record.version,
            told_by=told.notification_id,
        )
        for record in others
    ]


def _stands_for(state: Account, told: Notification) -> Iterator[Notification]:
    """Yield what is told by a message, in the order of their ids."""
    found = [at for at, each in state.notifications.items() if each.told_by == told.notification_id]
    yield from (state.notifications[at] for at in sorted(found))


def _said(event: Told, language: Language, timezone: str) -> tuple[Template, int, str]:
    """Return what a message is about, its record's version (a limit decision is the first of its own) and its text."""
    if isinstance(event, LimitIncreaseDecided):
        return "limit_review", 1, limit_text(event, language=language)
    record = event.record
    return template_of(record), record.version, message_text(record, language=language, timezone=timezone)


def _attempted(state: Account, event: Attempted, moment: Moment) -> Decision[Account]:
    known = state.notifications.get(event.notification_id)
    if known is None or known.state != "requested":
        return Decision(state, outcome="stale", reason="over_before")
    tried = replace(known, attempts=known.attempts + 1, next_attempt_at=None)
    match event.result:
        case "delivered":
            done = replace(tried, state="delivered", ended_at=moment.now)
            fact: Event = _make_delivered(
                **_fact(state, done, "NotificationDelivered", moment), channel=done.channel, attempts=done.attempts
            )
            others = (_suppressed(state, each, moment, "told_together") for each in _stands_for(state, done))
            return Decision(_with(state, done), (fact, *others))
        case "retry":
            again = retry_at(tried, moment.now, event.retry_after_seconds)
            if again is None:
                return _undeliverable(state, tried, "attempts_exhausted", moment)
            return Decision(_with(state, replace(tried, next_attempt_at=again)), reason="retry")
        case "refused":
            return _undeliverable(state, tried, "refused", moment)
        case "gone":
            done = replace(tried, state="suppressed", ended_at=moment.now)
            disabled = replace(_with(state, done), disabled=state.disabled | {done.channel})
            ended = (done, *_stands_for(state, done))
            return Decision(disabled, tuple(_suppressed(state, each, moment) for each in ended))


def _undeliverable(
    state: Account, tried: Notification, reason: Literal["refused", "attempts_exhausted"], moment: Moment
) -> Decision[Account]:
    done = replace(tried, state="undeliverable", ended_at=moment.now)
    facts = (
        NotificationUndeliverable(
            **_fact(state, each, "NotificationUndeliverable", moment),
            channel=done.channel,
            reason=reason,
            attempts=done.attempts,
        )
        for each in (done, *_stands_for(state, done))
    )
    return Decision(_with(state, done), tuple(facts))


def _suppressed(
    state: Account, told: Notification, moment: Moment, reason: SuppressedReason = "endpoint_disabled"
) -> NotificationSuppressed:
    return NotificationSuppressed(
        **_fact(state, told, "NotificationSuppressed", moment), channel=told.channel, reason=reason
    )


def _fact(state: Account, told: Notification, name: str, moment: Moment) -> dict[str, Any]:
    return {
        "event_id": event_id(name, told.notification_id),
        "account_id": state.account_id,
        "occurred_at": moment.now,
        "caused_by": told.caused_by,
        "notification_id": told.notification_id,
        "repayment_id": told.repayment_id,
    }


def _with(state: Account, told: Notification) -> Account:
    """Keep how a message stands; what it stands for stands the same."""
    others: dict[str, Notification] = {
        each.notification_id: replace(
            each,
            state=told.state,
            attempts=told.attempts,
            next_attempt_at=told.next_attempt_at,
            ended_at=told.ended_at,
        )
        for each in _stands_for(state, told)
    }
    return replace(state, notifications={**state.notifications, **others, told.notification_id: told})
