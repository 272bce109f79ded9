"""The watch loop: lag, the group's copy of our positions, and partitions that stand still."""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Final, Protocol

import structlog

from governor import telemetry
from governor.core.errors import GovernorError
from governor.core.positions import PartitionId

EVERY_S: Final = 5.0
FIRST_S: Final = 0.5
"""How often it looks until all was seen to be stored once: nothing new is enforced before."""

_log = structlog.get_logger()

Offsets = Mapping[PartitionId, int]


class Broker(Protocol):
    """What the watch asks of Kafka, by a client of its own; see `adapters.kafka.lag`."""

    def ends(self, partitions: Offsets) -> Offsets:
        """Return end offsets."""

    def commit(self, positions: Offsets) -> None:
        """Write the positions as group offsets."""

    def close(self) -> None:
        """Let go."""


class Stalls:
    """Notices a partition that has records to read and whose position does not move."""

    def __init__(self, after_s: float) -> None:
        self._after_s = after_s
        self._moved: dict[PartitionId, tuple[int, float]] = {}

    def observe(self, positions: Offsets, ends: Offsets, now_s: float) -> dict[PartitionId, float]:
        """Return the seconds that each stalled partition has stood still; `now_s` is monotonic."""
        stalled: dict[PartitionId, float] = {}
        for partition, position in positions.items():
            at, since = self._moved.get(partition, (position, now_s))
            if position != at or ends.get(partition, 0) <= position:
                at, since = position, now_s
            self._moved[partition] = (at, since)
            if now_s - since >= self._after_s:
                stalled[partition] = now_s - since
        return stalled


class Watch:
    """Looks every few seconds; `lag` and `stalled` are for others to read.

    All that was in Kafka until `complete` is stored; None where that was never seen to be so.
    """

    def __init__(
        self,
        broker: Broker,
        positions: Callable[[], Offsets],
        *,
        stall_after_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._broker = broker
        self._positions = positions
        self._stalls = Stalls(stall_after_s)
        self._committed: Offsets = {}
        self._commit_failing = False
        self._failing = False
        self._now = now
        self._asked: tuple[datetime, Offsets] | None = None
        self.complete: datetime | None = None
        self.lag: Offsets = {}
        self.stalled: Mapping[PartitionId, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set, then copy the last positions to the group."""
        try:
            while not stop.wait(EVERY_S if self.complete else FIRST_S):
                try:
                    self.look()
                except Exception:  # noqa: BLE001  # the top of a loop: say so and go on
                    _log.exception("watch.failed")
            if not self._failing:
                self._copy(self._positions())
        finally:
            self._broker.close()

    def look(self) -> None:
        """Look once; a broker that does not answer leaves the last figures standing."""
        positions = self._positions()
        if not positions:
            return
        try:
            ends = self._broker.ends(positions)
        except GovernorError as error:
            telemetry.KAFKA_ERRORS.labels("watch").inc()
            if not self._failing:
                _log.warning("lag.unknown", error=str(error))
            self._failing = True
            return
        self._failing = False
        self._note_complete(positions, ends)
        self.lag = {
            place: max(0, ends[place] - at) for place, at in positions.items() if place in ends
        }
        for place, records in self.lag.items():
            telemetry.LAG.labels(*map(str, place)).set(records)
        self._judge(positions, ends)
        self._copy(positions)

    def _note_complete(self, positions: Offsets, ends: Offsets) -> None:
        """Learn whether what was there at an earlier look is stored by now."""
        if self._asked is not None:
            at, wanted = self._asked
            if all(positions.get(place, 0) >= end for place, end in wanted.items()):
                self.complete, self._asked = at, None
        if self._asked is None:
            self._asked = (self._now(), dict(ends))

    def _judge(self, positions: Offsets, ends: Offsets) -> None:
        stalled = self._stalls.observe(positions, ends, time.monotonic())
        telemetry.STALLED.set(len(stalled))
        for place in stalled.keys() - self.stalled.keys():
            _log.error(
                "partition.stalled",
                topic=place.topic,
                partition=place.partition,
                position=positions[place],
                lag_records=self.lag.get(place),
                seconds=round(stalled[place]),
                advice="see store.waiting and kafka.failed above; if there is none, restart",
            )
        for place in self.stalled.keys() - stalled.keys():
            _log.info("partition.moving", topic=place.topic, partition=place.partition)
        self.stalled = stalled

    def _copy(self, positions: Offsets) -> None:
        if not positions or positions == self._committed:
            return
        try:
            self._broker.commit(positions)
        except GovernorError as error:
            telemetry.GROUP_COMMIT_FAILURES.inc()
            if not self._commit_failing:
                _log.info("group.commit_failed", error=str(error), note="only lag tools notice")
            self._commit_failing = True
        else:
            self._committed = dict(positions)
            self._commit_failing = False
