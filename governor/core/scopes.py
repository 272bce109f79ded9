"""Scopes: which usage a rule or a directive is about, by the dimensions of an event."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from typing import Final

DIMENSIONS: Final = (
    "customer",
    "user",
    "tier",
    "segment",
    "feature",
    "team",
    "project",
    "environment",
    "provider",
    "model",
    "operation",
    "service_tier",
    "api_key",
    "region",
)
"""What usage is told apart by; each is a field of the usage event."""

Key = tuple[str | None, ...]
"""The values of some dimensions, in their order; None where an event does not say."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What one dimension must be: one of `values`, or like one of `patterns`; `negated`, neither.

    A pattern is a shell glob (`*`, `?`, `[...]`) over the whole value, case counts. A missing
    value is none of the values and like no pattern, so a negated condition holds for it.
    """

    dimension: str
    values: frozenset[str] = frozenset()
    patterns: tuple[str, ...] = ()
    negated: bool = False

    def holds(self, value: str | None) -> bool:
        """Return whether `value` fulfils the condition."""
        found = value is not None and (
            value in self.values or any(_glob(pattern).match(value) for pattern in self.patterns)
        )
        return found is not self.negated


@dataclass(frozen=True, slots=True)
class Scope:
    """Conditions on different dimensions, all of which must hold; no condition holds for all."""

    conditions: tuple[Condition, ...] = ()

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions that the conditions read."""
        return tuple(condition.dimension for condition in self.conditions)

    def holds(self, dimensions: Mapping[str, str | None]) -> bool:
        """Return whether usage with these dimensions is meant; a dimension left out is missing."""
        return all(
            condition.holds(dimensions.get(condition.dimension)) for condition in self.conditions
        )


def mask_of(dimensions: Sequence[str]) -> tuple[str, ...]:
    """Return the dimensions without repeats, in the order of DIMENSIONS."""
    return tuple(name for name in DIMENSIONS if name in dimensions)


@lru_cache(maxsize=4096)
def _glob(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern))
