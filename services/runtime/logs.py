"""Logs: one JSON object a line on standard error, each with an action, nothing personal."""

import logging
from typing import Any

import structlog

TOLD = "customer_told"
"""The logger of the log channel: its lines are JSON already, thousands a second."""
LOGGER = structlog.stdlib.get_logger("otb")
_SHARED: list[Any] = [
    structlog.stdlib.add_log_level,
    structlog.stdlib.ExtraAdder(),
    structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
]


def configure() -> dict[str, Any]:
    """Set structlog up and return the logging configuration that makes the libraries' own logs look alike."""
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    formatter = {
        "()": structlog.stdlib.ProcessorFormatter,
        "foreign_pre_chain": _SHARED,
        "processors": [
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            structlog.processors.EventRenamer("action"),
            structlog.processors.JSONRenderer(),
        ],
    }
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": formatter},
        "handlers": {
            "stderr": {"class": "logging.StreamHandler", "formatter": "json"},
            "plain": {"class": "logging.StreamHandler"},
        },
        "root": {"handlers": ["stderr"], "level": "WARNING"},
        "loggers": {"otb": {"level": "INFO"}, TOLD: {"level": "INFO", "handlers": ["plain"], "propagate": False}},
    }


def set_level(level: str) -> None:
    """Set the least level of our own lines."""
    logging.getLogger("otb").setLevel(level.upper())
