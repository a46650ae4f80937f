"""Render a decision record for the customer: the two-number message (domain 8.2)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import lru_cache
from typing import Final, Literal, assert_never

from schemas.account import Language
from schemas.reasons import Reason
from schemas.restoration import DecisionRecord, HeldPart, HeldSum, Together
from services.values import plain
from services.wording.catalogue import CATALOGUES, CUSTOMER_TEXTS, CustomerTexts, faster_text
from services.wording.formats import day_text, due_text, local_time, money_text, repaid_text, time_left_text
from services.wording.growth import NOTHING, Growth, growth_of

RecordTemplate = Literal["restored", "held", "parked", "nothing_to_restore", "reversed", "delayed", "moved"]
"""What a message about a decision record is about."""

_HELD: Final = frozenset(reason for reason in Reason if reason.startswith("HOLD_"))
_PARKED: Final = frozenset(
    (Reason.ACCOUNT_FROZEN, Reason.ACCOUNT_OVERDUE, Reason.ACCOUNT_UNKNOWN, Reason.CONFLICTING_REPORT)
)
_NO_CREDIT: Final = frozenset((Reason.PAID_FEES_AND_INTEREST, Reason.PAID_CREDIT_BALANCE))
_LATER: Final = frozenset((Reason.RELEASE_TIMER, Reason.RELEASE_REVIEWED, Reason.ACCOUNT_ACTIVE_AGAIN))
# Beside these, "nothing is overdue" could be untrue: another account may be, or this one may have been since.
_STANDING: Final = frozenset((Reason.ACCOUNT_FROZEN, Reason.ACCOUNT_OVERDUE, Reason.ACCOUNT_CLOSED))
# Of these the record does not say that the repayment succeeded.
_UNCERTAIN: Final = frozenset(
    (
        Reason.ACCOUNT_UNKNOWN,
        Reason.CONFLICTING_REPORT,
        Reason.RETURNED,
        Reason.RETURNED_INSUFFICIENT_FUNDS,
        Reason.RETURNED_ACCOUNT_CLOSED,
        Reason.RETURNED_UNAUTHORISED,
        Reason.RETURNED_OTHER,
        Reason.RETURNED_FIRST,
        Reason.CURRENCY_MISMATCH,
        Reason.REPORTED_FAILED,
    )
)


@dataclass(slots=True)
class _Message:
    """A record with what its sentences need, and what was said so far; ``helps`` are said last.

    ``joint`` is given where all is told that the record was decided together with, not its repayment alone.
    """

    record: DecisionRecord
    language: Language
    timezone: str
    texts: CustomerTexts
    amount: str
    repaid: str
    repaid_on: date
    available: str
    joint: Together | None
    sentences: list[str] = field(default_factory=list)
    helps: list[str] = field(default_factory=list)
    explained: list[Reason] = field(default_factory=list)

    def money(self, amount_minor: int) -> str:
        """Return an amount of this record's currency; mostly it is all of the repayment."""
        whole = amount_minor == self.record.amount_minor
        return self.amount if whole else money_text(amount_minor, self.record.currency, self.language)

    def due(self, instant: datetime) -> str:
        """Return an instant as this customer reads it."""
        return due_text(instant, self.timezone, self.language)

    def say(self, sentence: str) -> None:
        """Add a sentence."""
        self.sentences.append(sentence)

    def explain(self, reason: Reason) -> str:
        """Say why, once a reason, and return what helps."""
        why, help_text = _why_and_help(reason, self.record.rail, self.language)
        if reason not in self.explained:
            self.explained.append(reason)
            self.say(why)
        return help_text


def template_of(record: DecisionRecord) -> RecordTemplate:
    """Return what a message about ``record`` is about."""
    return record.outcome if record.moved is None else "moved"


def customer_text(record: DecisionRecord, *, language: Language, timezone: str) -> str:
    """Return the two-number message of ``record`` (8.2): what is well, what is back, what is not, what helps.

    ``timezone`` is the account's.
    """
    return _said(record, language, timezone, alone=True)


def message_text(record: DecisionRecord, *, language: Language, timezone: str) -> str:
    """Return what the customer is sent: of what was decided together, all of it; else the record's own text."""
    return _said(record, language, timezone, alone=False)


