"""Stalls: a partition with records to read whose position does not move."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from governor.core.errors import TransientError
from governor.core.positions import PartitionId
from governor.loops.watch import Stalls, Watch

P0, P1 = PartitionId("usage", 0), PartitionId("usage", 1)
AFTER_S = 60.0


def test_a_partition_stalls_when_it_has_lag_and_stands_still() -> None:
    """From `after_s` on it is named, with the seconds that it has stood."""
    stalls = Stalls(AFTER_S)
    assert stalls.observe({P0: 5}, {P0: 9}, 1_000.0) == {}
    assert stalls.observe({P0: 5}, {P0: 9}, 1_059.9) == {}
    assert stalls.observe({P0: 5}, {P0: 9}, 1_060.0) == {P0: 60.0}
    assert stalls.observe({P0: 5}, {P0: 99}, 1_100.0) == {P0: 100.0}


def test_a_partition_that_moves_does_not_stall() -> None:
    """One record on, or a step back to an earlier offset, begins the count anew."""
    stalls = Stalls(AFTER_S)
    for now_s, position in ((0.0, 5), (59.0, 6), (118.0, 3)):
        assert stalls.observe({P0: position}, {P0: 9}, now_s) == {}
    assert stalls.observe({P0: 3}, {P0: 9}, 178.0) == {P0: 60.0}
    assert stalls.observe({P0: 4}, {P0: 9}, 179.0) == {}


def test_a_partition_without_lag_never_stalls() -> None:
    """A quiet topic is no fault; the count begins with the first record that is not read."""
    stalls = Stalls(AFTER_S)
    for now_s in (0.0, 500.0, 1_000.0):
        assert stalls.observe({P0: 9}, {P0: 9}, now_s) == {}
    assert stalls.observe({P0: 9}, {P0: 10}, 1_059.0) == {}
    assert stalls.observe({P0: 9}, {P0: 10}, 1_060.0) == {P0: 60.0}


def test_a_stalled_partition_that_catches_up_is_well_again() -> None:
    """Reaching the end clears it, as does an end that falls back to the position."""
    stalls = Stalls(AFTER_S)
    stalls.observe({P0: 5}, {P0: 9}, 0.0)
    assert stalls.observe({P0: 5}, {P0: 9}, 100.0) == {P0: 100.0}
    assert stalls.observe({P0: 5}, {P0: 5}, 101.0) == {}
    assert stalls.observe({P0: 5}, {P0: 6}, 160.0) == {}


def test_partitions_are_judged_one_by_one() -> None:
    """One busy partition does not hide another that stands still, nor the other way round."""
    stalls = Stalls(AFTER_S)
    for now_s in (0.0, 30.0, 60.0):
        found = stalls.observe({P0: 5, P1: int(now_s)}, {P0: 9, P1: 999}, now_s)
    assert found == {P0: 60.0}


def test_an_unknown_end_is_no_lag() -> None:
    """A partition that the broker did not answer for is not called stalled."""
    stalls = Stalls(AFTER_S)
    assert stalls.observe({P0: 5}, {}, 0.0) == {}
    assert stalls.observe({P0: 5}, {}, 500.0) == {}


class Ends:
    """A broker with ends that the test sets; None where it does not answer."""

    def __init__(self) -> None:
        self.offsets: dict[PartitionId, int] | None = {}

    def ends(self, _: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        if self.offsets is None:
            raise TransientError("gone")
        return self.offsets

    def commit(self, _: Mapping[PartitionId, int]) -> None:
        """Write nothing."""

    def close(self) -> None:
        """Hold nothing."""


def test_until_when_all_is_stored() -> None:
    """It is the time of a look whose ends are stored by a later one; silence moves nothing."""
    noon = datetime(2026, 3, 2, 12, tzinfo=UTC)
    broker, positions, clock = Ends(), {P0: 5, P1: 0}, [noon]
    watch = Watch(broker, lambda: positions, stall_after_s=60, now=lambda: clock[0])

    def look(seconds: int, ends: dict[PartitionId, int] | None) -> datetime | None:
        clock[0] = noon + timedelta(seconds=seconds)
        broker.offsets = ends
        watch.look()
        return watch.complete

    assert look(0, {P0: 9, P1: 0}) is None
    assert look(5, {P0: 20, P1: 0}) is None
    positions[P0] = 9
    assert look(10, {P0: 30, P1: 0}) == noon
    positions[P0] = 29
    assert look(15, None) == noon
    assert look(20, {P0: 40, P1: 1}) == noon
    positions.update({P0: 30, P1: 1})
    assert look(25, {P0: 40, P1: 1}) == noon + timedelta(seconds=10)
