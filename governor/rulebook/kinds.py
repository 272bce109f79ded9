"""The registry of rule kinds: a kind is one file and one line here."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from governor.core.rules.budget import Budget
from governor.documents.sections import Section
from governor.rulebook import budget


class Kind(NamedTuple):
    """The keys that a rule of a kind may have, and how it is read."""

    keys: tuple[str, ...]
    read: Callable[[Section], Budget]


KINDS: Final[Mapping[str, Kind]] = MappingProxyType({"budget": Kind(budget.KEYS, budget.read)})
