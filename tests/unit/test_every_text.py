"""Every reason code reads well in every state it can occur in, in both languages (domain 8)."""

import re
from collections.abc import Iterator
from datetime import date, timedelta
from string import Formatter
from typing import Any, get_args

import pytest

from schemas.account import Language
from schemas.notification import Template
from schemas.reasons import CAUSES, STAGES, Reason
from schemas.restoration import DecisionRecord, HeldPart, MovedPart
from schemas.review import Factor
from services.wording import (
    RecordTemplate,
    agent_text,
    asked_text,
    audit,
    cause_label,
    customer_text,
    limit_agent_text,
    limit_text,
    preview_text,
    rejected_text,
    stage_label,
    template_of,
    waiting_line,
    waiting_text,
)
from services.wording.catalogue import CATALOGUES, LANGUAGES, Label, Wait
from services.wording.formats import about_text, money_text, plural_text, share_text, time_left_text
from services.wording.renderer import named_why
from tests import builders

ZONE = "Asia/Shanghai"
EXPONENTS = {"JPY": 0, "CNY": 2, "KWD": 3}
TUESDAY, FRIDAY = builders.FIRST_HOLD_UNTIL, builders.SECOND_HOLD_UNTIL
HELD = frozenset(reason for reason in Reason if reason.startswith("HOLD_"))
RETURNED = frozenset(reason for reason in Reason if reason.startswith("RETURNED_")) - {Reason.RETURNED_FIRST}
STANDING = frozenset({Reason.ACCOUNT_FROZEN, Reason.ACCOUNT_OVERDUE})
AT_ONCE = frozenset(
    {
        Reason.RELEASE_FINAL_RAIL,
        Reason.RELEASE_WITHIN_CAP,
        Reason.RELEASE_VERIFIED_ACCOUNT,
        Reason.RELEASE_LOW_RISK,
    }
)
LATER = frozenset({Reason.RELEASE_TIMER, Reason.RELEASE_REVIEWED, Reason.ACCOUNT_ACTIVE_AGAIN})
NOTHING = frozenset({Reason.PAID_FEES_AND_INTEREST, Reason.PAID_CREDIT_BALANCE, Reason.ACCOUNT_CLOSED, Reason.RETURNED})
ZERO = frozenset({Reason.LIMIT_LOWERED, Reason.OVER_LIMIT, Reason.ACCOUNT_CLOSED}) | STANDING
LATE = frozenset({Reason.DELAY_SYSTEM, Reason.DELAY_REVIEW, Reason.DELAY_BANK}) | STANDING
REJECTED = frozenset({Reason.RETURNED_FIRST, Reason.CURRENCY_MISMATCH, Reason.REPORTED_FAILED})
SET_ASIDE: dict[Reason, Wait] = {Reason.ACCOUNT_UNKNOWN: "parked", Reason.CONFLICTING_REPORT: "conflict"}
LIMIT = frozenset(
    {
        Reason.SMALL_PAYMENTS,
        Reason.HIGH_UTILISATION,
        Reason.LATE_PAYMENTS,
        Reason.SHORT_HISTORY,
        Reason.RECENT_RETURN,
        Reason.RECENT_CHANGE,
        Reason.SMALL_SHARE_OF_BILL,
        Reason.RISING_BALANCE,
        Reason.NOT_ACTIVE,
        Reason.LIMIT_AT_CAP,
    }
)
SYSTEM_WORDS = re.compile(
    r"topic|batch|settle|queue|kafka|event|ledger|tranche|outbox|worker|service|dead letter|parked|\bhold\b|risk"
    r"|fraud|database|system|timeout|policy|pipeline|\brail\b|\botb\b"
    r"|主题|批次|批处理|结算|队列|事件|分录|系统|死信|服务之间|风险|欺诈|数据库|策略|模型|渠道|报文",
    re.IGNORECASE,
)
BLAME = re.compile(r"!|！|your fault|you failed|you must|suspicious|您的错|可疑|必须", re.IGNORECASE)
MONEY = re.compile(r"(?:CN¥|JP¥|¥|KWD)([0-9,]+(?:\.[0-9]+)?)")
CURRENCY = re.compile(r"CN¥|JP¥|KWD|NT\$")
UNFINISHED = re.compile(r"[{}]|None|  |[.。，；;]{2}|[A-Z]+_[A-Z]+|。\.|\.。")
NAMED = {
    "since": "11月24日（周二）09:00",
    "waited": "2 天",
    "why": "x",
    "service": "settlement",
    "reason": "not_json",
    "id": "settlement:1",
    "code": "X",
    "cause": "x",
    "stage": "x",
    "differs": "amount_minor",
}


