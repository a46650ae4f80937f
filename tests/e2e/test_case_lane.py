"""People beside the pipeline: holds ended and moved, broken promises, limits asked for, their cases, the words told."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from schemas.event import Event, to_millisecond
from schemas.ids import repayment_id
from services.billing_simulator.plan import SOURCE, Billing, Planned, Repayment
from services.billing_simulator.scenarios import scenario
from services.billing_simulator.send import play
from services.cli.commands import answer
from services.cli.system import ROOT, System, environment, start_workers, wait_ready
from services.cli.workers import OBSERVERS
from services.risk_scoring.worker import WORKER as RISK_SCORING
from services.runtime.clock import monotonic, utc_now
from services.runtime.settings import Settings
from tests import builders
from tests.conftest import run_apart
from tests.integration.kafka import send
from tests.integration.support import owner, violations

FIRST_SECONDS, SECOND_SECONDS = 40, 600
MOVED_SECONDS = 15
HOLDS = (
    ("seconds = 10 }", f"seconds = {FIRST_SECONDS} }}"),
    ("seconds = 20 }", f"seconds = {SECOND_SECONDS} }}"),
    ("hold_slack_seconds = 60", "hold_slack_seconds = 3"),
)
CLEAR_SECONDS = 5
AT_ONCE = (("clear_seconds = 60", f"clear_seconds = {CLEAR_SECONDS}"),)
POLICY = ROOT / "deploy" / "policy"
WHO = ("--actor", "reviewer_1", "--reason", "payer_verified")


def changed(text: str, *changes: tuple[str, str]) -> str:
    """Return a policy's text with each of ``changes`` made, all of which must find their place."""
    for before, after in changes:
        assert before in text
        text = text.replace(before, after)
    return text


@pytest.fixture
def slow(request: pytest.FixtureRequest, system: System, empty_kafka: Settings, tmp_path: Path) -> Iterator[System]:
    """Run the five and the observers by the demo's policy with changes of its text: time for a person to act."""
    folder = tmp_path / "policy"
    shutil.copytree(POLICY, folder)
    (folder / "demo.toml").write_text(changed((folder / "demo.toml").read_text(), *request.param))
    running = System(empty_kafka.model_copy(update={"policy_dir": folder}), system.stack)
    ports = {**start_workers(running), **start_workers(running, OBSERVERS)}
    try:
        run_apart(wait_ready(ports))
        yield running
    finally:
        system.stack.stop(list(ports))


@dataclass(frozen=True)
class Otb:
    """The command line against the test's servers."""

    capsys: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str, code: int = 0) -> Any:
        left = answer([*arguments, "--json"])
        said = self.capsys.readouterr()
        assert left == code, said
        return json.loads(said.out) if said.out else None


