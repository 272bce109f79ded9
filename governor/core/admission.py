"""Stage 5, admission: which decoded events count, which are late, and which repeat in their batch.

Lateness is judged by the log alone: an event is late when it is more than `late_after` older than
the newest event before it in its own partition. So it depends neither on how fast we read nor on
how a batch was cut, and a replay lists the same events.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from governor.core.positions import PartitionId
from governor.core.usage import QUANTITIES, Reason, Record, Reject, micros

NO_WATERMARK_US: Final = -(2**62)
_PLACE: Final = ("topic", "partition", "offset")
_MICROSECOND: Final = timedelta(microseconds=1)
_NO_USAGE: Final = (
    "no quantity is reported: give input_tokens, output_tokens or another (0 is a report),"
    " or status 'error' for a request that failed"
)

Mask = npt.NDArray[np.bool_]
Micros = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Window:
    """Event times accepted around now, and the age from which an event is listed as late."""

    back: timedelta
    ahead: timedelta
    late_after: timedelta


@dataclass(frozen=True, slots=True)
class Admitted:
    """What of a batch counts.

    `events` holds the rows to count: `EVENT_SCHEMA`, then `topic`, `partition`, `offset`, `late`.
    `repeats` counts the rows left out because their identity came before in the batch;
    `watermarks` are the newest event times in microseconds, of the partitions of the batch.
    """

    events: pa.Table
    rejects: list[Reject]
    repeats: Mapping[PartitionId, int]
    watermarks: Mapping[PartitionId, int]


def newest_time_us(events: pa.Table) -> int | None:
    """Return the greatest event time of a table in microseconds; None where it is empty."""
    if not events.num_rows:
        return None
    newest: int = pc.max(events["event_time"].cast(pa.int64())).as_py()
    return newest


def admit(
    events: pa.Table,
    origins: Sequence[Record],
    runs: Sequence[tuple[PartitionId, int]],
    *,
    now: datetime,
    window: Window,
    watermarks: Mapping[PartitionId, int],
) -> Admitted:
    """Judge decoded events, row i from `origins[i]`, in log order by partition.

    `runs` tells the partitions in row order, each once, with the number of its rows.
    """
    partitions = [partition for partition, _ in runs]
    slots = np.repeat(np.arange(len(runs)), [rows for _, rows in runs])
    times = np.asarray(events["event_time"].cast(pa.int64()))
    faults = {
        Reason.TOO_OLD: times < micros(now - window.back),
        Reason.TOO_NEW: times > micros(now + window.ahead),
        Reason.NO_USAGE: _without_usage(events),
    }
    accepted = ~np.logical_or.reduce(list(faults.values()))
    newest = [watermarks.get(partition, NO_WATERMARK_US) for partition in partitions]
    late = _lateness(times, slots, accepted, window.late_after, newest)
    fresh = accepted & _first_of_identity(events, times, accepted)
    repeats = np.bincount(slots[accepted & ~fresh], minlength=len(partitions)).tolist()
    places = _places(partitions, slots, origins)
    table = pa.Table.from_arrays(
        [*events.columns, *places, pa.array(late)], names=[*events.column_names, *_PLACE, "late"]
    )
    return Admitted(
        events=table if fresh.all() else table.filter(pa.array(fresh)),
        rejects=[]
        if accepted.all()
        else _rejects(faults, origins, [partitions[slot] for slot in slots], times, now, window),
        repeats=dict(zip(partitions, repeats, strict=True)),
        watermarks=dict(zip(partitions, newest, strict=True)),
    )


def _places(
    partitions: Sequence[PartitionId], slots: npt.NDArray[np.int64], origins: Sequence[Record]
) -> list[pa.Array]:
    topics = pa.array([partition.topic for partition in partitions], pa.string())
    numbers = pa.array([partition.partition for partition in partitions], pa.int32())
    offsets = pa.array([origin.offset for origin in origins], pa.int64())
    rows = pa.array(slots)
    return [topics.take(rows), numbers.take(rows), offsets]


def _without_usage(events: pa.Table) -> Mask:
    reported = pc.coalesce(*(events[quantity] for quantity in QUANTITIES))
    failed = pc.or_(
        pc.equal(events["status"], "error").fill_null(fill_value=False),
        events["error_type"].is_valid(),
    )
    return np.asarray(pc.and_not(reported.is_null(), failed))


def _lateness(
    times: Micros,
    slots: npt.NDArray[np.int64],
    accepted: Mask,
    late_after: timedelta,
    newest: list[int],
) -> Mask:
    """Return which rows are late, and raise `newest[slot]` to the newest time of each partition."""
    late = np.zeros(len(times), np.bool_)
    for slot, watermark in enumerate(newest):
        rows = np.flatnonzero(accepted & (slots == slot))
        newest_before = np.maximum.accumulate(np.concatenate(([watermark], times[rows])))
        late[rows] = times[rows] < newest_before[:-1] - late_after // _MICROSECOND
        newest[slot] = int(newest_before[-1])
    return late


def _first_of_identity(events: pa.Table, times: Micros, accepted: Mask) -> Mask:
    first = np.ones(len(times), np.bool_)
    if pc.count_distinct(events["event_id"]).as_py() == len(times):
        return first
    seen: set[tuple[str, str, int]] = set()
    identities = zip(
        events["source"].to_pylist(), events["event_id"].to_pylist(), times.tolist(), strict=True
    )
    for row, identity in enumerate(identities):
        if accepted[row]:
            first[row] = identity not in seen
            seen.add(identity)
    return first


def _rejects(
    faults: Mapping[Reason, Mask],
    origins: Sequence[Record],
    places: Sequence[PartitionId],
    times: Micros,
    now: datetime,
    window: Window,
) -> list[Reject]:
    limits = {
        Reason.TOO_OLD: f" is before {now - window.back:%Y-%m-%dT%H:%M:%SZ}, the oldest accepted",
        Reason.TOO_NEW: f" is after {now + window.ahead:%Y-%m-%dT%H:%M:%SZ}, the newest accepted",
    }
    rejects: dict[int, Reject] = {}
    for reason, mask in faults.items():
        for row in np.flatnonzero(mask).tolist():
            when = f"event_time {np.datetime64(int(times[row]), 'us')}Z"
            detail = f"{when}{limits[reason]}" if reason in limits else _NO_USAGE
            origin = origins[row]
            reject = Reject.of(places[row].topic, origin, reason, detail)
            rejects.setdefault(row, reject)
    return [rejects[row] for row in sorted(rejects)]