def _said(record: DecisionRecord, language: Language, timezone: str, *, alone: bool) -> str:
    record = plain(record)
    repaid_at = local_time(record.repaid_at, timezone)
    message = _Message(
        record,
        language,
        timezone,
        CUSTOMER_TEXTS[language],
        money_text(record.amount_minor, record.currency, language),
        repaid_text(repaid_at, language),
        repaid_at.date(),
        money_text(record.available_credit_minor, record.currency, language),
        None if alone else record.together,
    )
    _tell(message, template_of(record))
    if message.helps:  # two reasons may be helped by the same thing, and some by nothing
        message.sentences.extend(filter(None, dict.fromkeys(message.helps)))
    return message.texts.sentence_separator.join(message.sentences)


def asked_text(record: DecisionRecord, *, language: Language, timezone: str, now: datetime) -> str:
    """Return what is answered when asked at ``now``: the same text, the time left to the next date, and a person."""
    texts = CATALOGUES[language].customer
    said = [customer_text(record, language=language, timezone=timezone)]
    until = min((part.until for part in record.held if part.until > now), default=None)
    if until is not None:
        said.append(texts.time_left.format(left=time_left_text(now, until, language)))
    return texts.sentence_separator.join((*said, texts.person))


def _tell(message: _Message, template: RecordTemplate) -> None:
    match template:
        case "restored" | "held" | "parked":
            _say_what_is_back(message)
            _say_what_is_held(message)
            if message.record.parked_minor:
                _say_what_is_parked(message)
            if not _NO_CREDIT.isdisjoint(message.record.reasons):
                _say_what_gives_no_credit(message)
        case "nothing_to_restore":
            _say_nothing_to_restore(message)
        case "reversed":
            _say_what_is_taken_back(message)
        case "delayed":
            _say_what_is_late(message)
        case "moved":
            _say_what_moved(message)
        case _:
            assert_never(template)


def _say_what_is_back(message: _Message) -> None:
    record, texts, restored_minor = message.record, message.texts, message.record.restored_minor
    later = None if not restored_minor or _LATER.isdisjoint(record.reasons) else _first(record.reasons, _LATER)
    if later is not None:
        message.say(_back_later(message))
        late = _say_it_came_late(message)
        growth = _say_what_else_changed(message)
        # A freed amount names the reason already, and a late one was not on the date given.
        if not growth.freed and not (late and later is Reason.RELEASE_TIMER):
            message.helps.append(message.explain(later))
        _explain_zero(message)
        return
    _say_it_succeeded(message)
    if restored_minor:
        message.say(texts.restored.format(restored=message.money(restored_minor), available=message.available))
        _say_it_came_late(message)
    else:
        message.say(texts.none_yet.format(available=message.available))
    _say_what_else_changed(message)
    _explain_zero(message)


def _back_later(message: _Message) -> str:
    """Return what is back of this repayment, and what is back beside it; of all of them where all are told."""
    record, texts = message.record, message.texts
    if message.joint is not None:
        restored = message.money(message.joint.restored_minor)
        return texts.together.format(count=message.joint.repayments, restored=restored, available=message.available)
    restored = message.money(record.restored_minor)
    said = {"repaid": message.repaid, "amount": message.amount, "restored": restored, "available": message.available}
    if record.together is None:
        return texts.restored_later.format(**said)
    others = message.money(record.together.restored_minor - record.restored_minor)
    return texts.restored_beside.format(**said, others=others)


def _say_it_came_late(message: _Message) -> bool:
    """Say the true time where a promise was missed (R27)."""
    decided_at, promised_by = message.record.decided_at, message.record.promised_by
    if promised_by is None or decided_at <= promised_by:
        return False
    promised, restored_at = message.due(promised_by), message.due(decided_at)
    if promised != restored_at:
        message.say(message.texts.restored_late.format(promised=promised, restored_at=restored_at))
    return True


def _say_what_else_changed(message: _Message) -> Growth:
    """Say why the available credit changed by something else than what is back or taken back (8.2, R19, R24)."""
    growth, texts = growth_of(message.record), message.texts
    if growth is NOTHING:
        return growth
    if growth.covered:
        message.say(texts.covers_over.format(covered=message.money(growth.covered)))
    if growth.freed:
        message.say(texts.active_again.format(other=message.money(growth.freed)))
    if growth.booked:
        recounted = texts.recounted_less if growth.booked < 0 else texts.recounted_more
        sentence = recounted if growth.booked < 0 or message.record.taken_back_minor else texts.balance_paid
        message.say(sentence.format(other=message.money(abs(growth.booked))))
    if growth.usable:
        message.say(texts.balance_usable.format(other=message.money(growth.usable)))
    return growth


