"""How a value is written in a rule: each reader turns a text into a value, or says what to write.

Units are always written, amounts are exact, and nothing is ever a float.
"""

import math
import re
from datetime import timedelta
from fractions import Fraction
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import available_timezones

from governor.core.pricing import NANO_PER_USD
from governor.core.rules.actions import Rate
from governor.core.rules.units import MICRO, Measure
from governor.documents.sections import Read, closest, listed, suggestion

MAX_AMOUNT: Final = 2**63 - 1
MAX_RATE: Final = 1_000_000
MAX_NAME_CHARACTERS: Final = 100
MAX_TEXT_CHARACTERS: Final = 300

_DIGITS: Final = r"[0-9]{1,20}(?:\.[0-9]{1,20})?"
_AMOUNT: Final = re.compile(rf"({_DIGITS})([kMG]?) (USD|requests|tokens)", re.ASCII)
_LOOSE_AMOUNT: Final = re.compile(rf"(\$?) *({_DIGITS}) *([A-Za-z ]*)", re.ASCII)
_GROUPED: Final = re.compile(
    r"(?<![0-9.,_'])([0-9]{1,3})((?:[,_'][0-9]{3})+)(?![0-9,_'])", re.ASCII
)
_PERCENT: Final = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)( ?)%", re.ASCII)
_NUMBER: Final = re.compile(_DIGITS, re.ASCII)
_CURRENCY: Final = re.compile(r"[A-Z]{3}", re.ASCII)
_DURATION: Final = re.compile(r"([0-9]{1,6})(s|m|h|d)", re.ASCII)
_LOOSE_DURATION: Final = re.compile(r"([0-9]{1,6}) *([A-Za-z]*)", re.ASCII)
_RATE: Final = re.compile(r"([0-9]{1,9})/(s|min|h|day)", re.ASCII)
_LOOSE_RATE: Final = re.compile(r"([0-9]{1,9}) *(?:/|per)? *([A-Za-z]*)", re.ASCII)

_MULTIPLIERS: Final = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
_UNITS: Final = {"USD": Measure.COST, "requests": Measure.REQUESTS, "tokens": Measure.TOKENS}
UNIT_OF: Final = {measure: unit for unit, measure in _UNITS.items()}
_COUNTED: Final = [f"{many} {unit}" for many in _MULTIPLIERS for unit in ("requests", "tokens")]
_SPANS: Final = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "day": timedelta(days=1),
}
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_NO_ZONES: Final = frozenset({"localtime", "Factory"})


class Amount(NamedTuple):
    """So much of a measure, in its unit: nano-dollars, requests or tokens."""

    measure: Measure
    amount: int


# ------------------------------------------------------------------------------------- amounts


def amount(text: str) -> Amount:
    """Read `100 USD`, `10k requests` or `2M tokens`."""
    found = _AMOUNT.fullmatch(text)
    if not found or (found[2] and found[3] == "USD"):
        raise ValueError(_advice(text))
    number, many, unit = found.groups()
    each = NANO_PER_USD if unit == "USD" else _MULTIPLIERS[many]
    exact = Fraction(number) * each
    if exact.denominator != 1:
        smallest = "at most 9 decimals" if unit == "USD" else f"a whole number of {unit}"
        raise ValueError(f"must have {smallest}" if unit == "USD" else f"must be {smallest}")
    return Amount(_UNITS[unit], _in_bounds(exact.numerator, unit))


def _in_bounds(whole: int, unit: str) -> int:
    if whole <= 0:
        raise ValueError("must be more than 0")
    if whole > MAX_AMOUNT:
        most = MAX_AMOUNT // NANO_PER_USD if unit == "USD" else MAX_AMOUNT
        raise ValueError(f"is too large; {most} {unit} is the most")
    return whole


def _advice(text: str) -> str:
    """Say how an amount should have been written."""
    plain = _GROUPED.sub(lambda found: found[1] + re.sub("[,_']", "", found[2]), text.strip())
    found = _LOOSE_AMOUNT.fullmatch(plain)
    if not found:
        if text.startswith("-"):
            return "must be more than 0"
        if re.search("[0-9][,_'][0-9]", text):
            return "must be digits without commas or underscores, such as 1000.50 USD"
        return "must be an amount, such as 100 USD, 10k requests or 2M tokens"
    dollar, number, word = found[1], found[2], found[3].replace(" ", "")
    unit = "USD" if dollar or word.casefold() == "usd" else word
    why = "" if plain == text.strip() else "has commas or underscores; "
    if not unit:
        return f"{why or 'has no unit; '}write {number} USD"
    if unit == "USD":
        return f"{why}write {number} USD"
    return why + _unit_advice(number, unit)


def _unit_advice(number: str, word: str) -> str:
    if word.casefold() in {"kusd", "musd", "gusd"}:
        many = {"k": 3, "m": 6, "g": 9}[word[0].casefold()]
        return f"USD takes no k, M or G; write {_plain(Fraction(number) * 10**many)} USD"
    if _CURRENCY.fullmatch(word):
        return f"is in {word}, and only USD is known; write the amount in USD"
    spelled = {counted.replace(" ", ""): counted for counted in _COUNTED}
    close = closest(word, spelled)
    if close:
        return f"write {number}{spelled[close]}"
    return f"has the unknown unit {word!r}; write {listed(_UNITS)}"


