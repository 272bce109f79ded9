"""Stored events priced again: against the accountant, in slices, once, and with nothing lost."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any, Self

import pytest

from governor.adapters.duckdb import rerating
from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.rerating import Rerating
from governor.adapters.duckdb.store import Store
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import ModelKey, Price, Rates
from governor.core.rerating import Change, Changes, together, total
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.e2e.daemon import FULL
from tests.unit.accountant import BACK, NOW, PRICES
from tests.unit.office import Office, event
from tests.unit.shelf import Shelf
from tests.unit.site import Clock, Line
from tests.unit.test_books import invented

ALWAYS = (NOW - BACK - timedelta(days=1), NOW + timedelta(days=1))
DEARER: Sequence[Price] = tuple(
    replace(price, rates=price.rates.times(3))  # type: ignore[arg-type]  # a whole number will do
    if price.key.model in ("plain", "long")
    else price
    for price in PRICES
)
GHOSTLY = (*PRICES, Price(PRICES[0].key._replace(model="ghost"), Rates(input=1, output=2), "x"))


def rerate(
    office: Office, span: tuple[datetime, datetime] = ALWAYS, run: str | None = "run"
) -> Changes:
    """Price the span again, all slices; without a run nothing is written."""
    worker = Rerating(office.store)
    parts = [worker.rerate(part, run, NOW) for part in worker.slices(*span)]
    return together(parts)


def repriced(office: Office, prices: Sequence[Price]) -> None:
    """Open the store anew with other prices, and leave the books as they are."""
    office.books.prices = prices
    office.reopen()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_all_is_as_if_it_had_been_priced_so_at_first(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row by row and sum by sum, on time and late; the dry run said the same before."""
    monkeypatch.setattr(rerating, "SLICE_ROWS", 70)
    draw = Random(seed)
    with Office(tmp_path / "governor.duckdb") as office:
        for _ in range(3):
            office.append(*(invented(draw, 500) for _ in range(150)))
            office.store.compact(NOW)
        repriced(office, DEARER)
        foretold = rerate(office, run=None)
        office.books.prices = PRICES  # nothing was written
        office.check()
        repriced(office, DEARER)
        done = rerate(office)
        count = office.books.reprice(DEARER, *ALWAYS)
        assert done == foretold
        assert total(done).events == count > 20
        office.check()
        assert rerate(office) == {}
        office.store.compact(NOW + timedelta(days=90))
        office.check()


def test_only_the_span_is_touched(tmp_path: Path) -> None:
    """From its first instant to just before its end, by event time."""
    start, end = NOW - timedelta(minutes=20), NOW - timedelta(minutes=10)
    moments = (
        start - timedelta(microseconds=1),
        start,
        end - timedelta(microseconds=1),
        end,
    )
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(*(event(str(n), at) for n, at in enumerate(moments)))
        repriced(office, DEARER)
        assert total(rerate(office, (start, end))).events == 2
        office.books.reprice(DEARER, start, end)
        office.check()


def test_a_new_price_ends_what_was_unpriced(tmp_path: Path) -> None:
    """Unpriced counts go down, caps leave the stand-in, and the reverse undoes it all."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(*(event(str(n), model="ghost", customer=f"c{n % 2}") for n in range(4)))
        repriced(office, GHOSTLY)
        change = total(rerate(office))
        assert (change.events, change.unpriced_before, change.unpriced_after) == (4, 4, 0)
        assert change.before_nano == 0
        office.books.reprice(GHOSTLY, *ALWAYS)
        office.check()
        repriced(office, PRICES)
        change = total(rerate(office, run="back"))
        assert (change.unpriced_before, change.unpriced_after, change.after_nano) == (0, 4, 0)
        office.books.reprice(PRICES, *ALWAYS)
        office.check()


def test_every_change_is_written_down(tmp_path: Path) -> None:
    """As it was and as it is, with the run, the event and where it stands."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event("a", customer="red-one"), event("b", model="parts"))
        repriced(office, DEARER)
        changes = rerate(office)
        ((group, change),) = changes.items()
        ((row,),) = office.ask("SELECT * FROM adjustments")
    assert tuple(group) == (NOW.date(), "acme", "plain", "red-one")
    assert change == Change(1, 0, 0, 38, 112, 38, 112)
    wanted: dict[str, Any] = {
        "run": "run",
        "made_at": NOW,
        "event_id": "a",
        "offset": 0,
        "old_price_id": PRICES[0].price_id,
        "new_price_id": DEARER[0].price_id,
        "old_cost_nano": 38,
        "new_cost_nano": 112,
    }
    assert {name: row[name] for name in wanted} == wanted


def test_a_slice_that_fails_leaves_all_as_it_was(tmp_path: Path) -> None:
    """Rows, rollups and the list of changes are one transaction; the next try does it."""
    with Office(tmp_path / "governor.duckdb") as office:
        office.append(event("1"), event("2"))
        repriced(office, DEARER)
        connection = office.store.database.connection
        connection.execute("ALTER TABLE rollup_minute RENAME COLUMN unpriced_nano TO other")
        with pytest.raises(Exception, match="unpriced_nano"):
            rerate(office)
        connection.execute("ALTER TABLE rollup_minute RENAME COLUMN other TO unpriced_nano")
        office.books.prices = PRICES
        office.check()
        repriced(office, DEARER)
        assert total(rerate(office)).events == 2
        office.books.reprice(DEARER, *ALWAYS)
        office.check()


