"""The budget: what may be spent in a calendar period, in all or by group, and what happens then."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from types import MappingProxyType

from governor.core.periods import Calendar
from governor.core.rules.shared import Level, Mode, Throttle
from governor.core.scopes import Scope, mask_of


class Measure(StrEnum):
    """What a budget counts. Cost is in nano-dollars, with a stand-in price for unpriced usage."""

    COST = "cost"
    REQUESTS = "requests"
    TOKENS = "tokens"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The amount from which on a level holds and actions are due; `at` is how it was written."""

    at: str
    amount: int
    level: Level
    actions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Budget:
    """A checked budget rule. Amounts are in the unit of `measure`; thresholds rise.

    `hold` is how long an amount must stand before it counts (`for` in YAML). `place` is
    `file:line:column`, for messages.
    """

    id: str
    owner: str
    summary: str
    measure: Measure
    limit: int
    limit_text: str
    calendar: Calendar
    thresholds: tuple[Threshold, ...]
    where: Scope = field(default_factory=Scope)
    per: tuple[str, ...] = ()
    mode: Mode = Mode.NOTIFY
    hold: timedelta = timedelta(0)
    actions: Mapping[str, Throttle] = field(default_factory=lambda: MappingProxyType({}))
    runbook: str | None = None
    place: str = ""

    @property
    def meaning(self) -> str:
        """What is counted and of whom: another text where an amount would mean another thing."""
        where = [
            (condition.dimension, sorted(condition.values), condition.patterns, condition.negated)
            for condition in self.where.conditions
        ]
        return json.dumps([self.measure, where, self.per, self.calendar.every, self.calendar.zone])

    @property
    def mask(self) -> tuple[str, ...]:
        """The dimensions by which usage must be summed up for this rule."""
        return mask_of((*self.where.dimensions, *self.per))

    def crossed(self, amount: int) -> int:
        """Return how many of the thresholds an amount has reached, counted from the lowest."""
        return sum(amount >= threshold.amount for threshold in self.thresholds)
