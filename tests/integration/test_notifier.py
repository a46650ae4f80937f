"""The notifier's channels against a real HTTP endpoint: told once, tried again, signed, stopped when told to."""

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from services.notifier import gateway
from services.notifier.worker import WORKER as NOTIFIER
from services.runtime.batch import Batch, Committed
from services.runtime.clock import monotonic, utc_now
from services.runtime.errors import ConfigurationError
from services.runtime.fold import Arrived
from services.runtime.settings import Settings
from services.runtime.worker import Step
from tests import builders
from tests.integration.support import Feed, role, violations

SECRET = "whsec_" + base64.b64encode(b"a secret of thirty-two bytes ...").decode()
DELIVERY = "SELECT state, attempts, next_attempt_at FROM delivery"
Answer = Callable[[int], web.Response]


@dataclass
class Endpoint:
    """A platform that receives webhooks, and what it answers to the n-th of them."""

    answer: Answer
    seen: list[tuple[dict[str, str], str]] = field(default_factory=list)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(({name.lower(): text for name, text in request.headers.items()}, await request.text()))
        return self.answer(len(self.seen))


@asynccontextmanager
async def listening(answer: Answer) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(answer)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    endpoint.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield endpoint
    finally:
        await runner.cleanup()


def answers(*statuses: int, headers: dict[str, str] | None = None) -> Answer:
    """Answer these statuses one after another, the last for ever."""
    return lambda n: web.Response(status=statuses[min(n, len(statuses)) - 1], headers=headers)


class Teller(Feed):
    """A notifier that tries its messages when told to."""

    step: Step

    async def owe(self, **changes: Any) -> None:
        """Take a decision in, so that its customer is owed a message."""
        await self.deliver(builders.account_opened(), builders.credit_restored(**changes))

    async def attempt(self, *, now: bool = True) -> Committed:
        """Try what is due; with ``now`` what waits is due."""
        if now:
            await self.connection.execute(
                "UPDATE delivery SET next_attempt_at = $1 WHERE state = 'requested'", utc_now()
            )
        work = await self.step.claim(self.connection)
        outcomes = await asyncio.gather(*(self.step.perform(item) for item in work))
        return await self.apply(Batch(monotonic(), [Arrived(outcome, -1, utc_now()) for outcome in outcomes]))

    async def delivery(self) -> tuple[str, int, datetime | None]:
        row = await self.connection.fetchrow(DELIVERY)
        assert row is not None
        return row["state"], row["attempts"], row["next_attempt_at"]


@asynccontextmanager
async def teller(settings: Settings, url: str | None, **more: object) -> AsyncIterator[Teller]:
    update: dict[str, object] = {"notify_channels": "log"}
    if url is not None:
        update = {"notify_channels": "webhook", "webhook_url": url, "webhook_secret": SecretStr(SECRET), **more}
    given = settings.model_copy(update=update)
    async with role(settings, "notifier") as connection:
        made = Teller(NOTIFIER, given, connection)
        await made.start()
        assert NOTIFIER.step is not None
        made.step = NOTIFIER.step(given)
        yield made
    assert await violations(settings) == {}


def names(committed: Committed) -> list[str]:
    return [outgoing.event_type.split(".")[-2] for outgoing in committed.outgoing]


async def test_the_log_channel_delivers(settings: Settings) -> None:
    async with teller(settings, None) as telling:
        await telling.owe()
        assert names(await telling.attempt()) == ["NotificationDelivered"]
        assert (await telling.delivery())[:2] == ("delivered", 1)


async def test_a_webhook_is_signed_and_keeps_its_id_over_retries(settings: Settings) -> None:
    async with listening(answers(500, 503, 200)) as endpoint, teller(settings, endpoint.url) as telling:
        await telling.owe()
        assert names(await telling.attempt()) == []
        assert names(await telling.attempt()) == []
        assert names(await telling.attempt()) == ["NotificationDelivered"]
        assert await telling.delivery() == ("delivered", 3, None)
        assert names(await telling.attempt()) == []
    assert len(endpoint.seen) == 3
    assert len({headers["webhook-id"] for headers, _ in endpoint.seen}) == 1
    for headers, body in endpoint.seen:
        told = Webhook(SECRET).verify(body, headers)
        assert told["type"] == "credit.restored"
        assert told["data"]["account_id"] == builders.ACCOUNT
        with pytest.raises(WebhookVerificationError):
            Webhook(SECRET).verify(body.replace("restored", "reversed"), headers)


async def test_a_secret_is_changed_while_messages_go_out(settings: Settings, tmp_path: Path) -> None:
    new = "whsec_" + base64.b64encode(b"another secret of 32 bytes .....").decode()
    file = tmp_path / "webhook"
    file.write_text(SECRET)
    update: dict[str, object] = {"webhook_secret": None, "webhook_secret_file": file}
    async with listening(answers(200)) as endpoint, teller(settings, endpoint.url, **update) as telling:
        for number, text in enumerate((SECRET, f"{new}\n{SECRET}\n", "", new)):
            file.write_text(text)
            await telling.owe(repayment_id=f"{number}" * 32, event_id=f"{number}" * 32)
            assert names(await telling.attempt()) == ["NotificationDelivered"]
    taken = [{key for key in (SECRET, new) if verified(key, *seen)} for seen in endpoint.seen]
    assert taken == [{SECRET}, {SECRET, new}, {SECRET, new}, {new}], "an empty file is one being written"


