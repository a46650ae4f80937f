"""Render a decision record: the two-number message, the agent's view and the audit's (domain 8)."""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache
from typing import Final, NamedTuple, assert_never

from schemas.account import Language
from schemas.notification import Template
from schemas.reasons import Reason
from schemas.restoration import DecisionRecord, HeldPart
from schemas.risk import Faster
from services.wording.catalogue import CATALOGUES, CustomerTexts
from services.wording.formats import decided_text, due_text, money_text, repaid_text

_HELD: Final = frozenset(reason for reason in Reason if reason.startswith("HOLD_"))
_PARKED: Final = frozenset(
    (Reason.ACCOUNT_FROZEN, Reason.ACCOUNT_OVERDUE, Reason.ACCOUNT_UNKNOWN, Reason.CONFLICTING_REPORT)
)
_NO_CREDIT: Final = frozenset((Reason.PAID_FEES_AND_INTEREST, Reason.PAID_CREDIT_BALANCE))
_LATER: Final = frozenset((Reason.RELEASE_TIMER, Reason.RELEASE_REVIEWED, Reason.ACCOUNT_ACTIVE_AGAIN))
# Beside these, "nothing is overdue" could be untrue.
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


class _Message(NamedTuple):
    """A record with what its sentences need, and what was said so far; ``helps`` are said last."""

    record: DecisionRecord
    language: Language
    timezone: str
    texts: CustomerTexts
    amount: str
    repaid: str
    available: str
    sentences: list[str]
    helps: list[str]
    explained: list[Reason]

    def money(self, amount_minor: int) -> str:
        """Return an amount of this record's currency."""
        return money_text(amount_minor, self.record.currency, self.language)

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


def customer_text(record: DecisionRecord, *, language: Language, timezone: str, trigger: Template | None = None) -> str:
    """Return the two-number message of ``record`` (8.2): what is well, what is back, what is not, what helps.

    ``timezone`` is the account's; ``trigger`` is the message's template where it is not the outcome.
    """
    message = _Message(
        record,
        language,
        timezone,
        CATALOGUES[language].customer,
        money_text(record.amount_minor, record.currency, language),
        repaid_text(record.repaid_at, timezone, language),
        money_text(record.available_credit_minor, record.currency, language),
        [],
        [],
        [],
    )
    _tell(message, trigger or record.outcome)
    # Two reasons may be helped by the same thing, and some by nothing.
    message.sentences.extend(filter(None, dict.fromkeys(message.helps)))
    return message.texts.sentence_separator.join(message.sentences)


def _tell(message: _Message, template: Template) -> None:
    match template:
        case "restored" | "held" | "parked":
            _say_what_is_back(message)
            _say_what_is_held(message)
            _say_what_is_parked(message)
            _say_what_gives_no_credit(message)
        case "nothing_to_restore":
            _say_nothing_to_restore(message)
        case "reversed":
            _say_what_is_taken_back(message)
        case _:
            assert_never(template)


def _say_what_is_back(message: _Message) -> None:
    record, texts = message.record, message.texts
    restored = message.money(record.restored_minor)
    later = _first(record.reasons, _LATER)
    if later is not None and record.restored_minor:
        message.say(
            texts.restored_later.format(
                repaid=message.repaid, amount=message.amount, restored=restored, available=message.available
            )
        )
        _say_why_later(message, later)
        _explain_zero(message)
        return
    _say_it_succeeded(message)
    if record.restored_minor:
        message.say(texts.restored.format(restored=restored, available=message.available))
    else:
        message.say(texts.none_yet.format(available=message.available))
    _explain_zero(message)


def _say_it_succeeded(message: _Message) -> None:
    record, texts = message.record, message.texts
    if not _UNCERTAIN.isdisjoint(record.reasons):
        lead = texts.noted
    elif _may_be_overdue(record):
        lead = texts.credited
    else:
        lead = texts.credited_on_time
    message.say(lead.format(repaid=message.repaid, amount=message.amount))


def _may_be_overdue(record: DecisionRecord) -> bool:
    return (
        record.outcome == "nothing_to_restore"
        or record.parked_minor > 0
        or record.zero_reason in _STANDING
        or not _STANDING.isdisjoint(record.reasons)
    )


def _say_why_later(message: _Message, reason: Reason) -> None:
    """Say why credit is back now; a thaw also frees what was shown as 0 while frozen (R19)."""
    record = message.record
    other_minor = record.available_credit_minor - record.restored_minor
    if reason is Reason.ACCOUNT_ACTIVE_AGAIN and other_minor > 0:
        message.say(message.texts.active_again.format(other=message.money(other_minor)))
    else:
        message.helps.append(message.explain(reason))


def _say_what_is_held(message: _Message) -> None:
    record, texts = message.record, message.texts
    if not record.held:
        return
    by_date: dict[datetime, int] = {}
    for part in sorted(record.held, key=lambda part: part.until):
        by_date[part.until] = by_date.get(part.until, 0) + part.amount_minor
    total = message.money(sum(by_date.values()))
    # "The other" is the rest of the repayment only where this record tells of all of it.
    is_rest = record.restored_minor > 0 and _LATER.isdisjoint(record.reasons)
    if len(by_date) == 1:
        sentence = texts.held_rest_one if is_rest else texts.held_all_one
        (until,) = by_date
        message.say(sentence.format(amount=total, due=due_text(until, message.timezone, message.language)))
    else:
        sentence = texts.held_rest_many if is_rest else texts.held_all_many
        count = _count(len(by_date), message.language)
        message.say(sentence.format(amount=total, count=count, parts=_parts(message, by_date)))
    reason = _first(record.reasons, _HELD)
    help_text = message.explain(reason) if reason is not None else ""
    # What was shown to help says more than what a person may find.
    message.helps.append(_faster(record.faster, message.language) if record.faster else help_text)


