"""Case B as the demo plays it: from billing's messages to the words the customer reads (risk 7)."""

from datetime import UTC, datetime

from schemas.account import AccountOpened, PurchasePosted, StatementIssued
from schemas.event import Event
from schemas.ids import AccountId, event_id
from schemas.reasons import Reason
from schemas.repayment import RepaymentReported
from schemas.review import LimitIncreaseDecided, LimitReviewRequested
from services.billing_simulator.plan import Planned
from services.billing_simulator.scenarios import scenario
from services.risk_scoring.domain import decide
from services.risk_scoring.model import Account
from services.risk_scoring.worker import WORKER
from services.runtime.settings import Settings
from services.wording import limit_text
from tests import builders
from tests.unit.given import moment, only

START = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
STORY = scenario("case_b")
POLICY = WORKER.policy(Settings())


def seen(planned: Planned) -> Event | None:
    """Return what risk-scoring hears of a message, by itself or through settlement."""
    match planned.event:
        case RepaymentReported() as report:
            return builders.repayment_settled(
                account_id=report.account_id,
                repayment_id=report.external_ref,
                product="demo",
                amount_minor=report.amount_minor,
                restorable_minor=report.amount_minor,
                rail=report.rail,
                finality="final",
                repaid_at=report.repaid_at,
                settled_at=report.occurred_at,
                credited_on=report.repaid_at.date(),
            )
        case AccountOpened() | StatementIssued() as event:
            return event
        case _:
            return None


def asked() -> LimitIncreaseDecided:
    account = Account(STORY.accounts[0])
    for planned in STORY.plan(START):
        event = seen(planned)
        if event is not None:
            account = decide(POLICY, account, event, moment(event.occurred_at)).state
    request = LimitReviewRequested(
        event_id=event_id("request"),
        account_id=AccountId(account.account_id),
        occurred_at=START.replace(minute=5),
        caused_by=event_id("cause"),
        actor="customer",
        reason="demo",
    )
    return only(decide(POLICY, account, request, moment(request.occurred_at)).events, LimitIncreaseDecided)


def test_the_customer_of_the_demo_is_the_golden_one() -> None:
    decided = asked()
    assert (decided.outcome, decided.score, decided.threshold, decided.distance) == ("refused", 610, 640, 30)
    assert (decided.on_time_count, decided.due_count) == (6, 6)
    assert decided.reasons == (Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION)
    assert [step.score for step in decided.path] == [644, 653, 635]


def test_the_demo_says_case_b_in_both_languages() -> None:
    english, chinese = limit_text(asked(), language="en"), limit_text(asked(), language="zh-CN")
    assert "Your score is 610; an increase needs 640." in english
    assert "All of your last 6 repayments were on time: that part has full marks." in english
    assert "(1) your monthly payments are small; (2) you use 91 % of your limit" in english
    assert "Lower use alone would not be enough." in english
    assert "您的评分为 610，提额需要 640。" in chinese
    assert "（1）每月还款金额偏小；（2）额度使用率 91%" in chinese


def test_what_is_bought_is_what_the_statements_make_due() -> None:
    events = [planned.event for planned in STORY.plan(START)]
    bought = sum(event.amount_minor for event in events if isinstance(event, PurchasePosted))
    assert bought == sum(event.due_minor for event in events if isinstance(event, StatementIssued))
    assert bought > sum(each.amount_minor for each in STORY.repayments), "all of it pays debt"
    assert STORY.reviewed
