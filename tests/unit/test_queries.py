"""The dedupe query: which stretches of time it looks at, and that it finds exactly the stored."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.adapters.duckdb.queries import MAX_TIME_RANGES, duplicates, time_ranges
from tests.unit.accountant import BACK, NOW
from tests.unit.office import Office, event

MINUTE_US = 60_000_000
times = st.lists(
    st.integers(0, 50 * MINUTE_US)
    | st.integers(0, 10**6).map(lambda minutes: minutes * 3 * MINUTE_US)
    | st.integers(-(2**61), 2**61),
    min_size=1,
    max_size=60,
)
crowds = st.integers(1, 3 * MAX_TIME_RANGES).flatmap(
    lambda count: st.randoms(use_true_random=False).map(
        lambda draw: [draw.randrange(10**6) * MINUTE_US for _ in range(count)]
    )
)


@given(times | crowds)
def test_ranges_cover_every_time_and_nothing_at_their_ends(times_us: list[int]) -> None:
    """Every time lies in one range; ranges are few, in order, apart, and begin and end at times."""
    ranges = time_ranges(np.array(times_us, np.int64))
    assert 1 <= len(ranges) <= MAX_TIME_RANGES
    assert all(any(first <= at <= last for first, last in ranges) for at in times_us)
    assert all(first in times_us and last in times_us for first, last in ranges)
    assert all(first <= last for first, last in ranges)
    assert all(left < right for (_, left), (right, _) in pairwise(ranges))


@given(times | crowds)
def test_the_widest_gaps_are_left_out(times_us: list[int]) -> None:
    """No range covers a gap wider than one that was cut, nor one above a minute without need."""
    ranges = time_ranges(np.array(times_us, np.int64))
    cut = [right - left for (_, left), (right, _) in pairwise(ranges)]
    covered = [
        right - left
        for left, right in pairwise(sorted(set(times_us)))
        if any(first <= left and right <= last for first, last in ranges)
    ]
    assert max(covered, default=0) <= min(cut, default=2**63)
    assert all(gap > MINUTE_US for gap in cut)
    if len(ranges) < MAX_TIME_RANGES:
        assert max(covered, default=0) <= MINUTE_US


def test_one_time_is_one_range() -> None:
    """A batch of one instant looks at one instant."""
    assert time_ranges(np.array([7, 7, 7], np.int64)) == [(7, 7)]


def test_the_query_does_not_grow_with_the_batch() -> None:
    """However many events a batch has, its query is bounded by the number of ranges."""
    times_us = np.arange(100_000, dtype=np.int64) * 2 * MINUTE_US
    assert len(time_ranges(times_us)) == MAX_TIME_RANGES
    assert len(duplicates(times_us)) < 200 * (MAX_TIME_RANGES + 1)


@pytest.mark.parametrize("seed", range(3))
def test_exactly_the_stored_identities_are_found(tmp_path: Path, seed: int) -> None:
    """Against a set, over more stretches of time than there are ranges, with near misses."""
    draw = Random(seed)
    oldest = NOW - BACK
    moments = [
        oldest + timedelta(minutes=draw.randrange(45 * 1_440), microseconds=draw.randrange(3))
        for _ in range(2 * MAX_TIME_RANGES)
    ]

    def drawn(count: int) -> list[tuple[str, str, datetime]]:
        near = (timedelta(0), timedelta(0), timedelta(microseconds=1), timedelta(seconds=1))
        return [
            (draw.choice("ab"), draw.choice(("x", "X", "x\0")), draw.choice(moments) + at)
            for at in draw.choices(near, k=count)
        ]

    with Office(tmp_path / "governor.duckdb") as office:
        stored: set[tuple[str, str, datetime]] = set()
        for count in (1, 300, 1_000, 2_000):
            batch = drawn(count)
            made = office.append(
                *(event(event_id, at, source=source) for source, event_id, at in batch)
            )
            assert made is not None
            (tally,) = made.tallies.values()
            assert tally.counted == len(set(batch) - stored)
            assert tally.duplicates == count - tally.counted
            assert tally.late > 0 or count == 1
            stored |= set(batch)
        office.check()


def test_times_before_1970_and_far_ahead_are_written_as_they_are() -> None:
    """The literals of the query are UTC, to the microsecond."""
    at = datetime(1969, 12, 31, 23, 59, 59, 999_999, UTC)
    query = duplicates(np.array([-1, 4_102_444_800_000_001], np.int64))
    assert f"'{at:%Y-%m-%dT%H:%M:%S.%f}+00'" in query
    assert "'2100-01-01T00:00:00.000001+00'" in query
