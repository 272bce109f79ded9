"""Stored events priced again: against the accountant, in slices, once, and with nothing lost."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor.adapters.duckdb import rerating
from governor.adapters.duckdb.rerating import Rerating
from governor.core.pricing import Price, Rates
from governor.core.rerating import Change, Changes, together, total
from tests.unit.accountant import BACK, NOW, PRICES
from tests.unit.office import Office, event
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
