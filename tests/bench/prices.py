"""What prices cost in time: by join over stored events, and on the path of ingest.

    make bench                                  with everything else
    python tests/bench/prices.py join table formats     some parts

Figures are ratios within one run, taken turn by turn, best of the rounds; the join is in seconds.
"""

import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from governor import pricebook
from governor.adapters.duckdb import queries
from governor.adapters.duckdb.charging import charged_input, learn
from governor.adapters.duckdb.file import FileOptions, registered
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import ModelKey, Price, Rates
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.bench.ingest import BATCH, Figure, Frozen, report, say
from tests.unit.shelf import Shelf

EVENTS = 1_000_000
PATH_EVENTS = 100_000
ROUNDS = 5
SPANS = 50
"""Spans in an export, as the Collector batches them."""
PLACE = PartitionId("bench", 0)
NOW = datetime.now(UTC)
CATALOGUE = Catalogue()
MODELS = [
    (price.key.provider, price.key.model)
    for price in CATALOGUE.prices()
    if price.rates.input and price.rates.output and CATALOGUE.resolve(*price.key) == price.key
]
TIERS = ("", "", "", "batch", "priority")


@dataclass(frozen=True, slots=True)
class Record:
    """A record as the source hands it over."""

    offset: int
    value: bytes
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


def events(count: int, seed: int) -> Iterator[dict[str, object]]:
    """Yield usage of all models that have a price, some in tiers, some out of a cache."""
    draw = Random(seed)
    step = timedelta(microseconds=500)
    for number in range(count):
        provider, model = draw.choice(MODELS)
        cached = draw.randrange(1_000)
        yield {
            "event_id": str(uuid.UUID(int=draw.getrandbits(128))),
            "source": "gateway-1",
            "event_time": NOW - (count - number) * step,
            "provider": provider,
            "model": model,
            "service_tier": draw.choice(TIERS) or None,
            "customer": f"customer-{draw.randrange(500)}",
            "team": f"team-{draw.randrange(8)}",
            "input_tokens": cached + draw.randrange(4_000),
            "cache_read_tokens": cached,
            "output_tokens": draw.randrange(1, 1_000),
        }


def whole() -> RateTable:
    """Return the table of the catalogue and the corrections."""
    book = pricebook.load(None)
    return RateTable(Tariffs(CATALOGUE, book.overrides, book.providers))


def flat() -> RateTable:
    """Return a table with one price for everything."""
    one = Price(ModelKey("flat", "flat"), Rates(input=2_500_000, output=10_000_000), "flat")
    return RateTable(Tariffs(Shelf([one], lambda *_: one.key, lambda _: "flat")))


def opened(folder: Path, rates: RateTable) -> Store:
    """Open a new store."""
    path = folder / f"{uuid.uuid4().hex}.duckdb"
    store = Store(FileOptions(path, 1_000_000_000, 1, 64_000_000, 0), rates, lambda: NOW)
    store.resume({PLACE: (Resumption(0, Start.NEW_TOPIC, 0), None)}, NOW)
    return store


def ingest(store: Store, name: str, values: Sequence[bytes], size: int) -> float:
    """Return the seconds of the whole path of records without Kafka: decode, admit, store."""
    intake = Intake(
        formats={PLACE.topic: FORMATS[name]({})},
        window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
        clock=Frozen(NOW),
        max_record_bytes=10_000_000,
        watermarks={},
    )
    start = store.partitions[PLACE].position.next_offset
    began = time.perf_counter()
    for first in range(0, len(values), size):
        offset = start + first
        records = [
            Record(offset + n, value) for n, value in enumerate(values[first : first + size])
        ]
        ends = {PLACE: offset + len(records)}
        batch = intake.batch(Polled({PLACE: records}, {PLACE: Position(offset, None)}, ends))
        if batch.rejects:
            raise SystemExit(f"a record was set aside: {batch.rejects[0].detail}")
        store.append(batch)
    return time.perf_counter() - began


