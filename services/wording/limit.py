"""Render a review of the credit limit: Case B for the customer, factors and versions for the agent (domain 8.4)."""

from collections.abc import Iterable
from typing import Final

from pydantic_core import to_jsonable_python

from schemas.account import Language
from schemas.reasons import Reason
from schemas.review import LimitIncreaseDecided, PathStep
from services.wording.catalogue import CATALOGUES
from services.wording.formats import about_text, date_text, decided_text, money_text, plural_text, share_text
from services.wording.renderer import named_why

# An increase that was granted needs no distance.
_GRANTED: Final = "approved"


def limit_text(event: LimitIncreaseDecided, *, language: Language) -> str:
    """Return what the customer is told: the answer, the score, what is well, what holds it back, what would help.

    Every figure is the event's; a score of a path is an estimate and is said to be one.
    """
    texts = CATALOGUES[language].limit
    said = [texts.lead(event.outcome).format(limit=money_text(event.amount_minor, event.currency, language))]
    if event.outcome != _GRANTED:
        said.append(texts.score.format(score=event.score, threshold=event.threshold))
        said += _what_is_well(event, language)
        said += _what_holds_back(event, language)
    path = list(_what_would_help(event, language)) if event.outcome in ("unchanged", "refused") else []
    said += path
    said.append(texts.next_review.format(day=date_text(event.next_review_on, language)))
    if path:
        said.append(texts.estimate)
    if event.outcome != _GRANTED:
        said.append(texts.person_looks if event.refer else texts.person)
    return CATALOGUES[language].customer.sentence_separator.join(said)


def _what_is_well(event: LimitIncreaseDecided, language: Language) -> Iterable[str]:
    texts = CATALOGUES[language].limit
    if event.due_count and event.on_time_count == event.due_count:
        full = Reason.LATE_PAYMENTS in event.full_marks
        yield plural_text(texts.on_time_full_marks if full else texts.on_time, event.due_count, language)


def _what_holds_back(event: LimitIncreaseDecided, language: Language) -> Iterable[str]:
    """Yield the scored reasons, numbered when there are several; then what is no part of the score."""
    catalogue = CATALOGUES[language]
    shares = {factor.reason: factor.share_bps for factor in event.factors}
    scored = [_why(reason, shares[reason], language) for reason in event.reasons if reason in shares]
    if len(scored) > 1:
        scored = [catalogue.limit.reason_item.format(number=n, why=why) for n, why in enumerate(scored, start=1)]
    if scored:
        listed = catalogue.limit.reason_separator.join(scored)
        yield plural_text(catalogue.limit.reasons, len(scored), language, list=listed)
    for reason in event.reasons:
        if reason not in shares:
            yield catalogue.customer.why.format(why=_why(reason, None, language))


def _why(reason: Reason, share_bps: int | None, language: Language) -> str:
    texts = CATALOGUES[language].reasons[reason]
    if share_bps is not None and texts.why_share is not None:
        return texts.why_share.format(share=share_text(share_bps, language))
    return named_why(reason, "", language)


def _what_would_help(event: LimitIncreaseDecided, language: Language) -> Iterable[str]:
    """Yield the score of each step that was computed, and that lower use alone falls short where it does."""
    texts = CATALOGUES[language].limit
    paid = next((step for step in event.path if step.payment_share_bps is not None and step.use_bps is None), None)
    both = next((step for step in event.path if step.payment_share_bps is not None and step.use_bps is not None), None)
    used = next((step for step in event.path if step.payment_share_bps is None and step.use_bps is not None), None)
    if paid is not None:
        sentence = _payment(event, paid, language)
        if both is not None and both.use_bps is not None:
            sentence += texts.use_as_well.format(use=share_text(both.use_bps, language), score=both.score)
        yield sentence + texts.sentence_end
    if used is not None and used.use_bps is not None:
        if used.score >= event.threshold:
            use = texts.use.format(use=share_text(used.use_bps, language), score=used.score)
            yield use + texts.sentence_end
        else:
            yield texts.use_not_enough


def _payment(event: LimitIncreaseDecided, step: PathStep, language: Language) -> str:
    texts = CATALOGUES[language].limit
    return texts.payment.format(
        share=share_text(step.payment_share_bps or 0, language),
        payment=about_text(step.payment_minor or 0, event.currency, language),
        months=plural_text(texts.months, event.path_months, language),
        score=step.score,
    )


def limit_agent_text(event: LimitIncreaseDecided, *, language: Language, timezone: str) -> str:
    """Return the customer's text and, line by line, the outcome, every factor with its points, and the versions."""
    texts = CATALOGUES[language].limit
    outcome = texts.outcome.format(
        code=event.outcome,
        score=event.score,
        threshold=event.threshold,
        distance=event.distance,
        limit=money_text(event.amount_minor, event.currency, language),
        decided=decided_text(event.occurred_at, timezone, language),
    )
    factors = [
        texts.factor.format(
            code=factor.reason.value, points=_points(factor.centipoints), share=_own_share(factor.share_bps, language)
        )
        for factor in event.factors
    ]
    versions = texts.versions.format(policy=event.policy_version, model=event.model_version)
    return "\n".join((limit_text(event, language=language), outcome, *factors, versions))


def _points(centipoints: int) -> str:
    """Return points with a sign and one or two decimals: -26.4, +0.9."""
    whole, rest = divmod(abs(centipoints), 100)
    decimals = f"{rest:02d}"
    return f"{'-' if centipoints < 0 else '+'}{whole}.{decimals[0]}{decimals[1].strip('0')}"


def _own_share(share_bps: int | None, language: Language) -> str:
    if share_bps is None:
        return ""
    return CATALOGUES[language].limit.factor_share.format(share=share_text(share_bps, language))


def limit_audit(event: LimitIncreaseDecided) -> dict[str, object]:
    """Return the whole decision in JSON's own types, factors and steps by name."""
    factors = [factor._asdict() for factor in event.factors]
    path = [step._asdict() for step in event.path]
    whole: dict[str, object] = event.model_dump(mode="json") | to_jsonable_python({"factors": factors, "path": path})
    return whole
