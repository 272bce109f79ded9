"""Lag and the copy of our positions that Kafka's own tools read, by a client of their own.

A client apart from the source sees a partition that the source no longer fetches, and a group
coordinator that is down holds up nobody else.
"""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition, errors
from kafka.structs import OffsetAndMetadata

from governor.adapters.kafka.connection import Connection, translated
from governor.core.positions import PartitionId

TIMEOUT_MS: Final = 5_000


class GroupOffsets:
    """Reads end offsets and writes group offsets; used by one thread."""

    def __init__(self, connection: Connection, *, group_id: str) -> None:
        self._connection = connection
        self._group_id = group_id
        self._client: Any = None

    def ends(self, partitions: Mapping[PartitionId, int]) -> Mapping[PartitionId, int]:
        """Return the end offset of each partition that still exists.

        Raise TransientError where nobody answers.
        """
        with translated(self._connection):
            places = [TopicPartition(*partition) for partition in self._existing(partitions)]
            ends = self._connected().end_offsets(places, timeout_ms=TIMEOUT_MS)
        return {PartitionId(place.topic, place.partition): end for place, end in ends.items()}

    def commit(self, positions: Mapping[PartitionId, int]) -> None:
        """Write the positions as the group's offsets; failing is routine and raises TransientError.

        The positions in the store decide where we read on, so a lost commit loses nothing.
        """
        with translated(self._connection):
            offsets = {
                TopicPartition(*partition): OffsetAndMetadata(positions[partition], "", -1)
                for partition in self._existing(positions)
            }
            self._connected().commit(offsets, timeout_ms=TIMEOUT_MS)

    def close(self) -> None:
        """Close the client; never raises."""
        with suppress(errors.KafkaError, OSError):
            if self._client is not None:
                self._client.close(autocommit=False, timeout_ms=TIMEOUT_MS)

    def _existing(self, partitions: Mapping[PartitionId, int]) -> list[PartitionId]:
        """Leave out what was deleted: the brokers refuse a question that names one such."""
        client = self._connected()
        topics = {partition.topic for partition in partitions}
        found = {topic: client.partitions_for_topic(topic) or set() for topic in topics}
        return [place for place in partitions if place.partition in found[place.topic]]

    def _connected(self) -> Any:
        if self._client is None:
            self._client = KafkaConsumer(
                **self._connection.options(),
                group_id=self._group_id,
                enable_auto_commit=False,
                auto_offset_reset="none",
                allow_auto_create_topics=False,
            )
        return self._client
