"""Calendar periods of a time zone: the hour, day, week or month that an instant lies in.

Periods of a calendar follow one another without gap or overlap, through every change of the
clocks: a day lasts 23 to 25 hours, and an hour that comes twice is two hours.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo

BUCKET: Final = timedelta(minutes=15)
"""Every period begins on a multiple of this in UTC: no time zone in force is shifted finer."""

_HOUR: Final = timedelta(hours=1)


class Every(StrEnum):
    """How long a period is."""

    HOUR = "hour"
    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """One period, [`start`, `end`) in UTC; `name` tells it apart within its calendar."""

    start: datetime
    end: datetime
    name: str

    def holds(self, at: datetime) -> bool:
        """Return whether `at` lies in the period."""
        return self.start <= at < self.end


ALWAYS: Final = Period(
    datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC), "always"
)
"""The period of what ends by itself and with no calendar period."""


@dataclass(frozen=True, slots=True)
class Calendar:
    """The periods of an IANA time zone; weeks begin on Monday (ISO 8601)."""

    every: Every
    zone: str

    def period(self, at: datetime) -> Period:
        """Return the period that the aware instant `at` lies in."""
        zone = ZoneInfo(self.zone)
        local = at.astimezone(zone)
        if self.every is Every.HOUR:
            return _hour(at, local, zone)
        first, following = _dates(self.every, local.date())
        return Period(_midnight(first, zone), _midnight(following, zone), self._name(first))

    def _name(self, first: date) -> str:
        if self.every is Every.WEEK:
            year, week, _ = first.isocalendar()
            return f"{year}-W{week:02}"
        return first.isoformat() if self.every is Every.DAY else f"{first:%Y-%m}"


def whole_hours(zone: str) -> bool:
    """Return whether a zone is shifted by whole hours from UTC, in winter and in summer."""
    days = (datetime(2026, month, 1, tzinfo=ZoneInfo(zone)) for month in (1, 4, 7, 10))
    return all((day.utcoffset() or timedelta(0)) % _HOUR == timedelta(0) for day in days)


def _dates(every: Every, day: date) -> tuple[date, date]:
    """Return the first local date of the period around `day`, and that of the next one."""
    if every is Every.DAY:
        return day, day + timedelta(days=1)
    if every is Every.WEEK:
        first = day - timedelta(days=day.weekday())
        return first, first + timedelta(weeks=1)
    first = day.replace(day=1)
    return first, (first + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    """Return the first instant of a local date, also where the clocks skip or repeat midnight."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(UTC)


def _hour(at: datetime, local: datetime, zone: ZoneInfo) -> Period:
    """Return the stretch around `at` in which local date, hour and offset from UTC stay the same.

    It is an hour but where the clocks move by half of one (Lord Howe).
    """
    offset = local.utcoffset()
    past = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    start = at.astimezone(UTC) - past
    end = start + _HOUR
    while start.astimezone(zone).utcoffset() != offset:
        start += BUCKET
    while (end - BUCKET).astimezone(zone).utcoffset() != offset:
        end -= BUCKET
    return Period(start, end, f"{local:%Y-%m-%dT%H:00%z}")
