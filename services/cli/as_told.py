"""What was told at an instant, beside what was true then: every message and answer is kept as it was said (L9)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.account import Language
from schemas.restoration import DecisionRecord
from services.runtime.postgres import Row
from services.wording import as_told_texts, audit, customer_text, decided_text, outcome_label, template_of


@dataclass(frozen=True, slots=True)
class AsTold:
    """A repayment as it was told at ``at``: the decision in force, what was said of it, what has changed since.

    ``untold`` are decisions of then whose message had not been delivered; ``later`` were made afterwards.
    """

    at: datetime
    known: DecisionRecord | None
    told: tuple[Row, ...]
    shown: tuple[Row, ...]
    untold: tuple[DecisionRecord, ...]
    later: tuple[DecisionRecord, ...]

    def described(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "as_of": self.at,
            "true": audit(self.known) if self.known else None,
            "told": [{**row, "state": state_at(row, self.at), "ended_at": ended_at(row, self.at)} for row in self.told],
            "shown": [dict(row) for row in self.shown],
            "not_delivered_versions": [record.version for record in self.untold],
            "later_versions": [record.version for record in self.later],
        }


def as_told(records: Sequence[DecisionRecord], told: Sequence[Row], shown: Sequence[Row], at: datetime) -> AsTold:
    """Return what was told and true at ``at``; ``records`` in the order of their versions."""
    then = [record for record in records if record.decided_at <= at]
    sent = tuple(row for row in told if row["requested_at"] <= at)
    delivered = {row["record_version"] for row in sent if state_at(row, at) == "delivered"}
    return AsTold(
        at=at,
        known=then[-1] if then else None,
        told=sent,
        shown=tuple(row for row in shown if row["shown_at"] <= at),
        untold=tuple(record for record in then if record.version not in delivered),
        later=tuple(record for record in records if record.decided_at > at),
    )


def ended_at(row: Row, at: datetime) -> datetime | None:
    """Return when a message was delivered or given up, if it was by ``at``."""
    ended: datetime | None = row["ended_at"]
    return ended if ended is not None and ended <= at else None


def state_at(row: Row, at: datetime) -> str:
    """Return how the delivery of a message stood at ``at``."""
    return "requested" if ended_at(row, at) is None else str(row["state"])


def as_told_lines(known: AsTold, language: Language, timezone: str) -> Iterator[str]:
    """Yield what was true, what was told and shown in the words used then, and what has changed since."""
    texts = as_told_texts(language)

    def instant(at: datetime) -> str:
        return decided_text(at, timezone, language)

    yield texts.head.format(at=instant(known.at), timezone=timezone)
    if known.known is None:
        yield texts.nothing_true
    else:
        yield texts.true.format(version=known.known.version, decided=instant(known.known.decided_at))
        yield customer_text(known.known, language=language, timezone=timezone)
    if not known.told:
        yield texts.nothing_told
    for row in known.told:
        ended = ended_at(row, known.at)
        outcome = getattr(texts, state_at(row, known.at)).format(ended=instant(ended) if ended else "")
        outcome += texts.together if row["told_by"] else ""
        about = {"version": row["record_version"], "language": row["language"], "channel": row["channel"]}
        yield texts.told.format(**about, requested=instant(row["requested_at"]), outcome=outcome)
        yield row["text"]
    for row in known.shown:
        about = {"version": row["record_version"], "language": row["language"], "audience": row["audience"]}
        yield texts.shown.format(**about, at=instant(row["shown_at"]))
        yield row["text"]
    for record in known.untold:
        yield texts.untold.format(version=record.version, decided=instant(record.decided_at))
    for record in known.later:
        label = outcome_label(template_of(record), language)
        yield texts.since.format(version=record.version, label=label, decided=instant(record.decided_at))
