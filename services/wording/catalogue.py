"""Hold every text by language and key, read once from the package's own locale files."""

from importlib.resources import files
from typing import Final, Literal, get_args

from pydantic import BaseModel, ConfigDict

from schemas.account import Language
from schemas.notification import Template
from schemas.reasons import Cause, Reason, Stage
from schemas.risk import Faster

Audience = Literal["customer", "agent"]
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


class _Texts(BaseModel):
    """Refuse a locale file with a key too many or too few."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ReasonTexts(_Texts):
    """What a reason is called, why it holds, what ends it and what the customer can do.

    ``why`` and ``ends`` are clauses, ``help`` is whole sentences or empty where nothing can be done.
    ``why_over`` says the same with the amount above the credit limit.
    """

    label: str
    why: str
    ends: str
    help: str
    why_over: str | None = None


class Label(_Texts):
    """A label in the customer's words and a more exact one for the agent."""

    customer: str
    agent: str


class Patterns(_Texts):
    """CLDR date patterns, one a use."""

    repaid: str
    due: str
    due_to_the_second: str
    decided: str


class CustomerTexts(_Texts):
    """The sentences of the customer's message."""

    credited: str
    credited_on_time: str
    noted: str
    restored: str
    restored_later: str
    none_yet: str
    none_ever: str
    active_again: str
    zero: str
    held_all_one: str
    held_rest_one: str
    held_all_many: str
    held_rest_many: str
    held_part: str
    held_separator: str
    held_last_separator: str
    count: str
    parked: str
    no_credit: str
    why: str
    clause_separator: str
    faster: str
    faster_separator: str
    returned: str
    taken_back: str
    none_taken: str
    no_more: str
    sentence_separator: str


class AgentTexts(_Texts):
    """The lines the agent sees below the customer's message."""

    outcome: str
    reason: str
    held: str
    parked: str
    taken_back: str
    available: str
    zero: str
    faster: str
    versions: str


class Durations(_Texts):
    """The names of the units of time."""

    day: str
    hour: str
    minute: str
    second: str
    millisecond: str


class Catalogue(_Texts):
    """Every text of one language."""

    patterns: Patterns
    customer: CustomerTexts
    agent: AgentTexts
    counts: dict[int, str]
    durations: Durations
    rails: dict[str, str]
    faster: dict[Faster, str]
    outcomes: dict[Template, str]
    reasons: dict[Reason, ReasonTexts]
    causes: dict[Cause, Label]
    stages: dict[Stage, Label]


def _read(language: Language) -> Catalogue:
    locale_file = files(__package__).joinpath("locales", f"{language}.json")
    return Catalogue.model_validate_json(locale_file.read_text(encoding="utf-8"))


CATALOGUES: Final[dict[Language, Catalogue]] = {language: _read(language) for language in LANGUAGES}


def reason_texts(reason: Reason, language: Language) -> ReasonTexts:
    """Return all texts of a reason; ``why`` may carry ``{rail}``, ``why_over`` carries ``{over}``."""
    return CATALOGUES[language].reasons[reason]


def reason_label(reason: Reason, language: Language) -> str:
    """Return the short name of a reason."""
    return CATALOGUES[language].reasons[reason].label


def cause_label(cause: Cause, language: Language, *, audience: Audience = "customer") -> str:
    """Return what a wait is made of, in the customer's words or in ours."""
    label = CATALOGUES[language].causes[cause]
    return label.customer if audience == "customer" else label.agent


def stage_label(stage: Stage, language: Language, *, audience: Audience = "customer") -> str:
    """Return what a stage does, in the customer's words or in ours."""
    label = CATALOGUES[language].stages[stage]
    return label.customer if audience == "customer" else label.agent
