"""Drivers: why a cost differs from another, in dollars that add up.

cost = requests x sum over models of (share x what a request of it takes x its price). What each of
the four adds is its Shapley value (Shapley 1953): its effect averaged over all orders in which the
four could have changed. It depends on no order and adds up exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from itertools import combinations
from math import factorial
from typing import Final

VOLUME, MIX, TOKENS, PRICE = range(4)
FACTORS: Final = (VOLUME, MIX, TOKENS, PRICE)
_EXACT: Final = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Use:
    """Usage of one model in a span: requests, cost in nano-dollars, and at the prices before.

    `at_old_prices` is what it would have cost at the prices of the span that it is compared with.
    """

    requests: int
    cost: int
    at_old_prices: int


@dataclass(frozen=True, slots=True)
class Drivers:
    """What each factor adds to a cost, in nano-dollars; together all of the difference.

    `volume` is more requests, `mix` other models, `tokens` more for each request of a model,
    `price` other prices.
    """

    volume: int
    mix: int
    tokens: int
    price: int

    @property
    def total(self) -> int:
        """The difference."""
        return self.volume + self.mix + self.tokens + self.price


def drivers(before: Mapping[str, Use], after: Mapping[str, Use], scale: Decimal) -> Drivers:
    """Return what drove the cost of two spans apart; `scale` is the length of `after` in `before`s.

    A model that one of the two does not know counts there with what its requests take in the
    other: all that it adds is mix. Where one of the two holds nothing at all, all is volume.
    """
    models = sorted(before.keys() | after.keys())
    old, new = ([_Model.of(spans.get(name)) for name in models] for spans in (before, after))
    for one, other in zip(old, new, strict=True):
        if not one.requests:
            one.takes, one.price = other.takes, other.price
        elif not other.requests:
            other.takes, other.price = one.takes, one.price
    many = [sum((model.requests for model in models_of), Decimal(0)) for models_of in (old, new)]
    numbers = (_EXACT.multiply(many[0], scale), many[1])
    shares = [_shares(models_of) for models_of in (old, new)]
    for empty, filled in ((0, 1), (1, 0)):
        if not many[empty]:  # where nothing was used there is no mix that could differ
            shares[empty] = shares[filled]
    values = {
        chosen: _cost(frozenset(chosen), numbers, shares, old, new)
        for size in range(len(FACTORS) + 1)
        for chosen in combinations(FACTORS, size)
    }
    return _whole([_shapley(factor, values) for factor in FACTORS], values)


@dataclass(slots=True)
class _Model:
    """A model's requests, what one takes at old prices, and by how much prices differ."""

    requests: Decimal
    takes: Decimal
    price: Decimal

    @classmethod
    def of(cls, use: Use | None) -> "_Model":
        if use is None or not use.requests:
            return cls(Decimal(0), Decimal(0), Decimal(1))
        base = use.at_old_prices or use.cost
        takes = _EXACT.divide(Decimal(base), Decimal(use.requests))
        price = _EXACT.divide(Decimal(use.cost), Decimal(base)) if base else Decimal(1)
        return cls(Decimal(use.requests), takes, price)


def _shares(models: list[_Model]) -> list[Decimal]:
    total = sum(model.requests for model in models) or Decimal(1)
    return [_EXACT.divide(model.requests, Decimal(total)) for model in models]


def _cost(
    chosen: frozenset[int],
    numbers: tuple[Decimal, Decimal],
    shares: list[list[Decimal]],
    old: list[_Model],
    new: list[_Model],
) -> Decimal:
    """Return the cost where the chosen factors are as they are after, the others as before."""
    total = Decimal(0)
    for row, (one, other) in enumerate(zip(old, new, strict=True)):
        share = shares[MIX in chosen][row]
        takes = (other if TOKENS in chosen else one).takes
        price = (other if PRICE in chosen else one).price
        total = _EXACT.add(total, _EXACT.multiply(_EXACT.multiply(share, takes), price))
    return _EXACT.multiply(Decimal(numbers[VOLUME in chosen]), total)


def _shapley(factor: int, values: Mapping[tuple[int, ...], Decimal]) -> Decimal:
    many = len(FACTORS)
    total = Decimal(0)
    for chosen, value in values.items():
        if factor in chosen:
            continue
        orders = factorial(len(chosen)) * factorial(many - len(chosen) - 1)
        more = _EXACT.subtract(values[tuple(sorted((*chosen, factor)))], value)
        total = _EXACT.add(total, _EXACT.multiply(more, Decimal(orders)))
    return _EXACT.divide(total, Decimal(factorial(many)))


def _whole(parts: list[Decimal], values: Mapping[tuple[int, ...], Decimal]) -> Drivers:
    """Round to whole nano-dollars; what that leaves over, the greatest part takes."""
    whole = [int(part.to_integral_value()) for part in parts]
    difference = int(_EXACT.subtract(values[FACTORS], values[()]).to_integral_value())
    greatest = max(FACTORS, key=lambda factor: abs(whole[factor]))
    whole[greatest] += difference - sum(whole)
    return Drivers(*whole)
