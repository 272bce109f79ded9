"""Stage 6, the batch: what one transaction stores, and what it says came of each partition."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import pyarrow as pa

from governor.core.positions import PartitionId, Position
from governor.core.usage import Record, Reject


@dataclass(frozen=True, slots=True)
class Polled:
    """Records as the log handed them over, and the stretch [start, end) of each partition read.

    A partition without records may still have moved on, over transaction markers.
    """

    records: Mapping[PartitionId, Sequence[Record]]
    starts: Mapping[PartitionId, Position]
    ends: Mapping[PartitionId, int]


@dataclass(frozen=True, slots=True)
class Span:
    """The stretch of a partition that a batch accounts for: offsets [`start`, `end`).

    `events` is what the records held, rejects included; `repeats` are duplicates inside the batch.
    """

    partition: PartitionId
    topic_id: str | None
    start: int
    end: int
    events: int
    repeats: int
    watermark_us: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Admitted events (`EVENT_SCHEMA` with topic, partition, offset and late), rejects and spans.

    `business` are the business events (`BUSINESS_SCHEMA`).
    `ignored` counts what the records held beside usage, such as the spans of agents; `now` is when
    they were judged.
    """

    spans: tuple[Span, ...]
    events: pa.Table
    business: pa.Table
    rejects: tuple[Reject, ...]
    now: datetime
    ignored: int = 0


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of the events of a partition: `events` is the sum of the next three.

    `late` and `unpriced` are among the counted.
    """

    events: int = 0
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    late: int = 0
    unpriced: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """What a committed batch came to: a tally by partition, and the rollup deltas it appended.

    `counted` are its events that were new, with what they cost, for the totals of rules.
    """

    tallies: Mapping[PartitionId, Tally]
    deltas: pa.Table
    counted: pa.Table
