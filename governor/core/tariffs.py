"""Stage 3, tariffs: what usage of a model is charged by: list prices, overrides, or a stand-in.

A tariff is found once for each provider, model, service tier and buyer that events name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Final, Protocol

from governor.core.pricing import Buyer, ModelKey, Override, Price, fallbacks, layered, tier_of

MAX_RESOLVED: Final = 20_000
"""How many names of models are remembered with what they mean."""
_NO_ALIASES: Final[Mapping[str, str]] = MappingProxyType({})


class Catalogue(Protocol):
    """The list prices; see `adapters.prices`."""

    def prices(self) -> Sequence[Price]:
        """Return the standard price of every model."""

    def cells(self, key: ModelKey, tier: str) -> Sequence[Price]:
        """Return the cells of a model at a service tier."""

    def resolve(self, provider: str, model: str) -> ModelKey | None:
        """Return the key of what an event calls a model, None where unknown."""

    def resolve_provider(self, provider: str) -> str | None:
        """Return the catalogue's name of a provider, None where unknown."""


@dataclass(frozen=True, slots=True)
class Tariff:
    """The cells that charge, of which an event falls into one or none.

    `listed` are those of the list where `overrides` lie over them. `tier` is the one asked for,
    which a cell may not have. `stand_in` is charged against caps where no cell does.
    """

    key: ModelKey | None
    tier: str
    cells: tuple[Price, ...]
    listed: tuple[Price, ...]
    overrides: tuple[Override, ...]
    stand_in: Price


class Tariffs:
    """Finds tariffs: the catalogue, the overrides over it, and more names of providers."""

    def __init__(
        self,
        catalogue: Catalogue,
        overrides: Iterable[Override] = (),
        providers: Mapping[str, str] = _NO_ALIASES,
    ) -> None:
        self._catalogue = catalogue
        self._overrides = tuple(overrides)
        self._providers = providers
        self._resolve = lru_cache(MAX_RESOLVED)(catalogue.resolve)  # tiers and buyers share it
        self._stand_ins = fallbacks(catalogue.prices())
        if not self._stand_ins:
            raise ValueError("a catalogue needs at least one price")
        self.customers: tuple[str, ...] = _named(o.customers for o in self._overrides)
        self.teams: tuple[str, ...] = _named(o.teams for o in self._overrides)

    def find(self, provider: str, model: str, service_tier: str | None, buyer: Buyer) -> Tariff:
        """Return what charges usage of a model, as events name it, for a buyer."""
        called = self._providers.get(provider.strip().lower(), provider)
        key = self._resolve(called, model)
        tier = tier_of(service_tier)
        known = self._catalogue.resolve_provider(called) or (key.provider if key else None)
        listed = tuple(self._catalogue.cells(key, tier)) if key else ()
        names = [
            ModelKey(one, other)
            for one in dict.fromkeys(filter(None, (provider, called, known)))
            for other in dict.fromkeys((model, *((key.model,) if key else ())))
        ]
        overrides = tuple(o for o in self._overrides if o.matches(names, tier, buyer))
        cells = layered(listed, overrides, key or names[0], tier) if overrides else listed
        stand_in = self._stand_ins.get((key.provider if key else known) or "")
        return Tariff(
            key=key,
            tier=tier,
            cells=tuple(cells),
            listed=listed,
            overrides=overrides,
            stand_in=stand_in or self._stand_ins[""],
        )


def _named(names: Iterable[frozenset[str] | None]) -> tuple[str, ...]:
    return tuple(sorted(frozenset().union(*(some for some in names if some is not None))))
