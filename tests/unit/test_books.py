"""The store against the books of an accountant: every row, every sum, however the log is cut."""

from collections import Counter
from collections.abc import Mapping
from datetime import timedelta, timezone
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor.adapters.duckdb import rates
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import Price, Rates
from governor.core.redaction import MAX_RAW_BYTES
from tests.unit.accountant import AHEAD, BACK, NAMES, NOW, PRICES, TURN, charge
from tests.unit.office import PLACES, RECORD, Office, event

# ------------------------------------------------------------------------------ a day at the desk

AMOUNTS = (None, None, 0, 1, 1, 3, 7, 999, 1_000, 1_001, 123_457, 10**10)
PARTS = (
    *("cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("reasoning_tokens", "input_audio_tokens", "output_audio_tokens"),
)
MOMENTS = (
    *(TURN - timedelta(microseconds=1), TURN, TURN + timedelta(days=10)),
    *(NOW - BACK, NOW - BACK - timedelta(microseconds=1), NOW + AHEAD, NOW + timedelta(hours=2)),
    *(NOW.replace(hour=5, minute=59, second=59, microsecond=999_999), NOW.replace(hour=6)),
    *(NOW.replace(hour=0), NOW.replace(hour=0) - timedelta(microseconds=1)),
)
ZONES = (timezone(timedelta(hours=5, minutes=45)), timezone(timedelta(hours=-11)))
WORDS = (None, None, "red", "blue", "Blue", "a\0b", "\U0001f4b8", "'; --")


def invented(draw: Random, ids: int) -> RECORD:
    """Return a record; ids are few, so that many come again with other contents or times."""
    if draw.random() < 0.06:
        return draw.choice(
            (None, b"", b"no json", b"{}", b"{} ", b"\xff" * 10, b"{}" + b" " * 3_000)
        )
    provider, model = draw.choice(NAMES)
    if draw.random() < 0.3:
        at = draw.choice(MOMENTS)
    else:
        at = NOW - timedelta(minutes=draw.choice((0, 1, 30, 59, 61, 90, 1_440)))
    made: dict[str, Any] = {
        "event_id": f"event-{draw.randrange(ids)}",
        "source": draw.choice(("a", "b")),
        "event_time": at,
        "provider": provider,
        "model": model,
        "input_tokens": draw.choice(AMOUNTS),
        "output_tokens": draw.choice(AMOUNTS),
    }
    for name in draw.sample(PARTS, draw.randrange(4)):
        made[name] = draw.choice(AMOUNTS)
    for name in draw.sample(("tier", "team", "customer", "region", "trace_id", "user"), 3):
        made[name] = draw.choice(WORDS)
    for name, likely, values in (
        ("web_searches", 0.1, (0, 2)),
        ("output_images", 0.1, (0, 1)),
        ("compute_ms", 0.1, (0, 5)),
        ("requests", 0.2, (0, 1, 7)),
        ("service_tier", 0.3, ("batch", "Batch", "default", "priority")),
        ("reported_cost_usd", 0.2, ("0", "0.0000000005", "0.0000000015", "12.345678901234"[:13])),
        ("status", 0.2, ("success", "error")),
        ("tags", 0.2, ({"k": "v"}, {"k": "", "\U0001f4b8": "w"})),
    ):
        if draw.random() < likely:
            made[name] = draw.choice(values)
    return made


@pytest.mark.parametrize("seed", range(4))
def test_every_row_and_every_sum_is_the_accountants(tmp_path: Path, seed: int) -> None:
    """Thousands of events: repeats, late, rejected, unpriced and contradicting ones, row by row."""
    draw = Random(seed)
    with Office(tmp_path / "governor.duckdb") as office:
        for _ in range(5):
            sizes = dict(zip(PLACES, draw.sample((0, 1, 40, 250, 250), 3), strict=True))
            made = {
                place: [invented(draw, 500) for _ in range(size)] for place, size in sizes.items()
            }
            office.store.append(office.batch(made))
            if draw.random() < 0.3:
                office.store.compact(NOW)
        office.check()
        tallies = [Counter(tally) for tally in office.books.tallies.values()]
        assert min(sum(tallies, Counter()).values()) > 20  # each outcome was there


records = st.builds(lambda seed: invented(Random(seed), 3), st.integers(0, 10**6))
batches = st.dictionaries(st.sampled_from(PLACES), st.lists(records, max_size=4), min_size=1)


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(st.lists(st.tuples(batches, st.booleans(), st.booleans()), min_size=1, max_size=3))
def test_the_smallest_logs_are_counted_right(
    day: list[tuple[dict[PartitionId, list[RECORD]], bool, bool]],
) -> None:
    """One event, two of one identity, a reject alone: after every batch all sums are right."""
    with TemporaryDirectory() as folder, Office(Path(folder, "governor.duckdb")) as office:
        for batch, again, compacts in day:
            made = office.batch(batch)
            assert office.store.append(made) is not None
            if again and any(batch.values()):
                assert office.store.append(made) is None
            if compacts:
                office.store.compact(NOW)
        office.check()


# ---------------------------------------------------------------------------- how the log is cut


@pytest.mark.slow
def test_the_books_do_not_depend_on_how_the_log_is_cut(tmp_path: Path) -> None:
    """One batch or one for each record: the same rows, sums and positions."""
    draw = Random(7)
    log = [invented(draw, 9) for _ in range(25)]
    with Office(tmp_path / "whole.duckdb") as whole, Office(tmp_path / "cut.duckdb") as cut:
        whole.append(*log)
        for record in log:
            cut.append(record)
        whole.check()
        cut.check()
        assert cut.store.partitions == whole.store.partitions


@pytest.mark.parametrize("stored", [1, 2, 3, 9, 10, 40])
@pytest.mark.parametrize("sent", [1, 300])
def test_a_file_of_any_size_takes_the_next_batch(tmp_path: Path, stored: int, sent: int) -> None:
    """However few events are stored, repeats are found and the rest is counted."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(*(event(str(number)) for number in range(stored)))
        office.append(*(event(str(number)) for number in range(sent)))
        tally = office.store.partitions[PLACES[1]].tally
    assert (tally.counted, tally.duplicates) == (max(stored, sent), min(stored, sent))


def test_a_repeat_may_say_anything_else(tmp_path: Path) -> None:
    """The first of an identity counts as it was, also when a dearer one comes before the commit."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event(), event(input_tokens=9), event(provider="bolt", model="draw"))
        office.append(event(input_tokens=10**9), place=PLACES[2])
        office.check()


def test_times_of_other_zones_are_the_same_instants(tmp_path: Path) -> None:
    """The same event written with another offset is a repeat, and falls on its UTC day."""
    late_evening = NOW.replace(hour=23) - timedelta(days=1)
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(
            event(at=late_evening), *(event(at=late_evening.astimezone(z)) for z in ZONES)
        )
        office.check()
        (days,) = office.ask("SELECT day FROM spend_daily")
    assert [str(row["day"]) for row in days] == ["2026-06-30"]


def test_empty_tags_are_stored_as_they_came(tmp_path: Path) -> None:
    """`{}` is told from no tags, whatever the other events of its batch say."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event("1", tags={}), event("2"))
        office.append(event("3", tags={}), event("4"), event("5", tags={"a": "b"}))
        office.check()


# --------------------------------------------------------------------------------------- prices


@pytest.mark.parametrize(
    ("fields", "cost_nano"),
    [
        ({"input_tokens": 1}, 38),  # 37.5
        ({"input_tokens": 3}, 112),  # 112.5
        ({"input_tokens": 1, "output_tokens": 1}, 188),  # 37.5 + 150.5
        ({"output_tokens": 1, "input_tokens": 0}, 150),  # 150.5
        ({"model": "parts", "input_tokens": 0, "requests": 1}, 1_000),  # 1000.000029
        ({"model": "parts", "input_tokens": 10, "cache_write_1h_tokens": 10}, 1_050),  # + 50.00011
        ({"model": "parts", "input_tokens": 10, "cache_write_5m_tokens": 4}, 1_028),  # 15.0+12.5
        ({"model": "parts", "output_tokens": 5, "reasoning_tokens": 2}, 1_055),  # 54.5 on top
        ({"model": "plain", "input_tokens": 4, "cache_read_tokens": 4}, 150),  # as input
        ({"model": "long", "input_tokens": 1_000}, 1_250),
        ({"model": "long", "input_tokens": 1_001}, 2_502),  # 2502.5
        ({"model": "long", "input_tokens": 999, "cache_read_tokens": 1_000}, 4_998),  # 1999 long
        ({"model": "night", "event_time": NOW.replace(hour=5, minute=59)}, 1),
        ({"model": "night", "event_time": NOW.replace(hour=6)}, 4),
        ({"model": "dated", "event_time": TURN - timedelta(seconds=1), "input_tokens": 10}, 9),
        ({"model": "dated", "event_time": TURN, "input_tokens": 10}, 5),
        ({"model": "dated", "event_time": TURN + timedelta(days=10)}, None),
        ({"model": "call", "input_tokens": 10**10, "requests": 3}, 105_000_000),
        ({"model": "ghost"}, None),
        ({"model": "unheard-of"}, None),
        ({"provider": "nobody"}, None),
        ({"provider": "ACME", "model": "PLAIN"}, 38),
        ({"provider": "bolt", "model": "embed", "input_tokens": 3}, 62),  # 61.5
        ({"provider": "bolt", "model": "embed", "output_tokens": 1}, None),
        ({"provider": "bolt", "model": "embed", "output_tokens": 0, "input_tokens": 1}, 20),
        ({"provider": "bolt", "model": "draw", "input_tokens": 1}, None),
        ({"provider": "bolt", "model": "draw", "input_tokens": 0, "output_tokens": 1}, 30),
        ({"provider": "bolt", "model": "free", "input_tokens": 10**10}, 0),
        ({"provider": "bolt", "model": "free", "output_images": 1}, None),
        ({"provider": "bolt", "model": "free", "compute_ms": 1}, None),
        ({"provider": "bolt", "model": "free", "compute_ms": 0}, 0),
        ({"provider": "bolt", "model": "tiny", "input_tokens": 500_000}, 0),  # 0.5
        ({"provider": "bolt", "model": "tiny", "input_tokens": 500_001}, 1),
        ({"provider": "bolt", "model": "tiny", "input_tokens": 1_500_000}, 2),  # 1.5
        ({"status": "error", "input_tokens": None}, 0),
    ],
)
def test_the_accountant_reckons_as_by_hand(
    fields: Mapping[str, Any], cost_nano: int | None
) -> None:
    """The oracle itself is checked against figures worked out on paper."""
    assert charge(event(**fields)).cost_nano == cost_nano


def test_all_cells_at_once(tmp_path: Path) -> None:
    """Every model at every edge of time, day and context length costs what the books say."""
    contexts = (0, 1, 1_000, 1_001, 10**10)
    cells = [(name, at, tokens) for name in NAMES for at in MOMENTS for tokens in contexts]
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(
            *(
                event(str(number), at, provider=name[0], model=name[1], input_tokens=tokens)
                for number, (name, at, tokens) in enumerate(cells)
            )
        )
        office.check()


def test_names_learnt_anew_cost_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When too many model names were seen they are forgotten, and no sum suffers."""
    monkeypatch.setattr(rates, "MAX_TARIFFS", 3)
    draw = Random(3)
    with Office(tmp_path / "governor.duckdb") as office:
        for _ in range(6):
            office.append(*(invented(draw, 99) for _ in range(12)))
        office.check()


def test_thousands_without_a_price_are_counted_at_the_stand_in(tmp_path: Path) -> None:
    """More rows than DuckDB hands over at once, with and without a price in turn."""
    models = ("plain", "unheard-of", "ghost")
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(*(event(str(n), model=models[n % 3], input_tokens=n) for n in range(5_000)))
        office.check()


def test_prices_are_kept_for_ever_and_once(tmp_path: Path) -> None:
    """Opening again adds no price twice; a new list adds its own and events keep their old cost."""
    dearer = Price(PRICES[0].key, Rates(input=2_000_000_000, output=0), "by hand")
    names = "SELECT price_id FROM prices"
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event("1"))
        assert [row["price_id"] for row in office.ask(names)[0]] == [PRICES[0].price_id]
        office.books.prices = (dearer, *PRICES[1:])
        office.reopen()
        office.append(event("1"), event("2"))
        found = {row["price_id"] for row in office.ask(names)[0]}
        assert found == {price.price_id for price in (dearer, PRICES[0])}
        office.check()
        assert [row["cost_nano"] for row in office.books.usage.values()] == [38, 2_000]


