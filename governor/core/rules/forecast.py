"""The forecast: what a calendar period will have cost when it ends, against a limit."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import ClassVar

from governor.core.periods import Calendar, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import MICRO, Measure, Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Rule):
    """A checked forecast. Its number is what the period will come to at least.

    That is so with the probability `confidence`, in millionths: a threshold is reached once it is
    that sure to be passed. A group counts once it is known for `min_history`.
    """

    kind: ClassVar[str] = "forecast"

    measure: Measure
    limit: int
    calendar: Calendar
    confidence: int = MICRO * 8 // 10
    min_history: timedelta = timedelta(days=14)
    every: timedelta = timedelta(minutes=15)

    @property
    def unit(self) -> Unit:
        """What it counts."""
        return Unit(self.measure.value)

    @property
    def meaning(self) -> str:
        """What is counted and of whom."""
        calendar = self.calendar
        parts = [self.measure, *self.scope_meaning(), calendar.every, calendar.zone]
        return json.dumps([self.kind, *parts])

    def period(self, at: datetime) -> Period:
        """Return the calendar period of `at`."""
        return self.calendar.period(at)

    def percent(self, amount: int) -> Decimal | None:
        """Return how many percent of the limit an amount is."""
        return Decimal(100 * amount) / self.limit
