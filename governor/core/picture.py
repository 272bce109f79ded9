"""The picture of an alert, in numbers: what a chart of it shows, whoever draws it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from governor.core.rules.units import Unit


class Style(StrEnum):
    """What a line is: what was used, what is usual, what is likely to come, or a share."""

    USED = "used"
    USUAL = "usual"
    AHEAD = "ahead"
    SHARE = "share"


@dataclass(frozen=True, slots=True)
class Line:
    """Amounts over time, in the unit of the picture."""

    name: str
    style: Style
    points: tuple[tuple[datetime, int], ...]


@dataclass(frozen=True, slots=True)
class Span:
    """Between what and what an amount lies at a time, eight times in ten."""

    at: datetime
    low: int
    high: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment of an alert: when it fired, or was over."""

    at: datetime
    text: str
    level: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Lines over one stretch of time. `limits` are amounts by their names, `why` is a sentence."""

    title: str
    why: str
    unit: Unit
    lines: tuple[Line, ...]
    band: tuple[Span, ...] = ()
    limits: tuple[tuple[str, int], ...] = ()
    marks: tuple[Mark, ...] = ()