def _say_what_is_late(message: _Message) -> None:
    """Say what was promised and is not back, why, and that its return will be told."""
    record, texts = message.record, message.texts
    _say_it_succeeded(message)
    promised = message.due(record.promised_by or record.decided_at)
    late = message.money(record.late_minor)
    message.say(texts.delayed.format(late=late, promised=promised, available=message.available))
    message.helps.append(texts.told_when_back)
    message.helps.extend(message.explain(reason) for reason in record.reasons[:1])
    _explain_zero(message)


def _say_what_moved(message: _Message) -> None:
    """Say the new date of a held part beside the one told before."""
    record, texts = message.record, message.texts
    _say_it_succeeded(message)
    for part in record.held:
        if record.moved is not None and part.tranche == record.moved.tranche:
            sentence = texts.moved_later if part.until > record.moved.was else texts.moved_sooner
            was, until = message.due(record.moved.was), message.due(part.until)
            message.say(sentence.format(amount=message.money(part.amount_minor), was=was, until=until))
    message.helps.extend(message.explain(reason) for reason in record.reasons[:1])
    message.say(texts.available.format(available=message.available))
    _explain_zero(message)


def _say_it_succeeded(message: _Message) -> None:
    """Say that it succeeded, from which day it counts, and what is overdue, where the record knows."""
    record, texts, day = message.record, message.texts, ""
    credited_on, past_due_minor = record.credited_on, record.past_due_minor
    if not _UNCERTAIN.isdisjoint(record.reasons):
        lead, past_due_minor = texts.noted, None
    elif credited_on is not None and credited_on != message.repaid_on:
        lead, day = texts.credited_from, day_text(credited_on, message.language)
    elif (
        past_due_minor == 0 and not record.parked_minor and _STANDING.isdisjoint((record.zero_reason, *record.reasons))
    ):
        lead = texts.credited_on_time
    else:
        lead = texts.credited
    message.say(lead.format(repaid=message.repaid, amount=message.amount, day=day))
    if past_due_minor:
        message.say(texts.still_overdue.format(overdue=message.money(past_due_minor)))


def _say_what_is_held(message: _Message) -> None:
    record, texts = message.record, message.texts
    held: Sequence[HeldPart | HeldSum] = record.held if message.joint is None else message.joint.held_sums
    if not held:
        return
    by_date: dict[datetime, int] = {}
    for part in sorted(held, key=lambda part: part.until):
        by_date[part.until] = by_date.get(part.until, 0) + part.amount_minor
    total = message.money(sum(by_date.values()))
    # "The other" is the rest of the repayment only where this record tells of all of it.
    is_rest = record.restored_minor > 0 and _LATER.isdisjoint(record.reasons)
    if len(by_date) == 1:
        sentence = texts.held_rest_one if is_rest else texts.held_all_one
        (until,) = by_date
        message.say(sentence.format(amount=total, due=message.due(until)))
    else:
        sentence = texts.held_rest_many if is_rest else texts.held_all_many
        count = _count(len(by_date), message.language)
        message.say(sentence.format(amount=total, count=count, parts=_parts(message, by_date)))
    reason = _first(record.reasons, _HELD)
    help_text = message.explain(reason) if reason is not None else ""
    # What was shown to help says more than what a person may find; of several repayments it was shown of one only.
    faster = record.faster if message.joint is None else ()
    message.helps.append(faster_text(faster, message.language) if faster else help_text)


def _parts(message: _Message, by_date: dict[datetime, int]) -> str:
    texts = message.texts
    *parts, last = [
        texts.held_part.format(due=message.due(until), amount=message.money(amount_minor))
        for until, amount_minor in by_date.items()
    ]
    return texts.held_separator.join(parts) + texts.held_last_separator + last


def _say_what_is_parked(message: _Message) -> None:
    record = message.record
    reason = _first(record.reasons, _PARKED) or Reason.ACCOUNT_FROZEN
    ends = CATALOGUES[message.language].reasons[reason].ends
    message.say(message.texts.parked.format(amount=message.money(record.parked_minor), ends=ends))
    message.helps.append(message.explain(reason))


