"""A customer asks for more credit, or for a person to look at the answer; risk-scoring answers, and they are told."""

import asyncio
from typing import Any, Final, Literal

import typer

from schemas.ids import AccountId, EventId, event_id
from schemas.review import LimitIncreaseDecided
from services.cli.account import Named, named_account
from services.cli.acting import REVIEWED, Wait, act, verdict
from services.cli.actor import Actor, Why, referenced
from services.cli.servers import Connection, attached, connected
from services.cli.terminal import EPILOG, FOUND, OK, Json, Problem, local, print_json, stdout
from services.console.domain import AskReview
from services.console.model import ASKED_AGAIN, case_id, review_subject
from services.runtime.postgres import Row
from services.runtime.settings import Settings
from services.wording import limit_audit, limit_text

Asked = Literal["request_review", "appeal_review"]
app = typer.Typer(
    help="Limits: ask for a review of one, or for a person to look at it; with who and why.",
    no_args_is_help=True,
    epilog=EPILOG,
)
# When the same was last asked of an account.
ASKED = "SELECT at FROM console.audit WHERE subject = $1 ORDER BY seq DESC LIMIT 1"
# The case in which a person looks at the limit of an account already.
LOOKED_AT = """
SELECT case_id FROM console.case_file
WHERE account_id = $1 AND kind = 'limit_referred' AND state NOT IN ('resolved', 'closed') LIMIT 1
"""
# Whether the console took an answer up.
TAKEN_UP = "SELECT outcome, reason FROM console.inbox WHERE event_id = $1::uuid"
# What risk-scoring answered.
ANSWER = """
SELECT convert_from(payload, 'UTF8') FROM risk_scoring.outbox WHERE account_id = $1 AND event_id = $2::uuid
"""
REFUSALS: Final = {
    "not_reviewed": "the account is closed or unknown, or nothing scores it",
    "not_on_request": "its product reviews limits by date only; a person looks at it with `otb limit appeal`",
}


def register(otb: typer.Typer) -> None:
    """Add this module's commands."""
    otb.add_typer(app, name="limit")


@app.command(epilog=EPILOG)
def request(named: Named, actor: Actor, reason: Why, wait: Wait = 15.0, as_json: Json = False) -> int:
    """Ask for a review of a limit: raised, or refused with reasons and what would help; the customer is told.

    What is asked again too soon after a change or a refusal is refused for that; the same twice in a day is not asked.
    """
    return _ask("request_review", named, actor, reason, wait=wait, as_json=as_json)


@app.command(epilog=EPILOG)
def appeal(named: Named, actor: Actor, reason: Why, wait: Wait = 15.0, as_json: Json = False) -> int:
    """Ask for a person to look at a limit: a case, unless it is raised at once; the customer is told of both.

    Once in 90 days; to what the person said the customer objects with `otb case move CASE object`.
    """
    return _ask("appeal_review", named, actor, reason, wait=wait, as_json=as_json)


def _ask(asked: Asked, named: str, actor: str, reason: str, *, wait: float, as_json: bool) -> int:
    referenced(actor, "--actor")
    referenced(reason, "--reason")
    found = asyncio.run(_answered(attached(), asked, named, actor, reason, wait))
    if as_json:
        print_json(found)
    else:
        stdout().print(f"{found['account_id']}: {found['words']}", markup=False)
    return FOUND if found["outcome"] not in (None, "applied") else OK


async def _answered(
    settings: Settings, asked: Asked, named: str, actor: str, reason: str, wait: float
) -> dict[str, Any]:
    async with connected(settings) as connection:
        account = AccountId(await named_account(connection, named))
        await _allowed(connection, account, asked)
    done = await act(settings, AskReview(account, actor, reason, asked))
    said = await verdict(settings, done.event_id or "", wait, REVIEWED) if done.told else None
    decided, case = None, None
    if said is not None and said["outcome"] == "applied":
        answer = event_id("LimitIncreaseDecided", EventId(done.event_id or ""))
        async with connected(settings) as connection:
            decided = LimitIncreaseDecided.model_validate_json(await connection.fetchval(ANSWER, account, answer))
        case = await _looks(settings, account, decided, wait) if decided.refer else None
    return {
        "account_id": account,
        "event_id": done.event_id,
        "told": done.told,
        "outcome": said["outcome"] if said else None,
        "reason": said["reason"] if said else None,
        "decision": None if decided is None else limit_audit(decided),
        "case_id": case,
        "words": _words(said, decided, case, told=done.told),
    }


async def _allowed(connection: Connection, account: AccountId, asked: Asked) -> None:
    """Raise Problem when the same was asked lately, or a person looks already."""
    before = await connection.fetchval(ASKED, review_subject(account, asked))
    now = await connection.fetchval("SELECT clock_timestamp()")
    if before is not None and now - before < ASKED_AGAIN[asked]:
        again = local(before + ASKED_AGAIN[asked])
        raise Problem(f"the same was asked of {account} {local(before)}: again from {again} on", FOUND)
    case = await connection.fetchval(LOOKED_AT, account) if asked == "appeal_review" else None
    if case is not None:
        raise Problem(f"a person looks at the limit of {account} already: case {case}", FOUND)


async def _looks(settings: Settings, account: AccountId, decided: LimitIncreaseDecided, wait: float) -> str:
    """Return the case in which a person looks: its own, or one that was asked for in the same instant."""
    await verdict(settings, decided.event_id, wait, TAKEN_UP)
    async with connected(settings) as connection:
        found: str | None = await connection.fetchval(LOOKED_AT, account)
    return found or case_id(decided.event_id)


def _words(said: Row | None, decided: LimitIncreaseDecided | None, case: str | None, *, told: bool) -> str:
    if not told:
        return "kept and audited; Kafka did not take it, the console sends it later"
    if said is None:
        return "audited and sent; risk-scoring has not taken it up yet"
    if decided is None:
        return f"risk-scoring refused it: {REFUSALS.get(said['reason'], said['reason'])}"
    looks = "" if case is None else f" (case {case})"
    return f"{decided.outcome}{looks}: {limit_text(decided, language='en')}"
