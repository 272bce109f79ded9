"""The mix drift: shares of usage are not what they were, or not what was planned."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from types import MappingProxyType
from typing import ClassVar, Final

from governor.core.periods import ALWAYS, BUCKET, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import MICRO, Measure, Unit
from governor.core.scopes import mask_of

UNLISTED: Final = "(unlisted)"
"""The class of values that no class names."""
UNKNOWN: Final = "(none)"
"""The class of usage that does not say."""
CELLS: Final = (8, 4)
"""Into how many cells a window is cut: as many of these as are whole quarters of an hour."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class MixDrift(Rule):
    """A checked mix drift. Its number is by how much a share moved at most, in millionths.

    Shares are of `measure`, requests or cost, by the values of the dimension `by`, which `classes`
    put together by their patterns. They are compared with those of as many `windows` before, or
    with `target`, a share in millionths for each class. What no class names moves nothing unless
    `tells_unlisted`. A window counts that holds `min_requests`.
    """

    kind: ClassVar[str] = "mix_drift"

    measure: Measure = Measure.REQUESTS
    by: str = "model"
    classes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    tells_unlisted: bool = True
    window: timedelta = timedelta(days=1)
    windows: int = 28
    target: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    min_requests: int = 1_000
    every: timedelta = timedelta(minutes=15)

    @property
    def unit(self) -> Unit:
        """Millionths."""
        return Unit.SHARE

    @property
    def meaning(self) -> str:
        """What is compared and of whom."""
        classes = [[name, list(patterns)] for name, patterns in self.classes.items()]
        parts = [self.measure, self.by, classes, str(self.window), self.windows]
        targets = sorted(self.target.items())
        return json.dumps([self.kind, *parts, targets, *self.scope_meaning()])

    @property
    def mask(self) -> tuple[str, ...]:
        """The dimensions by which usage must be summed up, that of the shares among them."""
        return mask_of((*self.where.dimensions, *self.per, self.by))

    def period(self, at: datetime) -> Period:  # noqa: ARG002  # the same at any time
        """Return the period of all time."""
        return ALWAYS

    @property
    def cell(self) -> timedelta:
        """By how much its window moves at a time."""
        fine = [self.window / many for many in CELLS if not self.window / many % BUCKET]
        return fine[0] if fine else BUCKET

    def end(self, at: datetime) -> datetime:
        """Return where the window of a time ends: after the cell that it lies in."""
        return _EPOCH + ((at - _EPOCH) // self.cell + 1) * self.cell

    def class_of(self, value: str | None) -> str:
        """Return the class of a value of `by`."""
        if value is None:
            return UNKNOWN
        if not self.classes:
            return value
        for name, patterns in self.classes.items():
            if any(fnmatchcase(value, pattern) for pattern in patterns):
                return name
        return UNLISTED

    def text(self, amount: int) -> str:
        """Write a move for people: `12.3 points`."""
        return f"{amount / (MICRO // 100):.1f} points"
