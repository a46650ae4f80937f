"""Write money, instants and durations as each language does, quickly enough for thousands a second."""

from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo

from babel import Locale
from babel.dates import format_date, format_datetime
from babel.numbers import format_currency, get_currency_precision

from schemas.account import Language
from services.wording.catalogue import CATALOGUES, Plural

_LOCALES: Final[dict[Language, Locale]] = {"zh-CN": Locale.parse("zh_Hans_CN"), "en": Locale.parse("en")}
# Stands for the time in a pattern, quoted so that Babel passes it on.
_TIME: Final = "'~'"
_Timed = Literal["repaid", "due", "due_to_the_second", "decided"]
"""The patterns that have a time."""
_TWO: Final = [f"{number:02d}" for number in range(60)]
# CLDR gives these fewer digits, as cash is used today; amounts on the wire follow ISO 4217 (R26).
_ISO_EXPONENTS: Final[dict[str, int]] = {
    "IQD": 3,
    **dict.fromkeys(("AFN", "ALL", "IRR", "KPW", "LAK", "LBP", "MGA", "MMK", "RSD", "SLL", "SOS", "SYP", "YER"), 2),
}


class _MoneyStyle(NamedTuple):
    """How one language writes one currency: its symbol, the minor units of a major one, and each number of them."""

    symbol: str
    scale: int
    decimals: tuple[str, ...]


@lru_cache(maxsize=512)
def _money_style(currency: str, language: Language) -> _MoneyStyle:
    zero = format_currency(0, currency, locale=_LOCALES[language])
    exponent = _ISO_EXPONENTS.get(currency, get_currency_precision(currency))
    symbol = zero[: zero.index("0")]
    decimals = [f".{minor:0{exponent}d}" for minor in range(10**exponent)] if exponent else [""]
    return _MoneyStyle(symbol, 10**exponent, tuple(decimals))


def money_text(amount_minor: int, currency: str, language: Language) -> str:
    """Return an amount in minor units with its currency's symbol and ISO 4217 exponent (R26)."""
    # Babel reads its pattern anew at each call (35 us); both languages group by 3 and write "," and ".".
    if amount_minor < 0:
        return f"-{money_text(-amount_minor, currency, language)}"
    symbol, scale, decimals = _money_style(currency, language)
    major, minor = divmod(amount_minor, scale)
    return symbol + (f"{major:,}" if major > 999 else str(major)) + decimals[minor]


def repaid_text(local: datetime, language: Language) -> str:
    """Return the day and minute of a repayment; ``local`` is of the account's timezone."""
    return _local_text(local, "repaid", language)


def due_text(instant: datetime, timezone: str, language: Language) -> str:
    """Return when credit comes back, never earlier than it does: to the minute, or to the next second."""
    if instant.microsecond:
        instant = instant.replace(microsecond=0) + timedelta(seconds=1)
    return _instant_text(instant, "due_to_the_second" if instant.second else "due", timezone, language)


def decided_text(instant: datetime, timezone: str, language: Language) -> str:
    """Return the year, day and second of a decision."""
    return _instant_text(instant, "decided", timezone, language)


def _instant_text(instant: datetime, pattern: _Timed, timezone: str, language: Language) -> str:
    """Write the day as Babel does and put the time into it: days repeat, instants do not (Babel takes 25 us)."""
    return _local_text(local_time(instant, timezone), pattern, language)


def _local_text(local: datetime, pattern: _Timed, language: Language) -> str:
    before, after, to_the_second = _day_of(local.date(), pattern, language)
    second = f":{_TWO[local.second]}" if to_the_second else ""
    return f"{before}{_TWO[local.hour]}:{_TWO[local.minute]}{second}{after}"


_zone = lru_cache(maxsize=512)(ZoneInfo)


@lru_cache(maxsize=1024)
def _day_of(day: date, name: _Timed, language: Language) -> tuple[str, str, bool]:
    """Return what stands before and after the time on this day, and whether that has seconds.

    Hours are of 24 and all parts have two digits in both languages.
    """
    pattern: str = getattr(CATALOGUES[language].patterns, name)
    timed = "HH:mm:ss" if "HH:mm:ss" in pattern else "HH:mm"
    written = format_datetime(datetime.combine(day, time()), pattern.replace(timed, _TIME), locale=_LOCALES[language])
    before, after = written.split("~")
    return before, after, timed == "HH:mm:ss"


def duration_text(milliseconds: int, language: Language) -> str:
    """Return a duration in its two greatest units, cut and not rounded: "2 d 0 h", "1.8 s", "300 ms"."""
    if milliseconds < 0:
        return f"-{duration_text(-milliseconds, language)}"
    units = CATALOGUES[language].durations
    if milliseconds < 1_000:
        return f"{milliseconds} {units.millisecond}"
    if milliseconds < 60_000:
        seconds, tenth = divmod(milliseconds // 100, 10)
        return f"{seconds}.{tenth} {units.second}" if tenth else f"{seconds} {units.second}"
    minutes, seconds = divmod(milliseconds // 1_000, 60)
    if minutes < 60:
        return f"{minutes} {units.minute} {seconds} {units.second}"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} {units.hour} {minutes} {units.minute}"
    days, hours = divmod(hours, 24)
    return f"{days} {units.day} {hours} {units.hour}"


def day_text(day: date, language: Language) -> str:
    """Return a day of this or the next weeks, with its weekday."""
    return _date_text(day, CATALOGUES[language].patterns.day, language)


def date_text(day: date, language: Language) -> str:
    """Return a day with its year."""
    return _date_text(day, CATALOGUES[language].patterns.date, language)


@lru_cache(maxsize=1024)
def _date_text(day: date, pattern: str, language: Language) -> str:
    return format_date(day, pattern, locale=_LOCALES[language])


def local_time(instant: datetime, timezone: str) -> datetime:
    """Return an instant as the account's timezone has it."""
    return instant.astimezone(_zone(timezone))


def about_text(amount_minor: int, currency: str, language: Language) -> str:
    """Return an amount said with "about": to the nearest 10 major units, without decimals; a small one exactly."""
    style = _money_style(currency, language)
    ten = style.scale * 10
    tens = (amount_minor + ten // 2) // ten
    return f"{style.symbol}{tens * 10:,}" if tens else money_text(amount_minor, currency, language)


def share_text(share_bps: int, language: Language) -> str:
    """Return a share in percent, with as many decimals as it has."""
    whole, rest = divmod(share_bps, 100)
    number = f"{whole}.{rest:02d}".rstrip("0") if rest else str(whole)
    return CATALOGUES[language].patterns.percent.format(number=number)


def plural_text(forms: Plural, count: int, language: Language, **named: str) -> str:
    """Return the form of the language's plural rule, with the count as a word where it has one."""
    one = _LOCALES[language].plural_form(count) == "one"
    form = forms.one if one and forms.one is not None else forms.other
    return form.format(count=forms.words.get(count, str(count)), **named)


def time_left_text(now: datetime, until: datetime, language: Language) -> str:
    """Return the time until an instant in whole words, in its two greatest units, cut and not rounded."""
    texts = CATALOGUES[language].left
    minutes = max(0, int((until - now).total_seconds())) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    units = [(texts.day, days), (texts.hour, hours), (texts.minute, minutes)]
    first = next((n for n, (_, count) in enumerate(units) if count), None)
    if first is None:
        return texts.less
    return texts.join.join(plural_text(forms, count, language) for forms, count in units[first : first + 2] if count)
