from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from governor.core.periods import BUCKET, Calendar, Every, Period

ZONES = sorted(available_timezones() - {"localtime"})
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

instants = st.datetimes(
    FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None), timezones=st.just(UTC)
)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@cache
def zones_by_shifts() -> dict[tuple[datetime, ...], list[str]]:
    """Return the zones whose clocks change at the same instants."""
    found: dict[tuple[datetime, ...], list[str]] = {}
    for zone in ZONES:
        found.setdefault(tuple(shifts(zone)), []).append(zone)
    return found


def shifts(zone: str) -> list[datetime]:
    """Return the instants, to the minute, from which on a zone has another offset from UTC."""
    there = ZoneInfo(zone)
    found = []
    days = [FIRST + n * DAY for n in range((LAST - FIRST).days + 1)]
    for before, after in pairwise(days):
        if before.astimezone(there).utcoffset() == after.astimezone(there).utcoffset():
            continue
        low, high = before, after
        while high - low > timedelta(minutes=1):
            middle = low + (high - low) // 2
            same = middle.astimezone(there).utcoffset() == before.astimezone(there).utcoffset()
            low, high = (middle, high) if same else (low, middle)
        found.append(high.replace(second=0, microsecond=0))
    return found


def check(calendar: Calendar, at: datetime) -> Period:
    """Assert what holds for every period, and return the one around `at`."""
    period = calendar.period(at)
    assert period.holds(at)
    assert calendar.period(period.start) == period
    assert calendar.period(period.end - timedelta(microseconds=1)) == period
    following = calendar.period(period.end)
    assert following.start == period.end
    assert following.name != period.name
    assert (period.start - EPOCH) % BUCKET == timedelta(0)
    assert period.start.tzinfo is period.end.tzinfo is UTC
    return period


@settings(deadline=None, max_examples=500)
@given(st.sampled_from(ZONES), st.sampled_from(Every), instants)
@example("America/Havana", Every.HOUR, utc("2024-11-03T05:30"))
@example("Australia/Lord_Howe", Every.HOUR, utc("2024-04-06T15:10"))
@example("Antarctica/Troll", Every.HOUR, utc("2024-10-27T01:30"))
def test_periods_follow_one_another(zone: str, every: Every, at: datetime) -> None:
    """In every zone: a period holds its instants, ends where the next begins, on a bucket."""
    check(Calendar(every, zone), at)


@pytest.mark.slow
@pytest.mark.parametrize("every", Every)
def test_periods_around_every_shift(every: Every) -> None:
    """The same holds around every change of the clocks in every zone for seven years."""
    assert len(zones_by_shifts()) > 10
    for moments, zones in zones_by_shifts().items():
        for at in moments:
            for zone in zones[:3]:
                for minutes in (-90, -31, -1, 0, 1, 29, 61):
                    check(Calendar(every, zone), at + timedelta(minutes=minutes))


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(ZONES), instants)
def test_days_weeks_and_months_are_those_of_the_zone(zone: str, at: datetime) -> None:
    """A period holds exactly the instants whose local date is in its day, week or month."""
    local = at.astimezone(ZoneInfo(zone)).date()
    for every in (Every.DAY, Every.WEEK, Every.MONTH):
        period = Calendar(every, zone).period(at)
        first = period.start.astimezone(ZoneInfo(zone)).date()
        last = (period.end - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date()
        assert first <= local <= last
        if every is Every.DAY:
            assert first == last == local
        elif every is Every.WEEK:
            assert (first.weekday(), last - first) == (0, 6 * DAY)
        else:
            assert (first.day, first.month, last.month) == (1, local.month, local.month)
            assert (last + DAY).day == 1


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("America/New_York", "2024-03-10", "2024-03-10T05:00", 23),
        ("America/New_York", "2024-11-03", "2024-11-03T04:00", 25),
        ("America/Santiago", "2024-09-08", "2024-09-08T04:00", 23),  # begins at 01:00
        ("Asia/Beirut", "2025-03-30", "2025-03-29T22:00", 23),  # begins at 01:00
        ("Africa/Cairo", "2025-04-25", "2025-04-24T22:00", 23),  # begins at 01:00
        ("Africa/Cairo", "2025-10-30", "2025-10-29T21:00", 25),  # 23:00 comes twice
        ("America/Havana", "2024-03-10", "2024-03-10T05:00", 23),  # begins at 01:00
        ("America/Havana", "2024-11-03", "2024-11-03T04:00", 25),  # 00:00 comes twice
        ("America/Asuncion", "2024-10-06", "2024-10-06T04:00", 23),  # begins at 01:00
        ("Australia/Lord_Howe", "2024-04-07", "2024-04-06T13:00", 24.5),
        ("Australia/Lord_Howe", "2024-10-06", "2024-10-05T13:30", 23.5),
        ("Antarctica/Troll", "2024-03-31", "2024-03-31T00:00", 22),
        ("America/Scoresbysund", "2025-03-29", "2025-03-29T02:00", 23),  # ends at 23:00
        ("Asia/Almaty", "2024-02-29", "2024-02-28T18:00", 25),  # the zone changes for good
        ("Asia/Kathmandu", "2024-06-01", "2024-05-31T18:15", 24),
        ("UTC", "2024-02-29", "2024-02-29T00:00", 24),
    ],
)
def test_days(zone: str, day: str, start: str, hours: float) -> None:
    """Days begin at the first instant of their date, and last as long as it takes."""
    period = Calendar(Every.DAY, zone).period(utc(start))
    assert (period.name, period.start) == (day, utc(start))
    assert (period.end - period.start) / HOUR == hours