def test_an_empty_store_has_no_slices(tmp_path: Path) -> None:
    """Nor has a span without events."""
    with Office(tmp_path / "governor.duckdb") as office:
        assert Rerating(office.store).slices(*ALWAYS) == []
        office.append(event("1"))
        later = NOW + timedelta(days=1)
        assert Rerating(office.store).slices(later, later + timedelta(days=1)) == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_month_priced_again(tmp_path: Path) -> None:
    """Dry run and real agree, sums follow, a second run changes nothing.

    A million events over 30 days in `make soak`. What it comes to is worked out from what was sent:
    three of four models cost twice as much afterwards.
    """
    draw = Random(30)
    start = datetime(2026, 6, 1, tzinfo=UTC)
    step = timedelta(days=30) / MONTH_EVENTS
    sent: Counter[tuple[str, str]] = Counter()
    with Till(tmp_path / "g.duckdb", 1) as till:
        for first in range(0, MONTH_EVENTS, BATCH):
            events = []
            for number in range(first, min(first + BATCH, MONTH_EVENTS)):
                at, model, tokens = (
                    start + number * step,
                    draw.choice(MODELS),
                    draw.randrange(5_000),
                )
                sent[at.date().isoformat(), model] += tokens
                events.append(
                    {"provider": "acme", "model": model, "event_time": at, "input_tokens": tokens}
                )
            till.take(events)
        assert till.sums() == {key: tokens * 1_000 for key, tokens in sent.items() if tokens}
        till.store.charge_by(till.tariffs(2))
        foretold, _ = till.rerate(None)
        done, worst_s = till.rerate("run")
        assert foretold == done
        assert total(done).events > MONTH_EVENTS * 7 // 10
        factor = {model: 1 if model == MODELS[0] else 2 for model in MODELS}
        assert till.sums() == {
            key: tokens * 1_000 * factor[key[1]] for key, tokens in sent.items() if tokens
        }
        assert till.rerate("again")[0] == {}
        assert till.kept() == total(done).events
    print(f"{MONTH_EVENTS:,} events, {total(done).events:,} changed, worst slice {worst_s:.2f} s")


MONTH_EVENTS = 1_000_000 if FULL else 20_000
BATCH = 5_000
MODELS = ("same", "one", "two", "three")


class Till:
    """A store that charges a thousand nano-dollars a token, or of all models but one a multiple."""

    def __init__(self, path: Path, factor: int) -> None:
        self.store = Store(
            FileOptions(path, 400_000_000, 1, 64_000_000, 0),
            RateTable(self.tariffs(factor)),
            lambda: NOW,
        )
        self._place = PartitionId("usage", 0)
        self.store.resume({self._place: (Resumption(0, Start.NEW_TOPIC, 0), "id")}, NOW)
        age = timedelta(days=400)
        self._intake = Intake(
            formats={"usage": FORMATS["native"]({})},
            window=Window(age, age, age),
            clock=Clock(NOW),
            max_record_bytes=10_000,
            watermarks={},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    def tariffs(self, factor: int) -> Tariffs:
        """Return tariffs in which all models but the first cost a multiple."""
        prices = []
        for model in MODELS:
            rate = 10**9 * (1 if model == MODELS[0] else factor)
            prices.append(Price(ModelKey("acme", model), Rates(input=rate, output=rate), "by hand"))
        return Tariffs(Shelf(prices, ModelKey, lambda provider: provider))

    def take(self, events: Sequence[dict[str, Any]]) -> None:
        """Store a batch."""
        first = self.store.partitions[self._place].position.next_offset
        records = [
            Line(
                first + n,
                json.dumps(
                    {"event_id": f"e{first + n}", "source": "till", **event}, default=str
                ).encode(),
            )
            for n, event in enumerate(events)
        ]
        ends = {self._place: first + len(records)}
        polled = Polled({self._place: records}, {self._place: Position(first, "id")}, ends)
        self.store.append(self._intake.batch(polled))

    def rerate(self, run: str | None) -> tuple[Changes, float]:
        """Price all again; return the changes, and the seconds of the longest slice."""
        worker, found, worst_s = Rerating(self.store), [], 0.0
        for part in worker.slices(datetime(2026, 1, 1, tzinfo=UTC), NOW):
            began = monotonic()
            found.append(worker.rerate(part, run, NOW))
            worst_s = max(worst_s, monotonic() - began)
        return together(found), worst_s

    def sums(self) -> dict[tuple[str, str], int]:
        """Return what each day and model cost by the view, which must be what its events say."""
        ask = self.store.database.connection.execute
        by_view, by_event = (
            {
                (day, model): int(nano)
                for day, model, nano in ask(
                    f"SELECT {day}::VARCHAR, model, sum(cost_nano) FROM {view} GROUP BY ALL"
                ).fetchall()
                if nano
            }
            for day, view in (("day", "spend_daily"), (UTC_DAY, "usage"))
        )
        assert by_view == by_event
        return by_view

    def kept(self) -> int:
        """Return how many changes are written down."""
        found = self.store.database.connection.execute("SELECT count(*) FROM adjustments")
        return int(found.fetchall()[0][0])


UTC_DAY = "(event_time AT TIME ZONE 'UTC')::DATE"
