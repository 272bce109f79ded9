"""The store on a real DuckDB file, against an oracle that shares no code with it."""

import json
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random
from typing import Any

import duckdb
import pytest

from governor.adapters.duckdb.file import FileOptions, StoreInUseError
from governor.adapters.duckdb.store import Store
from governor.core.admission import Window
from governor.core.batches import Batch, Polled, Stored
from governor.core.errors import ConfigError, PermanentError, TransientError
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import ModelKey, Price, Rates
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.unit.shelf import rate_table

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
NANO = 10**9
TOPIC = "usage"
USD = 10**15  # femto-dollars

LARGE = ModelKey("acme", "large")
SMALL = ModelKey("acme", "small")
TIES = ModelKey("beta", "ties")
SEARCH = ModelKey("beta", "search")

PRICES = [
    Price(
        LARGE,
        Rates(
            input=USD * 3 // 10**6,
            cache_read=USD * 3 // 10**7,
            cache_write_5m=USD * 375 // 10**8,
            cache_write_1h=USD * 6 // 10**6,
            output=USD * 15 // 10**6,
        ),
        "test",
        until_tokens=200_001,
    ),
    Price(
        LARGE,
        Rates(input=USD * 6 // 10**6, output=USD * 30 // 10**6),
        "test",
        from_tokens=200_001,
    ),
    Price(SMALL, Rates(input=100_000_000, output=500_000_000), "test", until_second=43_200),
    Price(SMALL, Rates(input=200_000_000, output=900_000_000), "test", from_second=43_200),
    Price(TIES, Rates(input=37_500_000, output=37_500_000, reasoning=112_500_000), "test"),
    Price(SEARCH, Rates(request=USD // 200), "test"),
]
KNOWN = {"large": LARGE, "small": SMALL, "ties": TIES, "search": SEARCH}


def resolve(_: str, model: str) -> ModelKey | None:
    return KNOWN.get(model)


def resolve_provider(provider: str) -> str | None:
    return provider if provider in {"acme", "beta"} else None


def open_store(path: Path, **changes: Any) -> Store:
    options = {
        "memory_limit_bytes": 200_000_000,
        "threads": 1,
        "checkpoint_threshold_bytes": 16_000_000,
        "min_free_bytes": 0,
        **changes,
    }
    rates = rate_table(PRICES, resolve, resolve_provider)
    return Store(FileOptions(path=path, **options), rates, lambda: NOW)


@dataclass(frozen=True, slots=True)
class Line:
    partition: int
    offset: int
    value: bytes


class Fixed:
    def at(self, newest_us: int | None) -> datetime:  # noqa: ARG002
        return NOW


@dataclass(slots=True)
class Log:
    """A topic in memory: gives each partition's records as batches, with their positions."""

    intake: Intake = field(
        default_factory=lambda: Intake(
            formats={TOPIC: FORMATS["native"]({})},
            window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
            clock=Fixed(),
            max_record_bytes=100_000,
            watermarks={},
        )
    )
    ends: Counter[int] = field(default_factory=Counter)

    def batch(self, values: Mapping[int, list[bytes]]) -> Batch:
        records, starts, ends = {}, {}, {}
        for partition, lines in values.items():
            place = PartitionId(TOPIC, partition)
            first = self.ends[partition]
            records[place] = [Line(partition, first + i, line) for i, line in enumerate(lines)]
            self.ends[partition] += len(lines)
            starts[place] = Position(first, "id")
            ends[place] = self.ends[partition]
        return self.intake.batch(Polled(records=records, starts=starts, ends=ends))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = begun(open_store(path))
    yield opened
    opened.close()


def begun(store: Store, partitions: int = 3) -> Store:
    start = (Resumption(0, Start.NEW_TOPIC, 0), "id")
    store.resume({PartitionId(TOPIC, n): start for n in range(partitions)}, NOW)
    return store


def event(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "source": "gateway",
        "event_time": "2026-11-24T11:00:00Z",
        "provider": "acme",
        "model": "large",
        "input_tokens": 100,
        "output_tokens": 10,
        **fields,
    }


def lines(*events: Mapping[str, Any]) -> list[bytes]:
    return [json.dumps(event).encode() for event in events]


def ask(path: Path, query: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(path) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        return connection.execute(query).fetchall()


def one(path: Path, query: str) -> Any:
    ((value,),) = ask(path, query)
    return value


# ---------------------------------------------------------------------------------- the oracle


def half_even(amount: Fraction) -> int:
    floor = amount.numerator // amount.denominator
    rest = amount - floor
    if rest == Fraction(1, 2):
        return floor + floor % 2
    return floor + (rest > Fraction(1, 2))


def oracle_cost(fields: Mapping[str, Any]) -> tuple[int | None, int]:
    """Return (cost, what caps count) in nano-dollars, from the figures of the price list alone."""
    moment = datetime.fromisoformat(fields["event_time"])
    amount = {name: fields.get(name) or 0 for name in PART_NAMES}
    inside = amount["cache_read_tokens"] + amount["cache_write_1h_tokens"]
    plain = (
        amount["input_tokens"] - inside
        if amount["input_tokens"] >= inside
        else amount["input_tokens"]
    )
    thought = amount["reasoning_tokens"]
    spoken = (
        amount["output_tokens"] - thought
        if amount["output_tokens"] >= thought
        else amount["output_tokens"]
    )
    context = plain + inside

    def usd(rates: tuple[str, str, str, str, str]) -> int:
        prices = [Fraction(rate) / 10**6 for rate in rates]
        parts = (
            plain,
            amount["cache_read_tokens"],
            amount["cache_write_1h_tokens"],
            spoken,
            thought,
        )
        return half_even(sum(p * n for p, n in zip(prices, parts, strict=True)) * NANO)

    dearest = {"acme": ("6", "6", "6", "30", "30"), "beta": ("0.0375",) * 4 + ("0.1125",)}
    homes = {"large": "acme", "small": "acme", "ties": "beta", "search": "beta"}
    home = homes.get(fields["model"], fields["provider"])
    fallback = usd(dearest.get(home, dearest["acme"]))
    if fields.get("output_images") or fields.get("compute_ms"):
        return None, fallback
    match fields["model"]:
        case "large":
            rates = (
                ("6", "6", "6", "30", "30") if context > 200_000 else ("3", "0.3", "6", "15", "15")
            )
        case "small":
            morning = moment.astimezone(UTC).hour < 12
            rates = ("0.1",) * 3 + ("0.5",) * 2 if morning else ("0.2",) * 3 + ("0.9",) * 2
        case "ties":
            rates = ("0.0375",) * 4 + ("0.1125",)
        case "search":
            cost = fields.get("requests", 1) * NANO // 200
            return cost, cost
        case _:
            return None, fallback
    return usd(rates), usd(rates)


PART_NAMES = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


@dataclass(slots=True)
class Oracle:
    """What the producer knows it sent."""

    distinct: dict[tuple[str, str, datetime], Mapping[str, Any]] = field(default_factory=dict)
    sent: int = 0
    refused: int = 0

    def see(self, fields: Mapping[str, Any], *, refused: bool) -> None:
        self.sent += 1
        self.refused += refused
        if not refused:
            moment = datetime.fromisoformat(fields["event_time"])
            self.distinct.setdefault((fields["source"], fields["event_id"], moment), fields)

    @property
    def costs(self) -> list[tuple[int | None, int]]:
        return [oracle_cost(fields) for fields in self.distinct.values()]


def draw_event(draw: Random, number: int) -> tuple[dict[str, Any], bool]:
    """Return an event, and whether it must be refused."""
    moment = NOW - timedelta(seconds=draw.randrange(0, 1_800), microseconds=draw.randrange(10**6))
    fate = draw.random()
    if fate < 0.05:
        moment -= timedelta(days=draw.uniform(0.1, 40))
    refused = 0.05 <= fate < 0.08
    if refused:
        moment = draw.choice((NOW - timedelta(days=46), NOW + timedelta(hours=2)))
    fields: dict[str, Any] = {
        "event_id": f"event-{number}",
        "source": draw.choice(("gateway-1", "gateway-2")),
        "event_time": moment.isoformat(),
        "provider": draw.choice(("acme", "beta", "unheard")),
        "model": draw.choice(("large", "small", "ties", "search", "unknown")),
        "team": draw.choice(("red", "blue", None)),
    }
    for name in PART_NAMES:
        if draw.random() < 0.7:
            fields[name] = draw.choice((0, 1, 3, draw.randrange(5_000), draw.randrange(300_000)))
    fields.setdefault("input_tokens", 0)
    if draw.random() < 0.05:
        fields[draw.choice(("output_images", "compute_ms"))] = draw.randrange(1, 9)
    return fields, refused


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, 6))]
)
def test_the_sums_are_those_of_the_producer(path: Path, seed: int) -> None:
    """Duplicates, late, refused, unpriced and contradicting events: every sum is the oracle's."""
    draw = Random(seed)
    oracle, log, store = Oracle(), Log(), begun(open_store(path))
    earlier: list[tuple[dict[str, Any], bool]] = []
    for _ in range(6):
        values: dict[int, list[bytes]] = defaultdict(list)
        for _ in range(draw.randrange(1, 250)):
            again = earlier and draw.random() < 0.15
            chosen = draw.choice(earlier) if again else draw_event(draw, len(earlier))
            earlier.append(chosen)
            oracle.see(chosen[0], refused=chosen[1])
            values[draw.randrange(3)] += lines(chosen[0])
        assert isinstance(store.append(log.batch(values)), Stored)
        if draw.random() < 0.3:
            store.compact(NOW)
        if draw.random() < 0.3:
            store.close()
            store = open_store(path)
    tallies = [state.tally for state in store.partitions.values()]
    store.close()

    costs = oracle.costs
    assert sum(tally.events for tally in tallies) == oracle.sent
    assert sum(tally.counted for tally in tallies) == len(oracle.distinct)
    assert sum(tally.rejected for tally in tallies) == oracle.refused
    assert sum(tally.duplicates for tally in tallies) == (
        oracle.sent - oracle.refused - len(oracle.distinct)
    )
    assert one(path, "SELECT count(*) FROM rejects") == oracle.refused
    assert ask(path, "SELECT count(*), sum(cost_nano), sum(cap_nano) FROM usage") == [
        (
            len(costs),
            sum(cost for cost, _ in costs if cost is not None),
            sum(cap for _, cap in costs),
        )
    ]
    unpriced = sum(cost is None for cost, _ in costs)
    assert one(path, "SELECT count(*) FROM usage WHERE price_status = 'unpriced'") == unpriced
    for view in ("spend_hourly", "spend_daily"):
        found = ask(
            path,
            f"SELECT team, sum(events), sum(cost_nano), sum(cap_nano), sum(unpriced_events)"
            f" FROM {view} GROUP BY team",
        )
        assert {row[0]: row[1:] for row in found} == by_team(oracle)


