"""Events that are stored, priced again: in slices, each a transaction, each change written down."""

from datetime import datetime
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from governor.adapters.duckdb import queries
from governor.adapters.duckdb.charging import charged_input, charges, learn
from governor.adapters.duckdb.file import registered
from governor.adapters.duckdb.store import Store
from governor.core.rerating import CHANGED_COLUMNS, Change, Changes, changes_of, differs

SLICE_ROWS: Final = 20_000
"""Rows priced again in one transaction, between two batches of ingest."""

_TABLES: Final = ("events", "late_events")


class Slice(NamedTuple):
    """Rows of a table by number, [`first`, `end`), of event times [`starts_at`, `ends_at`)."""

    table: str
    first: int
    end: int
    starts_at: datetime
    ends_at: datetime


class Rerating:
    """Prices stored events again; used by the thread that owns the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def slices(self, starts_at: datetime, ends_at: datetime) -> list[Slice]:
        """Return what must be looked at for events of [`starts_at`, `ends_at`)."""
        self._store.require_open()
        found: list[Slice] = []
        with self._store.database.translated() as connection:
            for table in _TABLES:
                first, last = connection.execute(
                    f"SELECT min(rowid), max(rowid) FROM {table}"  # noqa: S608
                    " WHERE event_time >= $1 AND event_time < $2",
                    [starts_at, ends_at],
                ).fetchall()[0]
                if first is not None:
                    steps = range(first, last + 1, SLICE_ROWS)
                    found += [
                        Slice(table, at, min(at + SLICE_ROWS, last + 1), starts_at, ends_at)
                        for at in steps
                    ]
        return found

    def rerate(self, part: Slice, run: str | None, now: datetime) -> Changes:
        """Price a slice by the prices in force now; without a `run` nothing is written.

        1. Price the rows of the slice, and keep those of which the price differs.
        2. Write each change down, as it was and as it is.
        3. Change the rows, and add the differences to the rollups.
        All in one transaction: a crash leaves the slice as it was, and another run finds it.
        """
        self._store.require_open()
        self._store.database.check_space()
        with self._store.database.translated() as connection:
            stored = connection.execute(
                queries.RERATED.format(table=part.table),
                [part.first, part.end, part.starts_at, part.ends_at],
            ).to_arrow_table()
            if not stored.num_rows:
                return {}
            read = charged_input(self._store.rates, stored)
            learn(connection, self._store.rates, read, now)
            changed = _changed(stored, charges(connection, read))
            if run is not None and changed.num_rows:
                with registered(connection, rerated=changed):
                    connection.execute("BEGIN")
                    connection.execute(queries.ADJUST, [run, now])
                    connection.execute(
                        queries.REPRICE.format(table=part.table), [part.first, part.end]
                    )
                    connection.execute(queries.ADJUST_ROLLUPS)
                    connection.execute("COMMIT")
        return changes_of(changed)

    def record(
        self,
        run: str,
        caller: tuple[str, str],
        span: tuple[datetime, datetime],
        times: tuple[datetime, datetime],
        change: Change,
        slices: int,
    ) -> None:
        """Write down that a run is over: who asked by which way, for what, from when to when."""
        self._store.require_open()
        with self._store.database.translated() as connection:
            connection.execute(
                "INSERT INTO rerates VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
                [
                    *(run, *caller, *span, *times, slices),
                    *(change.events, change.before_nano, change.after_nano),
                ],
            )


def _changed(stored: pa.Table, anew: pa.Table) -> pa.Table:
    mask = differs(stored, anew)
    if not pc.any(mask).as_py():
        mask = pa.array([], pa.bool_())
        stored, anew = stored.slice(0, 0), anew.slice(0, 0)
    before = stored.filter(mask)
    for name in CHANGED_COLUMNS:
        place = before.column_names.index(name)
        before = before.set_column(place, f"old_{name}", before[name])
        before = before.append_column(f"new_{name}", anew[name].filter(mask))
    return before
