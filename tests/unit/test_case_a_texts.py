"""Case A is told word for word (domain 8.3)."""

from datetime import UTC, datetime

from schemas.reasons import Reason
from schemas.restoration import DecisionRecord, HeldPart
from services.wording import asked_text, customer_text

CHINESE = (
    "您 11月20日（周五）22:00 的还款 ¥5,000.00 已成功，并按当日入账，不会产生逾期。"
    "已恢复额度 ¥1,000.00，当前可用额度 ¥1,500.00。"
    "其余 ¥4,000.00 将分两次恢复：11月24日（周二）09:00 恢复 ¥2,000.00，"
    "11月27日（周五）09:00 恢复 ¥2,000.00。"
    "原因：银行代扣在数个工作日内仍可能被银行退回。"
    "下次使用钱包余额或即时转账还款，额度可立即恢复。"
)
ENGLISH = (
    "Your repayment of CN¥5,000.00 on Fri 20 Nov, 22:00, succeeded and counts from that day; nothing is overdue. "
    "CN¥1,000.00 of credit is back; available now: CN¥1,500.00. "
    "The other CN¥4,000.00 comes back in two parts: CN¥2,000.00 on Tue 24 Nov at 09:00 and "
    "CN¥2,000.00 on Fri 27 Nov at 09:00. "
    "Why: the bank can still take a direct debit back for some working days. "
    "Another time, a repayment from your wallet or by instant transfer restores the credit at once."
)
CASE_A = DecisionRecord(
    version=1,
    decided_at=datetime(2026, 11, 20, 14, 0, 3, tzinfo=UTC),
    outcome="restored",
    amount_minor=500_000,
    currency="CNY",
    rail="direct_debit",
    repaid_at=datetime(2026, 11, 20, 14, 0, tzinfo=UTC),
    past_due_minor=0,
    restored_minor=100_000,
    held=(
        HeldPart(2, 200_000, datetime(2026, 11, 24, 1, 0, tzinfo=UTC)),
        HeldPart(3, 200_000, datetime(2026, 11, 27, 1, 0, tzinfo=UTC)),
    ),
    available_credit_minor=150_000,
    available_raw_minor=150_000,
    reasons=(Reason.HOLD_RAIL_REVERSIBLE, Reason.HOLD_OVER_INSTANT_CAP, Reason.RELEASE_WITHIN_CAP),
    faster=("final_rail",),
    policy_version="default:2026-11-01.1",
    model_version="scorecard:1",
    calendar_version="cn-banking:2026.1",
)


def test_case_a_is_told_in_chinese() -> None:
    assert customer_text(CASE_A, language="zh-CN", timezone="Asia/Shanghai") == CHINESE


def test_case_a_is_told_in_english() -> None:
    assert customer_text(CASE_A, language="en", timezone="Asia/Shanghai") == ENGLISH


def test_case_a_asked_again_at_the_next_purchase_is_the_same_text_the_time_left_and_a_person() -> None:
    saturday = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
    chinese = asked_text(CASE_A, language="zh-CN", timezone="Asia/Shanghai", now=saturday)
    english = asked_text(CASE_A, language="en", timezone="Asia/Shanghai", now=saturday)
    assert chinese == f"{CHINESE}距离下一次恢复还有 2 天 21 小时。您也可以联系人工客服了解详情。"
    left = "The next part comes back in 2 days and 21 hours."
    assert english == f"{ENGLISH} {left} You can also ask to speak to a person about it."
