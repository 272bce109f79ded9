"""The gauge of a forecast: whole local days of all groups, and what the period will come to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt

from governor.core import outlook
from governor.core.alerts import Health, Seen
from governor.core.gauges.history import MAX_GROUPS, Blocks, Wanted
from governor.core.gauges.shared import EPOCH, FROM_END, MICROSECOND, Groups, Readings, Sighting
from governor.core.outlook import HISTORY_DAYS, Outlook
from governor.core.periods import BUCKET
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.units import MICRO
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums

KEPT_DAYS: Final = HISTORY_DAYS + 32
"""Local days that are kept: the past that is looked at, and the longest period."""
FEW_ROWS: Final = 64
LOW: Final = 0.1
HIGH: Final = 0.9
"""The bounds of the interval that is told: eight in ten periods end within it."""
_BUCKET_US: Final = BUCKET // MICROSECOND
_DAY: Final = timedelta(days=1)
_DAY_HOURS: Final = 24


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a period will come to: so far, likely in the end, and between what and what.

    `above` is the probability in millionths that it passes the limit, `exhausted` the local day on
    which it likely does, None where it likely does not. `sure` is False on a short past.
    """

    so_far: int
    likely: int
    low: int
    high: int
    above: int
    exhausted: date | None
    sure: bool


class Days:
    """What each group used on each local day of a zone; a ring of KEPT_DAYS days."""

    def __init__(self, zone: str) -> None:
        self._zone = ZoneInfo(zone)
        self._rows: dict[Key, int] = {}
        self._first: list[int] = []
        self._newest = 0
        self._amounts: npt.NDArray[np.int64] = np.zeros((FEW_ROWS, KEPT_DAYS), np.int64)
        self._day_of: dict[int, int] = {}

    @property
    def groups(self) -> Sequence[Key]:
        """All groups, in the order of their rows."""
        return list(self._rows)

    def row_of(self, group: Key) -> int | None:
        """Return the row of a group."""
        return self._rows.get(group)

    def number(self, at: datetime) -> int:
        """Return the number of the local day that an instant lies in."""
        return at.astimezone(self._zone).date().toordinal()

    def start(self, day: int) -> datetime:
        """Return where a local day begins."""
        return datetime.combine(date.fromordinal(day), time(), self._zone).astimezone(UTC)

    def add(self, group: Key, bucket: int, amount: int) -> None:
        """Add what a group used in a quarter of an hour, by its number since 1970."""
        day = self._day_of.get(bucket)
        if day is None:
            day = self._day_of[bucket] = self.number(EPOCH + bucket * BUCKET)
        self.open_day(day)
        if day <= self._newest - KEPT_DAYS:
            return
        row = self._rows.get(group)
        if row is None and len(self._rows) >= MAX_GROUPS:
            return
        if row is None:
            row = self._rows[group] = len(self._rows)
            self._first.append(day)
            if row == len(self._amounts):
                self._amounts = np.vstack([self._amounts, np.zeros_like(self._amounts)])
        self._first[row] = min(day, self._first[row])
        self._amounts[row, day % KEPT_DAYS] += amount

    def open_day(self, day: int) -> None:
        """Make room for a day, and for those before it."""
        if day > self._newest:
            passed = range(max(self._newest + 1, day - KEPT_DAYS + 1), day + 1)
            self._amounts[:, [each % KEPT_DAYS for each in passed]] = 0
            self._newest = day

    def between(self, first: int, last: int) -> npt.NDArray[np.int64]:
        """Return what groups used on the days from `first` to `last`: (groups, days)."""
        places = [day % KEPT_DAYS for day in range(first, last + 1)]
        return self._amounts[: len(self._rows), places]

    def known(self, today: int) -> npt.NDArray[np.int64]:
        """Return for how many whole days each group is known."""
        return np.maximum(today - np.array(self._first, np.int64), 0)

    def forget(self, today: int) -> None:
        """Drop groups without usage on any day that is kept."""
        used = np.any(self._amounts[: len(self._rows)] != 0, axis=1)
        groups = self.groups
        kept = [row for row in range(len(groups)) if used[row]]
        room = np.zeros((FEW_ROWS, KEPT_DAYS), np.int64)
        self._amounts = np.vstack([self._amounts[kept], room])
        self._rows = {groups[row]: place for place, row in enumerate(kept)}
        self._first = [max(self._first[row], today - KEPT_DAYS) for row in kept]
        self._day_of.clear()


