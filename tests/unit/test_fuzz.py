"""Whatever stands in a topic, every record is accounted for once and the next one is read.

Records of every format are spoilt by a seed: bytes flipped, cut out, doubled; values of other
types, beyond limits, nested deep; keys twice. 20,000 here, a million in `make soak`.
"""

import copy
import json
import resource
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.tariffs import Tariffs
from governor.core.usage import Reason
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.e2e.daemon import FULL
from tests.unit.samples import Sample, protobuf, record, records, sample
from tests.unit.site import NOON, Clock

RECORDS = 1_000_000 if FULL else 20_000
BATCH = 2_000
SEED = 20_261_127
MAX_RECORD_BYTES = 100_000
NOON_MS = int(NOON.timestamp() * 1000)
MAX_GROWTH_KB = 150_000
"""How much memory may grow after a tenth of the records; caches of names have limits."""

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 1e308, -0.0, 10**30, 2**63, -(2**70)),
    *("", " ", "\x00", "é", "\ud83d\ude00", "x" * 300, "9" * 400, "NaN", "-Infinity", "1e999"),
    *("2026-02-30T00:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:60Z"),
    *([], {}, [[]], [None], {"": ""}, {"a": {"b": [{}]}}),
)


def business() -> dict[str, Any]:
    """Return a statement."""
    return {
        "event_id": "b",
        "source": "crm",
        "event_time": "2026-11-24T11:00:00Z",
        "until": "2026-11-25T11:00:00Z",
        "updated_at": "2026-11-24T11:00:00Z",
        "op": "replace",
        "measure": "revenue",
        "value": "12.5",
        "customer": "acme",
    }


SEEDS: dict[str, list[Sample]] = {name: [] for name in FORMATS if name != "auto"}
for _name, _sample in records().values():
    SEEDS[_name].append(_sample)
SEEDS["business"].append(record(business()))
SEEDS["litellm"].append(record([sample("litellm_standard_logging_payload")] * 3))
SEEDS["otlp_proto"].append(Sample(protobuf(sample("otlp_span_legacy"))))


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every container of a document with each of its keys."""
    stack = [document]
    while stack:
        found = stack.pop()
        keys = list(found) if isinstance(found, dict) else range(len(found))
        for key in keys:
            yield found, key
            if isinstance(found[key], dict | list):
                stack.append(found[key])


def odd_value(draw: Random, document: Any) -> Any:
    """Put a strange value somewhere."""
    at = list(places(document))
    if at:
        container, key = draw.choice(at)
        container[key] = copy.deepcopy(draw.choice(STRANGE))
    return document


def odd_key(draw: Random, document: Any) -> Any:
    """Take a key away, rename it, or add one."""
    at = [(c, key) for c, key in places(document) if isinstance(c, dict)]
    if at:
        container, key = draw.choice(at)
        how = draw.randrange(3)
        value = container[key] if how == 2 else container.pop(key)
        if how:
            container[draw.choice(["", "x" * 100, "Model", "é", "event_id", "usage"])] = value
    return document


def deep(draw: Random, document: Any) -> Any:
    """Nest something deep."""
    at = list(places(document))
    if at:
        container, key = draw.choice(at)
        for _ in range(draw.choice([10, 200])):
            container[key] = [container[key]] if draw.random() < 0.5 else {"a": container[key]}
    return document


def flip(draw: Random, value: bytes) -> bytes:
    """Change some bytes."""
    spoilt = bytearray(value or b"\x00")
    for _ in range(draw.randrange(1, 8)):
        spoilt[draw.randrange(len(spoilt))] = draw.randrange(256)
    return bytes(spoilt)


def cut(draw: Random, value: bytes) -> bytes:
    """Keep a part."""
    start, end = sorted(draw.randrange(len(value) + 1) for _ in range(2))
    return value[start:end] if draw.random() < 0.5 else value[:end]


def double(draw: Random, value: bytes) -> bytes:
    """Repeat a part, or all of it."""
    start, end = sorted(draw.randrange(len(value) + 1) for _ in range(2))
    return value[:end] + value[start:] if draw.random() < 0.7 else value + b"\n" + value


def splice(draw: Random, value: bytes) -> bytes:
    """Put in a token of JSON, an escape or a length of protobuf."""
    tokens = (b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\u0000", b"\\ud800", b"null", b"\xff")
    at = draw.randrange(len(value) + 1)
    return value[:at] + draw.choice(tokens) * draw.choice([1, 1, 50_000]) + value[at:]


ON_DOCUMENTS: tuple[Callable[[Random, Any], Any], ...] = (odd_value, odd_value, odd_key, deep)
ON_BYTES: tuple[Callable[[Random, bytes], bytes], ...] = (flip, cut, double, splice)


def spoilt(draw: Random, seed: Sample, offset: int) -> Sample:
    """Return a record made of a seed, or a tombstone, or one that is too large."""
    how = draw.random()
    value = seed.value or b""
    if how < 0.01:
        return Sample(None, seed.headers, offset, 0, NOON_MS)
    if how < 0.1:
        return Sample(value, seed.headers, offset, 0, NOON_MS)
    if how < 0.6 and value[:1] in (b"{", b"["):
        document = json.loads(value)
        for _ in range(draw.randrange(1, 4)):
            document = draw.choice(ON_DOCUMENTS)(draw, document)
        value = json.dumps(document, ensure_ascii=draw.random() < 0.5).encode(
            errors="surrogatepass"
        )
    else:
        value = draw.choice(ON_BYTES)(draw, value)
    headers = seed.headers if draw.random() < 0.9 else [("ce_id", b"\xff"), ("content-type", b"")]
    moment = draw.choice([NOON_MS, NOON_MS, 0, -1, 2**62])
    return Sample(value, headers, offset, 0, moment)


def memory_kb() -> int:
    """Return the greatest memory this process ever had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@dataclass
