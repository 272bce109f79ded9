"""The store: appends batches to the DuckDB file, exactly once, and knows the positions in it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from governor.adapters.duckdb import queries
from governor.adapters.duckdb.business import append_business
from governor.adapters.duckdb.charging import charged_input, charges, learn
from governor.adapters.duckdb.file import Database, FileOptions, registered
from governor.adapters.duckdb.rates import RateTable
from governor.core.admission import NO_WATERMARK_US
from governor.core.batches import Batch, Span, Stored, Tally
from governor.core.errors import PermanentError
from governor.core.positions import PartitionId, Position, Resumption
from governor.core.tariffs import Tariffs
from governor.core.totals import SUMMED_COLUMNS
from governor.core.usage import Reject

MINUTES_KEPT: Final = timedelta(days=2)
REJECTS_KEPT: Final = timedelta(days=90)

_TALLY_NAMES: Final = tuple(part.name for part in fields(Tally))


@dataclass(frozen=True, slots=True)
class PartitionState:
    """What is stored of a partition: where to read on, its newest event time, its tally so far."""

    position: Position
    watermark_us: int
    tally: Tally


class Store:
    """The one writer of the DuckDB file; not safe for use by two threads at once."""

    def __init__(self, options: FileOptions, rates: RateTable, now: Callable[[], datetime]) -> None:
        self.database = Database(options, rates, now)
        self.rates = rates
        self._now = now
        self.partitions: Mapping[PartitionId, PartitionState] = {}
        self._load()

    def close(self) -> None:
        """Write the log into the file and close it."""
        self.database.close()

    def append(self, batch: Batch) -> Stored | None:
        """Store a batch in one transaction; return what it came to, None if it was stored before.

        1. Learn the tariffs that are named first here (outside the transaction).
        2. Drop the events that are stored already.
        3. Price the rest and append them, on time or late.
        4. Append the minute deltas of the rollups.
        5. Append the business events that are new, and the rejects.
        6. Write the next offsets, and commit.
        A crash before the commit leaves nothing, and the log is read again from the old position.
        A commit whose outcome is unknown is settled by the position found when the file is opened
        again: it was written with the data or not at all.

        Raise TransientError where the disk or the file is not ready (the same batch may be handed
        in again), PermanentError where a person must act.
        """
        self.require_open()
        if not self._continues(batch.spans):
            return None
        self.database.check_space()
        with self.database.translated() as connection:
            read = charged_input(self.rates, batch.events)
            learn(connection, self.rates, read, batch.now)
            connection.execute("BEGIN")
            priced = _priced(connection, batch.events, read)
            deltas = _append_events(connection, priced, batch.now)
            business = append_business(connection, batch.business, batch.now)
            _append_rejects(connection, batch.rejects, batch.now)
            tallies = _tallies(batch, priced, business)
            states = self._advance(batch.spans, tallies)
            _write_positions(connection, states, self.partitions.keys(), batch.now)
            connection.execute("COMMIT")
        self.partitions = {**self.partitions, **states}
        return Stored(tallies=tallies, deltas=deltas, counted=priced.select(SUMMED_COLUMNS))

    def resume(
        self, resumptions: Mapping[PartitionId, tuple[Resumption, str | None]], now: datetime
    ) -> None:
        """Record that partitions are read from elsewhere than stored, with their topic's id."""
        self.require_open()
        states = dict(self.partitions)
        rows: list[dict[str, object]] = []
        for partition, (resumption, topic_id) in resumptions.items():
            before = states.get(partition)
            states[partition] = PartitionState(
                position=Position(resumption.offset, topic_id),
                watermark_us=before.watermark_us if before else NO_WATERMARK_US,
                tally=before.tally if before else Tally(),
            )
            rows.append(
                {
                    "resumed_at": now,
                    "topic": partition.topic,
                    "partition": partition.partition,
                    "topic_id": topic_id,
                    "reason": resumption.start.value,
                    "from_offset": before.position.next_offset if before else None,
                    "to_offset": resumption.offset,
                    "missed_records": resumption.missed_records,
                }
            )
        with self.database.translated() as connection:
            connection.execute("BEGIN")
            with registered(connection, batch_resumptions=pa.Table.from_pylist(rows)):
                connection.execute("INSERT INTO resumptions BY NAME FROM batch_resumptions")
            changed = {partition: states[partition] for partition in resumptions}
            _write_positions(connection, changed, self.partitions.keys(), now)
            connection.execute("COMMIT")
        self.partitions = states

    def compact(self, now: datetime) -> None:
        """Fold the minutes of closed days into hours; drop rejects past keeping."""
        self.require_open()
        with self.database.translated() as connection:
            connection.execute("BEGIN")
            connection.execute(queries.COMPACT, [now - MINUTES_KEPT])
            connection.execute("DELETE FROM rollup_minute WHERE bucket < $1", [now - MINUTES_KEPT])
            connection.execute("DELETE FROM rejects WHERE stored_at < $1", [now - REJECTS_KEPT])
            connection.execute("COMMIT")

    def charge_by(self, tariffs: Tariffs) -> None:
        """Charge what is stored from now on by other tariffs."""
        self.require_open()
        with self.database.translated() as connection:
            self.rates.replace(connection, tariffs)

    def require_open(self) -> None:
        """Open the file again after a fatal error, and read the positions that are in it."""
        if self.database.reopen_if_broken():
            self._load()

    def _load(self) -> None:
        with self.database.translated() as connection:
            rows = connection.execute("SELECT * FROM positions").to_arrow_table().to_pylist()
        self.partitions = {
            PartitionId(row["topic"], row["partition"]): PartitionState(
                position=Position(row["next_offset"], row["topic_id"]),
                watermark_us=row["watermark_us"],
                tally=Tally(**{name: row[name] for name in _TALLY_NAMES}),
            )
            for row in rows
        }

    def _continues(self, spans: Sequence[Span]) -> bool:
        """Return whether the spans follow what is stored; False where all are stored already."""
        stored = [self.partitions[span.partition].position.next_offset for span in spans]
        if all(at == span.start for at, span in zip(stored, spans, strict=True)):
            return True
        if all(at >= span.end for at, span in zip(stored, spans, strict=True)):
            return False
        raise PermanentError(f"a batch does not follow the stored positions {stored}: {spans}")

    def _advance(
        self, spans: Sequence[Span], tallies: Mapping[PartitionId, Tally]
    ) -> dict[PartitionId, PartitionState]:
        return {
            span.partition: PartitionState(
                position=Position(span.end, span.topic_id),
                watermark_us=span.watermark_us,
                tally=_sum(self.partitions[span.partition].tally, tallies[span.partition]),
            )
            for span in spans
        }