def by_team(oracle: Oracle) -> dict[str | None, tuple[int, int, int, int]]:
    teams: dict[str | None, list[tuple[int | None, int]]] = defaultdict(list)
    for fields, cost in zip(oracle.distinct.values(), oracle.costs, strict=True):
        teams[fields["team"]].append(cost)
    return {
        team: (
            len(costs),
            sum(cost for cost, _ in costs if cost is not None),
            sum(cap for _, cap in costs),
            sum(cost is None for cost, _ in costs),
        )
        for team, costs in teams.items()
    }


# ---------------------------------------------------------------------------------- prices


@pytest.mark.parametrize(
    ("fields", "cost", "cap"),
    [
        ({"input_tokens": 1_000, "output_tokens": 0}, 3_000_000, 3_000_000),
        ({"input_tokens": 1_000, "cache_read_tokens": 400, "output_tokens": 0}, 1_920_000, None),
        ({"input_tokens": 100, "cache_read_tokens": 400, "output_tokens": 0}, 420_000, None),
        ({"input_tokens": 200_000, "output_tokens": 1}, 600_015_000, None),
        ({"input_tokens": 200_001, "output_tokens": 1}, 1_200_036_000, None),
        ({"model": "ties", "input_tokens": 1, "output_tokens": 0}, 38, None),
        ({"model": "ties", "input_tokens": 3, "output_tokens": 0}, 112, None),
        ({"model": "ties", "input_tokens": 5, "output_tokens": 0}, 188, None),
        ({"model": "search", "input_tokens": 99, "output_tokens": 9}, 5_000_000, None),
        ({"model": "nobody", "input_tokens": 1_000, "output_tokens": 1}, None, 6_030_000),
        ({"model": "nobody", "provider": "beta", "input_tokens": 3, "output_tokens": 0}, None, 112),
        ({"input_tokens": 0, "output_tokens": 0, "output_images": 1}, None, 0),
        ({"input_tokens": 0, "output_tokens": 0, "compute_ms": 1}, None, 0),
        ({"input_tokens": 10**10, "output_tokens": 10**10}, 360_000 * NANO, None),
    ],
)
def test_a_cost_is_what_the_price_list_says(
    store: Store, path: Path, fields: Mapping[str, Any], cost: int | None, cap: int | None
) -> None:
    """Cache, context length, ties to even, requests, unknown models and huge amounts, by hand."""
    store.append(Log().batch({0: lines(event(1, **fields))}))
    store.close()
    expected = (cost, cost if cap is None else cap)
    assert ask(path, "SELECT cost_nano, cap_nano FROM usage") == [expected]