class Bench:
    """A store and an intake with a topic for each format."""

    store: Store
    intake: Intake
    outcomes: Counter[str] = field(default_factory=Counter)

    def next_offset(self, place: PartitionId) -> int:
        """Return where a topic is read on."""
        return self.store.partitions[place].position.next_offset

    def take(self, place: PartitionId, found: Sequence[Sample]) -> None:
        """Store records, and see that each of them is accounted for."""
        first = self.next_offset(place)
        end = first + len(found)
        polled = Polled({place: found}, {place: Position(first, "id")}, {place: end})
        batch = self.intake.batch(polled)
        stored = self.store.append(batch)  # raises where the tallies do not add up
        assert stored is not None
        assert self.next_offset(place) == end
        told = {
            *batch.events["offset"].to_pylist(),
            *batch.business["offset"].to_pylist(),
            *(reject.offset for reject in batch.rejects),
        }
        silent = {one.offset for one in found} - told
        assert len(silent) <= batch.ignored + stored.tallies[place].duplicates
        kept = Counter(reject.offset for reject in batch.rejects if reject.raw is not None)
        assert max(kept.values(), default=1) == 1
        assert all(0 < len(reject.detail) <= 500 for reject in batch.rejects)
        self.outcomes.update(reject.reason.value for reject in batch.rejects)
        self.outcomes["counted"] += stored.tallies[place].counted
        self.outcomes["ignored"] += batch.ignored


@contextmanager
def opened(path: Path) -> Iterator[Bench]:
    """Open a store."""
    rates = RateTable(Tariffs(Catalogue()))
    store = Store(FileOptions(path, 400_000_000, 1, 64_000_000, 0), rates, lambda: NOON)
    try:
        store.resume({p: (Resumption(0, Start.NEW_TOPIC, 0), "id") for p in PLACES}, NOON)
        intake = Intake(
            formats={name: FORMATS[name]({}) for name in FORMATS},
            window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
            clock=Clock(NOON),
            max_record_bytes=MAX_RECORD_BYTES,
            watermarks={},
        )
        yield Bench(store, intake)
    finally:
        store.close()


def test_the_bytes_of_a_record_are_kept_once(tmp_path: Path) -> None:
    """However many of its events are set aside, and for whatever reasons."""
    payload = sample("litellm_standard_logging_payload")
    bad = [payload | {"model": None}, payload | {"endTime": 0.0}]
    place = PartitionId("litellm", 0)
    with opened(tmp_path / "g.duckdb") as bench:
        bench.take(place, [record([payload, *bad]), Sample(None, (), 1)])
        rows = bench.store.database.connection.execute(
            'SELECT "offset", reason, raw IS NOT NULL FROM rejects ORDER BY ALL'
        ).fetchall()
    assert sorted(rows) == [(0, "invalid", True), (0, "too_old", False), (1, "empty", False)]


PLACES = [PartitionId(name, 0) for name in FORMATS]


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_spoilt_record_is_accounted_for(tmp_path: Path) -> None:
    """No crash, no stuck partition, each reject once with a reason, memory flat."""
    draw = Random(SEED)
    seeds = {**SEEDS, "auto": [one for found in SEEDS.values() for one in found]}
    early_kb = 0
    with opened(tmp_path / "g.duckdb") as bench:
        for number in range(RECORDS // BATCH):
            place = PLACES[number % len(PLACES)]
            first = bench.next_offset(place)
            chosen = draw.choices(seeds[place.topic], k=BATCH)
            bench.take(place, [spoilt(draw, one, first + n) for n, one in enumerate(chosen)])
            if not early_kb and number >= RECORDS // BATCH // 10:
                early_kb = memory_kb()
    grown_kb = memory_kb() - early_kb
    outcomes = bench.outcomes
    print(f"{RECORDS:,} records: {dict(outcomes)}; memory grew by {grown_kb / 1000:.0f} MB")
    assert set(outcomes) == {"counted", "ignored", *(reason.value for reason in Reason)}
    assert grown_kb < MAX_GROWTH_KB
