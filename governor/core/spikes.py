"""Spikes: hourly usage that is far above what a series' own past makes likely.

What is usual is a level times a shape of the day, apart for weekdays and weekends. Four looks, at
1, 6 and 24 hours and at 24 hours against a level that learns slowly, each compare what was used
with what is usual: the logarithm of their ratio, next to a constant that keeps small amounts from
counting. How rare such a ratio is, each series learns itself: peaks over threshold with an
exponential tail (Pickands 1975), whose threshold follows a quantile by Robbins and Monro (1951).
What is far outside teaches nothing: amounts and excesses are clipped, and all is learned five times
slower in the day after an alarm. An open hour is compared with what is usual in the whole of it;
since usage only adds up, that finds a spike within minutes and never too early.

A series whose own bursts are many is not judged by the hour. All are judged by the local day, too:
the logarithm of a day's total over what is usual, against that of the five weeks before by how they
stray.

Arrays have a column for each series, and a row for each hour, day, slot or look.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from governor.core.series import (
    NONE_MARKED,
    QUIET_HOURS,
    Asked,
    Floats,
    Found,
    Ints,
    Marked,
    Marks,
    Series,
    Slots,
)

LOOKS: Final = (1, 6, 24, 24)
"""The hours of each look; the last one is measured against the slow level."""
OF_DAY: Final = 4
"""The number of the look at the local day, after the others."""

HOURS: Final = 28
"""Hours whose usage is kept, the open one and those that wait for late usage among them."""
DAYS: Final = 35
RECENT_DAYS: Final = 7
FIRST_HOURS: Final = 24
"""Hours from which level and shape are begun."""
MIN_DAYS: Final = 14

TAIL: Final = 0.05
"""The share of the past that lies beyond the threshold of a look."""
FIRST_AT: Final = (0.30, 0.25, 0.20, 0.20)
FIRST_MEAN: Final = (0.25, 0.15, 0.10, 0.10)
LEAST_MEAN: Final = (0.12, 0.07, 0.045, 0.05)
"""Threshold and mean excess that a look begins with, and the least mean excess it may have."""
MOST_EXCESS: Final = 2.5
"""An excess teaches at most so many mean excesses."""
MOST_TIMES: Final = 6.0
LEAST_TIMES: Final = 0.5
"""An hour teaches level and shape at most and at least so many times what is usual."""
SHAPE_GAIN: Final = 0.1
LEVEL_GAIN: Final = 0.003
SLOW_GAIN: Final = 0.002
ALARMED_GAIN: Final = 0.2
ALARMED_HOURS: Final = 24
"""How much of it is learned after an alarm, and for how long."""
SMALL: Final = 0.5
"""Of an hour's level: what keeps small amounts from counting."""
REMEMBERED: Final = 2_000
BURST_TIMES: Final = 3.0
BURST_SHARE: Final = 0.01
"""Hours of three times the usual and more; a series with more of them is not judged by hours."""
BURST_HOURS: Final = 504
DAY_SCORE: Final = 4.0
BURSTY_DAY_SCORE: Final = 5.0
"""Deviations from which on a day is as telling as an hour of the score that is asked for."""
WEARY_HOURS: Final = 24 * 6
"""After an episode has cooled down, for how long a day must be twice as far off to begin another:
what has moved for good is not told every day until it is learned."""
DAY_SPREAD: Final = 0.12
SMALL_DAY: Final = 0.1
LOG10_E: Final = 0.4342944819032518
_TINY: Final = 1e-9
_LEAST: Final = np.float32(1e-3)
"""The least level that is reckoned with."""
_SMALL: Final = np.array([SMALL * wide**0.5 for wide in LOOKS], np.float32)[:, None]
_LEAST_MEAN: Final = np.array(LEAST_MEAN, np.float32)[:, None]


class Looks(NamedTuple):
    """What looks see of each series, a row for each: used, usual, and the logarithm of their ratio.

    `near` is what was used in less digits.
    """

    ratio: Floats
    used: Sequence[Ints]
    near: Floats
    usual: Floats


