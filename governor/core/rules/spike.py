"""The spike: a group uses far more than its own past makes likely."""

import json
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from governor.core.periods import ALWAYS, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure, Unit
from governor.core.series import Asked


class Against(StrEnum):
    """What usage is compared with: what was learned of its rhythm, or a day or week ago."""

    LEARNED = "learned"
    YESTERDAY = "yesterday"
    LAST_WEEK = "last_week"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike(Rule):
    """A checked spike. Its number is what a group used beyond what is usual, in `measure`.

    `asked` says what an episode takes to begin. `zone` is that of its hours and days. `lookback` is
    how much of the past is learned from at a start. `wide` is the window of a plain comparison.
    """

    kind: ClassVar[str] = "spike"
    regrows: ClassVar[bool] = True

    measure: Measure = Measure.COST
    against: Against = Against.LEARNED
    asked: Asked = field(default_factory=Asked)
    zone: str = "UTC"
    lookback: timedelta = timedelta(days=42)
    wide: timedelta = timedelta(hours=1)

    @property
    def unit(self) -> Unit:
        """What it counts."""
        return Unit(self.measure.value)

    @property
    def meaning(self) -> str:
        """What is compared and of whom."""
        wide = [] if self.against is Against.LEARNED else [str(self.wide)]
        parts = [self.measure, self.against, self.zone, *wide, *self.scope_meaning()]
        return json.dumps([self.kind, *parts])

    def period(self, at: datetime) -> Period:  # noqa: ARG002  # the same at any time
        """Return the period of all time."""
        return ALWAYS

    def text(self, amount: int) -> str:
        """Write an excess for people."""
        return f"{Rule.text(self, amount)} beyond the usual"
