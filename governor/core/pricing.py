"""Stage 3, prices: dated integer rates in layers, and the price that stands in for an unknown one.

A rate is an integer of femto-dollars (10**-15 USD) for one unit, which holds 0.0028 USD for a
million tokens exactly. A cost is the integer sum of units times rates, rounded once half to even
for each event to nano-dollars (10**-9 USD); the SQL in `adapters/duckdb/queries.py` does it.

Overrides of a company lie over the list: of all that match an event, the first in force charges.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fnmatch import fnmatchcase
from fractions import Fraction
from typing import Final, NamedTuple

FEMTO_PER_NANO: Final = 10**6
FEMTO_PER_USD: Final = 10**15
NANO_PER_USD: Final = 10**9
FIRST_INSTANT: Final = datetime(1, 1, 1, tzinfo=UTC)
LAST_INSTANT: Final = datetime(9999, 12, 31, tzinfo=UTC)
SECONDS_PER_DAY: Final = 86_400
UNBOUNDED_TOKENS: Final = 2**62
STANDARD: Final = "standard"
"""The service tier of list prices."""

_STANDARD_NAMES: Final = frozenset({"", "standard", "default", "auto", "on_demand", "ondemand"})


class ModelKey(NamedTuple):
    """A model as the catalogue names it; what events call it is resolved to this."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Femto-dollars for one unit; None where the catalogue has no rate of its own.

    A unit without its own rate is charged as its parent: cache reads and writes as input, 1 h
    writes as 5 m writes, reasoning as output, audio as input or output. Images made and compute
    time (milliseconds) have no parent: without a rate an event that reports them is unpriced.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    reasoning: int | None = None
    input_audio: int | None = None
    output_audio: int | None = None
    request: int | None = None
    web_search: int | None = None
    image: int | None = None
    compute: int | None = None

    def times(self, factor: Fraction) -> "Rates":
        """Return each rate times a factor, rounded half to even."""
        scaled = {name: getattr(self, name) for name in RATE_NAMES}
        return Rates(**{n: None if r is None else round(r * factor) for n, r in scaled.items()})

    def charged(self) -> "Rates":
        """Fill missing rates from their parents.

        Tokens are free where requests or compute time are charged.
        """
        otherwise = None if self.request is None and self.compute is None else 0
        of_input = otherwise if self.input is None else self.input
        output = otherwise if self.output is None else self.output
        write_5m = of_input if self.cache_write_5m is None else self.cache_write_5m
        return replace(
            self,
            input=of_input,
            cache_read=of_input if self.cache_read is None else self.cache_read,
            cache_write_5m=write_5m,
            cache_write_1h=write_5m if self.cache_write_1h is None else self.cache_write_1h,
            output=output,
            reasoning=output if self.reasoning is None else self.reasoning,
            input_audio=of_input if self.input_audio is None else self.input_audio,
            output_audio=output if self.output_audio is None else self.output_audio,
        )