def test_parts_beyond_their_total_are_flagged(store: Store, path: Path) -> None:
    """An event that contradicts itself is charged for total and parts, and says so."""
    store.append(Log().batch({0: lines(event(1), event(2, cache_read_tokens=101))}))
    store.close()
    assert ask(path, "SELECT event_id, contradicts FROM usage ORDER BY 1") == [
        ("e1", False),
        ("e2", True),
    ]


def test_every_event_names_the_price_it_used(store: Store, path: Path) -> None:
    """`price_id` leads to the row of `prices` that was charged, also for a stand-in."""
    store.append(Log().batch({0: lines(event(1), event(2, model="nobody"))}))
    store.close()
    assert ask(
        path, "SELECT event_id, p.model, p.from_tokens FROM usage JOIN prices p USING (price_id)"
    ) == [("e1", "large", 0), ("e2", "large", 200_001)]


# ---------------------------------------------------------------------------------- identity


@pytest.mark.parametrize("later", [timedelta(0), timedelta(hours=3), timedelta(days=30)])
def test_the_same_event_is_counted_once_whenever_it_comes_again(
    store: Store, path: Path, later: timedelta
) -> None:
    """In the same batch, in the next, on time or late, from another partition: once."""
    log = Log()
    moment = (NOW - timedelta(hours=1) - later).isoformat()
    twice = lines(event(1, event_time=moment))
    store.append(log.batch({0: lines(event(2)) + twice + twice, 1: twice}))
    store.append(log.batch({2: twice, 0: twice}))
    counted = sum(state.tally.counted for state in store.partitions.values())
    duplicates = sum(state.tally.duplicates for state in store.partitions.values())
    store.close()
    assert (counted, duplicates) == (2, 4)
    assert one(path, "SELECT count(*) FROM usage") == 2


