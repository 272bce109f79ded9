"""The gauge of an absence: when each group was last seen."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from governor.core.alerts import Health, Seen
from governor.core.gauges.shared import EPOCH, MICROSECOND, Groups, Readings, Sighting
from governor.core.rules.absence import Absence
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums

STALE_AFTER: Final = timedelta(minutes=5)
"""Usage that is not known up to this long ago says nothing of who is absent."""
_SECOND: Final = timedelta(seconds=1)


class AbsenceGauge:
    """When each group of an absence was last seen."""

    def __init__(self, rule: Absence) -> None:
        self.rule = rule
        self.mask: Mask | None = None
        self.seen_mask: Mask | None = rule.mask
        self._groups = Groups(rule, rule.mask)
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
            if (last := EPOCH + last_us * MICROSECOND) >= oldest
        }
        never = (until - oldest) // _SECOND
        for group in self.rule.known or (((),) if not self.rule.per else ()):
            found.setdefault(group, never)
        return Readings(found, None)

    def forget(self, now: datetime) -> None:
        """Drop groups that were not seen for long."""
        oldest_us = (self.starts(now) - EPOCH) // MICROSECOND
        self._last = {group: last for group, last in self._last.items() if last >= oldest_us}
        self._groups.forget()
