"""The ratio: what usage costs against what it brings, over a window or a calendar period."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import ClassVar, Final

from governor.core.periods import ALWAYS, BUCKET, Calendar, Every, Period, whole_hours
from governor.core.rules.shared import Rule
from governor.core.rules.units import MICRO, Measure, Unit, span_text

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Against(StrEnum):
    """What cost, requests or tokens are measured against.

    Revenue and outcomes are told by business events; active users are the distinct users seen.
    """

    REVENUE = "revenue"
    OUTCOMES = "outcomes"
    ACTIVE_USERS = "active_users"
    REQUESTS = "requests"

    @property
    def is_told(self) -> bool:
        """Whether it comes from business events, and so may be late."""
        return self in {Against.REVENUE, Against.OUTCOMES}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ratio(Rule):
    """A checked ratio: `numerator` over `denominator` in a window, or a period of a calendar.

    Its number is in millionths for cost over revenue, else in the unit of the numerator for one of
    the denominator, rounded towards not firing. With `below` it fires where the number is small;
    amounts and thresholds are then their negatives, so that they rise all the same.

    `min_denominator` and `min_numerator` are what must stand behind a number for it to count;
    what is told may be no older than `max_age`.
    """

    kind: ClassVar[str] = "ratio"

    numerator: Measure
    denominator: Against
    window: timedelta | None = None
    calendar: Calendar | None = None
    below: bool = False
    min_denominator: int
    min_numerator: int = 0
    max_age: timedelta | None = None
    every: timedelta = timedelta(minutes=5)

    @property
    def unit(self) -> Unit:
        """What its number is in."""
        share = self.denominator is Against.REVENUE
        return Unit.SHARE if share else Unit(self.numerator.value)

    @property
    def meaning(self) -> str:
        """What is computed and of whom."""
        calendar = self.calendar
        span = [calendar.every, calendar.zone] if calendar else [str(self.window)]
        parts = [self.numerator, self.denominator, self.below, *self.scope_meaning(), *span]
        return json.dumps([self.kind, *parts])

    @property
    def cell(self) -> timedelta:
        """By how much its window moves at a time."""
        if self.calendar is not None:
            months = self.calendar.every is Every.MONTH
            return _HOUR if months and whole_hours(self.calendar.zone) else BUCKET
        window = self.window or _DAY
        if window <= 2 * _DAY:
            return BUCKET
        return _HOUR if window <= 32 * _DAY else _DAY

    @property
    def cells(self) -> int:
        """How many cells a window holds, at most."""
        lengths = {Every.HOUR: _HOUR, Every.DAY: _DAY, Every.WEEK: 7 * _DAY, Every.MONTH: 31 * _DAY}
        longest = lengths[self.calendar.every] if self.calendar else self.window or _DAY
        return longest // self.cell + 8  # a day may be longer by some hours, and events come ahead

    def period(self, at: datetime) -> Period:
        """Return the calendar period of `at`, or that of all time."""
        return self.calendar.period(at) if self.calendar else ALWAYS

    def span(self, at: datetime) -> tuple[datetime, datetime]:
        """Return the bounds of the window that ends at `at`, both at bounds of cells.

        The cell of `at` itself belongs to it, the cell in which a rolling window begins does not.
        """
        number = (at - _EPOCH) // self.cell
        end = _EPOCH + (number + 1) * self.cell
        if self.calendar is not None:
            return self.calendar.period(at).start, end
        return end - (self.window or _DAY) // self.cell * self.cell, end

    def number(self, above: int, under: int) -> int:
        """Return the number of a group; `under` is more than 0."""
        scale = MICRO if self.denominator is Against.REVENUE else 1
        return above * scale // under if not self.below else -(above * scale // under)

    def text(self, amount: int) -> str:
        """Write a number for people: `31.2%`, `0.52 USD a user`."""
        each = {
            Against.OUTCOMES: " an outcome",
            Against.ACTIVE_USERS: " a user",
            Against.REQUESTS: " a request",
        }
        # one owner of the form of amounts: the base; only the sign and the words are ours
        positive = -amount if self.below else amount
        return Rule.text(self, positive) + each.get(self.denominator, "")

    @property
    def window_text(self) -> str:
        """The window in words: `7d`, or the calendar period."""
        return str(self.calendar.every) if self.calendar else span_text(self.window or _DAY)