def _priced(connection: duckdb.DuckDBPyConnection, events: pa.Table, read: pa.Table) -> pa.Table:
    """Return the events that are not stored yet, with what they cost (`PRICED_COLUMNS`).

    `read` is `charged_input` of the events.
    """
    if not events.num_rows:
        for name, kind in queries.PRICED_COLUMNS.items():
            events = events.append_column(name, pa.nulls(0, kind))
        return events
    with registered(connection, batch_input=read):
        duplicates = connection.execute(queries.duplicates(np.asarray(read["time_us"])))
        stored = duplicates.to_arrow_table()["row"]
    if len(stored):
        fresh = pc.invert(pc.is_in(read["row"], value_set=stored.combine_chunks()))
        events, read = events.filter(fresh), read.filter(fresh)
    costs = charges(connection, read)
    for name in queries.PRICED_COLUMNS:
        events = events.append_column(name, costs[name])
    return events


def _append_events(
    connection: duckdb.DuckDBPyConnection, priced: pa.Table, now: datetime
) -> pa.Table:
    some_late = pc.any(priced["late"]).as_py()
    for table, rows in (
        ("events", priced.filter(pc.invert(priced["late"])) if some_late else priced),
        ("late_events", priced.filter(priced["late"]) if some_late else priced.slice(0, 0)),
    ):
        given = [name for name in rows.column_names if rows[name].null_count < rows.num_rows]
        if rows.num_rows:
            with registered(connection, batch_rows=rows.select(given).drop_columns("late")):
                connection.execute(
                    f"INSERT INTO {table} BY NAME SELECT *, $1 AS stored_at FROM batch_rows",  # noqa: S608
                    [now],
                )
    with registered(connection, batch_priced=priced.select(queries.ROLLUP_COLUMNS)):
        deltas: pa.Table = connection.execute(queries.APPEND_DELTAS).to_arrow_table()
    return deltas


