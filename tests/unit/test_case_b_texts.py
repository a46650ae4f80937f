"""Case B is told word for word, from the event alone (domain 8.4)."""

from datetime import date

import pytest

from schemas.reasons import Reason
from schemas.review import Factor, PathStep
from services.wording import limit_agent_text, limit_audit, limit_text
from tests import builders

CHINESE = (
    "本次额度评估未调整。您的评分为 612，提额需要 640。您最近 6 个月均按时还款，这一项已得满分。"
    "影响最大的两项：（1）每月还款金额偏小；（2）额度使用率 91%。"
    "若连续 6 个月每月至少偿还账单的 10%（目前约 NT$2,740），其他不变，评分预计约 645；"
    "再将使用率降到 80% 以下约 647。仅降低使用率不足以达到。"
    "下次自动评估：2027年5月23日。此为估算，并非承诺。您可以申请人工复核。"
)
ENGLISH = (
    "Your limit stays as it is after this review. Your score is 612; an increase needs 640. "
    "All of your last 6 repayments were on time: that part has full marks. "
    "What holds the score back most: (1) your monthly payments are small; (2) you use 91 % of your limit. "
    "If you repay at least 10 % of the bill (about NT$2,740 now) each month for six months, other things unchanged, "
    "the score would be about 645; with use below 80 % as well, about 647. Lower use alone would not be enough. "
    "Next automatic review: 23 May 2027. This is an estimate, not a promise. You may ask for a person to look again."
)
CASE_B = builders.limit_increase_decided()


def test_case_b_is_told_in_chinese() -> None:
    assert limit_text(CASE_B, language="zh-CN") == CHINESE


def test_case_b_is_told_in_english() -> None:
    assert limit_text(CASE_B, language="en") == ENGLISH


@pytest.mark.parametrize(
    ("changes", "before", "after"),
    [
        ({"score": 613}, "Your score is 612;", "Your score is 613;"),
        ({"threshold": 650}, "needs 640.", "needs 650."),
        ({"due_count": 12, "on_time_count": 12}, "last 6 repayments", "last 12 repayments"),
        ({"due_count": 1, "on_time_count": 1}, "All of your last 6 repayments were", "Your last repayment was"),
        ({"on_time_count": 5}, " All of your last 6 repayments were on time: that part has full marks.", ""),
        ({"full_marks": ()}, "on time: that part has full marks.", "on time."),
        ({"next_review_on": date(2027, 6, 1)}, "23 May 2027", "1 Jun 2027"),
        ({"path_months": 12}, "for six months", "for twelve months"),
        ({"reasons": (Reason.HIGH_UTILISATION,)}, "(1) your monthly payments are small; (2) you use", "you use"),
        ({"factors": (Factor(Reason.SMALL_PAYMENTS, -2_640, None),)}, "(1) your monthly", "your monthly"),
        (
            {"path": builders.limit_increase_decided().path[:1]},
            "; with use below 80 % as well, about 647. Lower use alone",
            ".",
        ),
    ],
)
def test_every_figure_of_case_b_is_the_events_own(changes: dict[str, object], before: str, after: str) -> None:
    assert before in ENGLISH
    text = limit_text(builders.limit_increase_decided(**changes), language="en")
    assert text != ENGLISH
    assert before not in text
    assert after in text


def test_lower_use_that_is_enough_is_said_to_be() -> None:
    enough = builders.limit_increase_decided(path=(PathStep(None, None, 2_000, 641),))
    said = "With use below 20 %, other things unchanged, the score would be about 641."
    assert said in limit_text(enough, language="en")
    chinese = limit_text(enough, language="zh-CN")
    assert "若将额度使用率降到 20% 以下，其他不变，评分预计约 641。" in chinese
    assert "不足以达到" not in chinese


def test_an_approved_increase_says_the_limit_and_the_next_review_only() -> None:
    approved = builders.limit_increase_decided(outcome="approved", amount_minor=4_500_000)
    assert limit_text(approved, language="en") == (
        "Your credit limit is raised to NT$45,000.00. Next automatic review: 23 May 2027."
    )
    assert limit_text(approved, language="zh-CN") == "您的信用额度已提高至 NT$45,000.00。下次自动评估：2027年5月23日。"


def test_r25_the_agent_reads_each_factor_with_its_points_the_distance_and_the_versions() -> None:
    lines = limit_agent_text(CASE_B, language="en", timezone="Asia/Shanghai").splitlines()
    assert lines[0] == ENGLISH
    assert lines[1] == (
        "Outcome: unchanged; score 612, threshold 640, distance 28; limit NT$30,000.00; "
        "decided Mon 23 Nov 2026, 10:00:00"
    )
    assert lines[2:] == [
        "Factor SMALL_PAYMENTS: -26.4 points",
        "Factor HIGH_UTILISATION: -14.0 points, own share 91 %",
        "Factor LATE_PAYMENTS: +0.4 points",
        "Factor NOT_ACTIVE: +0.9 points",
        "Factor SMALL_SHARE_OF_BILL: +1.3 points",
        "Policy default:2026-11-01.1; model scorecard:1",
    ]


def test_the_audit_of_a_review_is_the_whole_event_with_names() -> None:
    whole = limit_audit(CASE_B)
    assert set(whole) == set(type(CASE_B).model_fields)
    assert whole["path"] == [
        {"payment_share_bps": 1_000, "payment_minor": 273_910, "use_bps": None, "score": 645},
        {"payment_share_bps": 1_000, "payment_minor": 273_910, "use_bps": 8_000, "score": 647},
        {"payment_share_bps": None, "payment_minor": None, "use_bps": 2_000, "score": 637},
    ]


def test_r25_the_reasons_are_the_adverse_factors_most_adverse_first_and_the_points_add_up() -> None:
    points = {factor.reason: factor.centipoints for factor in CASE_B.factors}
    assert CASE_B.reasons == (Reason.SMALL_PAYMENTS, Reason.HIGH_UTILISATION)
    assert [points[reason] for reason in CASE_B.reasons] == [-2_640, -1_400]
    assert sum(points.values()) == -3_780
    assert round((61_159 - 64_941) / 10) == -378, "611.59 against 649.41, the mean of customers just approved"
    assert not [reason for reason in CASE_B.reasons if points[reason] >= 0]
    assert (CASE_B.score, CASE_B.threshold, CASE_B.outcome) == (612, 640, "unchanged")


@pytest.mark.parametrize("text", [CHINESE, ENGLISH])
def test_r25_no_factor_that_is_no_reason_is_told_as_one(text: str) -> None:
    assert limit_text(CASE_B, language="en" if text == ENGLISH else "zh-CN") == text
    for word in ("not active", "share of bill", "late payment", "未使用", "too low", "过低"):
        assert word not in text
