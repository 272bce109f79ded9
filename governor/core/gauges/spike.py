"""The gauge of a spike: hours of all groups, closed one by one as time passes."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Final
from zoneinfo import ZoneInfo

import numpy as np

from governor.core.gauges.history import MAX_GROUPS, Block, Blocks, Exemption, Wanted
from governor.core.gauges.shared import EPOCH, FROM_END, MICROSECOND, Groups, Readings, Sighting
from governor.core.plain import Plain
from governor.core.rules.spike import Against, Spike
from governor.core.scopes import Key
from governor.core.series import NONE_MARKED, Found, Marked, Series, Slot
from governor.core.spikes import LOOKS, OF_DAY, Baselines
from governor.core.totals import Mask, Sums

HOUR: Final = timedelta(hours=1)
ROOM: Final = 64
_HOUR_US: Final = HOUR // MICROSECOND
_DAY_HOURS: Final = 24
_WEEKEND: Final = 5
TOLD_HOURS: Final = 24 * 14
"""How far back episodes are looked for at a start: longer than any cools down."""
_FORGET_HOURS: Final = 24 * 28
"""A group that used nothing for so long is forgotten."""


def slots_of(zone: str) -> Callable[[int], Slot]:
    """Return where hours lie in the local time of a zone."""
    known = ZoneInfo(zone)

    @cache
    def slot(hour: int) -> Slot:
        local = (EPOCH + hour * HOUR).astimezone(known)
        return Slot(local.hour, local.weekday() >= _WEEKEND, local.date().toordinal())

    return slot


@dataclass(frozen=True, slots=True)
class Excess:
    """What a group used in the hours that end with `hour`, against what is usual in them.

    `hours` is None for the local day; `rarity` is the decimal logarithm of how rare that is.
    """

    hours: int | None
    start: datetime
    end: datetime
    used: int
    usual: int
    rarity: float


@dataclass(slots=True)
class _Columns:
    """Which column each group has; the last ones are free."""

    of: dict[Key, int] = field(default_factory=dict)

    def named(self) -> list[Key]:
        """Return the groups in the order of their columns."""
        return list(self.of)


class SpikeGauge:
    """All groups of a spike rule. Usage is to be handed in before its hour is closed.

    `missed` are the hours of which usage came so late that nothing was learned of it.
    """

    def __init__(self, rule: Spike) -> None:
        self.rule = rule
        self.mask: Mask | None = rule.mask
        self.seen_mask: Mask | None = None
        self._groups = Groups(rule, rule.mask)
        self._exempt: Sequence[Exemption] = ()
        self.restart()

    def restart(self) -> None:
        """Forget all that was learned."""
        self._columns = _Columns()
        self._series = self._fresh(0)
        self._next: int | None = None
        self._last_used = np.zeros(0, np.int32)
        self._ahead: list[tuple[int, Key, int]] = []
        self.missed: set[int] = set()
        self._found: Found | None = None
        self._read: tuple[int, Readings] | None = None

    def __len__(self) -> int:
        return len(self._columns.of)

    def _fresh(self, columns: int) -> Series:
        slots, asked = slots_of(self.rule.zone), self.rule.asked
        if self.rule.against is Against.LEARNED:
            return Baselines(slots, asked, columns)
        season = 24 if self.rule.against is Against.YESTERDAY else 168
        return Plain(slots, asked, columns, season=season, wide=self.rule.wide // HOUR)

    def wanted(self, now: datetime) -> Wanted:
        """Return the history that it begins with."""
        rule = self.rule
        start = EPOCH + (now - rule.lookback - EPOCH) // HOUR * HOUR
        return Wanted(rule.where, rule.per, start, HOUR, (rule.measure,))

    # ------------------------------------------------------------------------------- what comes

    def take(self, blocks: Blocks, now: datetime, exempt: Sequence[Exemption] = ()) -> None:
        """Begin with a history; hours that are over by `now` are closed."""
        self._exempt = exempt
        hour = self._hour(now)
        first = self._hour(now - self.rule.lookback)
        self._next = hour
        self._series.open_hour(hour)
        for block in blocks:
            series = self._replayed(block, first, hour)
            begun = len(self._columns.of)
            self._columns.of.update({key: begun + row for row, key in enumerate(block.keys)})
            self._series.keep(np.arange(begun))
            self._series.join(series)
            self._last_used = np.append(
                self._last_used[:begun], np.full(len(block.keys), hour, np.int32)
            )

    def _replayed(self, block: Block, first: int, hour: int) -> Series:
        """Return series that have lived through the hours from `first` on; `hour` is open."""
        many = len(block.keys)
        series = self._fresh(many)
        amounts, rows = block.amounts[self.rule.measure], block.rows
        cells = block.cells
        past = np.flatnonzero((cells >= first) & (cells <= hour))
        used = np.zeros((hour + 1 - first) * many, np.int64)
        np.add.at(used, (cells[past].astype(np.int64) - first) * many + rows[past], amounts[past])
        hours = used.reshape(-1, many)
        begins = np.where(hours.any(axis=0), first + np.argmax(hours > 0, axis=0), hour)
        for each in range(first, hour + 1):
            series.open_hour(each)
            series.used[each % series.hours] = hours[each - first]
            if each < hour:
                told = hour - each <= TOLD_HOURS
                series.close(each, self._marked(block.keys, each, many), judge=told)
                series.age[begins > each] = 0  # it did not exist yet
        for place in np.flatnonzero(cells > hour):
            key = block.keys[rows[place]]
            self._ahead.append((int(cells[place]), key, int(amounts[place])))
        return series

    def renew(self, group: Key, blocks: Blocks, exempt: Sequence[Exemption]) -> None:
        """Live through the past of a group anew: what is exempt is another span now."""
        self.exempt(exempt)
        column = self._columns.of.get(group)
        for block in blocks:
            if column is not None and self._next is not None and group in block.keys:
                first = self._next - self.rule.lookback // HOUR
                self._series.replace(column, self._replayed(block, first, self._next))

    def exempt(self, exempt: Sequence[Exemption]) -> None:
        """Take note of what is exempt from now on."""
        self._exempt, self._read = exempt, None

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in usage; that of closed hours counts in windows and teaches nothing."""
        place = FROM_END[self.rule.measure]
        for row in rows:
            group = self._groups.of(row[1:-3])
            if group is not None:
                self._put(row[0] // _HOUR_US, group, row[place])

    def see(self, rows: Iterable[Sighting]) -> None:
        """Take in nothing."""

    def _put(self, hour: int, group: Key, amount: int) -> None:
        series, self._read = self._series, None
        if series.hour is None or hour > series.hour:
            self._ahead.append((hour, group, amount))
        elif series.holds(hour) and (group in self._columns.of or len(self) < MAX_GROUPS):
            column = self._column(group)
            series.used[hour % series.hours, column] += amount
            self._last_used[column] = max(hour, self._last_used[column])
        elif not series.holds(hour):
            self.missed.add(hour)

    def _column(self, group: Key) -> int:
        column = self._columns.of.get(group)
        if column is None:
            column = self._columns.of[group] = len(self._columns.of)
            if column >= len(self._series):
                room = max(ROOM, len(self._series) // 2)
                self._series.grow(room)
                self._last_used = np.append(self._last_used, np.zeros(room, np.int32))
            self._last_used[column] = self._series.hour or 0
        return column

    # ------------------------------------------------------------------------------ what is found

    def read(self, at: datetime) -> Readings:
        """Close the hours that are over, and return the excess of all in whose episode we are."""
        hour = self._hour(at)
        if self._read is not None and self._read[0] == hour:
            return self._read[1]  # nothing was used since
        self._pass_to(hour)
        groups = self._columns.named()
        self._found = self._series.find(hour, self._marked(groups, hour, len(self._series)))
        used = self._found.used - self._found.usual
        found = {
            groups[column]: int(used[column])
            for column in np.flatnonzero(self._found.open[: len(groups)])
        }
        self._read = (hour, Readings(dict(found), 0))
        return self._read[1]

    def _pass_to(self, hour: int) -> None:
        first = self._next if self._next is not None else hour
        groups = self._columns.named()
        for each in range(max(first, hour - self._series.hours), hour):
            self._series.open_hour(each)
            self._come()
            self._series.close(each, self._marked(groups, each, len(self._series)))
            self._series.age[len(groups) :] = 0
        self._next = max(hour, first)
        self._series.open_hour(hour)
        self._come()

    def _come(self) -> None:
        """Take in what was used ahead of its time."""
        waiting, self._ahead = self._ahead, []
        for each, group, amount in waiting:
            self._put(each, group, amount)

    def _marked(self, groups: Sequence[Key], hour: int, columns: int) -> Marked:
        """Return which of some columns are left out of an hour; the first are those of groups."""
        start = EPOCH + hour * HOUR
        now = [each for each in self._exempt if each.start < start + HOUR and each.end > start]
        if not now:
            return NONE_MARKED
        mute = np.zeros(columns, np.bool_)
        unlike = np.zeros_like(mute)
        for column, group in enumerate(groups):
            concerned = [each for each in now if each.concerns(group)]
            unlike[column] = bool(concerned)
            mute[column] = any(each.planned for each in concerned)
        return Marked(mute, unlike)

    def excess(self, group: Key) -> Excess | None:
        """Return what was found of a group when it was last read."""
        column = self._columns.of.get(group)
        found, hour = self._found, self._series.hour
        if found is None or column is None or hour is None or column >= len(found.used):
            return None
        look = int(found.look[column])
        if self.rule.against is not Against.LEARNED:
            hours: int | None = self.rule.wide // HOUR
        else:
            hours = None if look == OF_DAY else LOOKS[look]
        end = EPOCH + (hour + 1) * HOUR
        slots = slots_of(self.rule.zone)
        today = sum(slots(hour - back).day == slots(hour).day for back in range(_DAY_HOURS + 1))
        return Excess(
            hours=hours,
            start=end - (today if hours is None else hours) * HOUR,
            end=end,
            used=int(found.used[column]),
            usual=int(found.usual[column]),
            rarity=float(found.score[column]),
        )

    def trail(
        self, blocks: Blocks, now: datetime, hours: int, exempt: Sequence[Exemption]
    ) -> list[tuple[datetime, int, int]]:
        """Return the last hours of a group that nothing is known of yet: used, and usual."""
        self._exempt = exempt
        hour, first = self._hour(now), self._hour(now - self.rule.lookback)
        series = self._fresh(1)
        used: dict[int, int] = {}
        keys: Sequence[Key] = ()
        for block in blocks:
            keys = block.keys
            amounts = block.amounts[self.rule.measure]
            for cell, amount in zip(block.cells.tolist(), amounts.tolist(), strict=True):
                used[cell] = used.get(cell, 0) + amount
        found = []
        for each in range(max(first, min(used, default=hour)), hour + 1):
            series.open_hour(each)
            series.used[each % series.hours] = used.get(each, 0)
            if each > hour - hours:
                usual = int(series.expected(each)[0])
                found.append((EPOCH + each * HOUR, used.get(each, 0), usual))
            series.close(each, self._marked(keys, each, 1))
        return found

    def forget(self, now: datetime) -> None:
        """Drop groups that used nothing for weeks."""
        oldest = self._hour(now) - _FORGET_HOURS
        groups = self._columns.named()
        kept = [n for n, _ in enumerate(groups) if self._last_used[n] >= oldest]
        if len(kept) < len(groups):
            columns = np.array(kept, np.intp)
            self._series.keep(columns)
            self._last_used = self._last_used[columns]
            self._columns.of = {groups[column]: place for place, column in enumerate(kept)}
            self._found = self._read = None
        self._groups.forget()

    def _hour(self, at: datetime) -> int:
        return (at - EPOCH) // HOUR
