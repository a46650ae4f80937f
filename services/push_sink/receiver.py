"""A Standard Webhooks receiver as a push platform would write it: verify, drop repeated ids, show the inbox."""

from collections import OrderedDict
from contextlib import suppress
from html import escape
from typing import Any, Final

from aiohttp import web
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

INBOX_MAX: Final = 1_000
BODY_MAX: Final = 64 * 1024
PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="5"><title>Push inbox</title><style>
:root {{ color-scheme: light dark }}
body {{ font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }}
table {{ border-collapse: collapse; width: 100% }} th, td {{ text-align: left; vertical-align: top; padding: .5rem }}
tr + tr {{ border-top: 1px solid #8888 }}</style></head><body><h1>Push inbox</h1>
<p>{count} messages, {repeated} repeated ids dropped, {refused} requests refused.</p>
<table><thead><tr><th scope="col">sent</th><th scope="col">about</th><th scope="col">what the customer reads</th></tr>
</thead><tbody>{rows}</tbody></table></body></html>
"""
ROW: Final = (
    "<tr><td>{timestamp}</td><td>{type}<br>{account_id}<br>{repayment_id}</td><td lang='{language}'>{text}</td></tr>"
)
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "Cache-Control": "no-store",
}


class Inbox:
    """What arrived, newest last; the oldest goes when there are INBOX_MAX."""

    def __init__(self, secrets: str) -> None:
        self._webhooks = [Webhook(secret) for secret in secrets.split()]
        self._messages: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self.repeated = self.refused = 0

    def take(self, body: bytes, headers: dict[str, str]) -> bool:
        """Keep a message whose signature is right, once an id; tell whether it was right."""
        message = self._verified(body, headers)
        if message is None:
            self.refused += 1
            return False
        identity = headers["webhook-id"]
        self.repeated += identity in self._messages
        self._messages.setdefault(identity, message)
        while len(self._messages) > INBOX_MAX:
            self._messages.popitem(last=False)
        return True

    def _verified(self, body: bytes, headers: dict[str, str]) -> dict[str, Any] | None:
        for webhook in self._webhooks:
            with suppress(WebhookVerificationError, ValueError):
                message: dict[str, Any] = webhook.verify(body, headers)
                return message
        return None

    def messages(self) -> list[dict[str, Any]]:
        """Return the messages with their ids, newest first."""
        return [{"id": identity, **message} for identity, message in reversed(self._messages.items())]


def receiver(secrets: str) -> web.Application:
    """Return the application: POST / takes a message, GET / shows the inbox, /inbox.json the same for programs.

    ``secrets`` are one or, while it is changed, several apart by white space.
    """
    inbox = Inbox(secrets)

    async def take(request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.Response(status=204 if inbox.take(await request.read(), headers) else 401)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=shown(inbox), content_type="text/html", headers=HEADERS)

    async def listed(request: web.Request) -> web.Response:
        counts = {"repeated": inbox.repeated, "refused": inbox.refused}
        return web.json_response({"messages": inbox.messages(), **counts})

    async def ready(request: web.Request) -> web.Response:
        return web.Response(text="ok")

    app = web.Application(client_max_size=BODY_MAX)
    routes = [web.post("/", take), web.get("/", page), web.get("/inbox.json", listed), web.get("/readyz", ready)]
    app.add_routes(routes)
    return app


def shown(inbox: Inbox) -> str:
    """Return the inbox as a page; whatever came is shown as text."""
    rows = (ROW.format(**_cells(message)) for message in inbox.messages())
    counts = {"repeated": inbox.repeated, "refused": inbox.refused}
    return PAGE.format(count=len(inbox.messages()), rows="".join(rows) or "<tr><td>nothing yet</td></tr>", **counts)


def _cells(message: dict[str, Any]) -> dict[str, str]:
    data = message.get("data") or {}
    cells = {name: data.get(name) for name in ("account_id", "repayment_id", "language", "text")}
    cells |= {"type": message.get("type"), "timestamp": message.get("timestamp")}
    return {name: escape(str(value or "")) for name, value in cells.items()}