class Baselines(Series):
    """What is usual in each of some series, and how far they stray."""

    hours = HOURS

    def __init__(self, slots: Slots, asked: Asked, columns: int = 0) -> None:
        super().__init__(slots, asked, columns)
        self.level = np.zeros(columns, np.float32)
        self.slow = np.zeros(columns, np.float32)
        self.of_day = np.ones((24, columns), np.float32)
        self.of_week = np.ones((48, columns), np.float32)
        self.seen_day = np.zeros((24, columns), np.uint16)
        self.seen_week = np.zeros((48, columns), np.uint16)
        self.usual = np.zeros((24, columns), np.float32)
        self.usual_slow = np.zeros((24, columns), np.float32)
        self.tail_at = _columns(FIRST_AT, columns)
        self.tail_mean = _columns(FIRST_MEAN, columns)
        self.tail_many = np.zeros((len(LOOKS), columns), np.uint16)
        self.bursts = np.zeros(columns, np.float32)
        self.days = np.full((DAYS, columns), np.nan, np.float32)
        self.today = np.zeros(columns, np.int64)
        self.day_usual = np.full(columns, np.nan, np.float32)
        self.day_middle = np.full(columns, np.nan, np.float32)
        self.day_spread = np.full(columns, np.nan, np.float32)
        self.alarmed_until = np.zeros(columns, np.int32)

    def find(self, hour: int, marked: Marked = NONE_MARKED) -> Found:
        """Judge an hour that is open."""
        looks = self._looks(hour)
        return self._find(hour, looks, self._scores(looks), marked.mute)

    def close(self, hour: int, marked: Marked = NONE_MARKED, *, judge: bool = True) -> None:
        """Judge an hour to which nothing is added any more, then learn; see `Series.close`."""
        looks = self._looks(hour)
        scores = self._scores(looks)
        if judge:
            self._find(hour, looks, scores, marked.mute)
        self._learn(hour, looks, scores.max(axis=0), marked.unlike)
        self.age += 1
        self._begin_shapes(hour, np.flatnonzero(self.age == FIRST_HOURS))
        self._close_day(hour, marked.unlike)

    def _learn(self, hour: int, looks: Looks, score: Floats, unlike: Marks | None) -> None:
        alarmed = self.alarmed_until > hour
        gain = np.where(alarmed, np.float32(ALARMED_GAIN), np.float32(1.0))
        gain[self.age < FIRST_HOURS] = 0.0
        if unlike is not None:
            gain[unlike] = 0.0
        rare = (score >= self.asked.score) & (self.age >= QUIET_HOURS) & ~alarmed
        self.alarmed_until[rare] = hour + 1 + ALARMED_HOURS
        self._learn_tails(looks.ratio, gain)
        self._learn_shape(hour, gain)

    def _learn_tails(self, ratio: Floats, gain: Floats) -> None:
        beyond = ratio - self.tail_at
        over = beyond > 0
        self.tail_many += over & (gain > 0) & (self.tail_many < REMEMBERED)
        excess = np.minimum(beyond, MOST_EXCESS * self.tail_mean)
        parts = np.clip(self.tail_many, 1, 192).astype(np.float32) + 8
        step = gain * over * (excess - self.tail_mean) / parts
        self.tail_mean = np.maximum(self.tail_mean + step, _LEAST_MEAN).astype(np.float32)
        share = gain / (TAIL * np.clip(self.age, 30, REMEMBERED)).astype(np.float32)
        moved = share * self.tail_mean * (over - np.float32(TAIL))
        self.tail_at = (self.tail_at + moved).astype(np.float32)

    def _learn_shape(self, hour: int, gain: Floats) -> None:
        of_day, weekend, _ = self.slots(hour)
        used = self.used[hour % HOURS].astype(np.float32)
        usual = self.expected(hour)
        level = np.maximum(self.level, _LEAST)
        learned = gain > 0
        burst = used > np.float32(BURST_TIMES) * np.maximum(usual, np.float32(0.3) * level)
        span = np.clip(self.age, 1, BURST_HOURS).astype(np.float32)
        self.bursts += (gain * (burst - self.bursts) / span).astype(np.float32)
        most = np.float32(MOST_TIMES) * np.maximum(usual, np.float32(0.15) * level)
        taught = np.maximum(np.minimum(used, most), np.float32(LEAST_TIMES) * usual)
        shape = taught / level
        for slots, seen, place in (
            (self.of_day, self.seen_day, of_day),
            (self.of_week, self.seen_week, of_day + 24 * weekend),
        ):
            seen[place] = np.minimum(seen[place] + learned, np.uint16(REMEMBERED))
            rate = gain * np.maximum(
                np.float32(SHAPE_GAIN), 1 / np.maximum(seen[place], 1, dtype=np.float32)
            )
            slots[place] += (rate * (shape - slots[place])).astype(np.float32)
        self.usual[hour % 24] = usual
        self.usual_slow[hour % 24] = usual * self.slow / level
        first = 1 / (self.age + 1).astype(np.float32)
        fresh = self.level + gain * np.maximum(np.float32(LEVEL_GAIN), first) * (taught - usual)
        rate = gain * np.maximum(np.float32(SLOW_GAIN), first)
        self.slow += (rate * (fresh - self.slow)).astype(np.float32)
        self.level = fresh.astype(np.float32)

    def _begin_shapes(self, hour: int, fresh: npt.NDArray[np.intp]) -> None:
        """Take the first day for level and shape, the latter halfway to none."""
        if not len(fresh):
            return
        hours = range(hour - FIRST_HOURS + 1, hour + 1)
        level = np.mean([self.used[each % HOURS, fresh] for each in hours], axis=0)
        self.level[fresh] = self.slow[fresh] = level
        for each in hours:
            used = self.used[each % HOURS, fresh]
            shape = (used + SMALL * level) / np.maximum((1 + SMALL) * level, _TINY)
            of_day = self.slots(each).of_day
            for slots in (of_day, of_day + 24):
                self.of_week[slots, fresh] = shape
            self.of_day[of_day, fresh] = shape
            self.seen_day[of_day, fresh] = 1
            self.usual[each % 24, fresh] = self.usual_slow[each % 24, fresh] = used

    def _close_day(self, hour: int, unlike: Marks | None) -> None:
        self.today += self.used[hour % HOURS]
        _, _, day = self.slots(hour)
        if day == self.slots(hour + 1).day:
            return
        ratio = self._ratio_of_day(self.today)
        kept = ratio if unlike is None else np.where(unlike, np.nan, ratio)
        self.days[day % DAYS] = kept
        self.today[:] = 0
        self._know_days(day)
        shape = np.sum([self._shape(hour + ahead) for ahead in range(1, 25)], axis=0)
        self.day_usual[:] = np.where(self.age >= FIRST_HOURS, self.slow * shape, np.nan)

    def _ratio_of_day(self, used: Ints) -> Floats:
        small = SMALL_DAY * self.day_usual + _TINY
        return np.log((used + small) / (self.day_usual + small))

    def _know_days(self, day: int) -> None:
        """Take down how days stray, the newest of them left out where there are enough others."""
        days = self.days.astype(np.float64)
        known = np.isfinite(days).sum(axis=0)
        recent = [(day - back) % DAYS for back in range(RECENT_DAYS)]
        days[np.ix_(recent, known >= MIN_DAYS + RECENT_DAYS)] = np.nan
        columns = np.flatnonzero(known >= MIN_DAYS)
        if not len(columns):
            return
        ordered = np.sort(days[:, columns], axis=0)  # unknown ones come last
        many = np.isfinite(ordered).sum(axis=0)
        middle, high = _at(ordered, many, 0.5), _at(ordered, many, 0.9)
        strays = _at(np.sort(np.abs(ordered - middle), axis=0), many, 0.5)
        spread = np.maximum(1.4826 * strays, (high - middle) / 1.2816)
        self.day_middle[columns] = middle
        self.day_spread[columns] = np.maximum(spread, DAY_SPREAD)

    # ---------------------------------------------------------------------------- what is usual

    def expected(self, hour: int) -> Floats:
        """Return what is usual in the whole of an hour."""
        return np.asarray(np.maximum(self.level, _LEAST) * self._shape(hour))

    def _shape(self, hour: int) -> Floats:
        of_day, weekend, _ = self.slots(hour)
        of_week = of_day + 24 * weekend
        seen = self.seen_week[of_week].astype(np.float32)
        weight = seen / (seen + 2)
        found = weight * self.of_week[of_week] + (1 - weight) * self.of_day[of_day]
        return np.asarray(found)

    def _looks(self, hour: int) -> Looks:
        """Return what each look sees that ends with an hour."""
        level = np.maximum(self.level, _LEAST)
        now, usual = self.used[hour % HOURS], self.expected(hour)
        some = [hour - ago for ago in range(1, LOOKS[1])]
        others = [(hour + ahead) % HOURS for ahead in range(1, HOURS - LOOKS[2] + 1)]
        slow, gone = usual * self.slow / level, hour % 24
        of_day = self.used.sum(axis=0) - self.used[others].sum(axis=0)
        few = now + self.used[[each % HOURS for each in some]].sum(axis=0)
        normal = np.empty((len(LOOKS), len(self)), np.float32)
        normal[0] = usual
        normal[1] = usual + self.usual[[each % 24 for each in some]].sum(axis=0)
        normal[2] = usual + self.usual.sum(axis=0) - self.usual[gone]
        normal[3] = slow + self.usual_slow.sum(axis=0) - self.usual_slow[gone]
        used = (now, few, of_day, of_day)
        near = np.array(used, np.float32)
        small = level * _SMALL
        return Looks(np.log((near + small) / (normal + small)), used, near, normal)

    def _scores(self, looks: Looks) -> Floats:
        """Return the score of each look where what it sees matters, else 0."""
        beyond = looks.ratio - self.tail_at
        score = np.float32(-np.log10(TAIL)) + np.float32(LOG10_E) * beyond / self.tail_mean
        far = (beyond > 0) & self._matters(looks.near, looks.usual)
        hourly = (self.bursts < BURST_SHARE) | self.open
        return np.asarray(np.where(far & hourly, score, np.float32(0.0)))

    def _matters(self, used: Floats, usual: Floats) -> Marks:
        excess = used - usual
        enough = excess >= np.float32(self.asked.times - 1) * usual
        least = np.maximum(np.float32(self.asked.day_share * 24) * self.level, np.float32(1))
        return np.asarray(enough & (excess >= least))

    def _of_day(self, hour: int) -> tuple[Floats, Ints, Floats]:
        """Return the score of the local day so far against whole days, what was used, and usual."""
        used = self.today + self.used[hour % HOURS]
        ratio = self._ratio_of_day(used)
        far = (ratio - self.day_middle) / self.day_spread
        need = np.where(self.bursts < BURST_SHARE, DAY_SCORE, BURSTY_DAY_SCORE)
        score = np.nan_to_num(far / need * self.asked.score, nan=0.0)
        usual = np.nan_to_num(np.exp(self.day_middle) * self.day_usual, nan=0.0)
        score[~self._matters(used.astype(np.float32), usual)] = 0.0
        return score, used, usual

    # --------------------------------------------------------------------------------- episodes

    def _find(self, hour: int, looks: Looks, scores: Floats, mute: Marks | None) -> Found:
        day_score, day_used, day_usual = self._of_day(hour)
        weary = ~self.open & (hour < self.cool_until + WEARY_HOURS)
        day_score[weary & (day_used - day_usual < 2 * self.peak)] = 0.0
        every = (*scores, day_score)
        telling = np.flatnonzero(np.maximum.reduce(every) > 0)
        score, look = np.zeros(len(self)), np.zeros(len(self), np.int8)
        used, usual = np.zeros(len(self), np.int64), np.zeros(len(self))
        if len(telling):
            told = np.array([each[telling] for each in every])
            of_used = np.array([each[telling] for each in (*looks.used, day_used)])
            of_usual = np.array([each[telling] for each in (*looks.usual, day_usual)])
            told[of_used - of_usual < self.asked.least] = 0.0
            which = np.argmax(told, axis=0)
            columns = np.arange(len(telling))
            look[telling], score[telling] = which, told[which, columns]
            used[telling], usual[telling] = of_used[which, columns], of_usual[which, columns]
        return Found(score, look, used, usual, self._judge(hour, score, used - usual, mute))


def _at(ordered: Floats, many: Ints, share: float) -> Floats:
    """Return the value below which a share of each column lies, of its first `many` rows."""
    rows = np.minimum((many * share).astype(np.int64), many - 1)
    return np.asarray(ordered[rows, np.arange(ordered.shape[1])])


def _columns(values: tuple[float, ...], columns: int) -> Floats:
    """Return an array with these values in each column."""
    return np.repeat(np.array(values, np.float32)[:, None], columns, axis=1)
