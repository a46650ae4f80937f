"""What is compared: each contender is a pipeline of five processes between two topics."""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from schemas.notification import NotificationRequested
from schemas.topics import TYPE_OF
from services.cli.system import System

TOLD = TYPE_OF[NotificationRequested].encode()


@dataclass(frozen=True)
class Contender:
    """One way to build the pipeline.

    ``stages`` are program names in the order of the pipeline; a repayment makes ``outputs`` records at ``outlet``;
    ``effects`` asks what is in the books, in the search path of ``schema``, and ``effects_each`` is what one
    repayment adds to each figure; ``backlog_share`` is its part of the backlog that is drained.
    """

    name: str
    stages: tuple[str, ...]
    inlet: str
    outlet: str
    identify: Callable[[Any], str | None]
    prepare: Callable[[System], Awaitable[None]]
    start: Callable[[System], Awaitable[None]]
    outputs: int = 1
    naive: bool = False
    effects: str = ""
    effects_each: Mapping[str, int] | None = None
    schema: str = "public"


BOOKS: Mapping[str, int] = {
    "reference": 1,
    "debt_repayment": 1,
    "journal": 2,
    "credit_repayment": 1,
    "tranche": 1,
    "decision_record": 1,
    "notification": 1,
    "delivery": 1,
}
"""Rows one wallet repayment adds, in ours and in the naive pipelines alike."""


def told(record: Any) -> str | None:
    """Return the repayment whose customer is told by this record."""
    if dict(record.headers).get("ce_type") != TOLD:
        return None
    found: str = json.loads(record.value)["repayment_id"]
    return found