class ForecastGauge:
    """The days of all groups of a forecast, or of a budget that is looked ahead for."""

    def __init__(self, rule: Forecast | Budget) -> None:
        self.rule = rule
        self.mask: Mask | None = rule.mask
        self.seen_mask: Mask | None = None
        self._groups = Groups(rule, rule.mask)
        self._days = Days(rule.calendar.zone)
        self._seen: tuple[datetime, Outlook, npt.NDArray[np.int64]] | None = None

    def wanted(self, now: datetime) -> Wanted:
        """Return the history that it begins with."""
        start = self._days.start(self._days.number(now) - KEPT_DAYS + 1)
        return Wanted(self.rule.where, self.rule.per, start, BUCKET, (self.rule.measure,))

    def take(self, blocks: Blocks) -> None:
        """Begin with a history."""
        self._seen = None
        for block in blocks:
            columns = (block.rows, block.cells, block.amounts[self.rule.measure])
            for row, cell, amount in zip(*(column.tolist() for column in columns), strict=True):
                self._days.add(block.keys[row], cell, amount)

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in usage."""
        self._seen = None
        place = FROM_END[self.rule.measure]
        for row in rows:
            group = self._groups.of(row[1:-3])
            if group is not None:
                self._days.add(group, row[0] // _BUCKET_US, row[place])

    def see(self, rows: Iterable[Sighting]) -> None:
        """Take in nothing."""

    def read(self, at: datetime) -> Readings:
        """Return what the period of a time will come to at least, of every group."""
        rule = self.rule
        ahead, so_far = self._looked(at)
        confidence = rule.confidence if isinstance(rule, Forecast) else MICRO // 2
        least = so_far + ahead.quantile(1 - confidence / MICRO)
        need = rule.min_history // _DAY if isinstance(rule, Forecast) else 0
        known = self._days.known(self._days.number(at)) >= need
        found: dict[Key, Seen] = {
            group: int(least[row]) if known[row] else Health.GUARDED
            for row, group in enumerate(self._days.groups)
        }
        return Readings(found, Health.GUARDED)

    def _looked(self, at: datetime) -> tuple[Outlook, npt.NDArray[np.int64]]:
        """Look ahead for all groups, once for a time and what is known of it."""
        if self._seen is not None and self._seen[0] == at:
            return self._seen[1:]
        days = self._days
        period = self.rule.calendar.period(at)
        today, last = days.number(at), days.number(period.end - MICROSECOND)
        days.open_day(today)
        past = days.between(today - HISTORY_DAYS, today - 1).astype(np.float64)
        known = days.known(today)
        so_far = days.between(days.number(period.start), today).sum(axis=1)
        end = days.start(today + 1)
        weights = np.ones(last - today + 1)
        weights[0] = (end - at) / (end - days.start(today))
        ahead = outlook.outlook(
            past,
            known,
            _weekdays(today - HISTORY_DAYS, today - 1),
            _weekdays(today, last),
            weights,
        )
        fresh = known == 0  # nothing but today is known of them
        passed = max(1 - weights[0], 1 / _DAY_HOURS)
        used = days.between(today, today)[fresh].astype(np.float64)
        ahead.rest[fresh] = used / passed * weights
        self._seen = (at, ahead, so_far)
        return ahead, so_far

    def ahead(self, group: Key, at: datetime) -> Ahead | None:
        """Return what the period of a time will come to, of one group."""
        row = self._days.row_of(group)
        return None if row is None else self._ahead_of(row, *self._looked(at), at)

    def every(self, at: datetime) -> dict[Key, Ahead]:
        """Return what the period of a time will come to, of every group."""
        looked = self._looked(at)
        return {
            group: self._ahead_of(row, *looked, at) for row, group in enumerate(self._days.groups)
        }

    def _ahead_of(
        self, row: int, found: Outlook, so_far: npt.NDArray[np.int64], at: datetime
    ) -> Ahead:
        limit, used = self.rule.limit, int(so_far[row])
        alone = Outlook(found.rest[[row]], found.unit[[row]], found.sure[[row]])
        likely, low, high = (float(alone.quantile(share)[0]) for share in (0.5, LOW, HIGH))
        scale = likely / max(float(alone.total[0]), 1e-9)
        passed = np.flatnonzero(used + np.cumsum(alone.rest[0]) * scale > limit)
        today = self._days.number(at)
        day = today if used > limit else today + int(passed[0]) if len(passed) else None
        above = float(alone.above(np.array([limit - used], np.float64))[0])
        return Ahead(
            so_far=used,
            likely=used + int(likely),
            low=used + int(low),
            high=used + int(high),
            above=MICRO if used > limit else int(above * MICRO),
            exhausted=None if day is None else date.fromordinal(day),
            sure=bool(alone.sure[0]),
        )

    def past(self, group: Key, at: datetime) -> list[tuple[datetime, int]]:
        """Return what a group used on the days of its period so far, by when they end."""
        row = self._days.row_of(group)
        days, period = self._days, self.rule.calendar.period(at)
        first, today = days.number(period.start), days.number(at)
        used = days.between(first, today)[row].tolist() if row is not None else []
        return [(days.start(first + n + 1), amount) for n, amount in enumerate(used)]

    def forget(self, now: datetime) -> None:
        """Drop groups without usage on any day that is kept."""
        self._seen = None
        self._days.forget(self._days.number(now))
        self._groups.forget()


def _weekdays(first: int, last: int) -> npt.NDArray[np.int64]:
    """Return the weekdays of days by number, Monday is 0."""
    return (np.arange(first, last + 1) - 1) % 7
