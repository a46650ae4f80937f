"""Say where a repayment is that nothing was decided on yet."""

from schemas.account import Language
from schemas.reasons import Reason
from services.wording.catalogue import CATALOGUES, Wait
from services.wording.renderer import named_why


def waiting_text(wait: Wait, language: Language, **named: str) -> str:
    """Return what the customer is told; ``named`` holds what the text names: ``since``, ``waited``."""
    return CATALOGUES[language].waits[wait].customer.format(**named)


def waiting_line(wait: Wait, language: Language, **named: str) -> str:
    """Return the agent's line; ``named`` holds ``service``, ``since``, ``reason``, ``id``, ``stage``, ``cause``, ..."""
    return CATALOGUES[language].waits[wait].agent.format(**named)


def rejected_text(reason: Reason, language: Language) -> str:
    """Return why a repayment did not count, and what helps."""
    catalogue = CATALOGUES[language]
    said = [waiting_text("rejected", language, why=named_why(reason, "", language)), catalogue.reasons[reason].help]
    return catalogue.customer.sentence_separator.join(filter(None, said))
