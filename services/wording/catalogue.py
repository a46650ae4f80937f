"""Hold every text by language and key, read once from the package's own locale files."""

from functools import lru_cache
from importlib.resources import files
from string import Formatter
from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, field_validator

from schemas.account import Language
from schemas.notification import Template
from schemas.reasons import Cause, Reason, Stage
from schemas.review import LimitOutcome
from schemas.risk import Faster
from services.values import plain

Audience = Literal["customer", "agent"]
Wait = Literal["parked", "dead_letter", "returned_first", "rejected", "waiting", "on_its_way", "unknown", "conflict"]
"""Where a repayment is that nothing was decided on."""
LANGUAGES: Final[tuple[Language, ...]] = get_args(Language)


class _Sentence(str):
    """A text with named places, read once: str.format() reads it at each call and takes three times as long."""

    def __init__(self, text: str) -> None:
        parts = list(Formatter().parse(text))
        names = [name for _, name, _, _ in parts if name is not None]
        if any(spec or conversion for _, _, spec, conversion in parts) or not all(map(str.isidentifier, names)):
            raise ValueError(f"a place is a name and nothing else: {text}")
        if names:
            pattern = "".join(told.replace("%", "%%") + ("" if name is None else "%s") for told, name, _, _ in parts)
            given, values = ", ".join(dict.fromkeys(names)), ", ".join(names)
            code = f"lambda *, {given}, **_: {pattern!r} % ({values},)"
            vars(self)["format"] = eval(code)  # noqa: S307 - of our own texts and names


class _Texts(BaseModel):
    """Refuse a locale file with a key too many or too few."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*")
    @classmethod
    def _read_once(cls, value: Any) -> Any:
        return _Sentence(value) if isinstance(value, str) else value


class ReasonTexts(_Texts):
    """What a reason is called, why it holds, what ends it and what the customer can do.

    ``why`` and ``ends`` are clauses, ``help`` is whole sentences or empty where nothing can be done.
    ``why_over`` says the same with the amount above the credit limit, ``why_dated`` with the limit and its day,
    ``why_dated_over`` with both, ``why_share`` with the customer's own share; ``why_zero`` is all that is said of a 0.
    """

    label: str
    why: str
    ends: str
    help: str
    why_over: str | None = None
    why_dated: str | None = None
    why_dated_over: str | None = None
    why_share: str | None = None
    why_zero: str | None = None


class Plural(_Texts):
    """The forms of a text that counts, by the language's plural rule; ``words`` write small numbers out."""

    one: str | None = None
    other: str
    words: dict[int, str] = {}


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
    day: str
    date: str
    percent: str


class CustomerTexts(_Texts):
    """The sentences of the customer's message."""

    credited: str
    still_overdue: str
    credited_on_time: str
    credited_from: str
    noted: str
    restored: str
    restored_later: str
    restored_beside: str
    together: str
    together_none: str
    restored_late: str
    covers_over: str
    none_yet: str
    none_ever: str
    active_again: str
    balance_paid: str
    balance_usable: str
    recounted_less: str
    recounted_more: str
    available: str
    zero: str
    held_all_one: str
    held_rest_one: str
    held_all_many: str
    held_rest_many: str
    held_part: str
    held_separator: str
    held_last_separator: str
    moved_later: str
    moved_sooner: str
    count: str
    parked: str
    delayed: str
    told_when_back: str
    no_credit: str
    why: str
    clause_separator: str
    faster: str
    faster_separator: str
    returned: str
    taken_back: str
    none_taken: str
    no_more: str
    time_left: str
    person: str
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
    together: str
    moved: str
    late: str
    grew: str
    credited: str
    past_due: str
    limit: str
    promised: str
    timeline: str
    timeline_open: str
    stretch: str


class AsToldTexts(_Texts):
    """The lines about what was told, beside what was true, at an instant."""

    head: str
    true: str
    nothing_true: str
    told: str
    delivered: str
    undeliverable: str
    suppressed: str
    requested: str
    nothing_told: str
    shown: str
    untold: str
    together: str
    since: str


class LimitTexts(_Texts):
    """The sentences about a review of the credit limit, and the agent's lines below them."""

    unchanged: str
    refused: str
    approved: str
    decreased: str
    score: str
    on_time: Plural
    on_time_full_marks: Plural
    reasons: Plural
    reason_item: str
    reason_separator: str
    payment: str
    use_as_well: str
    use: str
    sentence_end: str
    use_not_enough: str
    months: Plural
    next_review: str
    estimate: str
    person: str
    person_looks: str
    outcome: str
    factor: str
    factor_share: str
    versions: str

    def lead(self, outcome: LimitOutcome) -> str:
        """Return the first sentence of an outcome."""
        return {
            "unchanged": self.unchanged,
            "refused": self.refused,
            "approved": self.approved,
            "decreased": self.decreased,
        }[outcome]


class TimeLeft(_Texts):
    """The time until a date, in whole words."""

    day: Plural
    hour: Plural
    minute: Plural
    less: str
    join: str


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
    as_told: AsToldTexts
    limit: LimitTexts
    left: TimeLeft
    previews: dict[Template, str]
    waits: dict[Wait, Label]
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
CUSTOMER_TEXTS: Final[dict[Language, CustomerTexts]] = {at: plain(each.customer) for at, each in CATALOGUES.items()}
"""What each message reads."""


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


def outcome_label(template: Template, language: Language) -> str:
    """Return the agent's short name of what a record came to."""
    return CATALOGUES[language].outcomes[template]


def as_told_texts(language: Language) -> AsToldTexts:
    """Return the lines that put what was told beside what was true."""
    return CATALOGUES[language].as_told


@lru_cache(maxsize=256)
def faster_text(ways: tuple[Faster, ...], language: Language) -> str:
    """Return what would bring credit back sooner another time."""
    catalogue = CATALOGUES[language]
    texts = catalogue.customer
    # What restores all of it at once, whatever the amount, leaves nothing to add.
    told = ("final_rail",) if "final_rail" in ways else ways
    return texts.faster.format(ways=texts.faster_separator.join(catalogue.faster[way] for way in told))


def preview_text(template: Template, language: Language) -> str:
    """Return what may stand on a locked screen: no amount, no date, no reason (8.2)."""
    return CATALOGUES[language].previews[template]


def stage_label(stage: Stage, language: Language, *, audience: Audience = "customer") -> str:
    """Return what a stage does, in the customer's words or in ours."""
    label = CATALOGUES[language].stages[stage]
    return label.customer if audience == "customer" else label.agent