def figures_of(state: str) -> dict[str, Any]:
    """Return the figures of a record of each state, without its reasons; all amounts differ."""
    held = (HeldPart(2, 200_003, TUESDAY), HeldPart(3, 200_004, FRIDAY))
    nothing = {"restored_minor": 0, "held": (), "faster": ()}
    zero = {"available_credit_minor": 0, "available_raw_minor": -170_001}
    first = {"restored_minor": 100_002, "held": held, "faster": ()}
    return {
        "restored": {**first, "held": ()},
        "restored_later": {**first, "version": 2, "restored_minor": 200_003, "held": held[1:]},
        "held": {**first, "outcome": "held", "restored_minor": 0},
        "held_rest": first,
        "parked": {**nothing, "outcome": "parked", "parked_minor": 300_005, **zero},
        "nothing_to_restore": {**nothing, "outcome": "nothing_to_restore"},
        "reversed": {**nothing, "outcome": "reversed", "taken_back_minor": 300_006},
        "delayed": {
            **nothing,
            "outcome": "delayed",
            "late_minor": 300_007,
            "promised_by": builders.REPAID_AT + timedelta(seconds=62),
        },
        "moved": {**first, "outcome": "held", "restored_minor": 0, "moved": MovedPart(3, TUESDAY)},
        "moved_sooner": {**first, "outcome": "held", "restored_minor": 0, "moved": MovedPart(2, FRIDAY)},
        "zero": {**nothing, "outcome": "reversed", "taken_back_minor": 300_006, **zero},
        "zero_dated": {
            **first,
            "held": (),
            **zero,
            "credit_limit_minor": 60_009,
            "limit_lowered_at": builders.REPAID_AT,
        },
    }[state]


OCCURS: dict[str, frozenset[Reason]] = {
    "restored": AT_ONCE,
    "restored_later": LATER,
    "held": HELD,
    "held_rest": HELD,
    "parked": STANDING,
    "nothing_to_restore": NOTHING,
    "reversed": RETURNED,
    "delayed": LATE,
    "moved": HELD,
    "moved_sooner": frozenset({Reason.RELEASE_VERIFIED_ACCOUNT, Reason.RELEASE_LOW_RISK}),
    "zero": ZERO,
    "zero_dated": frozenset({Reason.LIMIT_LOWERED}),
}
"""Which codes a decision record can have as its first reason, or as why 0 is shown, in each state."""
CASES = [(state, reason) for state, reasons in OCCURS.items() for reason in sorted(reasons)]


def record_of(state: str, reason: Reason, **changes: Any) -> DecisionRecord:
    """Return a record of ``state`` with ``reason`` where that state has it."""
    whys: dict[str, Any] = {"reasons": (reason,)}
    if state.startswith("zero"):
        first = Reason.RETURNED_OTHER if state == "zero" else Reason.RELEASE_FINAL_RAIL
        whys = {"reasons": (first,), "zero_reason": reason}
    elif state == "parked":
        whys["zero_reason"] = reason
    return builders.decision_record(**{**figures_of(state), **whys, **changes})


def told(record: DecisionRecord, language: Language) -> str:
    return customer_text(record, language=language, timezone=ZONE)


def assert_reads_well(text: str, language: Language) -> None:
    """Assert that a text is finished, of one language, and has no word of ours and no blame."""
    assert not UNFINISHED.search(text), text
    assert text.endswith("。" if language == "zh-CN" else "."), text
    assert not BLAME.search(text), text
    plain = CURRENCY.sub("", text)
    foreign = r"[A-Za-z]" if language == "zh-CN" else r"[\u3000-\u9fff\uff00-\uffef]"
    assert not re.search(foreign, plain), text