def _say_what_gives_no_credit(message: _Message) -> None:
    """Say what the rest of a first decision went to; a later record tells of a part only."""
    record, texts = message.record, message.texts
    if record.version > 1 or not _LATER.isdisjoint(record.reasons):
        return
    paid = [reason for reason in record.reasons if reason in _NO_CREDIT]
    told_minor = record.restored_minor + record.parked_minor + sum(part.amount_minor for part in record.held)
    told_minor += growth_of(record).usable
    if record.amount_minor > told_minor:
        reasons = CATALOGUES[message.language].reasons
        why = texts.clause_separator.join(reasons[reason].why for reason in paid)
        message.say(texts.no_credit.format(amount=message.money(record.amount_minor - told_minor), why=why))
        message.helps.extend(reasons[reason].help for reason in paid)


def _say_nothing_to_restore(message: _Message) -> None:
    if message.joint is not None:
        count = message.joint.repayments
        message.say(message.texts.together_none.format(count=count, available=message.available))
    else:
        _say_it_succeeded(message)
        message.say(message.texts.none_ever.format(available=message.available))
    message.helps.extend(message.explain(reason) for reason in message.record.reasons[:1])
    _explain_zero(message)


def _say_what_is_taken_back(message: _Message) -> None:
    record, texts = message.record, message.texts
    message.say(texts.returned.format(repaid=message.repaid, amount=message.amount))
    message.helps.extend(message.explain(reason) for reason in record.reasons[:1])
    if record.taken_back_minor:
        taken = message.money(record.taken_back_minor)
        message.say(texts.taken_back.format(taken=taken, available=message.available))
    else:
        message.say(texts.none_taken.format(available=message.available))
    _say_what_else_changed(message)
    _explain_zero(message)
    if record.taken_back_minor < record.amount_minor:
        message.say(texts.no_more)


def _explain_zero(message: _Message) -> None:
    """Say why the available credit is shown as 0, with the amount above the limit where there is one."""
    record, reason = message.record, message.record.zero_reason
    if reason is None or record.available_credit_minor or reason in message.explained:
        return
    if reason is Reason.ACCOUNT_FROZEN and Reason.ACCOUNT_OVERDUE in record.reasons:
        # An overdue account is frozen for that; the more exact reason helps more.
        reason = Reason.ACCOUNT_OVERDUE
    message.say(message.texts.zero.format(why=_why_zero(message, reason)))
    message.explained.append(reason)
    message.helps.append(CATALOGUES[message.language].reasons[reason].help)


def _why_zero(message: _Message, reason: Reason) -> str:
    """Say why 0 is shown: the limit and its day where it was lowered (R18), the amount above it (R8)."""
    record, texts = message.record, CATALOGUES[message.language].reasons[reason]
    over = message.money(-record.available_raw_minor)
    beyond = record.available_raw_minor < 0
    if record.credit_limit_minor is not None and record.limit_lowered_at is not None:
        dated = texts.why_dated_over if beyond else texts.why_dated
        if dated is not None:
            day = day_text(local_time(record.limit_lowered_at, message.timezone).date(), message.language)
            return dated.format(limit=message.money(record.credit_limit_minor), day=day, over=over)
    if beyond and texts.why_over is not None:
        return texts.why_over.format(over=over)
    return texts.why_zero or named_why(reason, record.rail, message.language)


def _first(reasons: Iterable[Reason], among: frozenset[Reason]) -> Reason | None:
    for reason in reasons:
        if reason in among:
            return reason
    return None


def _count(count: int, language: Language) -> str:
    catalogue = CATALOGUES[language]
    return catalogue.counts.get(count) or catalogue.customer.count.format(count=count)


@lru_cache(maxsize=4096)
def _why_and_help(reason: Reason, rail: str, language: Language) -> tuple[str, str]:
    catalogue = CATALOGUES[language]
    return catalogue.customer.why.format(why=named_why(reason, rail, language)), catalogue.reasons[reason].help


def named_why(reason: Reason, rail: str, language: Language) -> str:
    """Return why, with the customer's word for the way of repaying."""
    catalogue = CATALOGUES[language]
    rails = catalogue.rails
    return catalogue.reasons[reason].why.format(rail=rails.get(rail, rails["other"]))
