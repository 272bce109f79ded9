"""The gauge of a ratio: what groups used lately, and what it is measured against."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from governor.core.alerts import Health, Seen
from governor.core.gauges.shared import FROM_END, MICROSECOND, Groups, Readings, Sighting, Told
from governor.core.rules.ratio import Against, Ratio
from governor.core.rules.units import Measure
from governor.core.scopes import Key, mask_of
from governor.core.totals import Mask, Sums
from governor.core.windows import Sightings, Spending


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
        self._groups = Groups(rule, self.mask)

    def starts(self, now: datetime) -> datetime:
        """Return from when on usage matters."""
        back = self.rule.cell * self.rule.cells
        return now - back - (self.rule.max_age or timedelta(0))

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in usage."""
        measure = FROM_END[self.rule.numerator]
        requests = FROM_END[Measure.REQUESTS]
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
        return self.rule.span(min(at, fresh_to - MICROSECOND))

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
