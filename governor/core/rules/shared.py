"""What rules of every kind have: levels, modes, and the actions that a threshold may name."""

from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """How bad it is; greater is worse."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    def __str__(self) -> str:
        return self.name.lower()


class Mode(StrEnum):
    """What a rule may do: nothing, be recorded, tell people, also act."""

    OFF = "off"
    SHADOW = "shadow"
    NOTIFY = "notify"
    ENFORCE = "enforce"


class Fail(StrEnum):
    """What becomes of a directive when its lease runs out: it ends, or it is held until its end."""

    OPEN = "open"
    CLOSED = "closed"


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
class Throttle:
    """The action that slows requests of the rule's group down to `rate`, until the period ends.

    Each value of the dimension `each` has a rate of its own; None is one rate for the group.
    """

    name: str
    rate: Rate
    each: str | None
    fail: Fail