# -------------------------------------------------------------------------- positions, rejects


def test_rejects_are_kept_without_their_words(tmp_path: Path) -> None:
    """Their shape as far as it is looked at, the whole length; empty is told from no value."""
    long = b"x" * (MAX_RAW_BYTES + 1)
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(b"", None, long, b'{"model":"gpt-4o"', event())
        (kept,) = office.ask('SELECT "offset", raw, raw_bytes, stored_at FROM rejects ORDER BY ALL')
    assert [tuple(row.values()) for row in kept] == [
        (0, b"", 0, NOW),
        (1, None, None, NOW),
        (2, b"<65536 bytes>", len(long), NOW),
        (3, b'{"model":"gpt-4o"', 17, NOW),
    ]


def test_rejects_are_dropped_after_their_time(tmp_path: Path) -> None:
    """Ninety days later compaction lets them go; sums and tallies stay."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event(), b"no json")
        office.store.compact(NOW + timedelta(days=90))
        assert len(office.ask("SELECT * FROM rejects")[0]) == 1
        office.store.compact(NOW + timedelta(days=90, microseconds=1))
        assert office.ask("SELECT * FROM rejects") == [[]]
        office.books.rejects.clear()
        office.check()


def test_a_resumption_moves_the_position_and_nothing_else(tmp_path: Path) -> None:
    """Tally and watermark go on; from where to where is written down."""
    place = PLACES[1]
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event())
        before = office.store.partitions[place]
        office.store.resume({place: (Resumption(70, Start.EXPIRED, 69), "id")}, NOW)
        after = office.store.partitions[place]
        assert (after.tally, after.watermark_us) == (before.tally, before.watermark_us)
        assert after.position == Position(70, "id")
        office.ends[place] = 70
        office.append(event("2"))
        office.check()
        columns = 'topic, "partition", reason, from_offset, to_offset, missed_records'
        ((row,),) = office.ask(f"SELECT {columns} FROM resumptions WHERE reason = 'expired'")
    assert tuple(row.values()) == ("usage", 0, "expired", 1, 70, 69)
