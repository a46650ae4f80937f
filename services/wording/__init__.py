"""Say to customers, agents and auditors what a decision record says, and no more."""

from services.wording.catalogue import (
    Audience,
    ReasonTexts,
    cause_label,
    reason_label,
    reason_texts,
    stage_label,
)
from services.wording.formats import due_text, duration_text, money_text, repaid_text
from services.wording.renderer import agent_text, audit, customer_text

__all__ = [
    "Audience",
    "ReasonTexts",
    "agent_text",
    "audit",
    "cause_label",
    "customer_text",
    "due_text",
    "duration_text",
    "money_text",
    "reason_label",
    "reason_texts",
    "repaid_text",
    "stage_label",
]
