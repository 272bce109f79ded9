"""Series: the hourly usage of many groups at once, and the episodes in which it is far too much.

What is too much, a kind of judgement says: `spikes` learns it, `plain` compares with the past as it
was. Everything is an array with a column for each series. Hours are counted from 1970.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final, NamedTuple, Self

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.floating]
Marks = npt.NDArray[np.bool_]

QUIET_HOURS: Final = 144
"""Hours before which nothing is told of a series."""
YOUNG_HOURS: Final = 336


class Slot(NamedTuple):
    """Where an hour lies in local time: hour of the day, on a weekend or not, number of the day."""

    of_day: int
    weekend: bool
    day: int


Slots = Callable[[int], Slot]


@dataclass(frozen=True, slots=True)
class Asked:
    """What an episode asks for: a score, and an excess that matters.

    `score` is in what the judgement scores by. `young` is asked for on top in the first two weeks,
    and an episode is over once the score is lower by `relief`. An amount must be at least `times`
    what is usual, and above it by `least` and by `day_share` of a usual day. After an episode began
    no other does for `cool_hours`, but at twice its excess.
    """

    score: float = 3.3
    young: float = 1.0
    relief: float = 1.0
    times: float = 1.3
    day_share: float = 0.05
    least: int = 0
    cool_hours: int = 24


class Found(NamedTuple):
    """What was found of each series: `look` is the number of the one that says most.

    `used` is what was used in that look and `usual` what is usual in it, 0 where nothing is said.
    `open` marks the series in whose episode we are.
    """

    score: Floats
    look: npt.NDArray[np.int8]
    used: Ints
    usual: Floats
    open: Marks


class Marked(NamedTuple):
    """Series that are left out of an hour: `mute` are not told of, `unlike` teach nothing."""

    mute: Marks | None = None
    unlike: Marks | None = None


NONE_MARKED: Final = Marked()


class Series(ABC):
    """Usage by the hour, and episodes. `used` holds an hour at its number modulo `hours`.

    `hour` is the newest one that has begun, None before the first.
    """

    hours: ClassVar[int]

    def __init__(self, slots: Slots, asked: Asked, columns: int = 0) -> None:
        self.slots = slots
        self.asked = asked
        self.hour: int | None = None
        self.used: Ints = np.zeros((self.hours, columns), np.int64)
        self.age = np.zeros(columns, np.int32)
        self.open: Marks = np.zeros(columns, np.bool_)
        self.cool_until = np.zeros(columns, np.int32)
        self.peak: Floats = np.zeros(columns, np.float32)

    def __len__(self) -> int:
        return len(self.age)

    @property
    def state(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays, by name; the last axis of each is that of the series."""
        return {name: held for name, held in vars(self).items() if isinstance(held, np.ndarray)}

    def empty(self, columns: int) -> Self:
        """Return others of the kind, about which nothing is known."""
        return type(self)(self.slots, self.asked, columns)

    def grow(self, columns: int) -> None:
        """Make room for more series, about which nothing is known."""
        self._put(self.empty(columns))

    def join(self, other: Self) -> None:
        """Take in the series of another one that has come to the same hour."""
        self.hour = other.hour
        self._put(other)

    def replace(self, column: int, other: Self) -> None:
        """Put the only series of another one in the place of a column."""
        for name, held in self.state.items():
            held[..., column] = other.state[name][..., 0]

    def keep(self, columns: npt.NDArray[np.intp]) -> None:
        """Drop all series but these."""
        for name, held in self.state.items():
            setattr(self, name, np.ascontiguousarray(held[..., columns]))

    def _put(self, other: Self) -> None:
        for name, more in other.state.items():
            setattr(self, name, np.concatenate([getattr(self, name), more], axis=-1))

    def open_hour(self, hour: int) -> None:
        """Make room for the usage of an hour, and of those before it."""
        last = self.hour if self.hour is not None else hour - 1
        for fresh in range(max(last + 1, hour - self.hours + 1), hour + 1):
            self.used[fresh % self.hours] = 0
        self.hour = max(hour, last)

    def holds(self, hour: int) -> bool:
        """Say whether an hour's usage is kept."""
        return self.hour is not None and self.hour - self.hours < hour <= self.hour

    @abstractmethod
    def expected(self, hour: int) -> Floats:
        """Return what is usual in the whole of an hour."""

    @abstractmethod
    def find(self, hour: int, marked: Marked = NONE_MARKED) -> Found:
        """Judge an hour that is open."""

    @abstractmethod
    def close(self, hour: int, marked: Marked = NONE_MARKED, *, judge: bool = True) -> None:
        """Judge an hour to which nothing is added any more, then learn; for each hour, in order.

        Without `judge` it is learned from only: it is long ago, and no episode of then is open.
        """

    def _judge(self, hour: int, score: Floats, excess: Floats, mute: Marks | None) -> Marks:
        """Begin and end episodes; return which are open."""
        asked = self.asked
        need = np.where(self.age < YOUNG_HOURS, asked.score + asked.young, asked.score)
        heavy = (excess >= max(asked.least, 1)) & (self.age >= QUIET_HOURS)
        if mute is not None:
            heavy &= ~mute
        doubled = excess >= 2 * self.peak
        begins = ~self.open & heavy & (score >= need) & ((hour >= self.cool_until) | doubled)
        stays = self.open & heavy & (score >= need - asked.relief)
        self.cool_until[begins] = hour + asked.cool_hours
        peak = np.where(stays, np.maximum(self.peak, excess), self.peak)
        self.peak = np.where(begins, excess, peak).astype(np.float32)
        self.open = begins | stays
        return self.open.copy()