def _plain(number: Fraction) -> str:
    """Return a decimal fraction in digits."""
    whole, rest = divmod(number.numerator * 10**20 // number.denominator, 10**20)
    return f"{whole}.{rest:020}".rstrip("0").rstrip(".")


def threshold(text: str, limit: Amount | None) -> int | None:
    """Read `80%` of the limit, rounded up to the unit, or an amount in the limit's unit.

    Return None where that needs a limit and there is none.
    """
    found = _PERCENT.fullmatch(text)
    if found is None or found[2]:
        return _absolute(text, limit, found)
    if limit is None:
        return None
    share = math.ceil(Fraction(found[1]) * limit.amount / 100)
    return _in_bounds(share, UNIT_OF[limit.measure])


def percent(text: str) -> Fraction | None:
    """Read `80%` as a fraction; None where the text is no percentage."""
    found = _PERCENT.fullmatch(text)
    return None if found is None or found[2] else Fraction(found[1]) / 100


def share(text: str) -> int:
    """Read `25%` as millionths."""
    found = percent(text)
    if found is None:
        if not _NUMBER.fullmatch(text):
            raise ValueError("must be a percentage, such as 25%")
        number = Fraction(text)
        raise ValueError(f"has no unit; write {_plain(number * 100 if number <= 1 else number)}%")
    if (found * MICRO).denominator != 1:
        raise ValueError("must have at most 4 decimals")
    return int(found * MICRO)


def count(text: str) -> int:
    """Read a number such as `2.5` as millionths."""
    if not _NUMBER.fullmatch(text) or (Fraction(text) * MICRO).denominator != 1:
        raise ValueError("must be a number of at most 6 decimals, such as 2.5")
    return int(Fraction(text) * MICRO)


def seconds(text: str) -> int:
    """Read a duration as seconds."""
    return int(duration(text).total_seconds())


def whole(least: int, most: int) -> Read[int]:
    """Return a reader of a whole number."""

    def read(text: str) -> int:
        if not re.fullmatch("[0-9]{1,20}", text) or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least:,} to {most:,}")
        return int(text)

    return read


def _absolute(text: str, limit: Amount | None, spaced: re.Match[str] | None) -> int:
    if spaced:
        raise ValueError(f"write {spaced[1]}%")
    if _NUMBER.fullmatch(text):
        number = Fraction(text)
        percent = _plain(number * 100 if number <= 1 else number)
        unit = UNIT_OF[limit.measure] if limit else "USD"
        or_amount = f", or {text} {unit}" if number > 1 else ""
        raise ValueError(f"has no unit; write {percent}%{or_amount}")
    found = amount(text)
    if limit and found.measure is not limit.measure:
        units = f"{UNIT_OF[found.measure]}, and the limit in {UNIT_OF[limit.measure]}"
        raise ValueError(f"is in {units}; write both in one, or a percentage")
    return found.amount


# ------------------------------------------------------------------------------- times and rates


def duration(text: str) -> timedelta:
    """Read `90s`, `5m`, `1h` or `7d`."""
    if found := _DURATION.fullmatch(text):
        return timedelta(seconds=int(found[1]) * _SECONDS[found[2]])
    units = "units: s, m, h or d"
    if loose := _LOOSE_DURATION.fullmatch(text):
        if not loose[2]:
            raise ValueError(f"has no unit; write {loose[1]}m ({units})")
        if unit := _unit_like(
            loose[2], {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
        ):
            raise ValueError(f"write {loose[1]}{unit}")
    raise ValueError(f"must be a whole number and a unit, such as 5m ({units})")


def rate(text: str) -> Rate:
    """Read `2/min`: so many requests a second, minute, hour or day."""
    if found := _RATE.fullmatch(text):
        requests = int(found[1])
        if not 1 <= requests <= MAX_RATE:
            raise ValueError(f"must be from 1 to {MAX_RATE} requests")
        return Rate(requests, _SPANS[found[2]])
    units = "units: s, min, h or day"
    if loose := _LOOSE_RATE.fullmatch(text):
        if not loose[2]:
            raise ValueError(f"has no unit; write {loose[1]}/min ({units})")
        names = {"s": "seconds", "min": "minutes", "h": "hours", "day": "days"}
        if unit := _unit_like(loose[2], names):
            raise ValueError(f"write {loose[1]}/{unit}")
    raise ValueError(f"must be whole requests in a span, such as 2/min ({units})")


def _unit_like(word: str, names: dict[str, str]) -> str | None:
    """Return the unit that a word abbreviates or spells: `m`, `min`, `mins`, `minute`, `hr`."""
    written = word.casefold()
    for unit, name in names.items():
        if written in {"hr", "hrs"} and unit == "h":
            return unit
        if name.startswith((written, written.removesuffix("s") or written)):
            return unit
    return None


def zone(text: str) -> str:
    """Read the name of an IANA time zone."""
    zones = _zones()
    if text in zones:
        return text
    cities = {name.rpartition("/")[2]: name for name in zones}
    city = closest(text.replace(" ", "_"), cities) if "/" not in text else None
    close = f" (did you mean {cities[city]!r}?)" if city else suggestion(text, zones)
    raise ValueError(f"unknown time zone{close}; write an IANA name, such as Europe/Berlin")


@cache
def _zones() -> tuple[str, ...]:
    return tuple(sorted(available_timezones() - _NO_ZONES))