def every_text(value: object, path: str = "") -> Iterator[tuple[str, str]]:
    """Yield each text of a dumped catalogue with its key."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield from every_text(below, f"{path}/{key}")
    elif isinstance(value, str):
        yield path, value


def test_every_reason_code_has_a_state_it_is_told_in() -> None:
    told_in = frozenset[Reason]().union(*OCCURS.values(), REJECTED, SET_ASIDE, LIMIT)
    assert told_in == frozenset(Reason)


def test_every_template_of_a_record_is_rendered_here() -> None:
    rendered = {template_of(record_of(state, reason)) for state, reason in CASES}
    assert rendered == set(get_args(RecordTemplate))
    assert rendered | {"limit_review"} == set(get_args(Template))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("currency", EXPONENTS)
@pytest.mark.parametrize(("state", "reason"), CASES)
def test_every_reason_reads_well_in_every_state_it_occurs_in(
    state: str, reason: Reason, currency: str, language: Language
) -> None:
    record = record_of(state, reason, currency=currency)
    text = told(record, language)
    assert_reads_well(text, language)
    assert not SYSTEM_WORDS.search(text), text
    amounts = MONEY.findall(text)
    assert amounts
    for amount in amounts:
        assert len(amount.partition(".")[2]) == EXPONENTS[currency], text
    available = money_text(record.available_credit_minor, currency, language)
    assert re.search(f"(?:available now: |当前可用额度 ){re.escape(available)}[.。]", text, re.IGNORECASE), text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("state", "reason"), CASES)
def test_why_is_said_wherever_something_is_not_as_the_customer_expects(
    state: str, reason: Reason, language: Language
) -> None:
    record = record_of(state, reason)
    texts = CATALOGUES[language].reasons[reason]
    why = named_why(reason, record.rail, language)
    if state == "zero":
        over = money_text(170_001, "CNY", language)
        why = texts.why_zero or (texts.why_over or why).format(over=over)
    elif state == "zero_dated":
        why = (texts.why_dated_over or "").format(
            limit=money_text(60_009, "CNY", language),
            day="11月20日（周五）" if language == "zh-CN" else "Fri 20 Nov",
            over=money_text(170_001, "CNY", language),
        )
    assert (why in told(record, language)) == (state != "restored")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("state", "reason"), CASES)
def test_e23_every_text_says_what_was_repaid_and_what_can_be_spent(
    state: str, reason: Reason, language: Language
) -> None:
    record = record_of(state, reason, amount_minor=498_765, available_raw_minor=-170_001, available_credit_minor=12_300)
    shown, raw = money_text(12_300, "CNY", language), money_text(-170_001, "CNY", language)
    text, agents = told(record, language), agent_text(record, language=language, timezone=ZONE)
    for amount in (money_text(498_765, "CNY", language), shown):
        assert amount in text
    assert raw not in text
    assert {shown, raw} <= set(re.findall(r"-?(?:CN)?¥[0-9,.]+[0-9]", agents)), (
        "the agent reads both of what is available"
    )


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("state", "reason"), CASES)
def test_a_date_or_a_condition_ends_every_wait(state: str, reason: Reason, language: Language) -> None:
    text = told(record_of(state, reason), language)
    if state in ("held", "held_rest", "moved", "moved_sooner"):
        assert ("Fri 27 Nov at 09:00" in text) or ("11月27日（周五）09:00" in text), text
    if state == "parked":
        assert CATALOGUES[language].reasons[reason].ends in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(("state", "reason"), CASES)
def test_the_agent_reads_the_customers_text_and_every_code_and_version_behind_it(
    state: str, reason: Reason, language: Language
) -> None:
    record = record_of(state, reason)
    text = agent_text(record, language=language, timezone=ZONE)
    assert text.startswith(told(record, language) + "\n")
    for said in (reason.value, template_of(record), record.policy_version, record.model_version):
        assert said in text
    assert record.calendar_version in text
    assert not re.search(r"[{}]|None|  ", text), text


@pytest.mark.parametrize(("state", "reason"), CASES)
def test_the_audit_is_the_whole_record(state: str, reason: Reason) -> None:
    record = record_of(state, reason)
    whole = audit(record)
    assert set(whole) == set(DecisionRecord.model_fields)
    assert whole["reasons"] == [code.value for code in record.reasons]
    if state == "moved":
        assert whole["moved"] == {"tranche": 3, "was": "2026-11-24T01:00:00Z"}
    if record.held:
        assert [part["until"] for part in _parts(whole)] == [
            part.until.isoformat().replace("+00:00", "Z") for part in record.held
        ]


def _parts(whole: dict[str, object]) -> list[dict[str, object]]:
    held = whole["held"]
    assert isinstance(held, list)
    return held


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reason", sorted(REJECTED))
def test_a_rejected_repayment_is_told_with_its_reason(reason: Reason, language: Language) -> None:
    text = rejected_text(reason, language)
    assert_reads_well(text, language)
    assert not SYSTEM_WORDS.search(text), text
    assert CATALOGUES[language].reasons[reason].why in text


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("wait", get_args(Wait))
def test_a_repayment_nothing_was_decided_on_is_told_where_it_is(wait: Wait, language: Language) -> None:
    named = NAMED if language == "zh-CN" else {**NAMED, "since": "Tue 24 Nov at 09:00", "waited": "2 days"}
    text = waiting_text(wait, language, **{**named, "why": CATALOGUES[language].reasons[Reason.REPORTED_FAILED].why})
    assert_reads_well(text, language)
    assert not SYSTEM_WORDS.search(text), text
    assert not re.search(r"[{}]", waiting_line(wait, language, **named))
    assert waiting_text("parked", language, **named) != waiting_text("conflict", language, **named)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("outcome", ["approved", "refused", "unchanged", "decreased"])
@pytest.mark.parametrize("reason", sorted(LIMIT))
def test_every_limit_reason_reads_well_in_every_outcome(reason: Reason, outcome: str, language: Language) -> None:
    scored = builders.limit_increase_decided(
        outcome=outcome, reasons=(reason,), factors=(Factor(reason, -1_234, 4_550),), path=(), full_marks=()
    )
    guarded = builders.limit_increase_decided(outcome=outcome, reasons=(reason,), factors=(), on_time_count=5)
    texts = CATALOGUES[language].reasons[reason]
    share = texts.why_share.format(share=share_text(4_550, language)) if texts.why_share else texts.why
    for decision, why in ((scored, share), (guarded, texts.why)):
        text = limit_text(decision, language=language)
        assert_reads_well(text, language)
        assert not SYSTEM_WORDS.search(text), text
        assert (why in text) == (outcome != "approved")
        assert ("612" in text) == (outcome != "approved")
        agent = limit_agent_text(decision, language=language, timezone=ZONE)
        assert agent.startswith(text + "\n")
        assert not re.search(r"[{}]|None", agent)
    assert "-12.34" in limit_agent_text(scored, language=language, timezone=ZONE)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_preview_says_an_amount_a_date_or_a_reason(language: Language) -> None:
    for template in get_args(Template):
        preview = preview_text(template, language)
        assert preview
        assert not re.search(r"[0-9{}¥]", preview), preview
        assert not SYSTEM_WORDS.search(preview), preview
        assert not BLAME.search(preview), preview
    assert set(CATALOGUES[language].previews) == set(get_args(Template))


@pytest.mark.parametrize("language", LANGUAGES)
def test_customers_read_no_system_words_anywhere_in_the_catalogue(language: Language) -> None:
    catalogue = CATALOGUES[language]
    shown = [text for _, text in every_text(catalogue.customer.model_dump())]
    shown += [text for reason in Reason for _, text in every_text(catalogue.reasons[reason].model_dump())]
    shown += [text for _, text in every_text(catalogue.left.model_dump())]
    shown += [cause_label(cause, language) for cause in CAUSES]
    shown += [stage_label(stage, language) for stage in STAGES]
    shown += [label.customer for label in catalogue.waits.values()]
    shown += [*catalogue.faster.values(), *catalogue.rails.values()]
    for text in shown:
        words = re.sub(r"\{[a-z_]+\}", "", text)
        assert not SYSTEM_WORDS.search(words), text
        assert not BLAME.search(words), text


def test_both_languages_have_every_key_of_the_models_and_each_language_its_plural_forms() -> None:
    for language in LANGUAGES:
        catalogue = CATALOGUES[language]
        assert set(catalogue.waits) == set(get_args(Wait))
        plurals = (catalogue.limit.on_time, catalogue.limit.reasons, catalogue.limit.months, catalogue.left.day)
        assert all((forms.one is not None) == (language == "en") for forms in plurals)


def test_both_languages_name_the_same_things_in_each_text() -> None:
    def named(text: str) -> set[str]:
        # A form for one may write the count out.
        return {name for _, name, _, _ in Formatter().parse(text) if name} - {"count"}

    chinese, english = (
        dict(every_text(CATALOGUES[language].model_dump(mode="json", exclude={"patterns"}))) for language in LANGUAGES
    )
    for key in chinese.keys() & english.keys():
        assert named(chinese[key]) == named(english[key]), key
    only_in_one = chinese.keys() ^ english.keys()
    assert all(re.search(r"/(one|words/\d+|counts/\d+)$", key) for key in only_in_one), only_in_one


@pytest.mark.parametrize(
    ("hours", "minutes", "chinese", "english"),
    [
        (69, 0, "2 天 21 小时", "2 days and 21 hours"),
        (25, 0, "1 天 1 小时", "1 day and 1 hour"),
        (24, 59, "1 天", "1 day"),
        (1, 1, "1 小时 1 分钟", "1 hour and 1 minute"),
        (0, 2, "2 分钟", "2 minutes"),
        (0, 0, "不到 1 分钟", "less than a minute"),
        (-3, 0, "不到 1 分钟", "less than a minute"),
    ],
)
def test_time_left_has_its_plural_forms(hours: int, minutes: int, chinese: str, english: str) -> None:
    until = TUESDAY + timedelta(hours=hours, minutes=minutes)
    assert time_left_text(TUESDAY, until, "zh-CN") == chinese
    assert time_left_text(TUESDAY, until, "en") == english


@pytest.mark.parametrize(
    ("count", "words"), [(1, "one month"), (2, "two months"), (6, "six months"), (18, "18 months")]
)
def test_months_are_counted_in_words_and_in_the_singular(count: int, words: str) -> None:
    assert plural_text(CATALOGUES["en"].limit.months, count, "en") == words
    assert plural_text(CATALOGUES["zh-CN"].limit.months, count, "zh-CN") == f"{count} 个月"


@pytest.mark.parametrize(
    ("minor", "currency", "text"),
    [
        (273_910, "TWD", "NT$2,740"),
        (273_499, "TWD", "NT$2,730"),
        (273_500, "TWD", "NT$2,740"),
        (27_394, "JPY", "¥27,390"),
        (2_735_000, "KWD", "KWD2,740"),
        (499, "CNY", "CN¥4.99"),
        (500, "CNY", "CN¥10"),
    ],
)
def test_an_amount_said_with_about_is_rounded_to_ten_major_units(minor: int, currency: str, text: str) -> None:
    assert about_text(minor, currency, "en") == text


@pytest.mark.parametrize(
    ("bps", "text"), [(9_100, "91 %"), (1_000, "10 %"), (4_550, "45.5 %"), (5, "0.05 %"), (0, "0 %")]
)
def test_shares_are_written_in_percent(bps: int, text: str) -> None:
    assert share_text(bps, "en") == text
    assert share_text(bps, "zh-CN") == text.replace(" ", "")


@pytest.mark.parametrize("language", LANGUAGES)
def test_asked_after_the_last_date_no_time_is_left_and_a_person_is_named(language: Language) -> None:
    record = record_of("held", Reason.HOLD_RAIL_REVERSIBLE)
    text = asked_text(record, language=language, timezone=ZONE, now=FRIDAY)
    assert text.startswith(told(record, language))
    assert text.endswith(CATALOGUES[language].customer.person)
    assert "The next part" not in text
    assert "距离" not in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_repayment_that_counts_from_a_later_day_says_which_and_nothing_of_overdue(language: Language) -> None:
    record = record_of("restored", Reason.RELEASE_FINAL_RAIL, credited_on=date(2026, 11, 23))
    text = told(record, language)
    assert ("counts from Mon 23 Nov." in text) or ("自 11月23日（周一）起入账。" in text), text
    assert "overdue" not in text
    assert "逾期" not in text
    same_day = record_of("restored", Reason.RELEASE_FINAL_RAIL, credited_on=date(2026, 11, 20))
    assert told(same_day, language) == told(record_of("restored", Reason.RELEASE_FINAL_RAIL), language)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_read_once_says_what_python_would_say(language: Language) -> None:
    for _, text in every_text(CATALOGUES[language].model_dump()):
        named: dict[str, Any] = {name: f"<{name}>" for _, name, _, _ in Formatter().parse(text) if name}
        assert text.format(**named, unused=1) == str.format(text, **named)


def test_a_place_is_a_name_and_a_percent_sign_is_itself() -> None:
    assert Label(customer="{count}: 5 % of {{{count}}}", agent="").customer.format(count=3) == "3: 5 % of {3}"
    for unlike in ("{count:>3}", "{count!r}", "{}", "{0}", "{a.b}"):
        with pytest.raises(ValueError, match="a place is a name"):
            Label(customer=unlike, agent="")
