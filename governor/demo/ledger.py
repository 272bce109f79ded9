"""The load maker's own books: what governor must come to, added up apart from it, event by event.

Only the list prices are shared. The sums here are Python integers and fractions, one event at a
time; governor's are SQL over batches.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from datetime import date, datetime
from fractions import Fraction
from typing import Any, Final

from governor.adapters.prices import Catalogue
from governor.core.pricing import FEMTO_PER_NANO, ModelKey, Price
from governor.demo.company import Message


class Ledger:
    """Counts what was sent: distinct events, repeats, rejects, spend by team, by tier and day."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue: Final = catalogue
        self._prices: Final[dict[ModelKey, list[Price]]] = defaultdict(list)
        for price in catalogue.prices():
            self._prices[price.key].append(price)
        self.distinct = 0
        self.repeats = 0
        self.unpriced = 0
        self.rejects: Counter[str] = Counter()
        self.nano_of_team: Counter[str] = Counter()
        self.nano_of_tier: Counter[tuple[str, date]] = Counter()

    @property
    def sent(self) -> int:
        """How many records were sent in all."""
        return self.distinct + self.repeats + self.rejects.total()

    def enter(self, message: Message) -> None:
        """Enter one message that was sent."""
        if message.reason is not None:
            self.rejects[message.reason.value] += 1
        elif message.repeats:
            self.repeats += 1
        elif message.event is not None:
            self.distinct += 1
            nano = self._cost_nano(message.event)
            day = datetime.fromisoformat(message.event["event_time"]).date()
            self.nano_of_team[message.event["team"]] += nano or 0
            self.nano_of_tier[message.event["tier"], day] += nano or 0
            self.unpriced += nano is None

    def _cost_nano(self, event: Mapping[str, Any]) -> int | None:
        price = self._price(event)
        if price is None or price.rates.input is None:
            return None
        rates, cached = price.rates, event["cache_read_tokens"]
        cache_rate = price.rates.input if rates.cache_read is None else rates.cache_read
        femto = (event["input_tokens"] - cached) * price.rates.input + cached * cache_rate
        if event["output_tokens"]:
            if rates.output is None:
                return None
            femto += event["output_tokens"] * rates.output
        return round(Fraction(femto + (rates.request or 0), FEMTO_PER_NANO))  # half to even

    def _price(self, event: Mapping[str, Any]) -> Price | None:
        key = self._catalogue.resolve(event["provider"], event["model"])
        at = datetime.fromisoformat(event["event_time"])
        second = (at.hour * 60 + at.minute) * 60 + at.second
        for price in self._prices[key] if key else ():
            if (
                price.starts_at <= at < price.ends_at
                and price.from_second <= second < price.until_second
                and price.from_tokens <= event["input_tokens"] < price.until_tokens
            ):
                return price
        return None
