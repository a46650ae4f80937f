"""Render a decision record for the agent, line by line, and for the audit, whole (domain 8.1)."""

from collections.abc import Iterable, Sequence
from datetime import datetime

from pydantic_core import to_jsonable_python

from schemas.account import Language
from schemas.reasons import Cause, Stage
from schemas.restoration import DecisionRecord
from services.wording.catalogue import CATALOGUES, cause_label, stage_label
from services.wording.formats import date_text, decided_text, due_text, duration_text, money_text
from services.wording.renderer import customer_text, named_why, template_of

Stretch = tuple[Stage, Cause, int, datetime]
"""A stretch of a timeline: its stage, cause, milliseconds and end."""


def agent_text(record: DecisionRecord, *, language: Language, timezone: str) -> str:
    """Return the customer's message and, line by line, the codes, figures and versions behind it."""
    said = customer_text(record, language=language, timezone=timezone)
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
        label=catalogue.outcomes[template_of(record)],
        code=template_of(record),
        version=record.version,
        decided=decided_text(record.decided_at, timezone, language),
    )
    for reason in record.reasons:
        texts = catalogue.reasons[reason]
        why = named_why(reason, record.rail, language)
        yield catalogue.agent.reason.format(code=reason.value, label=texts.label, why=why, ends=texts.ends)


def _figure_lines(record: DecisionRecord, language: Language, timezone: str) -> Iterable[str]:
    catalogue = CATALOGUES[language]
    texts = catalogue.agent

    def money(amount_minor: int) -> str:
        return money_text(amount_minor, record.currency, language)

    yield from _debt_lines(record, language)
    for part in record.held:
        due = due_text(part.until, timezone, language)
        yield texts.held.format(tranche=part.tranche, amount=money(part.amount_minor), due=due)
    if record.moved is not None:
        yield texts.moved.format(tranche=record.moved.tranche, was=due_text(record.moved.was, timezone, language))
    if record.parked_minor:
        yield texts.parked.format(amount=money(record.parked_minor))
    yield from _promise_lines(record, language, timezone)
    if record.taken_back_minor:
        yield texts.taken_back.format(amount=money(record.taken_back_minor))
    if record.together is not None:
        count, restored = record.together.repayments, money(record.together.restored_minor)
        yield texts.together.format(count=count, restored=restored)
    yield texts.available.format(shown=money(record.available_credit_minor), raw=money(record.available_raw_minor))
    if record.available_before_minor is not None:
        yield texts.grew.format(before=money(record.available_before_minor), other=money(record.other_minor))
    if record.zero_reason is not None:
        label = catalogue.reasons[record.zero_reason].label
        yield texts.zero.format(code=record.zero_reason.value, label=label)
    if record.credit_limit_minor is not None and record.limit_lowered_at is not None:
        lowered = decided_text(record.limit_lowered_at, timezone, language)
        yield texts.limit.format(limit=money(record.credit_limit_minor), at=lowered)


def _debt_lines(record: DecisionRecord, language: Language) -> Iterable[str]:
    texts = CATALOGUES[language].agent
    if record.credited_on is not None:
        yield texts.credited.format(day=date_text(record.credited_on, language))
    if record.past_due_minor is not None:
        yield texts.past_due.format(amount=money_text(record.past_due_minor, record.currency, language))


def _promise_lines(record: DecisionRecord, language: Language, timezone: str) -> Iterable[str]:
    texts = CATALOGUES[language].agent
    if record.promised_by is None:
        return
    promised = decided_text(record.promised_by, timezone, language)
    if record.late_minor:
        amount = money_text(record.late_minor, record.currency, language)
        yield texts.late.format(amount=amount, promised=promised)
    else:
        yield texts.promised.format(promised=promised)


def timeline_text(
    tranche: int | None, stretches: Sequence[Stretch], *, language: Language, timezone: str
) -> Iterable[str]:
    """Yield where the time went, line by line; ``tranche`` is None of a repayment that is not restored."""
    texts = CATALOGUES[language].agent
    total = duration_text(sum(milliseconds for _, _, milliseconds, _ in stretches), language)
    yield (texts.timeline_open if tranche is None else texts.timeline).format(tranche=tranche, total=total)
    for stage, cause, milliseconds, until in stretches:
        yield texts.stretch.format(
            stage=stage_label(stage, language, audience="agent"),
            cause=cause_label(cause, language, audience="agent"),
            duration=duration_text(milliseconds, language),
            until=decided_text(until, timezone, language),
        )


def audit(record: DecisionRecord) -> dict[str, object]:
    """Return the whole record in JSON's own types, parts by name."""
    whole = record.model_dump(mode="json")
    held = [part._asdict() for part in record.held]
    moved = record.moved._asdict() if record.moved is not None else None
    together = record.together and {
        **record.together.model_dump(mode="json"),
        "held_sums": [_plain(part._asdict()) for part in record.together.held_sums],
        "tells_of": [_plain(part._asdict()) for part in record.together.tells_of],
    }
    parts = {"held": [_plain(part) for part in held], "moved": moved and _plain(moved), "together": together}
    return {**whole, **parts}


def _plain(part: dict[str, object]) -> dict[str, object]:
    """Return the values of a part in JSON's own types."""
    plain: dict[str, object] = to_jsonable_python(part)
    return plain
