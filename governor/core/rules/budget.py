"""The budget: what may be spent in a calendar period, in all or by group, and what happens then."""

import json
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import ClassVar, Final
from zoneinfo import ZoneInfo

from governor.core.periods import Calendar, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure, Unit

MAX_BUDGET_ALERTS: Final = 100_000
"""Alerts of one budget that may be open at a time, unless it says otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget(Rule):
    """A checked budget rule. Amounts are in the unit of `measure`.

    `carries` is the most of what was left of the period before that may be used before the limit
    is: a period then begins that far below zero. `later` are other amounts of the same rule, each
    for periods that begin on a local date or after it, in the order of dates.
    """

    kind: ClassVar[str] = "budget"
    latched: ClassVar[bool] = True

    measure: Measure
    limit: int
    calendar: Calendar
    carries: int = 0
    later: tuple[tuple[date, "Budget"], ...] = ()
    max_alerts: int = MAX_BUDGET_ALERTS
    every: timedelta = timedelta(0)

    @property
    def unit(self) -> Unit:
        """What it counts."""
        return Unit(self.measure.value)

    @property
    def meaning(self) -> str:
        """What is counted and of whom."""
        calendar = self.calendar
        return json.dumps([self.measure, *self.scope_meaning(), calendar.every, calendar.zone])

    def of(self, at: datetime) -> "Budget":
        """Return the budget with the amounts of the period of `at`."""
        if not self.later:
            return self
        begins = self.period(at).start.astimezone(ZoneInfo(self.calendar.zone)).date()
        dated = [budget for day, budget in self.later if day <= begins]
        return replace(dated[-1], later=self.later) if dated else self

    def left(self, used: int) -> int:
        """Return how much of the limit is carried into the next period, where so much was used."""
        return max(0, min(self.carries, self.limit - used))

    def percent(self, amount: int) -> Decimal | None:
        """Return how many percent of the limit an amount is."""
        return Decimal(100 * amount) / self.limit

    def period(self, at: datetime) -> Period:
        """Return the calendar period of `at`."""
        return self.calendar.period(at)