def test_a_month_through_a_change() -> None:
    """A month of New York begins in one offset and ends in the other."""
    period = Calendar(Every.MONTH, "America/New_York").period(utc("2024-11-15T12:00"))
    assert period == Period(utc("2024-11-01T04:00"), utc("2024-12-01T05:00"), "2024-11")


@pytest.mark.parametrize(
    ("at", "name", "monday"),
    [
        ("2024-12-29T23:59", "2024-W52", date(2024, 12, 23)),
        ("2024-12-30T00:00", "2025-W01", date(2024, 12, 30)),
        ("2026-12-31T12:00", "2026-W53", date(2026, 12, 28)),
        ("2027-01-03T23:59", "2026-W53", date(2026, 12, 28)),
    ],
)
def test_weeks(at: str, name: str, monday: date) -> None:
    """Weeks begin on Monday and are named as ISO 8601 has it, over the end of a year too."""
    period = Calendar(Every.WEEK, "UTC").period(utc(at))
    assert (period.name, period.start.date()) == (name, monday)


def hours(zone: str, start: str, count: int) -> list[tuple[str, float]]:
    """Return name and minutes of the hours of a zone from an instant on."""
    calendar, at, found = Calendar(Every.HOUR, zone), utc(start), []
    for _ in range(count):
        period = calendar.period(at)
        found.append((period.name[11:], (period.end - period.start) / timedelta(minutes=1)))
        at = period.end
    return found


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    """In Havana 00:00 comes twice, each with its offset."""
    assert hours("America/Havana", "2024-11-03T04:00", 3) == [
        ("00:00-0400", 60),
        ("00:00-0500", 60),
        ("01:00-0500", 60),
    ]


def test_an_hour_that_is_skipped_is_none() -> None:
    """In New York 02:00 does not come in March."""
    names = [name for name, _ in hours("America/New_York", "2024-03-10T06:00", 2)]
    assert names == ["01:00-0500", "03:00-0400"]


def test_hours_where_clocks_move_by_half_of_one() -> None:
    """On Lord Howe the second 01:00 and the cut 02:00 last half an hour."""
    assert hours("Australia/Lord_Howe", "2024-04-06T14:00", 3) == [
        ("01:00+1100", 60),
        ("01:00+1030", 30),
        ("02:00+1030", 60),
    ]
    assert hours("Australia/Lord_Howe", "2024-10-05T14:30", 3) == [
        ("01:00+1030", 60),
        ("02:00+1100", 30),
        ("03:00+1100", 60),
    ]


def test_the_zone_of_the_instant_does_not_matter() -> None:
    """The same instant in another zone lies in the same period."""
    at = utc("2024-11-03T05:30")
    calendar = Calendar(Every.DAY, "America/Havana")
    assert calendar.period(at.astimezone(ZoneInfo("Asia/Tokyo"))) == calendar.period(at)