RATE_NAMES: Final = tuple(rate.name for rate in fields(Rates))
FREE: Final = Rates(**dict.fromkeys(RATE_NAMES, 0))


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs in one cell of service tier, time, hour of day and context length.

    In force for event times in [`starts_at`, `ends_at`), at UTC seconds of the day in
    [`from_second`, `until_second`), for requests with `input_tokens` in
    [`from_tokens`, `until_tokens`). The cells of one model and tier do not overlap.
    """

    key: ModelKey
    rates: Rates
    source: str
    tier: str = STANDARD
    starts_at: datetime = FIRST_INSTANT
    ends_at: datetime = LAST_INSTANT
    from_second: int = 0
    until_second: int = SECONDS_PER_DAY
    from_tokens: int = 0
    until_tokens: int = UNBOUNDED_TOKENS
    price_id: int = field(init=False)

    def __post_init__(self) -> None:
        """Name the price by what it charges, so that a new catalogue renames no price it keeps."""
        named = [part.name for part in fields(self) if part.init and part.name != "source"]
        content = repr([getattr(self, name) for name in named])
        digest = hashlib.blake2b(content.encode(), digest_size=8).digest()
        object.__setattr__(self, "price_id", int.from_bytes(digest) >> 1)


@dataclass(frozen=True, slots=True)
class Buyer:
    """Who is charged, as far as an override may ask for it."""

    customer: str | None = None
    team: str | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """A price of a company's own, for event times in [`starts_at`, `ends_at`).

    `provider` and `model` are patterns (`*`, `?`) in lower case, `customers`, `teams` and `tiers`
    are names; None matches all. Either `rates` are charged, or the list price times `multiplier`.
    """

    id: str
    source: str
    provider: str | None = None
    model: str | None = None
    tiers: frozenset[str] | None = None
    customers: frozenset[str] | None = None
    teams: frozenset[str] | None = None
    starts_at: datetime = FIRST_INSTANT
    ends_at: datetime = LAST_INSTANT
    rates: Rates | None = None
    multiplier: Fraction | None = None

    def matches(self, names: Sequence[ModelKey], tier: str, buyer: Buyer) -> bool:
        """Tell whether it is for a model, under any of its names, at a tier, for a buyer."""
        return (
            any(_like(self.provider, n.provider) and _like(self.model, n.model) for n in names)
            and (self.tiers is None or tier in self.tiers)
            and (self.customers is None or buyer.customer in self.customers)
            and (self.teams is None or buyer.team in self.teams)
        )


def _like(pattern: str | None, name: str) -> bool:
    return pattern is None or fnmatchcase(name.lower(), pattern)


def tier_of(service_tier: str | None) -> str:
    """Return the tier that a price list calls what a provider or gateway does."""
    name = (service_tier or "").strip().lower()
    return STANDARD if name in _STANDARD_NAMES else name


def layered(
    listed: Sequence[Price], overrides: Iterable[Override], key: ModelKey, tier: str
) -> list[Price]:
    """Lay overrides that match over list prices: at each time, the first of them in force charges.

    An override by a multiplier charges nothing where the list has no price.
    """
    open_spans = [(FIRST_INSTANT, LAST_INSTANT)]
    cells: list[Price] = []
    for override in overrides:
        for start, end in _within(open_spans, override.starts_at, override.ends_at):
            if override.rates is not None:
                cells.append(Price(key, override.rates, override.source, tier, start, end))
            elif override.multiplier is not None:
                cells += [
                    replace(
                        cell,
                        rates=cell.rates.times(override.multiplier),
                        source=f"{override.source} on {cell.source}",
                    )
                    for cell in _cut(listed, start, end)
                ]
        open_spans = _without(open_spans, override.starts_at, override.ends_at)
    for start, end in open_spans:
        cells += _cut(listed, start, end)
    return cells


Spans = list[tuple[datetime, datetime]]


def _within(spans: Spans, start: datetime, end: datetime) -> Spans:
    cut = [(max(begin, start), min(close, end)) for begin, close in spans]
    return [(begin, close) for begin, close in cut if begin < close]


def _without(spans: Spans, start: datetime, end: datetime) -> Spans:
    return [*_within(spans, FIRST_INSTANT, start), *_within(spans, end, LAST_INSTANT)]


def _cut(cells: Iterable[Price], start: datetime, end: datetime) -> list[Price]:
    """Return what of the cells lies in a span; one that lies in it whole stays the same price."""
    return [
        cell
        if (begin, close) == (cell.starts_at, cell.ends_at)
        else replace(cell, starts_at=begin, ends_at=close)
        for cell in cells
        for begin, close in _within([(cell.starts_at, cell.ends_at)], start, end)
    ]


def femto_per_unit(usd: Decimal, units: int) -> int:
    """Return the rate of `usd` for `units` units in femto-dollars, rounded half to even."""
    with localcontext(prec=60, rounding=ROUND_HALF_EVEN):
        return int((usd * FEMTO_PER_USD / units).to_integral_value())


def fallbacks(prices: Iterable[Price]) -> Mapping[str, Price]:
    """Choose the price that stands in for an unknown model: the dearest known of its provider.

    Return a price by provider, and under "" the dearest of all. The dearest is the one with the
    greatest sum of input and output rate; a model without both is no candidate, nor is a tier
    beside the standard one.
    """
    dearest: dict[str, Price] = {}
    for price in prices:
        if price.tier != STANDARD or price.rates.input is None or price.rates.output is None:
            continue
        for provider in (price.key.provider, ""):
            if provider not in dearest or _dearness(price) > _dearness(dearest[provider]):
                dearest[provider] = price
    return dearest


def _dearness(price: Price) -> tuple[int, int]:
    return (price.rates.input or 0) + (price.rates.output or 0), price.price_id
