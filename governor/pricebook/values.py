"""How a value is written in a price file, read or refused with advice."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Final

from governor.core.pricing import FEMTO_PER_USD
from governor.documents.sections import Read
from governor.documents.texts import line

MAX_USD: Final = 10**6
MAX_FACTOR: Final = 100
MAX_PATTERN_CHARACTERS: Final = 256

_DECIMAL: Final = re.compile(r"[0-9]{1,7}(\.[0-9]{1,12})?", re.ASCII)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)


def usd(units: int) -> Read[int]:
    """Return a reader of dollars for so many units; it returns femto-dollars for one."""

    def read(text: str) -> int:
        if not _DECIMAL.fullmatch(text):
            raise ValueError("must be US dollars as a plain decimal, such as 0.15")
        amount = Decimal(text)
        if amount > MAX_USD:
            raise ValueError(f"is too large; {MAX_USD} USD is the most")
        exact = Fraction(amount) * FEMTO_PER_USD / units
        if exact.denominator != 1:
            raise ValueError("has too many decimals; a rate is whole 10^-15 USD for one unit")
        return exact.numerator

    return read


def factor(text: str) -> Fraction:
    """Read what a list price is multiplied by: `0.85`."""
    if not _DECIMAL.fullmatch(text):
        advice = "write 0.85 for 15% off" if "%" in text else "such as 0.85"
        raise ValueError(f"must be a plain decimal, {advice}")
    number = Fraction(text)
    if number > MAX_FACTOR:
        raise ValueError(f"is too large; {MAX_FACTOR} is the most")
    if number == 0:
        raise ValueError("must be more than 0; write free: true for what costs nothing")
    return number


def moment(text: str) -> datetime:
    """Read a day, which begins at midnight UTC, or a time with its zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(_MOMENT) from None
    if _DATE.fullmatch(text):
        return found.replace(tzinfo=UTC)
    if found.tzinfo is None:
        raise ValueError(f"has no zone; {_MOMENT}")
    return found.astimezone(UTC)


_MOMENT: Final = "write a day such as 2026-07-01 (UTC), or a time such as 2026-07-01T09:00:00Z"


def pattern(text: str) -> str:
    """Read a name in which `*` stands for any text and `?` for a character; case does not count."""
    found = line(MAX_PATTERN_CHARACTERS)(text).strip().lower()
    if "[" in found:
        raise ValueError("has a [, which is not known here; * and ? are")
    return found