def test_another_time_is_another_event_and_the_sampled_check_sees_it(
    store: Store, path: Path
) -> None:
    """Identity holds the time; `reused_ids` shows ids that end in 77 and came under two times."""
    other = {"event_time": "2026-11-24T11:00:01Z"}
    store.append(
        Log().batch({0: lines(event(77), event(77, **other), event(78), event(78, **other))})
    )
    store.close()
    assert one(path, "SELECT count(*) FROM usage") == 4
    assert ask(path, "SELECT event_id, times FROM reused_ids") == [("e77", 2)]


# ---------------------------------------------------------------------------------- transactions


def test_a_batch_handed_in_again_changes_nothing(store: Store, path: Path) -> None:
    """After a commit of unknown outcome the same batch may come again."""
    batch = Log().batch({0: [*lines(event(1), event(2)), b"no json"]})
    assert store.append(batch) is not None
    before = store.partitions
    assert store.append(batch) is None
    assert store.partitions == before
    store.close()
    assert one(path, "SELECT count(*) FROM usage") == 2


def test_a_batch_from_elsewhere_is_refused(store: Store) -> None:
    """A batch is applied only at the position it was read from."""
    log = Log()
    log.batch({0: lines(event(1))})
    with pytest.raises(PermanentError, match="does not follow the stored positions"):
        store.append(log.batch({0: lines(event(2))}))


