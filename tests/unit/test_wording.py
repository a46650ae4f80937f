"""Texts are complete in both languages, say the record's figures and nothing of our machinery (domain 8)."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from string import Formatter
from typing import Any, get_args
from zoneinfo import ZoneInfo

import pytest
from babel.dates import format_datetime
from babel.numbers import format_currency
from hypothesis import given
from hypothesis import strategies as st

from schemas.account import Language
from schemas.notification import Template
from schemas.reasons import CAUSES, STAGES, Reason
from schemas.restoration import DecisionRecord, HeldPart
from schemas.risk import Faster
from services.wording import (
    cause_label,
    customer_text,
    decided_text,
    due_text,
    duration_text,
    money_text,
    reason_label,
    reason_texts,
    repaid_text,
    stage_label,
)
from services.wording.catalogue import CATALOGUES, LANGUAGES

ZONE = "Asia/Shanghai"
REPAID_AT = datetime(2026, 11, 20, 14, 0, tzinfo=UTC)
TUESDAY = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
FRIDAY = datetime(2026, 11, 27, 1, 0, tzinfo=UTC)
TEMPLATES: tuple[Template, ...] = get_args(Template)
EXPONENTS = {"JPY": 0, "CNY": 2, "KWD": 3}
NOTHING_CAN_BE_DONE = {Reason.ACCOUNT_CLOSED, Reason.ACCOUNT_ACTIVE_AGAIN} | {
    reason for reason in Reason if reason.startswith("RELEASE_")
}
SYSTEM_WORDS = re.compile(
    r"topic|batch|settle|queue|kafka|event|ledger|tranche|outbox|worker|service|dead letter|parked|\bhold\b|risk"
    r"|fraud|database|system|timeout|score|policy|pipeline"
    r"|主题|批次|批处理|结算|队列|事件|分录|系统|死信|服务之间|风险|欺诈|数据库|策略|模型",
    re.IGNORECASE,
)
MONEY = re.compile(r"(?:CN¥|JP¥|¥|KWD)([0-9,]+(?:\.[0-9]+)?)")


def record(**changes: Any) -> DecisionRecord:
    """Build the record of a wallet repayment of 5000.00 CNY, all restored."""
    values: dict[str, Any] = {
        "version": 1,
        "decided_at": REPAID_AT + timedelta(seconds=3),
        "outcome": "restored",
        "amount_minor": 500_000,
        "currency": "CNY",
        "rail": "wallet",
        "repaid_at": REPAID_AT,
        "past_due_minor": 0,
        "restored_minor": 500_000,
        "available_credit_minor": 550_000,
        "available_raw_minor": 550_000,
        "reasons": (Reason.RELEASE_FINAL_RAIL,),
        "policy_version": "default:2026-11-01.1",
        "model_version": "scorecard:7",
        "calendar_version": "cn-banking:3",
    }
    return DecisionRecord(**{**values, **changes})


def told(language: Language, **changes: Any) -> str:
    """Return the customer's text of a record in the zone of the tests."""
    return customer_text(record(**changes), language=language, timezone=ZONE)