def _parts(message: _Message, by_date: dict[datetime, int]) -> str:
    texts = message.texts
    *parts, last = [
        texts.held_part.format(
            due=due_text(until, message.timezone, message.language), amount=message.money(amount_minor)
        )
        for until, amount_minor in by_date.items()
    ]
    return texts.held_separator.join(parts) + texts.held_last_separator + last


def _say_what_is_parked(message: _Message) -> None:
    record = message.record
    reason = _first(record.reasons, _PARKED) or Reason.ACCOUNT_FROZEN
    if record.parked_minor:
        ends = CATALOGUES[message.language].reasons[reason].ends
        message.say(message.texts.parked.format(amount=message.money(record.parked_minor), ends=ends))
        message.helps.append(message.explain(reason))


def _say_what_gives_no_credit(message: _Message) -> None:
    """Say what the rest of a first decision went to; a later record tells of a part only."""
    record, texts = message.record, message.texts
    paid = [reason for reason in record.reasons if reason in _NO_CREDIT]
    if not paid or record.version > 1 or not _LATER.isdisjoint(record.reasons):
        return
    told_minor = record.restored_minor + record.parked_minor + sum(part.amount_minor for part in record.held)
    if record.amount_minor > told_minor:
        reasons = CATALOGUES[message.language].reasons
        why = texts.clause_separator.join(reasons[reason].why for reason in paid)
        message.say(texts.no_credit.format(amount=message.money(record.amount_minor - told_minor), why=why))
        message.helps.extend(reasons[reason].help for reason in paid)


def _say_nothing_to_restore(message: _Message) -> None:
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
    texts = CATALOGUES[message.language].reasons[reason]
    if record.available_raw_minor < 0 and texts.why_over is not None:
        why = texts.why_over.format(over=message.money(-record.available_raw_minor))
    else:
        why = _named(texts.why, record.rail, message.language)
    message.say(message.texts.zero.format(why=why))
    message.explained.append(reason)
    message.helps.append(texts.help)


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
    texts = catalogue.reasons[reason]
    return catalogue.customer.why.format(why=_named(texts.why, rail, language)), texts.help


def _named(why: str, rail: str, language: Language) -> str:
    """Return ``why`` with the customer's word for the way of repaying."""
    rails = CATALOGUES[language].rails
    return why.format(rail=rails.get(rail, rails["other"]))


@lru_cache(maxsize=256)
def _faster(ways: tuple[Faster, ...], language: Language) -> str:
    catalogue = CATALOGUES[language]
    texts = catalogue.customer
    return texts.faster.format(ways=texts.faster_separator.join(catalogue.faster[way] for way in ways))


def agent_text(record: DecisionRecord, *, language: Language, timezone: str, trigger: Template | None = None) -> str:
    """Return the customer's message and, line by line, the codes, figures and versions behind it."""
    said = customer_text(record, language=language, timezone=timezone, trigger=trigger)
    lines = [said, *_outcome_lines(record, language, timezone), *_figure_lines(record, language, timezone)]
    texts = CATALOGUES[language].agent
    if record.faster:
        lines.append(texts.faster.format(codes=", ".join(record.faster)))
    lines.append(
        texts.versions.format(
            rail=record.rail,
            policy=record.policy_version,
            model=record.model_version,
            calendar=record.calendar_version,
        )
    )
    return "\n".join(lines)


def _outcome_lines(record: DecisionRecord, language: Language, timezone: str) -> Iterable[str]:
    catalogue = CATALOGUES[language]
    yield catalogue.agent.outcome.format(
        label=catalogue.outcomes[record.outcome],
        code=record.outcome,
        version=record.version,
        decided=decided_text(record.decided_at, timezone, language),
    )
    for reason in record.reasons:
        texts = catalogue.reasons[reason]
        why = _named(texts.why, record.rail, language)
        yield catalogue.agent.reason.format(code=reason.value, label=texts.label, why=why, ends=texts.ends)


def _figure_lines(record: DecisionRecord, language: Language, timezone: str) -> Iterable[str]:
    catalogue = CATALOGUES[language]
    texts = catalogue.agent

    def money(amount_minor: int) -> str:
        return money_text(amount_minor, record.currency, language)

    for part in record.held:
        due = due_text(part.until, timezone, language)
        yield texts.held.format(tranche=part.tranche, amount=money(part.amount_minor), due=due)
    if record.parked_minor:
        yield texts.parked.format(amount=money(record.parked_minor))
    if record.taken_back_minor:
        yield texts.taken_back.format(amount=money(record.taken_back_minor))
    yield texts.available.format(shown=money(record.available_credit_minor), raw=money(record.available_raw_minor))
    if record.zero_reason is not None:
        label = catalogue.reasons[record.zero_reason].label
        yield texts.zero.format(code=record.zero_reason.value, label=label)


def audit(record: DecisionRecord) -> dict[str, object]:
    """Return the whole record in JSON's own types, held parts by name."""
    whole = record.model_dump(mode="json")
    held = [dict(zip(HeldPart._fields, part, strict=True)) for part in whole["held"]]
    return {**whole, "held": held}