def _append_rejects(
    connection: duckdb.DuckDBPyConnection, rejects: Sequence[Reject], now: datetime
) -> None:
    if not rejects:
        return
    table = pa.table(
        {
            "topic": [reject.topic for reject in rejects],
            "partition": pa.array([reject.partition for reject in rejects], pa.int32()),
            "offset": [reject.offset for reject in rejects],
            "reason": [reject.reason.value for reject in rejects],
            "detail": [reject.detail for reject in rejects],
            "raw": pa.array([reject.raw for reject in rejects], pa.binary()),
            "raw_bytes": pa.array([reject.size for reject in rejects], pa.int64()),
        }
    )
    with registered(connection, batch_rejects=table):
        connection.execute(
            "INSERT INTO rejects BY NAME SELECT *, $1 AS stored_at FROM batch_rejects", [now]
        )


def _write_positions(
    connection: duckdb.DuckDBPyConnection,
    states: Mapping[PartitionId, PartitionState],
    known: Any,
    now: datetime,
) -> None:
    columns: dict[str, Any] = {
        "topic": pa.array([partition.topic for partition in states], pa.string()),
        "partition": pa.array([partition.partition for partition in states], pa.int32()),
        "topic_id": pa.array([s.position.topic_id for s in states.values()], pa.string()),
        "next_offset": pa.array([s.position.next_offset for s in states.values()], pa.int64()),
        "watermark_us": pa.array([s.watermark_us for s in states.values()], pa.int64()),
        **{
            name: pa.array([getattr(s.tally, name) for s in states.values()], pa.int64())
            for name in _TALLY_NAMES
        },
        "updated_at": pa.array([now] * len(states), pa.timestamp("us", "UTC")),
    }
    with registered(connection, batch_positions=pa.table(columns)):
        if not all(partition in known for partition in states):
            connection.execute(
                "INSERT INTO positions BY NAME SELECT * FROM batch_positions b WHERE NOT EXISTS"
                " (FROM positions p WHERE p.topic = b.topic AND p.partition = b.partition)"
            )
        assigned = ", ".join(f"{name} = b.{name}" for name in columns)
        connection.execute(
            f"UPDATE positions SET {assigned} FROM batch_positions b"  # noqa: S608
            " WHERE positions.topic = b.topic AND positions.partition = b.partition"
        )


def _tallies(batch: Batch, priced: pa.Table, business: pa.Table) -> dict[PartitionId, Tally]:
    counted = _by_partition(priced) + _by_partition(business)
    late = _by_partition(priced.filter(priced["late"]))
    unpriced = _by_partition(priced.filter(priced["cost_nano"].is_null()))
    admitted = _by_partition(batch.events) + _by_partition(batch.business)
    rejected = Counter(PartitionId(reject.topic, reject.partition) for reject in batch.rejects)
    tallies = {
        span.partition: Tally(
            events=span.events,
            counted=counted[span.partition],
            duplicates=span.repeats + admitted[span.partition] - counted[span.partition],
            rejected=rejected[span.partition],
            late=late[span.partition],
            unpriced=unpriced[span.partition],
        )
        for span in batch.spans
    }
    for partition, tally in tallies.items():
        if tally.events != tally.counted + tally.duplicates + tally.rejected:
            raise PermanentError(f"events of {partition} do not add up, nothing stored: {tally}")
    return tallies


def _by_partition(events: pa.Table) -> Counter[PartitionId]:
    sizes = events.group_by(["topic", "partition"]).aggregate([([], "count_all")])
    columns = (sizes[name].to_pylist() for name in ("topic", "partition", "count_all"))
    return Counter({PartitionId(t, p): size for t, p, size in zip(*columns, strict=True)})


def _sum(left: Tally, right: Tally) -> Tally:
    added = asdict(right)
    return Tally(**{name: value + added[name] for name, value in asdict(left).items()})
