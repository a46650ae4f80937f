"""Errors of our own; those of the world are named by who talks to it: postgres.TRANSIENT, publisher.PUBLISH_FAILED."""


class InvariantBroken(Exception):
    """Our own books or code are wrong: roll back, stop this worker, page."""


class Refused(Exception):
    """Another process owns these offsets now: drop the batch and follow the books."""


class Stuck(Exception):
    """The loop made no progress for too long; the process must end so that it is restarted."""


class ConfigurationError(Exception):
    """A setting, a secret or a server is not usable as it is."""
