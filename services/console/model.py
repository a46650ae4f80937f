"""The case lane as values: what a person has to look at, by when, and what became of it (domain 3.3)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal, NamedTuple

from schemas.ids import EventId, RepaymentId, derived_id, event_id
from schemas.review import LimitOutcome
from schemas.risk import ModelActivated
from services.decision import Internal

CaseState = Literal["open", "assigned", "in_review", "escalated", "resolved", "closed"]
LANE: Final[frozenset[tuple[CaseState, CaseState]]] = frozenset(
    {
        ("open", "assigned"),
        ("assigned", "in_review"),
        ("open", "escalated"),
        ("assigned", "escalated"),
        ("in_review", "escalated"),
        ("in_review", "resolved"),
        ("escalated", "resolved"),
        ("resolved", "closed"),
        ("resolved", "in_review"),
    }
)
"""Every step of the case lane; a case begins open, closed is its end, an objection brings a resolved one back."""
_FORWARD: Final[tuple[CaseState, ...]] = ("open", "assigned", "in_review", "resolved")

Kind = Literal[
    "promise_broken", "referred", "pattern_seen", "conflicting_report", "rail_silent", "account_unknown",
    "return_unmatched", "parked_long", "returned_after_final", "paid_twice", "dead_letter", "source_differs",
    "question", "complaint", "limit_referred",
]  # fmt: skip
Priority = Literal["high", "normal", "low"]
CaseOutcome = Literal[
    "credit_restored", "hold_kept", "books_corrected", "explained", "nothing_to_do", "limit_raised", "limit_kept",
    "limit_refused",
]  # fmt: skip
CaseAction = Literal["assign", "review", "escalate", "resolve", "object"]
Action = (
    CaseAction
    | Literal[
        "release_hold", "extend_hold", "take_feedback", "replay", "discard", "ask_release", "ask_resolve",
        "request_review", "appeal_review", "activate_model",
    ]
)  # fmt: skip
_LEADS_TO: Final[Mapping[CaseAction, CaseState]] = {
    "assign": "assigned",
    "review": "in_review",
    "escalate": "escalated",
    "resolve": "resolved",
    "object": "in_review",
}
OURSELVES: Final = "console"
"""The actor of what nobody did by hand."""
ACTS_A_DAY_MAX: Final = 200
"""What one person may do in 24 hours (our assumption); the audit's trigger refuses more, whoever asks."""
SECOND_PERSON_MINOR: Final = 1_000_000
"""From this amount on two people must say the same, minor units of the account's currency (our assumption)."""
SECOND_PERSON_HOURS: Final = 24
"""How long the first one's word counts."""
MOVES_MONEY: Final[tuple[CaseOutcome, ...]] = ("credit_restored", "books_corrected")
"""Outcomes of a case that say money moved."""
CONCLUDES: Final[Mapping[CaseOutcome, LimitOutcome]] = {
    "limit_raised": "approved",
    "limit_kept": "unchanged",
    "limit_refused": "refused",
}
"""How a limit somebody was to look at is decided: a case of that kind ends so, and no other does."""
ASKED_AGAIN: Final[Mapping[Action, timedelta]] = {
    "request_review": timedelta(hours=24),
    "appeal_review": timedelta(days=90),
}
"""How long after a customer asked for a review of a limit, or for a person to look, the same is asked again.

A request is answered at once, so the day only keeps one answer from being told twice. A person who looked is not asked
anew sooner than after a refusal (risk 7); what they said is objected to with its case (both are our assumptions).
"""
ANSWER_MAX: Final = 2_000
"""Characters of an answer."""
_DIGITS: Final = re.compile(r"\d(?:[ -]?\d){12,18}")


class Limit(NamedTuple):
    """A credit limit in force, in minor units of its currency."""

    minor: int
    currency: str


class Step(NamedTuple):
    """One step of a case along the lane; ``before`` is None of the opening."""

    before: CaseState | None
    state: CaseState
    at: datetime
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Case:
    """Something a person has to look at by ``due_at``.

    ``detail`` is a code: the delay's cause, the pattern seen, what differs. ``record_version`` names the decision
    record it is about. ``answer`` is what the customer may read. ``steps`` are those not yet written, ``version``
    counts what was: both for the store.
    """

    case_id: str
    kind: Kind
    priority: Priority
    opened_by: EventId
    opened_at: datetime
    due_at: datetime
    repayment_id: str | None = None
    tranche: int | None = None
    detail: str = ""
    record_version: int | None = None
    state: CaseState = "open"
    assignee: str = ""
    outcome: CaseOutcome | None = None
    answer: str = ""
    resolved_at: datetime | None = None
    steps: tuple[Step, ...] = ()
    version: int = 0

    @property
    def waits(self) -> bool:
        """Tell whether a person still has to act."""
        return self.state not in ("resolved", "closed")

    def to(self, state: CaseState, at: datetime, actor: str, reason: str, **changes: Any) -> "Case":
        """Move one step along the lane; raise ValueError where there is no such step."""
        if (self.state, state) not in LANE:
            raise ValueError(f"case {self.case_id} cannot go from {self.state} to {state}")
        step = Step(self.state, state, at, actor, reason)
        return replace(self, state=state, steps=(*self.steps, step), **changes)


