"""The registry of rule kinds: a kind is one file and one line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from governor.core.rules.shared import Rule
from governor.documents.sections import Section
from governor.rulebook import absence, budget, forecast, mix_drift, query, ratio, spike


class Kind(NamedTuple):
    """The keys that a rule of a kind may have, and how it is read."""

    keys: tuple[str, ...]
    read: Callable[[Section], Rule]


KINDS: Final[Mapping[str, Kind]] = MappingProxyType(
    {
        "budget": Kind(budget.KEYS, budget.read),
        "ratio": Kind(ratio.KEYS, ratio.read),
        "absence": Kind(absence.KEYS, absence.read),
        "query": Kind(query.KEYS, query.read),
        "spike": Kind(spike.KEYS, spike.read),
        "mix_drift": Kind(mix_drift.KEYS, mix_drift.read),
        "forecast": Kind(forecast.KEYS, forecast.read),
    }
)
