"""The webhook receiver of the demo: takes what is signed, once an id, and shows it as text."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from standardwebhooks.webhooks import Webhook

from services.push_sink.receiver import INBOX_MAX, receiver

SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"  # noqa: S105  # of this test alone
Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def sink() -> AsyncIterator[Client]:
    async with TestClient(TestServer(receiver(SECRET))) as client:
        yield client


async def post(sink: Client, identity: str = "msg_1", *, text: str = "hello", secret: str = SECRET, **age: int) -> int:
    sent_at = datetime.now(UTC) - timedelta(**age)
    body = json.dumps({"type": "credit.restored", "data": {"account_id": "acct_1", "text": text, "language": "en"}})
    headers = {
        "webhook-id": identity,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(secret).sign(identity, sent_at, body),
    }
    async with sink.post("/", data=body, headers=headers) as answer:
        return answer.status


async def inbox(sink: Client) -> dict[str, Any]:
    async with sink.get("/inbox.json") as answer:
        found: dict[str, Any] = await answer.json()
        return found


async def test_a_signed_message_is_kept_once_however_often_it_comes(sink: Client) -> None:
    assert [await post(sink) for _ in range(3)] == [204] * 3
    found = await inbox(sink)
    assert [message["id"] for message in found["messages"]] == ["msg_1"]
    assert found["repeated"] == 2


async def test_another_signature_an_old_message_and_no_signature_are_refused(sink: Client) -> None:
    other = "whsec_" + "A" * 32
    assert await post(sink, secret=other) == 401
    assert await post(sink, minutes=10) == 401
    async with sink.post("/", data=b"{}") as answer:
        assert answer.status == 401
    assert await inbox(sink) == {"messages": [], "repeated": 0, "refused": 3}


async def test_while_its_secret_is_changed_either_signature_is_taken() -> None:
    new = "whsec_" + "B" * 32
    async with TestClient(TestServer(receiver(f"{new}\n{SECRET}"))) as client:
        assert [await post(client, "old"), await post(client, "new", secret=new)] == [204, 204]


async def test_the_page_shows_what_came_as_text_and_loads_nothing(sink: Client) -> None:
    await post(sink, text="<script>alert(1)</script>")
    async with sink.get("/") as answer:
        page = await answer.text()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "&lt;script&gt;" in page
    assert "<script>" not in page
    assert "acct_1" in page


async def test_the_inbox_is_bounded(sink: Client) -> None:
    for n in range(INBOX_MAX + 5):
        await post(sink, f"msg_{n}")
    found = await inbox(sink)
    assert len(found["messages"]) == INBOX_MAX
