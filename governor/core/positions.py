"""Stage 2, where to read on: one decision for each partition, from what is stored and what exists.

A position is the offset of the next record that is not stored yet. It lives in the same
transaction as the data it accounts for, so it is the truth; Kafka's group offset is a copy for
lag tools.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from governor.core.errors import PermanentError


class PartitionId(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Position:
    """What is stored of a partition; `topic_id` is None on brokers that have none (before 2.8)."""

    next_offset: int
    topic_id: str | None


@dataclass(frozen=True, slots=True)
class Extent:
    """What a partition holds now: offsets [beginning, end) of the topic with this id."""

    beginning: int
    end: int
    topic_id: str | None


class Start(StrEnum):
    """Why a partition is read from where it is."""

    STORED = "stored"
    """On from the stored position; nothing is skipped."""
    NEW_TOPIC = "new_topic"
    """Nothing of this topic is stored; `auto_offset_reset` chose."""
    NEW_PARTITION = "new_partition"
    """The topic has grown; the partition is read from its beginning."""
    RECREATED = "recreated"
    """The topic was deleted and made again; `auto_offset_reset` chose."""
    EXPIRED = "expired"
    """Records after the stored position are gone; `auto_offset_reset` chose."""
    TRUNCATED = "truncated"
    """The partition ends before the stored position; `auto_offset_reset` chose."""


class ResetPolicy(StrEnum):
    """Where to begin when there is no usable position (`kafka.auto_offset_reset`)."""

    EARLIEST = "earliest"
    LATEST = "latest"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Resumption:
    """Where a partition is read on from, why, and how many records are known to be missed."""

    offset: int
    start: Start
    missed_records: int


def resume(
    partition: PartitionId,
    *,
    stored: Position | None,
    extent: Extent,
    topic_known: bool,
    policy: ResetPolicy,
) -> Resumption:
    """Decide where to read `partition` on from.

    `topic_known` says that some partition of the topic has a stored position.
    Raise PermanentError where the policy is `none` and there is no usable position.
    """
    start = _why(stored, extent, topic_known=topic_known)
    if start is Start.STORED and stored is not None:
        return Resumption(stored.next_offset, start, 0)
    if start is Start.NEW_PARTITION:
        return Resumption(extent.beginning, start, 0)
    if policy is ResetPolicy.NONE:
        raise PermanentError(_refusal(partition, start, stored, extent))
    offset = extent.beginning if policy is ResetPolicy.EARLIEST else extent.end
    from_offset = stored.next_offset if stored and start is Start.EXPIRED else extent.beginning
    return Resumption(offset, start, max(0, offset - from_offset))


def _why(stored: Position | None, extent: Extent, *, topic_known: bool) -> Start:
    if stored is None:
        return Start.NEW_PARTITION if topic_known else Start.NEW_TOPIC
    if stored.topic_id and extent.topic_id and stored.topic_id != extent.topic_id:
        return Start.RECREATED
    if stored.next_offset < extent.beginning:
        return Start.EXPIRED
    if stored.next_offset > extent.end:
        return Start.TRUNCATED
    return Start.STORED


def _refusal(partition: PartitionId, start: Start, stored: Position | None, extent: Extent) -> str:
    at = "no position is stored" if stored is None else f"stored position {stored.next_offset}"
    return (
        f"topic {partition.topic} partition {partition.partition}: {start.value.replace('_', ' ')}"
        f" ({at}, the broker holds {extent.beginning} to {extent.end}),"
        " and kafka.auto_offset_reset is 'none'."
        " Start once with GOVERNOR_KAFKA__AUTO_OFFSET_RESET=earliest (count what is there)"
        " or =latest (count from now on)"
    )