@dataclass(frozen=True, slots=True)
class Audit:
    """What a person did: kept for ever, chained by hash; ``content`` is JSON with sorted keys."""

    at: datetime
    actor: str
    action: Action
    subject: str
    reason: str
    content: str

    def seconds(self, first: "Audit | None") -> bool:
        """Tell whether ``first`` is another person's recent word of the same."""
        if first is None or self.at - first.at >= timedelta(hours=SECOND_PERSON_HOURS):
            return False
        return first.actor != self.actor and (first.action, first.content) == (self.action, self.content)


class Anchor(NamedTuple):
    """Where the audit ended when that was told outside the database: its last entry's number and hash, how many."""

    seq: int
    hash: str
    entries: int
    at: datetime


@dataclass(frozen=True, slots=True)
class Desk:
    """The cases of one account that an input names.

    ``parked`` are the (repayment, tranche) of those named that are parked now. ``stakes`` are minor units of those that
    money is about, tranche 0 being the whole repayment. ``words`` are what was done last with a subject, ``acts`` how
    much each actor did in the last day. ``audits`` and ``anchors`` are not yet written. ``limit``
    is the account's where a review of it ends, None when nobody told of it.
    """

    account_id: str
    cases: Mapping[str, Case] = field(default_factory=dict)
    parked: frozenset[tuple[str, int]] = frozenset()
    stakes: Mapping[tuple[str, int], int] = field(default_factory=dict)
    words: Mapping[str, Audit] = field(default_factory=dict)
    acts: Mapping[str, int] = field(default_factory=dict)
    audits: tuple[Audit, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    limit: Limit | None = None

    def opened(self, case: Case) -> str:
        """Return why ``case`` is not opened: it was, or a person has to look at the limit already; empty if it is."""
        if case.case_id in self.cases:
            return "opened_before"
        looked_at = any(other.kind == "limit_referred" and other.waits for other in self.cases.values())
        return "looked_at_already" if looked_at and case.kind == "limit_referred" else ""

    def put(self, case: Case) -> "Desk":
        """Return the desk with ``case``."""
        return replace(self, cases={**self.cases, case.case_id: case})

    def audited(self, entry: Audit) -> "Desk":
        """Return the desk with what a person did, which is now the last word on its subject."""
        return replace(self, audits=(*self.audits, entry), words={**self.words, entry.subject: entry})


@dataclass(frozen=True, slots=True)
class SourceDiffers(Internal):
    """Billing's own list and our books differ in a repayment: only one has it, or what they say of it (I23)."""

    repayment_id: RepaymentId
    differs: str


@dataclass(frozen=True, slots=True)
class AuditMoved(Internal):
    """The audit has grown since it was anchored last: the number and hash of its last entry, and how many there are."""

    seq: int
    hash: str
    count: int


def way(state: CaseState, action: CaseAction) -> tuple[CaseState, ...]:
    """Return the steps an action takes from ``state``, none where it may not: to resolve an open case is to take it."""
    to = _LEADS_TO[action]
    if (action == "object") != (state == "resolved"):
        return ()
    if (state, to) in LANE:
        return (to,)
    if state not in _FORWARD or to not in _FORWARD:
        return ()
    return _FORWARD[_FORWARD.index(state) + 1 : _FORWARD.index(to) + 1]


def review_subject(account_id: str, action: Action) -> str:
    """Return what the audit has a request for a review under."""
    return f"{action}:{account_id}"


def case_id(cause: str) -> str:
    """Return the id of the case that the fact of this id opens: one fact opens one case."""
    return derived_id("case", cause)


def card_like(text: str) -> bool:
    """Tell whether a text a customer may read holds what passes for a card's number (Luhn, R28)."""
    return any(_luhn([int(digit) for digit in found if digit.isdecimal()]) for found in _DIGITS.findall(text))


def _luhn(digits: list[int]) -> bool:
    doubled = (2 * digit for digit in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(digit - 9 * (digit > 9) for digit in doubled)) % 10 == 0


def differs_id(event: SourceDiffers) -> EventId:
    """Return the id of the fact that a repayment differs so: found again, it opens no second case."""
    return event_id("SourceDiffers", event.repayment_id, event.differs)


def model_changed(told: ModelActivated) -> Audit:
    """Return the entry of a change of the model that decides: the registry keeps it, the audit cannot be rewritten."""
    content = told.model_dump(include={"event_id", "change", "model_version", "replaced", "goes_back", "unproven"})
    return Audit(told.occurred_at, told.actor, "activate_model", told.account_id, told.reason, kept_json(content))


def kept_json(content: Mapping[str, object]) -> str:
    """Return what an entry of the audit says, the same for the same content."""
    return json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
