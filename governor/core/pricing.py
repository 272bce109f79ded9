"""Stage 3, prices: dated integer rates, and the price that stands in where none is known.

A rate is an integer of femto-dollars (10**-15 USD) for one unit, which holds 0.0028 USD for a
million tokens exactly. A cost is the integer sum of units times rates, rounded half to even once
for each event to nano-dollars (10**-9 USD); the SQL in `adapters/duckdb/queries.py` does it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

FEMTO_PER_NANO: Final = 10**6
FEMTO_PER_USD: Final = 10**15
NANO_PER_USD: Final = 10**9
FIRST_INSTANT: Final = datetime(1, 1, 1, tzinfo=UTC)
LAST_INSTANT: Final = datetime(9999, 12, 31, tzinfo=UTC)
SECONDS_PER_DAY: Final = 86_400
UNBOUNDED_TOKENS: Final = 2**62


class ModelKey(NamedTuple):
    """A model as the catalogue names it; what events call it is resolved to this."""

    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Rates:
    """Femto-dollars for one unit; None where the catalogue has no rate of its own.

    A unit without its own rate is charged as its parent: cache reads and writes as input, 1 h
    writes as 5 m writes, reasoning as output, audio as input or output.
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


RATE_NAMES: Final = tuple(rate.name for rate in fields(Rates))


@dataclass(frozen=True, slots=True)
class Price:
    """What a model costs in one cell of time, hour of day and context length.

    In force for event times in [`starts_at`, `ends_at`), at UTC seconds of the day in
    [`from_second`, `until_second`), for requests with `input_tokens` in
    [`from_tokens`, `until_tokens`). The cells of one model do not overlap.
    """

    key: ModelKey
    rates: Rates
    source: str
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


def femto_per_unit(usd: Decimal, units: int) -> int:
    """Return the rate of `usd` for `units` units in femto-dollars, rounded half to even."""
    return int((usd * FEMTO_PER_USD / units).to_integral_value())


def fallbacks(prices: Iterable[Price]) -> Mapping[str, Price]:
    """Choose the price that stands in for an unknown model: the dearest known of its provider.

    Return a price by provider, and under "" the dearest of all. The dearest is the one with the
    greatest sum of input and output rate; a model without both is no candidate.
    """
    dearest: dict[str, Price] = {}
    for price in prices:
        if price.rates.input is None or price.rates.output is None:
            continue
        for provider in (price.key.provider, ""):
            if provider not in dearest or _dearness(price) > _dearness(dearest[provider]):
                dearest[provider] = price
    return dearest


def _dearness(price: Price) -> tuple[int, int]:
    return (price.rates.input or 0) + (price.rates.output or 0), price.price_id
