"""Say to customers, agents and auditors what a decision record says, and no more."""

from services.wording.catalogue import (
    Audience,
    ReasonTexts,
    Wait,
    as_told_texts,
    cause_label,
    outcome_label,
    preview_text,
    reason_label,
    reason_texts,
    stage_label,
)
from services.wording.formats import decided_text, due_text, duration_text, money_text, repaid_text
from services.wording.limit import limit_agent_text, limit_audit, limit_text
from services.wording.renderer import RecordTemplate, asked_text, customer_text, message_text, template_of
from services.wording.views import agent_text, audit, timeline_text
from services.wording.waiting import rejected_text, waiting_line, waiting_text

__all__ = [
    "Audience",
    "ReasonTexts",
    "RecordTemplate",
    "Wait",
    "agent_text",
    "as_told_texts",
    "asked_text",
    "audit",
    "cause_label",
    "customer_text",
    "decided_text",
    "due_text",
    "duration_text",
    "limit_agent_text",
    "limit_audit",
    "limit_text",
    "message_text",
    "money_text",
    "outcome_label",
    "preview_text",
    "reason_label",
    "reason_texts",
    "rejected_text",
    "repaid_text",
    "stage_label",
    "template_of",
    "timeline_text",
    "waiting_line",
    "waiting_text",
]
