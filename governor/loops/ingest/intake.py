"""The intake: polled records to a batch, every one of them accounted for; no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol

from governor.core.admission import NO_WATERMARK_US, Window, admit, newest_time_us
from governor.core.batches import Batch, Polled, Span
from governor.core.business import BusinessEvent, business_table
from governor.core.positions import PartitionId
from governor.core.usage import Record, Reject, UsageEvent, table_of
from governor.formats import Decode


class Clock(Protocol):
    """What time it is for judging events."""

    def at(self, newest_us: int | None) -> datetime:
        """Return the time at which a batch with this newest event time is judged."""


class Intake:
    """Makes a batch of polled records: decode, admit, and account for every one of them."""

    def __init__(
        self,
        *,
        formats: Mapping[str, Decode],
        window: Window,
        clock: Clock,
        max_record_bytes: int,
        watermarks: Mapping[PartitionId, int],
    ) -> None:
        self._formats = formats
        self._window = window
        self._clock = clock
        self._max_record_bytes = max_record_bytes
        self._watermarks = dict(watermarks)

    def batch(self, polled: Polled) -> Batch:
        """Decode and judge what was polled; every record becomes events or a reject."""
        events: list[UsageEvent] = []
        origins: list[Record] = []
        rejects: list[Reject] = []
        business: list[tuple[str, Record, BusinessEvent]] = []
        ignored = 0
        runs: list[tuple[PartitionId, int]] = []
        seen: dict[PartitionId, int] = {}
        for partition, records in polled.records.items():
            decode = self._formats[partition.topic]
            decoded = decode(partition.topic, records, self._max_record_bytes)
            events += decoded.events
            origins += decoded.origins
            rejects += decoded.rejects
            business += decoded.business
            ignored += decoded.ignored
            runs.append((partition, len(decoded.events)))
            seen[partition] = decoded.size - decoded.ignored
        table = table_of(events)
        now = self._clock.at(newest_time_us(table))
        admitted = admit(
            table, origins, runs, now=now, window=self._window, watermarks=self._watermarks
        )
        self._watermarks |= admitted.watermarks
        spans = tuple(
            Span(
                partition=partition,
                topic_id=polled.starts[partition].topic_id,
                start=polled.starts[partition].next_offset,
                end=end,
                events=seen.get(partition, 0),
                repeats=admitted.repeats.get(partition, 0),
                watermark_us=self._watermarks.get(partition, NO_WATERMARK_US),
            )
            for partition, end in polled.ends.items()
        )
        return Batch(
            spans=spans,
            events=admitted.events,
            business=business_table(business),
            rejects=_kept_once([*rejects, *admitted.rejects]),
            now=now,
            ignored=ignored,
        )


def _kept_once(rejects: Sequence[Reject]) -> tuple[Reject, ...]:
    """Return rejects with the bytes of each record in the first that it has."""
    seen: set[tuple[str, int, int]] = set()
    found = []
    for reject in rejects:
        place = (reject.topic, reject.partition, reject.offset)
        found.append(replace(reject, raw=None) if place in seen else reject)
        seen.add(place)
    return tuple(found)
