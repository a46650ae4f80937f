"""The ways to a customer: a log line, or a Standard Webhook to the platform that pushes."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime

import httpx
from standardwebhooks.webhooks import Webhook

from services.notifier.domain import Attempted
from services.notifier.store import Message
from services.runtime.clock import utc_now
from services.runtime.errors import ConfigurationError
from services.runtime.logs import LOGGER, TOLD
from services.runtime.settings import Settings, secret
from services.wording import preview_text

WEBHOOK_SECONDS = 15.0
GONE = 410
TRY_AGAIN = (408, 425, 429)
_TOLD = logging.getLogger(TOLD)
Send = Callable[[Message], Awaitable[Attempted]]


def channels_of(settings: Settings) -> Send:
    """Return what sends a message on its channel; raise ConfigurationError when a channel lacks its settings."""
    senders: dict[str, Send] = {"log": _log}
    if "webhook" in settings.notify_channels:
        senders["webhook"] = _webhook(settings)

    async def send(message: Message) -> Attempted:
        return await senders[message.channel](message)

    return send


async def _log(message: Message) -> Attempted:
    told = {"action": TOLD, "account_id": message.account_id, "notification_id": message.notification_id}
    about = {"repayment_id": message.repayment_id, "template": message.template, "language": message.language}
    _TOLD.info("%s", json.dumps({"ts": utc_now().isoformat(), **told, **about}))
    return Attempted(message.account_id, message.notification_id, "delivered")


def _webhook(settings: Settings) -> Send:
    signer = _Signer(settings)
    if settings.webhook_url is None or not signer.keys:
        raise ConfigurationError("the webhook channel needs OTB_WEBHOOK_URL and OTB_WEBHOOK_SECRET(_FILE)")
    url = settings.webhook_url
    client = httpx.AsyncClient(timeout=WEBHOOK_SECONDS, follow_redirects=False, trust_env=False)

    async def send(message: Message) -> Attempted:
        sent_at = utc_now()
        body = json.dumps(_payload(message, sent_at.isoformat()), ensure_ascii=False)
        headers = {
            "content-type": "application/json",
            "webhook-id": message.notification_id,
            "webhook-timestamp": str(int(sent_at.timestamp())),
            "webhook-signature": signer.sign(message.notification_id, sent_at, body),
        }
        try:
            async with (
                asyncio.timeout(WEBHOOK_SECONDS),
                client.stream("POST", url, content=body.encode(), headers=headers) as answer,
            ):
                return _outcome(message, answer.status_code, answer.headers.get("retry-after", ""))
        except (httpx.HTTPError, TimeoutError) as error:
            LOGGER.warning("webhook_failed", notification_id=message.notification_id, error=repr(error))
            return Attempted(message.account_id, message.notification_id, "retry")

    return send


class _Signer:
    """Signs with every secret there is, read again for each message: a rotation needs no restart.

    While a secret is changed the file holds both, apart by white space: each message carries both signatures, and the
    receiver may know either (Standard Webhooks).
    """

    def __init__(self, settings: Settings) -> None:
        self._settings, self._text = settings, ""
        self.keys: tuple[Webhook, ...] = ()
        self._read()

    def sign(self, identity: str, sent_at: datetime, body: str) -> str:
        """Return the signatures of a message; what cannot be read now was read before."""
        try:
            self._read()
        except (OSError, ValueError) as error:
            LOGGER.warning("webhook_secret_unreadable", error=repr(error))
        return " ".join(key.sign(identity, sent_at, body) for key in self.keys)

    def _read(self) -> None:
        text = secret(self._settings.webhook_secret, self._settings.webhook_secret_file) or ""
        if text and text != self._text:  # an empty file is one being written
            self.keys, self._text = tuple(Webhook(key) for key in text.split()), text


def _payload(message: Message, sent_at: str) -> dict[str, object]:
    return {
        "type": f"credit.{message.template}",
        "timestamp": sent_at,
        "data": {
            "account_id": message.account_id,
            "repayment_id": message.repayment_id,
            "language": message.language,
            "preview": preview_text(message.template, message.language),
            "text": message.text,
        },
    }


def _outcome(message: Message, status: int, retry_after: str) -> Attempted:
    """Read an answer: 2xx is delivered, 410 ends the endpoint, 408/425/429/5xx come again, anything else is refused.

    A redirect counts as refused: the signature was meant for one address (Standard Webhooks).
    """
    at = (message.account_id, message.notification_id)
    if 200 <= status < 300:
        return Attempted(*at, "delivered")
    if status == GONE:
        return Attempted(*at, "gone")
    if status in TRY_AGAIN or status >= 500:
        return Attempted(*at, "retry", int(retry_after) if retry_after.isdigit() else 0)
    return Attempted(*at, "refused")
