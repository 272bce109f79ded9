"""Surprise: how unlike its own past a series is, point by point, by nothing that comes later.

Four looks at a series, each a number whose own past says how rare it is: the jump against the hour
of the day, the level against it, the mean of the last points against all of history, and how
restless the series has been. Each look is worth the negative decimal logarithm of its tail
probability (peaks over threshold: an exponential tail beyond a quantile, Pickands 1975), nothing
within the usual range, at most `MAX_PART`. Weak and different surprises add up better than one is
picked. After an alarm only what is greater than all of the last day and more is told.
"""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

PARTS: Final = ("jump", "level", "mean", "restless")
MAX_PART: Final = 6.0
"""A look is worth no more: one in a million."""
MAX_SUM: Final = MAX_PART * len(PARTS)
ALARM: Final = 0.4
"""From this score on it is an alarm."""

WINDOW: Final = 5_000
"""Points of the past that a look is compared with."""
SLOT_WINDOW: Final = 400
"""Points of the past that an hour of the day is known by."""
USUAL: Final = 0.02
"""The share of the past beyond either end of what is usual."""
MIN_BEYOND: Final = 5
"""Points that an end is known by, at least."""
MIN_PAST: Final = 100
"""Points before which nothing surprises."""
FAST: Final = 0.3
"""The weight of the newest residual in what jumps are measured from."""
FEW: Final = 12
"""Points whose mean is looked at."""
MANY: Final = 96
"""Points whose restlessness is looked at."""
COOL_DOWN: Final = timedelta(hours=30)
_LOG10_E: Final = math.log10(math.e)
_TINY: Final = 1e-9


class Past:
    """The newest values of a look, in the order of time and of size."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: float) -> None:
        """Take in a value; the oldest goes where there is no room."""
        if len(self._values) == self._size:
            del self._sorted[bisect_left(self._sorted, self._values.popleft())]
        self._values.append(value)
        insort(self._sorted, value)

    def median(self) -> float:
        """Return the middle value; there is at least one."""
        return self._sorted[len(self._sorted) // 2]

    def rarity(self, value: float) -> float:
        """Return the negative decimal logarithm of how rare a value is, 0 for a usual one."""
        many = len(self._sorted)
        if many < MIN_PAST:
            return 0.0
        beyond = max(MIN_BEYOND, math.ceil(USUAL * many))
        high, low = self._sorted[many - beyond - 1], self._sorted[beyond]
        if value > high:
            excess = value - high
            mean = sum(self._sorted[many - beyond :]) / beyond - high
        elif value < low:
            excess = low - value
            mean = low - sum(self._sorted[:beyond]) / beyond
        else:
            return 0.0
        if mean <= _TINY * max(1.0, abs(high), abs(low)):
            return MAX_PART
        return min(MAX_PART, _LOG10_E * excess / mean - math.log10(beyond / many))


@dataclass(frozen=True, slots=True)
class Score:
    """How surprising a point is, from 0 to 1, and what each look says of it, from 0 to 6.

    `score` is 0 where something at least as surprising was told within the cool-down.
    """

    score: float
    parts: tuple[float, ...]

    @property
    def alarm(self) -> bool:
        """Whether it is to be told."""
        return self.score >= ALARM

    @property
    def why(self) -> str:
        """The look that says most."""
        return PARTS[max(range(len(PARTS)), key=lambda number: self.parts[number])]


class Surprise:
    """One series. Points come in the order of time; each is judged by those before it alone."""

    def __init__(self) -> None:
        self._looks = [Past(WINDOW) for _ in PARTS]
        self._all = Past(WINDOW)
        self._slots = [Past(SLOT_WINDOW) for _ in range(24)]
        self._fast = 0.0
        self._few: deque[float] = deque(maxlen=FEW)
        self._moves: deque[float] = deque(maxlen=MANY)
        self._last: float | None = None
        self._recent: deque[tuple[datetime, float]] = deque()

    def see(self, at: datetime, value: float) -> Score:
        """Judge the next point, then learn from it."""
        numbers = self._numbers(at, value)
        parts = tuple(
            look.rarity(number) for look, number in zip(self._looks, numbers, strict=True)
        )
        for look, number in zip(self._looks, numbers, strict=True):
            look.add(number)
        self._all.add(value)
        self._slots[at.hour].add(value)
        return Score(self._cooled(at, sum(parts) / MAX_SUM), parts)

    def _numbers(self, at: datetime, value: float) -> tuple[float, ...]:
        """Return what each look sees at a point."""
        slot = self._slots[at.hour]
        known = slot or self._all
        usual = known.median() if known else value
        residual = value - usual
        jump = residual - self._fast
        self._fast += FAST * jump
        scale = max(abs(self._all.median()), _TINY) if self._all else max(abs(value), _TINY)
        level = math.asinh(value / scale) - math.asinh(usual / scale)
        self._few.append(value)
        mean = sum(self._few) / len(self._few)
        if self._last is not None:
            self._moves.append(abs(value - self._last))
        self._last = value
        restless = sum(self._moves) / max(1, len(self._moves))
        return jump, level, mean, math.log(restless + _TINY * scale)

    def _cooled(self, at: datetime, score: float) -> float:
        """Return a score, 0 where one as great came within the cool-down."""
        while self._recent and at - self._recent[0][0] > COOL_DOWN:
            self._recent.popleft()
        greater = any(before >= score for _, before in self._recent)
        while self._recent and self._recent[-1][1] <= score:
            self._recent.pop()
        self._recent.append((at, score))
        return 0.0 if greater else score
