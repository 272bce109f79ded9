"""A catalogue of a few prices, for tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from governor.adapters.duckdb.rates import RateTable
from governor.core.pricing import STANDARD, ModelKey, Override, Price
from governor.core.tariffs import Tariffs


@dataclass(frozen=True)
class Shelf:
    """The prices that lie on it, found by two functions."""

    priced: Sequence[Price]
    resolve: Callable[[str, str], ModelKey | None]
    resolve_provider: Callable[[str], str | None]

    def prices(self) -> Sequence[Price]:
        """Return the standard prices."""
        return [price for price in self.priced if price.tier == STANDARD]

    def cells(self, key: ModelKey, tier: str) -> Sequence[Price]:
        """Return the cells of a tier, or where there are none those of the standard one."""
        own = [price for price in self.priced if price.key == key]
        return [p for p in own if p.tier == tier] or [p for p in own if p.tier == STANDARD]


def rate_table(
    priced: Sequence[Price],
    resolve: Callable[[str, str], ModelKey | None],
    resolve_provider: Callable[[str], str | None],
    overrides: Sequence[Override] = (),
) -> RateTable:
    """Return a rate table of these prices."""
    return RateTable(Tariffs(Shelf(priced, resolve, resolve_provider), overrides))