def verified(key: str, headers: dict[str, str], body: str) -> bool:
    try:
        Webhook(key).verify(body, headers)
    except WebhookVerificationError:
        return False
    return True


async def test_a_repeated_decision_and_its_sibling_facts_ask_for_one_message(settings: Settings) -> None:
    async with listening(answers(200)) as endpoint, teller(settings, endpoint.url) as telling:
        await telling.owe(event_id="1" * 32)
        done = await telling.deliver(
            builders.credit_restored(event_id="2" * 32), builders.credit_restored(event_id="1" * 32)
        )
        assert (done.counts["stale"], done.counts["duplicate"]) == (1, 1)
        await telling.attempt()
    assert len(endpoint.seen) == 1


async def test_retry_after_is_obeyed(settings: Settings) -> None:
    async with (
        listening(answers(429, headers={"Retry-After": "120"})) as endpoint,
        teller(settings, endpoint.url) as telling,
    ):
        await telling.owe()
        await telling.attempt()
        state, attempts, again = await telling.delivery()
        assert (state, attempts) == ("requested", 1)
        assert again is not None
        assert 115 < (again - utc_now()).total_seconds() < 145
        await telling.attempt(now=False)
    assert len(endpoint.seen) == 1


async def test_410_ends_the_channel_and_what_comes_after_is_suppressed(settings: Settings) -> None:
    async with listening(answers(410)) as endpoint, teller(settings, endpoint.url) as telling:
        await telling.owe()
        assert names(await telling.attempt()) == ["NotificationSuppressed"]
        assert (await telling.delivery())[0] == "suppressed"
        later = await telling.deliver(builders.nothing_to_restore(repayment_id="f" * 32))
        assert names(later) == ["NotificationRequested", "NotificationSuppressed"]
        await telling.attempt()
    assert len(endpoint.seen) == 1


async def test_a_redirect_is_refused_and_never_followed(settings: Settings) -> None:
    async with listening(answers(200)) as elsewhere:
        there = answers(307, headers={"Location": elsewhere.url})
        async with listening(there) as endpoint, teller(settings, endpoint.url) as telling:
            await telling.owe()
            assert names(await telling.attempt()) == ["NotificationUndeliverable"]
    assert elsewhere.seen == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_what_the_endpoint_refuses_is_not_tried_again(settings: Settings, status: int) -> None:
    async with listening(answers(status)) as endpoint, teller(settings, endpoint.url) as telling:
        await telling.owe()
        assert names(await telling.attempt()) == ["NotificationUndeliverable"]
        await telling.attempt()
    assert len(endpoint.seen) == 1


async def test_an_endpoint_that_is_away_is_tried_again_until_tries_are_spent(settings: Settings) -> None:
    async with listening(answers(200)) as endpoint:
        url = endpoint.url
    async with teller(settings, url) as telling:
        await telling.owe()
        waits = []
        for _ in range(9):
            assert names(await telling.attempt()) == []
            again = (await telling.delivery())[2]
            assert again is not None
            waits.append((again - utc_now()).total_seconds())
        assert waits == sorted(waits)
        assert 4 < waits[0] < 7
        assert names(await telling.attempt()) == ["NotificationUndeliverable"]
        assert await telling.delivery() == ("undeliverable", 10, None)


@asynccontextmanager
async def dripping(first: bytes, then: bytes) -> AsyncIterator[str]:
    """Listen on a port that answers ``first``, then ``then`` each moment, for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(first)
            while then:
                writer.write(then)
                await writer.drain()
                await asyncio.sleep(0.1)
            await asyncio.sleep(60)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


@pytest.mark.parametrize(
    ("first", "then"),
    [(b"", b""), (b"HTTP/1.1 200 OK\r\nx-slow: ", b"."), (b"HTTP/1.1 100 Continue\r\n\r\n", b"")],
    ids=["silence", "drip", "continue"],
)
async def test_an_endpoint_that_does_not_answer_in_time_is_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, first: bytes, then: bytes
) -> None:
    monkeypatch.setattr(gateway, "WEBHOOK_SECONDS", 0.5)
    async with dripping(first, then) as url, teller(settings, url) as telling:
        await telling.owe()
        began = monotonic()
        async with asyncio.timeout(5):
            assert names(await telling.attempt()) == []
        assert monotonic() - began < 3
        assert (await telling.delivery())[:2] == ("requested", 1)


async def test_an_answer_without_end_is_not_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "WEBHOOK_SECONDS", 2.0)
    endless = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n"
    async with dripping(endless, b"x" * 100_000) as url, teller(settings, url) as telling:
        await telling.owe()
        began = monotonic()
        assert names(await telling.attempt()) == ["NotificationDelivered"]
        assert monotonic() - began < 2


@pytest.mark.parametrize("lacking", ["webhook_url", "webhook_secret"])
def test_the_webhook_channel_without_its_settings_is_refused(settings: Settings, lacking: str) -> None:
    update = {"notify_channels": "webhook", "webhook_url": "http://127.0.0.1/", "webhook_secret": SecretStr(SECRET)}
    with pytest.raises(ConfigurationError, match="OTB_WEBHOOK_URL"):
        gateway.channels_of(settings.model_copy(update={**update, lacking: None}))