@pytest.fixture
def otb(slow: System, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Otb:
    for name, text in environment(slow.settings).items():
        monkeypatch.setenv(name, text)
    return Otb(capsys)


def within(seconds: float, look: Callable[[], Any]) -> Any:
    """Look until there is something to see."""
    deadline = monotonic() + seconds
    while not (seen := look()):
        assert monotonic() < deadline, "nothing came in time"
        sleep(0.3)
    return seen


def query(system: System, statement: str, *args: object) -> list[dict[str, Any]]:
    async def read() -> list[dict[str, Any]]:
        async with owner(system.settings) as connection:
            return [dict(row) for row in await connection.fetch(statement, *args)]

    return run_apart(read())


def tranches(system: System, ref: str) -> dict[int, dict[str, Any]]:
    rows = query(system, "SELECT * FROM limit_release.tranche WHERE repayment_id = $1", ref)
    return {row["number"]: row for row in rows}


def templates(system: System, ref: str) -> list[str]:
    told = "SELECT template FROM notifier.notification WHERE repayment_id = $1 ORDER BY requested_at"
    return [row["template"] for row in query(system, told, ref)]


@pytest.mark.timeout(280)
@pytest.mark.parametrize("slow", [HOLDS], indirect=True, ids=["holds"])
def test_a_hold_is_ended_and_moved_its_promise_breaks_and_its_case_is_resolved(slow: System, otb: Otb) -> None:
    held = scenario("held_and_explained")
    (repayment,) = held.repayments
    ref = repayment_id(SOURCE, repayment.external_ref)
    run_apart(play(slow.settings, held.plan))
    parts = within(30, lambda: tranches(slow, ref))
    assert [parts[n]["state"] for n in (1, 2, 3)] == ["restored", "held", "held"]

    # A reviewer moves a date, once, and the customer hears of it before the old date.
    until = (parts[2]["until"] + timedelta(seconds=MOVED_SECONDS)).isoformat()
    extend = ("hold", "extend", repayment.external_ref, "--tranche", "2", "--until", until, *WHO)
    assert otb(*extend)["outcome"] == "applied"
    later = (parts[2]["until"] + timedelta(days=1)).isoformat()
    again = otb(*extend[:6], later, *WHO, code=1)
    assert (again["outcome"], again["reason"]) == ("stale", "extended_before")
    assert "at most once a promise" in again["words"]
    moved = within(20, lambda: "moved" in templates(slow, ref) and tranches(slow, ref)[2])
    assert moved["until"] == datetime.fromisoformat(until)
    assert moved["promised_by"] == parts[2]["promised_by"], "the promise made first is the one that counts"
    assert utc_now() < parts[2]["until"], "told before the old date: this machine was too slow for the test"

    # A reviewer ends a hold.
    assert otb("hold", "release", repayment.external_ref, "--tranche", "3", *WHO)["outcome"] == "applied"
    assert tranches(slow, ref)[3]["state"] == "restored"
    assert (
        otb("hold", "release", repayment.external_ref, "--tranche", "2", "--amount", "1", *WHO)["outcome"] == "applied"
    )
    assert sum(row["amount_minor"] for row in tranches(slow, ref).values()) == repayment.amount_minor

    # The promise of what was moved breaks by itself: told, and a case with a deadline.
    case = within(FIRST_SECONDS + 30, lambda: otb("case", "list"))[0]
    assert (case["kind"], case["tranche"], case["state"]) == ("promise_broken", 2, "open")
    assert (case["detail"], case["repayment_id"]) == ("risk_observation.manual_review", ref)
    assert datetime.fromisoformat(case["due_at"]) > datetime.now(UTC)
    within(MOVED_SECONDS + 30, lambda: tranches(slow, ref)[2]["state"] == "restored")
    assert "delayed" in templates(slow, ref)

    # A person resolves it; every act has its entry in the chain.
    told = ("--outcome", "credit_restored", "--answer", "您的额度已全部恢复。")
    assert otb("case", "resolve", case["case_id"][:12], *WHO, *told)["state"] == "resolved"
    assert otb("case", "resolve", case["case_id"], *WHO, *told, code=1) is None
    shown = otb("case", "show", case["case_id"])
    assert [step["state"] for step in shown["steps"]] == ["open", "assigned", "in_review", "resolved"]
    assert (shown["part"]["state"], shown["audit"][0]["actor"]) == ("restored", "reviewer_1")
    assert otb("case", "list") == []
    acts = [row["action"] for row in query(slow, "SELECT action FROM console.audit ORDER BY seq")]
    assert acts == ["extend_hold", "extend_hold", "release_hold", "release_hold", "resolve"]

    # What was told as restored and is taken back after all is corrected.
    run_apart(play(slow.settings, lambda start: taken_back(Billing(start), repayment)))
    within(30, lambda: templates(slow, ref)[-1] == "reversed")
    assert run_apart(violations(slow.settings)) == {}
    findings = otb("check")["findings"]
    assert {"audit_chain", "case_lane", "case_opened", "case_waits"} <= {each["name"] for each in findings}


def taken_back(billing: Billing, repayment: Repayment) -> list[Planned]:
    return [billing.returned(0, repayment)]


@pytest.mark.timeout(200)
@pytest.mark.parametrize("slow", [AT_ONCE], indirect=True, ids=["at once"])
def test_r27_a_promise_we_break_ourselves_is_told_and_opens_an_urgent_case(slow: System, otb: Otb) -> None:
    paid = scenario("paid_on_time")
    (repayment,) = paid.repayments
    ref = repayment_id(SOURCE, repayment.external_ref)
    slow.stack.stop([RISK_SCORING.name])
    run_apart(play(slow.settings, paid.plan))
    (case,) = within(CLEAR_SECONDS + 40, lambda: otb("case", "list"))
    assert (case["kind"], case["detail"], case["priority"]) == ("promise_broken", "system_delay.processing", "high")
    due, opened = (datetime.fromisoformat(case[name]) for name in ("due_at", "opened_at"))
    assert due - opened == timedelta(hours=4)
    assert within(20, lambda: templates(slow, ref)) == ["delayed"]

    run_apart(wait_ready(start_workers(slow, (RISK_SCORING,))))
    within(40, lambda: templates(slow, ref)[-1] == "restored")
    shown = otb("case", "show", case["case_id"])
    late = datetime.fromisoformat(shown["part"]["restored_at"]) - datetime.fromisoformat(shown["part"]["promised_by"])
    assert late > timedelta(0)
    delays = "SELECT count(*) AS n FROM limit_release.outbox WHERE event_type LIKE '%RestorationDelayed%'"
    assert query(slow, delays) == [{"n": 1}], "a breach is told once"
    assert [row["case_id"] for row in otb("case", "list")] == [case["case_id"]]
    (traced,) = otb("trace", repayment.external_ref)["cases"]
    assert (traced["case_id"], traced["state"]) == (case["case_id"], "open")
    assert run_apart(violations(slow.settings)) == {}


LIMIT, BILL, STATEMENTS = 750_000, 675_000, 7
REPAYS = {"near": 54_000, "far": 20_250, "well": 135_000}
"""Three customers who use nine tenths of their limit and repay 8, 3 and 20 % of each bill: 637, 594 and 650 points."""
CUSTOMER = ("--actor", "agent_1", "--reason", "customer_called")


def statements(account: str, repays: int, now: datetime) -> Iterator[Event]:
    """Yield a history of more than two years of an account whose last seven bills are the same."""
    about: dict[str, Any] = {"account_id": account}
    opened = now - timedelta(days=800)
    yield builders.account_opened(
        **about, product="demo", credit_limit_minor=LIMIT, occurred_at=opened, language="en", event_id=f"{account}-o"
    )
    yield builders.purchase_posted(
        **about, amount_minor=BILL, occurred_at=opened, purchase_id=f"{account}-p", event_id=f"{account}-p"
    )
    for n in range(STATEMENTS):
        at = now - timedelta(days=30 * (STATEMENTS - n) - 1)
        due = {"due_minor": repays if n else BILL, "minimum_minor": repays // 2, "due_on": (at + timedelta(20)).date()}
        yield builders.statement_issued(**about, **due, occurred_at=at, event_id=f"{account}-s{n}")


def repayments(account: str, repays: int, now: datetime) -> Iterator[Event]:
    """Yield a repayment on a final rail three days after each statement."""
    for n in range(STATEMENTS):
        at = now - timedelta(days=30 * (STATEMENTS - n) - 4)
        named = {"external_ref": f"{account}-{n}", "event_id": f"{account}-r{n}"}
        yield builders.repayment_reported(account_id=account, **named, amount_minor=repays, rail="wallet", repaid_at=at)


def told_of(
    system: System, tell: Callable[[str, int, datetime], Iterator[Event]], now: datetime, known: str, count: int
) -> None:
    """Tell of all three customers, and wait until risk-scoring knows."""
    run_apart(send(system.settings, *[event for name, repays in REPAYS.items() for event in tell(name, repays, now)]))
    within(60, lambda: len(query(system, known)) >= count)


def reviews_told(system: System, account: str) -> list[str]:
    told = "SELECT text FROM notifier.notification WHERE account_id = $1 AND template = $2 ORDER BY requested_at"
    return [row["text"] for row in query(system, told, account, "limit_review")]


@pytest.mark.timeout(280)
@pytest.mark.parametrize("slow", [()], indirect=True, ids=["as shipped"])
def test_r25_limits_are_asked_for_appealed_and_decided_by_people_and_each_word_reaches_the_customer(
    slow: System, otb: Otb
) -> None:
    now = to_millisecond(utc_now())
    told_of(slow, statements, now, "SELECT FROM risk_scoring.account WHERE score IS NOT NULL", len(REPAYS))
    assessed = "SELECT FROM risk_scoring.outbox WHERE event_type LIKE '%.RiskAssessed.%'"
    told_of(slow, repayments, now, assessed, len(REPAYS) * STATEMENTS)

    # Who is far from it is refused with reasons, is not asked for twice, and may have a person look.
    refused = otb("limit", "request", "far", *CUSTOMER)
    assert (refused["decision"]["outcome"], refused["case_id"]) == ("refused", None)
    assert refused["decision"]["reasons"][0] == "SMALL_PAYMENTS"
    assert refused["decision"]["path"]
    otb("limit", "request", "far", *CUSTOMER, code=1)
    appealed = otb("limit", "appeal", "far", *CUSTOMER)
    assert (appealed["decision"]["outcome"], appealed["decision"]["refer"]) == ("unchanged", True)
    otb("limit", "appeal", "far", *CUSTOMER, code=1)

    # Who is near it is a person's to decide, who is beyond it is raised at once.
    near, well = otb("limit", "request", "near", *CUSTOMER), otb("limit", "request", "well", *CUSTOMER)
    assert 632 <= near["decision"]["score"] < 640
    assert near["decision"]["refer"]
    assert (well["decision"]["outcome"], well["decision"]["amount_minor"]) == ("approved", LIMIT * 3 // 2)
    waiting = {near["case_id"], appealed["case_id"]}

    def referred() -> set[str]:
        return {each["case_id"] for each in otb("case", "list") if each["kind"] == "limit_referred"}

    within(20, lambda: referred() == waiting)
    shown = otb("case", "show", near["case_id"])
    assert (shown["account_id"], shown["detail"]) == ("near", f"score_{near['decision']['score']}")
    assert shown["review"]["event_id"] == near["decision"]["event_id"]

    # People decide; risk-scoring has the last word.
    resolve = ("case", "resolve", near["case_id"], *WHO, "--outcome", "limit_raised", "--limit")
    assert otb(*resolve, str(LIMIT * 2), code=1)["verdict"]["reason"] == "beyond_the_cap"
    assert otb("case", "move", near["case_id"], "object", *WHO)["state"] == "in_review"
    raised = otb(*resolve, "900000")
    assert (raised["state"], raised["verdict"]["outcome"]) == ("resolved", "applied")
    kept = otb("case", "resolve", appealed["case_id"], *WHO, "--outcome", "limit_refused")
    assert kept["verdict"]["outcome"] == "applied"
    assert referred() == set()
    assert otb("account", "near")["last_decision"]["amount_minor"] == 900_000

    # Each word reached its customer once, in order.
    within(30, lambda: sum(len(reviews_told(slow, name)) for name in REPAYS) == 6)
    told = {name: reviews_told(slow, name) for name in REPAYS}
    first, second, third = told["far"]
    assert first.startswith("Your limit was not raised this time")
    assert "your monthly payments are small" in first
    assert "A person looks at it as well" in second
    assert third.startswith("Your limit was not raised this time")
    assert "A person looks at it as well" in told["near"][0]
    assert told["near"][1].startswith("Your credit limit is raised to CN¥9,000.00.")
    assert told["well"][0].startswith("Your credit limit is raised to CN¥11,250.00.")
    acts = [row["action"] for row in query(slow, "SELECT action FROM console.audit ORDER BY seq")]
    asked = ["request_review", "appeal_review", "request_review", "request_review"]
    assert acts == [*asked, "resolve", "object", "resolve", "resolve"]
    assert run_apart(violations(slow.settings)) == {}
