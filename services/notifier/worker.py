"""notifier: decisions in, one message each to the customer, and what became of it out."""

from typing import cast, get_args

from schemas.account import AccountOpened
from schemas.notification import Channel
from schemas.restoration import (
    CreditRestored,
    HoldPlaced,
    NothingToRestore,
    RestorationDelayed,
    RestorationParked,
    RestorationReversed,
)
from schemas.review import LimitIncreaseDecided
from schemas.topics import BILLING_ACCOUNT, LIMIT_REVIEW, NOTIFICATION, RESTORATION
from services.notifier.domain import Channels, decide
from services.notifier.gateway import WEBHOOK_SECONDS, channels_of
from services.notifier.store import CLAIM_MAX, STORE, claim
from services.runtime.errors import ConfigurationError
from services.runtime.run import host
from services.runtime.settings import Settings
from services.runtime.worker import Step, Worker


def _channels(settings: Settings) -> Channels:
    names = tuple(name.strip() for name in settings.notify_channels.split(",") if name.strip())
    known = get_args(Channel)
    if not names or not set(names) <= set(known):
        raise ConfigurationError(f"OTB_NOTIFY_CHANNELS must list some of: {', '.join(known)}")
    return Channels(cast(tuple[Channel, ...], names))


WORKER = Worker(
    name="notifier",
    reads=(RESTORATION, BILLING_ACCOUNT, LIMIT_REVIEW),
    handles=frozenset(
        {
            CreditRestored,
            HoldPlaced,
            NothingToRestore,
            RestorationParked,
            RestorationDelayed,
            RestorationReversed,
            LimitIncreaseDecided,
            AccountOpened,
        }
    ),
    writes=(NOTIFICATION,),
    policy=_channels,
    decide=decide,
    keeps=STORE,
    step=lambda settings: Step(claim, channels_of(settings), seconds_max=WEBHOOK_SECONDS + 5, at_once_max=CLAIM_MAX),
)
app = host(WORKER)
