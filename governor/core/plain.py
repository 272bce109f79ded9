"""The plain comparison: usage of a window against that of the same hours a day or a week ago.

It asks for no statistics and forgives no rhythm but its own; `spikes` is the better judge.
"""

import numpy as np

from governor.core.series import NONE_MARKED, Asked, Floats, Found, Marked, Series, Slots

HOURS = 7 * 24 + 24 + 4
"""Hours that are kept: a week, a window of a day, and those that wait for late usage."""


class Plain(Series):
    """Series that are compared with themselves `season` hours ago, over windows of `wide` hours.

    A score is how many times the usage of then it is.
    """

    hours = HOURS

    def __init__(
        self, slots: Slots, asked: Asked, columns: int = 0, *, season: int = 168, wide: int = 1
    ) -> None:
        super().__init__(slots, asked, columns)
        self._season = season
        self._wide = wide

    def empty(self, columns: int) -> "Plain":
        """Return others of the kind, about which nothing is known."""
        return Plain(self.slots, self.asked, columns, season=self._season, wide=self._wide)

    def expected(self, hour: int) -> Floats:
        """Return what was used in the same hour a season ago."""
        return np.asarray(self.used[(hour - self._season) % HOURS], np.float64)

    def find(self, hour: int, marked: Marked = NONE_MARKED) -> Found:
        """Judge an hour that is open."""
        window = [hour - back for back in range(self._wide)]
        used = self.used[[each % HOURS for each in window]].sum(axis=0)
        usual = self.used[[(each - self._season) % HOURS for each in window]].sum(axis=0)
        known = self.age >= self._season + self._wide
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(usual > 0, used / usual, np.where(used > 0, np.inf, 0.0))
        score = np.where(known, times, 0.0)
        excess = np.where(known, used - usual, 0).astype(np.float64)
        opened = self._judge(hour, score, excess, marked.mute)
        return Found(score, np.zeros(len(self), np.int8), used, usual.astype(np.float64), opened)

    def close(self, hour: int, marked: Marked = NONE_MARKED, *, judge: bool = True) -> None:
        """Judge an hour to which nothing is added any more; nothing is learned of it."""
        if judge:
            self.find(hour, marked)
        self.age += 1
