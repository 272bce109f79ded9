"""Actions: what a threshold may call for against its rule's group, and within which bounds."""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

EVERY_ONE: Final = 100
"""The `percent` of an action that is for everybody."""


class Deed(StrEnum):
    """What an action does to requests: fewer of them, a cheaper model, none."""

    THROTTLE = "throttle"
    DOWNGRADE = "downgrade_model"
    BLOCK = "block"


class Fail(StrEnum):
    """What becomes of a directive when its lease runs out: it ends, or it is held until its end."""

    OPEN = "open"
    CLOSED = "closed"


class Until(StrEnum):
    """When the reason of an action ends: with the period, or as soon as its alert is over."""

    PERIOD_END = "period_end"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Rate:
    """So many requests in a span of time; also the size of the burst that is let through."""

    requests: int
    span: timedelta

    def __str__(self) -> str:
        units = {86_400: "day", 3_600: "h", 60: "min", 1: "s"}
        seconds = int(self.span.total_seconds())
        return f"{self.requests}/{units[seconds]}"


@dataclass(frozen=True, slots=True)
class Most:
    """How many an action may touch at a time: a number, or a share of all that its rule watches.

    `of` is the dimension whose values are counted.
    """

    of: str
    number: int | None = None
    share: Fraction | None = None

    def limit(self, watched: int) -> int:
        """Return the number, where `watched` values are watched."""
        if self.number is not None:
            return self.number
        return int((self.share or Fraction(0)) * watched)

    def __str__(self) -> str:
        much = f"{self.number}" if self.share is None else f"{float(100 * self.share):g}%"
        return f"{much} of {self.of}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """An action of a rule. `until` is a time of its own where it is a span.

    `rate` and `each` are of a throttle: each value of that dimension has a rate of its own, None is
    one rate for the group. `models` are of a downgrade: a model or a glob, and what to use instead.
    `manual` waits for a person; `most` bounds how many are touched; of the values of `each`, or of
    users, only `percent` are; `announce` is how long people are told before it begins. `early`
    counts what will be spent until it bites as if it were.
    """

    name: str
    do: Deed = Deed.THROTTLE
    rate: Rate | None = None
    each: str | None = None
    models: tuple[tuple[str, str], ...] = ()
    fail: Fail = Fail.OPEN
    until: Until | timedelta = Until.PERIOD_END
    manual: bool = False
    most: Most | None = None
    percent: int = EVERY_ONE
    announce: timedelta = timedelta(0)
    early: bool = False

    def __str__(self) -> str:
        """Say what it does: `throttle to 2/min for each user`."""
        if self.do is Deed.BLOCK:
            return "block"
        if self.do is Deed.DOWNGRADE:
            return "downgrade " + ", ".join(f"{old} to {new}" for old, new in self.models)
        return f"throttle to {self.rate}" + (f" for each {self.each}" if self.each else "")
