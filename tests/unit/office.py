"""A store on a file, the log that is read into it, and the books of the accountant beside it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import duckdb

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.store import Store
from governor.core.admission import Window
from governor.core.batches import Batch, Polled, Stored
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import Price
from governor.core.usage import UsageEvent, micros
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.unit.accountant import (
    AHEAD,
    BACK,
    LATE_AFTER,
    NOW,
    OVERRIDES,
    PRICES,
    Books,
    resolve,
    resolve_provider,
)
from tests.unit.shelf import rate_table

PLACES = (PartitionId("batch", 0), PartitionId("usage", 0), PartitionId("usage", 1))
MAX_BYTES = 2_000
RECORD = Mapping[str, Any] | bytes | None
"""An event, or a record that is none."""


class Message(NamedTuple):
    """One message as a log hands it over."""

    partition: int
    offset: int
    value: bytes | None


class Fixed:
    """A clock that stands still."""

    def at(self, newest_us: int | None) -> datetime:  # noqa: ARG002
        return NOW


def opened(path: Path, prices: Sequence[Price]) -> Store:
    table = rate_table(prices, resolve, resolve_provider, OVERRIDES)
    return Store(FileOptions(path, 2**28, 1, 2**24, 0), table, lambda: NOW)


@cache
def begun_file() -> bytes:
    """Return a file in which all partitions begin at 0; copying one is faster than making one."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "governor.duckdb")
        store = opened(path, PRICES)
        start = (Resumption(0, Start.NEW_TOPIC, 0), "id")
        store.resume(dict.fromkeys(PLACES, start), NOW)
        store.close()
        return path.read_bytes()


class Office:
    """A store on a file, the log that is read into it, and the books kept beside it."""

    def __init__(self, path: Path, prices: Sequence[Price] = PRICES) -> None:
        self.path = path
        self.books = Books(prices=prices)
        self.ends = Counter[PartitionId]()
        path.write_bytes(begun_file())
        self.open()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def open(self) -> None:
        self.store = opened(self.path, self.books.prices)
        self.intake = Intake(
            formats=dict.fromkeys(("batch", "usage"), FORMATS["native"]({})),
            window=Window(BACK, AHEAD, LATE_AFTER),
            clock=Fixed(),
            max_record_bytes=MAX_BYTES,
            watermarks={p: state.watermark_us for p, state in self.store.partitions.items()},
        )

    def reopen(self) -> None:
        self.store.close()
        self.open()

    def batch(self, records: Mapping[PartitionId, Sequence[RECORD]]) -> Batch:
        """Read records on from the ends of their partitions, and enter them into the books."""
        read: dict[PartitionId, list[Message]] = {}
        starts = {place: Position(self.ends[place], "id") for place in sorted(records)}
        for place in starts:
            first = self.ends[place]
            for offset, record in enumerate(records[place], first):
                read.setdefault(place, []).append(Message(place[1], offset, written(record)))
                self.books.enter(place, offset, entered(record))
            self.ends[place] += len(records[place])
        ends = {place: self.ends[place] for place in starts}
        return self.intake.batch(Polled(records=read, starts=starts, ends=ends))

    def append(self, *records: RECORD, place: PartitionId = PLACES[1]) -> Stored | None:
        return self.store.append(self.batch({place: records}))

    def ask(self, *queries: str) -> list[list[dict[str, Any]]]:
        """Close the store, ask the file, open the store."""
        self.store.close()
        with duckdb.connect(self.path, read_only=True) as connection:
            connection.execute("SET TimeZone = 'Asia/Kathmandu'")  # no view may depend on it
            found = [connection.execute(query).to_arrow_table().to_pylist() for query in queries]
        self.open()
        return found

    def check(self) -> None:
        """Compare all that is stored with the books."""
        names = ("usage", "spend_hourly", "spend_daily", "rejects")
        usage, hourly, daily, rejects = self.ask(*(f"SELECT * FROM {name}" for name in names))
        self.check_usage(usage)
        self.check_spend(hourly, self.books.spend(by_day=False))
        for row in daily:
            row["day"] = datetime.combine(row["day"], time(), NOW.tzinfo)
        self.check_spend(daily, self.books.spend(by_day=True))
        found = [tuple(row.values())[:4] for row in rejects]
        assert sorted(found) == sorted(self.books.rejects)
        self.check_partitions()

    def check_usage(self, rows: Sequence[dict[str, Any]]) -> None:
        found = {(row["source"], row["event_id"], row["event_time"]): row for row in rows}
        assert len(found) == len(rows)
        assert found.keys() == self.books.usage.keys()
        names = [name for name in UsageEvent.__struct_fields__ if name != "reported_cost_usd"]
        empty = dict.fromkeys(names)
        for identity, wanted in self.books.usage.items():
            row = found[identity]
            assert row.pop("stored_at") == NOW
            assert row.pop("cost_usd") == in_usd(row["cost_nano"])
            row["tags"] = None if row["tags"] is None else dict(row["tags"])
            wrong = differences(row, {**empty, **wanted})
            assert not wrong, (identity, wrong)

    def check_spend(
        self, rows: Sequence[dict[str, Any]], wanted: Mapping[tuple[Any, ...], Mapping[str, Any]]
    ) -> None:
        found = {}
        for row in rows:
            assert row.pop("cost_usd") == in_usd(row["cost_nano"])
            columns = list(row.items())
            found[tuple(value for _, value in columns[:12])] = dict(columns[12:])
        assert len(found) == len(rows)
        assert found.keys() == wanted.keys()
        for group, sums in wanted.items():
            wrong = differences(found[group], sums)
            assert not wrong, (group, wrong)

    def check_partitions(self) -> None:
        for place, state in self.store.partitions.items():
            assert state.position == Position(self.ends[place], "id")
            if place in self.books.newest:
                assert state.watermark_us == micros(self.books.newest[place])
            tally = self.books.tallies.get(place, {})
            assert {name: getattr(state.tally, name) for name in tally} == tally


def in_usd(nano: int | None) -> Decimal | None:
    return None if nano is None else Decimal(nano) / 10**9


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is not the same: by name, the value found and the value wanted."""
    names = {**found, **wanted}
    both = {name: (found.get(name, "missing"), wanted.get(name, "missing")) for name in names}
    return {name: pair for name, pair in both.items() if pair[0] != pair[1]}


def written(record: RECORD) -> bytes | None:
    if isinstance(record, Mapping):
        return json.dumps(record, default=datetime.isoformat).encode()
    return record


def entered(record: RECORD) -> Mapping[str, Any] | str:
    if isinstance(record, Mapping):
        return record
    if record is None:
        return "empty"
    return "invalid" if record.startswith(b"{}") else "malformed"


def event(event_id: str = "1", at: datetime = NOW, **fields: Any) -> dict[str, Any]:
    least = {"source": "gateway", "provider": "acme", "model": "plain", "input_tokens": 1}
    return {"event_id": event_id, "event_time": at, **least, **fields}
