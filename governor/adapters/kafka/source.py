"""The source: records of the usage topics, read from positions that we keep ourselves.

Partitions are assigned by hand and the consumer has no group: who owns a partition is whoever
owns the DuckDB file that holds its position, so no rebalance can take it away between a read and
its commit, and a coordinator that is down stops nothing.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition, errors

from governor.adapters.kafka.connection import Connection, translated
from governor.core.batches import Polled
from governor.core.errors import TransientError
from governor.core.positions import (
    Extent,
    PartitionId,
    Position,
    ResetPolicy,
    Resumption,
    resume,
)

FETCH_MAX_BYTES: Final = 16 * 2**20
PARTITION_FETCH_MAX_BYTES: Final = 4 * 2**20
BATCH_MAX_BYTES: Final = 16 * 2**20
CLOSE_TIMEOUT_MS: Final = 2_000

_LOST_PLACE: Final = (errors.OffsetOutOfRangeError, errors.LogTruncationError)


class UsageSource:
    """Reads the partitions of some topics in batches; used by one thread."""

    def __init__(
        self,
        connection: Connection,
        *,
        topics: Sequence[str],
        positions: Mapping[PartitionId, Position],
        policy: ResetPolicy,
        batch_records: int,
        batch_wait_ms: int,
    ) -> None:
        self._connection = connection
        self._topics = list(topics)
        self._positions = dict(positions)
        self._policy = policy
        self._batch_records = batch_records
        self._batch_wait_ms = batch_wait_ms
        self._consumer: Any = None
        self._admin: Any = None
        self._assigned: set[PartitionId] = set()
        self._lost: set[PartitionId] = set()
        self.missing_topics: tuple[str, ...] = tuple(topics)

    @property
    def needs_refresh(self) -> bool:
        """Whether a partition has lost its place and waits for `refresh`."""
        return bool(self._lost)

    def refresh(self) -> Mapping[PartitionId, tuple[Resumption, str | None]]:
        """Look at the topics again; return where each new or changed partition is read from.

        The caller stores what is returned before it polls again. Raise TransientError where no
        broker answers, PermanentError where the reset policy forbids to go on.
        """
        with translated(self._connection):
            self._connect()
            described = self._describe()
            wanted = [partition for partition in described if self._is_new(partition, described)]
            if not wanted:
                return {}
            extents = self._extents(wanted, described)
            known = {partition.topic for partition in self._positions}
            chosen = {
                partition: resume(
                    partition,
                    stored=self._positions.get(partition),
                    extent=extents[partition],
                    topic_known=partition.topic in known,
                    policy=self._policy,
                )
                for partition in wanted
            }
            for partition, resumption in chosen.items():
                at = Position(resumption.offset, extents[partition].topic_id)
                self._positions[partition] = at
            self._assign(self._assigned | set(wanted), wanted)
            return {p: (chosen[p], extents[p].topic_id) for p in wanted}

    def poll(self) -> Polled:
        """Wait for records, at most about `batch_wait`; return them and where each place stands.

        A batch ends at `batch_records` or soon after BATCH_MAX_BYTES, whichever comes first.
        """
        records: dict[PartitionId, list[Any]] = {}
        ends: dict[PartitionId, int] = {}
        try:
            self._gather(records)
            if not records:
                ends = self._stepped_over()
        except TransientError as error:
            self._lost |= self._assigned  # seek again: what the consumer handed out is unknown
            if not records and not isinstance(error.__cause__, _LOST_PLACE):
                raise
        ends |= {partition: rows[-1].offset + 1 for partition, rows in records.items()}
        starts = {partition: self._positions[partition] for partition in ends}
        for partition, end in ends.items():
            self._positions[partition] = Position(end, starts[partition].topic_id)
        return Polled(records=records, starts=starts, ends=ends)

    def _gather(self, records: dict[PartitionId, list[Any]]) -> None:
        """Fill `records` until the batch is full or its time is up; keep those before an error."""
        count = size = 0
        unsure = frozenset(self._lost)
        deadline = time.monotonic() + 2 * self._batch_wait_ms / 1000
        left_ms = self._batch_wait_ms
        while count < self._batch_records and size < BATCH_MAX_BYTES and left_ms > 0:
            with translated(self._connection):
                got = self._consumer.poll(left_ms, max_records=self._batch_records - count)
            if not got and not count:
                break
            for place, more in got.items():
                partition = PartitionId(place.topic, place.partition)
                if partition not in unsure:
                    records.setdefault(partition, []).extend(more)
                count += len(more)
                size += sum(max(0, record.serialized_value_size) for record in more)
            left_ms = min(self._batch_wait_ms, int((deadline - time.monotonic()) * 1000))

    def ends(self) -> Mapping[PartitionId, int]:
        """Return the end offset of every assigned partition."""
        with translated(self._connection):
            ends = self._consumer.end_offsets([TopicPartition(*p) for p in self._assigned])
        return {PartitionId(place.topic, place.partition): end for place, end in ends.items()}

    def close(self) -> None:
        """Close the clients; never raises."""
        with suppress(errors.KafkaError, OSError):
            if self._consumer is not None:
                self._consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
        with suppress(errors.KafkaError, OSError):
            if self._admin is not None:
                self._admin.close()

    def _connect(self) -> None:
        options = self._connection.options()
        if self._admin is None:
            self._admin = KafkaAdminClient(**options)
        if self._consumer is None:
            self._consumer = KafkaConsumer(
                **options,
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                isolation_level="read_committed",
                allow_auto_create_topics=False,
                max_poll_records=self._batch_records,
                fetch_max_bytes=FETCH_MAX_BYTES,
                max_partition_fetch_bytes=PARTITION_FETCH_MAX_BYTES,
                check_crcs=True,
                metrics_enabled=False,
            )

    def _describe(self) -> dict[PartitionId, str | None]:
        described: dict[PartitionId, str | None] = {}
        for topic in self._admin.describe_topics(self._topics):
            failure = errors.for_code(topic["error_code"])
            if failure is errors.UnknownTopicOrPartitionError:
                continue
            if failure is not errors.NoError:
                raise failure(topic["name"])
            topic_id = str(topic["topic_id"]) if topic.get("topic_id") else None
            for partition in topic["partitions"]:
                described[PartitionId(topic["name"], partition["partition_index"])] = topic_id
        found = {partition.topic for partition in described}
        self.missing_topics = tuple(topic for topic in self._topics if topic not in found)
        return described

    def _is_new(self, partition: PartitionId, described: Mapping[PartitionId, str | None]) -> bool:
        if partition not in self._assigned or partition in self._lost:
            return True
        return self._positions[partition].topic_id != described[partition]

    def _extents(
        self, partitions: Sequence[PartitionId], described: Mapping[PartitionId, str | None]
    ) -> dict[PartitionId, Extent]:
        places = [TopicPartition(*partition) for partition in partitions]
        beginnings = self._consumer.beginning_offsets(places)
        ends = self._consumer.end_offsets(places)
        return {
            partition: Extent(beginnings[place], ends[place], described[partition])
            for partition, place in zip(partitions, places, strict=True)
        }

    def _assign(self, assigned: set[PartitionId], moved: Sequence[PartitionId]) -> None:
        self._consumer.assign([TopicPartition(*partition) for partition in sorted(assigned)])
        for partition in moved:
            self._consumer.seek(TopicPartition(*partition), self._positions[partition].next_offset)
        self._assigned = assigned
        self._lost -= set(moved)

    def _stepped_over(self) -> dict[PartitionId, int]:
        """Return where the consumer stands past transaction markers and compacted records."""
        ends = {}
        with translated(self._connection):
            for partition in self._assigned - self._lost:
                at = self._consumer.position(TopicPartition(*partition), timeout_ms=0)
                if at is not None and at > self._positions[partition].next_offset:
                    ends[partition] = at
        return ends