def every_text(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a dumped catalogue with its key."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from every_text(below, f"{path}/{key}")
    elif isinstance(value, str):
        yield path, value


def placeholders(text: str) -> set[str]:
    """Return the names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_its_texts(language: Language) -> None:
    assert set(CATALOGUES[language].reasons) == set(Reason)
    for reason in Reason:
        texts = reason_texts(reason, language)
        assert texts.label == reason_label(reason, language)
        assert texts.label
        assert texts.why
        assert texts.ends
        assert bool(texts.help) == (reason not in NOTHING_CAN_BE_DONE), reason


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_cause_and_stage_has_its_labels(language: Language) -> None:
    assert set(CATALOGUES[language].causes) == set(CAUSES)
    assert set(CATALOGUES[language].stages) == set(STAGES)
    for labels in (
        {cause_label(cause, language) for cause in CAUSES},
        {cause_label(cause, language, audience="agent") for cause in CAUSES},
    ):
        assert len(labels) == len(CAUSES)
    assert len({stage_label(stage, language) for stage in STAGES}) == len(STAGES)
    assert len({stage_label(stage, language, audience="agent") for stage in STAGES}) == len(STAGES)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_outcome_and_faster_way_has_its_text(language: Language) -> None:
    assert set(CATALOGUES[language].outcomes) == set(get_args(Template))
    assert set(CATALOGUES[language].faster) == set(get_args(Faster))
    assert "other" in CATALOGUES[language].rails


def test_chinese_texts_are_chinese_and_english_ones_are_not() -> None:
    for path, text in every_text(CATALOGUES["en"].model_dump(mode="json")):
        assert not re.search(r"[\u4e00-\u9fff，。；：（）]", text), path
    for reason in Reason:
        assert re.search(r"[\u4e00-\u9fff]", reason_texts(reason, "zh-CN").why)


MINOR = st.integers(min_value=1, max_value=10**12)


@given(
    st.sampled_from(sorted(EXPONENTS)),
    st.sampled_from(LANGUAGES),
    st.tuples(MINOR, MINOR, MINOR, MINOR, MINOR),
)
def test_every_amount_is_told_with_its_exponent(
    currency: str, language: Language, amounts: tuple[int, int, int, int, int]
) -> None:
    amount, restored, available, first, second = amounts
    text = told(
        language,
        currency=currency,
        amount_minor=amount,
        restored_minor=restored,
        available_credit_minor=available,
        held=(HeldPart(2, first, TUESDAY), HeldPart(3, second, FRIDAY)),
        reasons=(Reason.HOLD_RAIL_REVERSIBLE,),
    )
    exponent = EXPONENTS[currency]
    said = [int(Decimal(found.replace(",", "")).scaleb(exponent)) for found in MONEY.findall(text)]
    assert sorted(said) == sorted([amount, restored, available, first + second, first, second])


@given(
    st.sampled_from(["CNY", "JPY", "KWD", "USD", "EUR", "TWD", "CLF", "BHD"]),
    st.sampled_from(LANGUAGES),
    st.integers(min_value=-(10**15), max_value=10**15),
)
def test_r26_money_is_written_as_babel_writes_it(currency: str, language: Language, minor: int) -> None:
    exponent = {"JPY": 0, "KWD": 3, "BHD": 3, "CLF": 4}.get(currency, 2)
    locale = {"zh-CN": "zh_Hans_CN", "en": "en"}[language]
    expected = format_currency(Decimal(minor).scaleb(-exponent), currency, locale=locale)
    assert money_text(minor, currency, language) == expected


@given(
    st.integers(946_684_800_000, 7_258_000_000_000).map(lambda ms: datetime.fromtimestamp(ms / 1000, UTC)),
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe", "UTC"]),
    st.sampled_from(LANGUAGES),
)
def test_instants_are_written_as_babel_writes_them(instant: datetime, zone: str, language: Language) -> None:
    locale = {"zh-CN": "zh_Hans_CN", "en": "en"}[language]
    patterns = CATALOGUES[language].patterns

    def babels(at: datetime, pattern: str) -> str:
        return format_datetime(at, pattern, ZoneInfo(zone), locale=locale)

    whole = instant.replace(microsecond=0)
    due = whole if whole == instant else whole + timedelta(seconds=1)
    assert repaid_text(instant.astimezone(ZoneInfo(zone)), language) == babels(whole, patterns.repaid)
    assert decided_text(instant, zone, language) == babels(whole, patterns.decided)
    assert due_text(instant, zone, language) == babels(due, patterns.due_to_the_second if due.second else patterns.due)


def test_r26_money_has_the_exponent_of_iso_4217_where_cldr_gives_fewer_digits() -> None:
    assert money_text(1_000, "IQD", "en") == "IQD1.000"
    assert money_text(12_345, "RSD", "en") == "RSD123.45"


def test_a_final_rail_is_told_without_dates_and_without_a_why() -> None:
    assert told("en") == (
        "Your repayment of CN¥5,000.00 on Fri 20 Nov, 22:00, succeeded and counts from that day; nothing is "
        "overdue. CN¥5,000.00 of credit is back; available now: CN¥5,500.00."
    )


def test_one_held_part_is_told_with_its_date_and_why() -> None:
    changes = {"outcome": "held", "restored_minor": 0, "held": (HeldPart(1, 500_000, TUESDAY),)}
    text = told("en", reasons=(Reason.HOLD_PRIOR_RETURN,), **changes)
    assert "No credit is back yet; available now: CN¥5,500.00. CN¥5,000.00 comes back on Tue 24 Nov at 09:00." in text
    assert "Why: an earlier repayment from this bank account was returned by the bank." in text
    assert text.endswith("If you need the credit sooner, you can ask for a person to look at it.")


def test_parts_of_one_date_are_told_as_one() -> None:
    held = (HeldPart(1, 200_000, TUESDAY), HeldPart(2, 300_000, TUESDAY))
    text = told("zh-CN", outcome="held", restored_minor=0, held=held, reasons=(Reason.HOLD_RAIL_REVERSIBLE,))
    assert "额度 ¥5,000.00 将于 11月24日（周二）09:00 恢复。" in text


def test_many_parts_are_counted_and_listed() -> None:
    held = tuple(HeldPart(n, 100, TUESDAY + timedelta(days=n)) for n in range(1, 13))
    changes = {
        "outcome": "held",
        "restored_minor": 0,
        "held": held,
        "reasons": (Reason.HOLD_RAIL_REVERSIBLE,),
    }
    assert "CN¥12.00 comes back in 12 parts: CN¥1.00 on Wed 25 Nov at 09:00, CN¥1.00 on" in told("en", **changes)
    assert "额度 ¥12.00 将分 12 次恢复：" in told("zh-CN", **changes)


def test_all_that_was_shown_to_help_is_told_as_another_time() -> None:
    changes = {"outcome": "held", "restored_minor": 0, "held": (HeldPart(1, 500_000, TUESDAY),)}
    text = told("en", reasons=(Reason.HOLD_RAIL_REVERSIBLE,), faster=("verified_account", "within_cap"), **changes)
    assert text.endswith(
        "Another time, a repayment from a verified bank account restores the credit sooner; or a "
        "smaller repayment restores all of its credit at once."
    )


def test_a_final_rail_is_all_that_is_told_to_help_where_it_helps() -> None:
    ways = ("final_rail", "verified_account", "within_cap")
    changes = {"outcome": "held", "restored_minor": 0, "held": (HeldPart(1, 500_000, TUESDAY),)}
    text = told("en", reasons=(Reason.HOLD_RAIL_REVERSIBLE,), faster=ways, **changes)
    assert text.endswith(
        "Another time, a repayment from your wallet or by instant transfer restores the credit at once."
    )


def test_r23_a_parked_repayment_is_told_with_its_condition_and_no_word_of_overdue() -> None:
    changes = {
        "outcome": "parked",
        "restored_minor": 0,
        "parked_minor": 500_000,
        "available_credit_minor": 0,
        "zero_reason": Reason.ACCOUNT_FROZEN,
        "reasons": (Reason.ACCOUNT_FROZEN,),
    }
    text = told("en", **changes)
    assert "succeeded and counts from that day. " in text
    assert "CN¥5,000.00 comes back once your account is active again." in text
    assert text.count("the account is restricted for now") == 1
    assert "额度 ¥5,000.00 将在账户恢复正常后恢复。" in told("zh-CN", **changes)


def test_a_zero_of_an_overdue_account_has_one_reason() -> None:
    text = told(
        "en",
        outcome="parked",
        restored_minor=0,
        parked_minor=500_000,
        available_credit_minor=0,
        zero_reason=Reason.ACCOUNT_FROZEN,
        reasons=(Reason.ACCOUNT_OVERDUE,),
    )
    assert "Why it is zero: an amount is past its due date." in text
    assert "restricted" not in text


def test_r19_a_thaw_tells_apart_the_repayment_and_what_was_shown_as_zero() -> None:
    changes = {
        "version": 2,
        "amount_minor": 25_000,
        "restored_minor": 24_000,
        "available_before_minor": 0,
        "available_credit_minor": 74_000,
        "available_raw_minor": 74_000,
    }
    text = told("en", reasons=(Reason.ACCOUNT_ACTIVE_AGAIN,), **changes)
    assert "CN¥240.00 of credit is back; available now: CN¥740.00." in text
    assert "Another CN¥500.00 is usable because your account is active again." in text


def test_r02_the_part_that_paid_fees_and_interest_is_told() -> None:
    reasons = (Reason.RELEASE_FINAL_RAIL, Reason.PAID_FEES_AND_INTEREST)
    changes = {"amount_minor": 100_000, "restored_minor": 85_000}
    text = told("en", reasons=reasons, **changes)
    assert "CN¥150.00 of the repayment gives no credit back: it paid fees and interest." in text
    assert "CN¥150.00" not in told("en", reasons=reasons, version=2, **changes)
    assert "no credit back" not in told("en", reasons=reasons, amount_minor=85_000, restored_minor=85_000)


@pytest.mark.parametrize(
    ("reason", "why"),
    [
        (Reason.PAID_FEES_AND_INTEREST, "it paid fees and interest"),
        (
            Reason.PAID_CREDIT_BALANCE,
            "nothing more was owed, and we keep the amount for you as your credit balance",
        ),
        (Reason.ACCOUNT_CLOSED, "the account is closed, and the repayment lowers what is owed"),
        (Reason.RETURNED, "the bank returned this repayment"),
    ],
)
def test_r03_nothing_to_restore_is_told_with_its_reason(reason: Reason, why: str) -> None:
    text = told("en", outcome="nothing_to_restore", restored_minor=0, reasons=(reason,))
    assert f"It gives no credit back; available now: CN¥5,500.00. Why: {why}." in text
    assert ("succeeded" in text) == (reason is not Reason.RETURNED)


def test_r08_a_correction_tells_the_amount_over_the_limit() -> None:
    text = told(
        "en",
        outcome="reversed",
        amount_minor=250_000,
        restored_minor=0,
        taken_back_minor=250_000,
        available_credit_minor=0,
        available_raw_minor=-170_000,
        zero_reason=Reason.OVER_LIMIT,
        reasons=(Reason.RETURNED_INSUFFICIENT_FUNDS,),
    )
    assert text.startswith("Correction: your repayment of CN¥2,500.00 on Fri 20 Nov, 22:00, was returned by the bank")
    assert "CN¥2,500.00 of credit that had come back is taken back; available now: CN¥0.00." in text
    assert "Why it is zero: used credit is CN¥1,700.00 above your credit limit." in text
    assert "No more credit" not in text


def test_r07_a_correction_of_a_part_says_no_more_comes_back() -> None:
    changes = {"outcome": "reversed", "restored_minor": 0, "reasons": (Reason.RETURNED_OTHER,)}
    assert "此前恢复的额度 ¥3,000.00 已收回" in told("zh-CN", taken_back_minor=300_000, **changes)
    assert "这笔还款不再恢复额度。" in told("zh-CN", taken_back_minor=300_000, **changes)
    assert "这笔还款此前没有恢复额度，当前可用额度 ¥5,500.00。" in told("zh-CN", **changes)


def test_the_end_of_a_hold_is_told_as_a_new_message() -> None:
    changes = {"version": 2, "restored_minor": 200_000, "held": (HeldPart(3, 200_000, FRIDAY),)}
    assert told("en", reasons=(Reason.RELEASE_TIMER,), **changes) == (
        "From your repayment of CN¥5,000.00 on Fri 20 Nov, 22:00, CN¥2,000.00 of credit is back; available now: "
        "CN¥5,500.00. Why: the date we gave you has come. CN¥2,000.00 comes back on Fri 27 Nov at 09:00."
    )


def test_r18_a_restored_hold_under_a_lowered_limit_says_why_zero_is_shown() -> None:
    changes = {
        "version": 2,
        "amount_minor": 20_000,
        "restored_minor": 20_000,
        "available_credit_minor": 0,
        "available_raw_minor": -10_000,
        "zero_reason": Reason.LIMIT_LOWERED,
        "reasons": (Reason.RELEASE_TIMER,),
    }
    text = told("en", **changes)
    assert "CN¥200.00 of credit is back; available now: CN¥0.00." in text
    assert "Why it is zero: your credit limit was lowered, and used credit is CN¥100.00 above it." in text
    assert "Why it is zero: your credit limit was lowered." in told("en", **{**changes, "available_raw_minor": 0})


def test_an_unknown_zone_is_an_error_and_a_known_one_moves_the_day() -> None:
    assert "on Fri 20 Nov, 09:00," in customer_text(record(), language="en", timezone="America/New_York")
    with pytest.raises(KeyError):
        customer_text(record(), language="en", timezone="Nowhere/None")


def test_a_date_is_never_told_earlier_than_it_is() -> None:
    assert due_text(TUESDAY, ZONE, "en") == "Tue 24 Nov at 09:00"
    late = TUESDAY + timedelta(seconds=20, milliseconds=1)
    assert due_text(late, ZONE, "en") == "Tue 24 Nov at 09:00:21"
    assert repaid_text(late.astimezone(ZoneInfo(ZONE)), "zh-CN") == "11月24日（周二）09:00"


@pytest.mark.parametrize(
    ("milliseconds", "chinese", "english"),
    [
        (0, "0 毫秒", "0 ms"),
        (300, "300 毫秒", "300 ms"),
        (1_800, "1.8 秒", "1.8 s"),
        (7_000, "7 秒", "7 s"),
        (59_999, "59.9 秒", "59.9 s"),
        (200_000, "3 分 20 秒", "3 min 20 s"),
        (11_000_000, "3 小时 3 分", "3 h 3 min"),
        (172_806_900, "2 天 0 小时", "2 d 0 h"),
        (-1_800, "-1.8 秒", "-1.8 s"),
    ],
)
def test_durations_are_compact(milliseconds: int, chinese: str, english: str) -> None:
    assert duration_text(milliseconds, "zh-CN") == chinese
    assert duration_text(milliseconds, "en") == english
