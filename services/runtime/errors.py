"""The three kinds of error: Malformed (services/decision.py), Transient and InvariantBroken."""

import asyncpg
from aiokafka.errors import KafkaError

TRANSIENT: tuple[type[BaseException], ...] = (
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.DeadlockDetectedError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    OSError,
    TimeoutError,
)
"""Errors of the world: roll back, back off with jitter, try again, never skip."""
COLLISION = (asyncpg.UniqueViolationError, asyncpg.SerializationError)
"""Two processes took the same new key or changed the same row at once; the retry sees the other's row."""
PUBLISH_FAILED = (KafkaError, OSError, TimeoutError)


class InvariantBroken(Exception):
    """Our own books or code are wrong: roll back, stop this worker, page."""


class Refused(Exception):
    """Another process owns these offsets now: drop the batch and follow the books."""


class Stuck(Exception):
    """The loop made no progress for too long; the process must end so that it is restarted."""


class ConfigurationError(Exception):
    """A setting, a secret or a server is not usable as it is."""
