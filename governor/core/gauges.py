"""Gauges: the numbers of rules that are judged from time to time, and what they are made of.

A gauge takes in usage as it is counted, by the values of its mask, and is read when its rule is
due. Which group a combination of values belongs to is looked up once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from governor.core.alerts import Health, Seen
from governor.core.rules.absence import Absence
from governor.core.rules.ratio import Against, Ratio
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure
from governor.core.scopes import Key, mask_of
from governor.core.totals import Mask, Sums
from governor.core.windows import Sightings, Spending

STALE_AFTER: Final = timedelta(minutes=5)
"""Usage that is not known up to this long ago says nothing of who is absent."""

Sighting = tuple[Any, ...]
"""`(*values, last_us)`: values in the order of a mask, and the newest event time of them."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_SECOND: Final = timedelta(seconds=1)
_FROM_END: Final = {measure: place - len(Measure) for place, measure in enumerate(Measure)}


@dataclass(frozen=True, slots=True)
class Readings:
    """What was found of each group; `otherwise` of all others, None where those are gone."""

    groups: Mapping[Key, Seen]
    otherwise: Seen | None


@dataclass(frozen=True, slots=True)
class Told:
    """What business events state of a window: the amount of each group.

    All of it is known until `fresh_to`; None where nothing was ever told.
    """

    fresh_to: datetime | None = None
    groups: Mapping[Key, int] = field(default_factory=dict)


def sightings(counted: pa.Table, mask: Mask) -> list[Sighting]:
    """Return when each combination of values of a mask was last seen in counted events."""
    grouped = counted.select(["event_time", *mask]).group_by(list(mask), use_threads=False)
    found = grouped.aggregate([("event_time", "max")])
    micros = found["event_time_max"].cast(pa.int64())
    return list(zip(*(found[name].to_pylist() for name in mask), micros.to_pylist(), strict=True))


class _Groups:
    """Which group of a rule a combination of values belongs to, if any."""

    def __init__(self, rule: Rule, mask: Mask) -> None:
        self._rule = rule
        self._mask = mask
        self._known: dict[Key, Key | None] = {}

    def of(self, values: Key) -> Key | None:
        """Look it up."""
        if values in self._known:
            return self._known[values]
        named = dict(zip(self._mask, values, strict=True))
        holds = self._rule.where.holds(named)
        group = tuple(named[name] for name in self._rule.per) if holds else None
        self._known[values] = group
        return group

    def forget(self) -> None:
        """Forget what was looked up."""
        self._known.clear()


class RatioGauge:
    """What groups of a ratio used lately, and what it is measured against where usage tells it."""

    def __init__(self, rule: Ratio) -> None:
        self.rule = rule
        users = rule.denominator is Against.ACTIVE_USERS
        self.mask: Mask | None = rule.mask
        self.seen_mask: Mask | None = mask_of((*rule.mask, "user")) if users else None
        self._above = Spending(rule.cell, rule.cells)
        self._requests = Spending(rule.cell, rule.cells)
        self._users = Sightings(rule.cell)
        self._groups = _Groups(rule, self.mask)

    def starts(self, now: datetime) -> datetime:
        """Return from when on usage matters."""
        back = self.rule.cell * self.rule.cells
        return now - back - (self.rule.max_age or timedelta(0))

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in usage."""
        measure = _FROM_END[self.rule.numerator]
        requests = _FROM_END[Measure.REQUESTS]
        counts_requests = self.rule.denominator is Against.REQUESTS
        for row in rows:
            group = self._groups.of(row[1:-3])
            if group is not None:
                self._above.add(group, row[0], row[measure])
                if counts_requests:
                    self._requests.add(group, row[0], row[requests])

    def see(self, rows: Iterable[Sighting]) -> None:
        """Take in who was seen. Users are many: what a rule does not ask of them is not kept."""
        place = (self.seen_mask or ()).index("user")
        asked = "user" in self.rule.mask
        for row in rows:
            user = row[place]
            if user is None:
                continue
            group = self._groups.of(row[:-1] if asked else (*row[:place], *row[place + 1 : -1]))
            if group is not None:
                self._users.add(group, user, row[-1])

    def window(self, at: datetime, fresh_to: datetime | None) -> tuple[datetime, datetime]:
        """Return the window to judge at a time: what is told bounds it to what is known."""
        if not self.rule.denominator.is_told or fresh_to is None:
            return self.rule.span(at)
        return self.rule.span(min(at, fresh_to - _MICROSECOND))

    def read(self, at: datetime, told: Told) -> Readings:
        """Return the number of every group, where enough stands behind it."""
        rule = self.rule
        if rule.denominator.is_told and (
            told.fresh_to is None or (rule.max_age and at - told.fresh_to > rule.max_age)
        ):
            return Readings({}, Health.NO_DATA)
        start, end = self.window(at, told.fresh_to)
        above = self._above.sums(start, end)
        under = self._under(start, end, told)
        found: dict[Key, Seen] = {}
        for group in above.keys() | under.keys():
            over, of = above.get(group, 0), under.get(group, 0)
            guarded = of <= 0 or of < rule.min_denominator or over < rule.min_numerator
            found[group] = Health.GUARDED if guarded else rule.number(over, of)
        return Readings(found, Health.GUARDED)

    def _under(self, start: datetime, end: datetime, told: Told) -> Mapping[Key, int]:
        if self.rule.denominator is Against.ACTIVE_USERS:
            return self._users.counts(start)
        if self.rule.denominator is Against.REQUESTS:
            return self._requests.sums(start, end)
        return told.groups

    def forget(self, now: datetime) -> None:
        """Drop what no window will ask for."""
        self._above.forget()
        self._requests.forget()
        self._users.forget(self.starts(now))
        self._groups.forget()


class AbsenceGauge:
    """When each group of an absence was last seen."""

    def __init__(self, rule: Absence) -> None:
        self.rule = rule
        self.mask: Mask | None = None
        self.seen_mask: Mask | None = rule.mask
        self._groups = _Groups(rule, rule.mask)
        self._last: dict[Key, int] = {}

    def starts(self, now: datetime) -> datetime:
        """Return from when on usage matters."""
        return now - self.rule.forget_after

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in nothing: only when it was is of interest."""

    def see(self, rows: Iterable[Sighting]) -> None:
        """Take in when groups were seen."""
        for row in rows:
            group = self._groups.of(row[:-1])
            if group is not None:
                self._last[group] = max(row[-1], self._last.get(group, 0))

    def read(self, at: datetime, complete: datetime | None) -> Readings:
        """Return for how long each group was absent; usage is known until `complete`."""
        if complete is None or at - complete > STALE_AFTER:
            return Readings({}, Health.NO_DATA)
        until = min(at, complete)
        oldest = self.starts(at)
        found: dict[Key, Seen] = {
            group: max(0, (until - last) // _SECOND)
            for group, last_us in self._last.items()
            if (last := _EPOCH + last_us * _MICROSECOND) >= oldest
        }
        never = (until - oldest) // _SECOND
        for group in self.rule.known or (((),) if not self.rule.per else ()):
            found.setdefault(group, never)
        return Readings(found, None)

    def forget(self, now: datetime) -> None:
        """Drop groups that were not seen for long."""
        oldest_us = (self.starts(now) - _EPOCH) // _MICROSECOND
        self._last = {group: last for group, last in self._last.items() if last >= oldest_us}
        self._groups.forget()