def test_a_failure_on_the_way_leaves_nothing(path: Path) -> None:
    """Events, deltas, rejects and positions are stored together or not at all."""
    begun(open_store(path)).close()
    with duckdb.connect(path) as connection:
        connection.execute("ALTER TABLE rejects RENAME TO elsewhere")
    store = open_store(path)
    before = dict(store.partitions)
    with pytest.raises(PermanentError, match="rejects"):
        store.append(Log().batch({0: [*lines(event(1)), b"no json"]}))
    assert store.partitions == before
    store.close()
    assert one(path, "SELECT count(*) FROM usage") == 0
    assert one(path, "SELECT count(*) FROM rollup_minute") == 0
    assert one(path, "SELECT max(next_offset) FROM positions") == 0


def test_the_next_start_reads_on_where_the_last_one_ended(store: Store, path: Path) -> None:
    """Positions, watermarks and tallies are the same after closing and opening."""
    store.append(Log().batch({0: lines(event(1)), 1: [*lines(event(1)), b"{}"]}))
    before = store.partitions
    store.close()
    again = open_store(path)
    assert again.partitions == before
    assert again.partitions[PartitionId(TOPIC, 1)].position == Position(2, "id")
    again.close()


def test_records_without_events_move_the_position(store: Store) -> None:
    """A batch of rejects alone, and one of no records at all, are stored too."""
    log = Log()
    store.append(log.batch({0: [b"no json"]}))
    place = PartitionId(TOPIC, 0)
    empty = Polled(records={}, starts={place: Position(1, "id")}, ends={place: 5})
    store.append(log.intake.batch(empty))
    assert store.partitions[place].position.next_offset == 5


def test_compaction_changes_no_sum(store: Store, path: Path) -> None:
    """Minutes of closed days become hours, and the views say what they said."""
    store.append(Log().batch({0: lines(*old_events())}))
    view = "SELECT hour, team, events, cost_nano, cap_nano FROM spend_hourly ORDER BY ALL"
    store.close()
    before = ask(path, view.replace("hour,", "hour::VARCHAR,", 1))
    store = open_store(path)
    store.compact(NOW)
    store.close()
    assert ask(path, view.replace("hour,", "hour::VARCHAR,", 1)) == before
    assert one(path, "SELECT count(*) FROM rollup_hour") > 0
    assert (
        one(path, "SELECT count(*) FROM rollup_minute WHERE bucket < '2026-11-22 12:00:00+00'") == 0
    )


def old_events() -> Iterable[dict[str, Any]]:
    for number in range(200):
        moment = NOW - timedelta(hours=number)
        yield event(number, event_time=moment.isoformat(), team="red" if number % 2 else "blue")


# ---------------------------------------------------------------------------------- the file


def test_one_owner_at_a_time(path: Path) -> None:
    """A file in use is refused with the number of the process that has it."""
    begun(open_store(path)).close()
    opened = f"import duckdb, sys; c = duckdb.connect({str(path)!r})"
    script = f"{opened}; print('open', flush=True); sys.stdin.read()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout
        assert holder.stdout.readline() == "open\n"
        with pytest.raises(StoreInUseError, match=f"in use by process {holder.pid}"):
            open_store(path)


def test_an_unreadable_file_says_what_to_do(path: Path) -> None:
    """Nothing is repaired in silence; the line names the file, and how to count anew."""
    path.write_bytes(b"not a database" * 1_000)
    with pytest.raises(PermanentError, match=r"move .* aside and start governor again"):
        open_store(path)


def test_another_schema_is_refused(path: Path) -> None:
    """A file of a newer governor is not touched."""
    begun(open_store(path)).close()
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE meta SET schema_version = 99")
    with pytest.raises(ConfigError, match="has schema"):
        open_store(path)


def test_a_file_taken_away_stops_the_store(store: Store, path: Path) -> None:
    """Writing on into a file without a name would lose everything at the next start."""
    path.unlink()
    with pytest.raises(PermanentError, match="taken away"):
        store.append(Log().batch({0: lines(event(1))}))


def test_a_full_disk_is_waited_for(path: Path) -> None:
    """Below `store.min_free` nothing is written, and the message says how to go on."""
    store = begun(open_store(path, min_free_bytes=10**18))
    with pytest.raises(TransientError, match=r"store\.min_free"):
        store.append(Log().batch({0: lines(event(1))}))
    store.close()