def join() -> Iterator[Figure]:
    """Price a million stored events of all models by join."""
    with tempfile.TemporaryDirectory() as folder:
        store = opened(Path(folder), whole())
        lines = [msgspec.json.encode(event) for event in events(EVENTS, 1)]
        ingest(store, "native", lines, BATCH)
        connection = store.database.connection
        stored = connection.execute("FROM events").to_arrow_table()
        read = charged_input(store.rates, stored)
        learn(connection, store.rates, read, NOW)
        connection.execute("SET threads = 2")
        with registered(connection, priced_input=read):
            connection.execute("CREATE TEMP TABLE batch_input AS FROM priced_input")
        times = []
        for _ in range(ROUNDS):
            began = time.perf_counter()
            row = connection.execute(
                f"SELECT count(*), sum(nano) FROM ({queries.PRICE})"
            ).fetchone()
            times.append(time.perf_counter() - began)
        known = connection.execute("SELECT count(cost_nano), sum(cost_nano) FROM events").fetchone()
        cells = connection.execute("SELECT count(*) FROM rates").fetchone()
        store.close()
    if row is None or known is None or row[1] != known[1]:
        raise SystemExit(f"the sums differ: {row} and {known}")
    say(f"  {EVENTS:,} events, {len(MODELS):,} models, {cells[0] if cells else 0:,} cells")
    yield Figure("a million events by join", min(times), 1.0, at_most=True, unit=" s")


def table() -> Iterator[Figure]:
    """Store events of all models by the whole rate table and by a flat one, turn by turn.

    The first half of the events teaches the store their models and is not timed.
    """
    lines = [msgspec.json.encode(event) for event in events(2 * PATH_EVENTS, 2)]
    rates: dict[str, list[float]] = {"whole": [], "flat": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for name, made in (("whole", whole), ("flat", flat)):
                store = opened(Path(folder), made())
                learning = ingest(store, "native", lines[:PATH_EVENTS], BATCH)
                rates[name].append(
                    PATH_EVENTS / ingest(store, "native", lines[PATH_EVENTS:], BATCH)
                )
                store.close()
                say(
                    f"  round {number + 1}: {name} {rates[name][-1]:,.0f}/s, while learning"
                    f" {PATH_EVENTS / learning:,.0f}/s"
                )
    ratio = max(rates["whole"]) / max(rates["flat"])
    yield Figure("whole rate table / flat", ratio, 0.9, at_most=False, unit="")


def formats() -> Iterator[Figure]:
    """Store the same usage as OTLP in protobuf and as native events, turn by turn."""
    usage = list(events(PATH_EVENTS, 3))
    native = [msgspec.json.encode(event) for event in usage]
    exports = [export(usage[at : at + SPANS]) for at in range(0, len(usage), SPANS)]
    rates: dict[str, list[float]] = {"native": [], "otlp_proto": []}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            for name, values, size in (
                ("native", native, BATCH),
                ("otlp_proto", exports, BATCH // SPANS),
            ):
                store = opened(Path(folder), whole())
                rates[name].append(PATH_EVENTS / ingest(store, name, values, size))
                store.close()
            told = ", ".join(f"{name} {found[-1]:,.0f}/s" for name, found in rates.items())
            say(f"  round {number + 1}: {told}")
    ratio = max(rates["otlp_proto"]) / max(rates["native"])
    yield Figure("OTLP protobuf / native", ratio, 0.5, at_most=False, unit="")


def export(usage: Sequence[dict[str, object]]) -> bytes:
    """Return usage as spans of one service."""
    data = TracesData()
    resource = data.resource_spans.add()
    put(resource.resource.attributes, "service.name", "gateway-1")
    scope = resource.scope_spans.add()
    for event in usage:
        span = scope.spans.add()
        identity = uuid.UUID(str(event["event_id"])).bytes
        span.trace_id, span.span_id = identity, identity[:8]
        span.name = "chat"
        at = event["event_time"]
        assert isinstance(at, datetime)
        span.end_time_unix_nano = int(at.timestamp() * 1e9)
        span.start_time_unix_nano = span.end_time_unix_nano - 10**9
        for key, name in ATTRIBUTES.items():
            if event[name] is not None:
                put(span.attributes, key, event[name])
        put(span.attributes, "gen_ai.operation.name", "chat")
        put(span.attributes, "server.address", "api.example.com")
    return data.SerializeToString()


ATTRIBUTES = {
    "gen_ai.provider.name": "provider",
    "gen_ai.request.model": "model",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cache_read_tokens",
    "customer": "customer",
    "team": "team",
}


def put(attributes: object, key: str, value: object) -> None:
    """Add an attribute."""
    found = attributes.add()  # type: ignore[attr-defined]  # a repeated field
    found.key = key
    if isinstance(value, int):
        found.value.int_value = value
    else:
        found.value.string_value = value


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "join": join,
    "table": table,
    "formats": formats,
}

if __name__ == "__main__":
    sys.exit(report(PARTS, sys.argv[1:]))
