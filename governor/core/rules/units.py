"""What numbers of rules are in, and how they are written for people."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Final

from governor.core.pricing import NANO_PER_USD

MICRO: Final = 10**6


class Measure(StrEnum):
    """What usage is counted by. Cost is in nano-dollars, at a stand-in price where unpriced."""

    COST = "cost"
    REQUESTS = "requests"
    TOKENS = "tokens"


class Unit(StrEnum):
    """What the number of a rule is in; the first three are those of `Measure`.

    A share is in millionths of one, a count in millionths, a span in seconds.
    """

    COST = "cost"
    REQUESTS = "requests"
    TOKENS = "tokens"
    SHARE = "share"
    COUNT = "count"
    SPAN = "span"


def amount_text(unit: Unit | Measure, amount: int) -> str:
    """Write an amount for people: `1,234.56 USD` (to the cent), `12,000 requests`, `1h`."""
    if unit == Unit.COST:
        usd = Decimal(amount) / NANO_PER_USD
        whole = amount >= NANO_PER_USD // 100 or amount <= 0
        return f"{usd:,.2f} USD" if whole else f"{usd:f} USD"
    if unit == Unit.SHARE:
        return f"{Decimal(amount) / (MICRO // 100):,.1f}%"
    if unit == Unit.COUNT:
        return f"{(Decimal(amount) / MICRO).normalize():,f}"
    if unit == Unit.SPAN:
        return span_text(timedelta(seconds=amount))
    return f"{amount:,} {unit}"


def span_text(span: timedelta) -> str:
    """Write a span as rule files have it: `1h40m`."""
    seconds = int(span.total_seconds())
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        many, seconds = divmod(seconds, size)
        parts += [f"{many}{unit}"] if many else []
    return "".join(parts) or "0s"
