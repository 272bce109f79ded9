"""The daemon's parts put together, before any of its threads runs."""

from functools import partial
from pathlib import Path

import pytest

from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.daemon.acting import Acting
from governor.daemon.clocks import WallClock
from governor.daemon.judging import Judges
from governor.daemon.parts import (
    connection_of,
    file_options,
    ingest_of,
    judging_of,
    price_book,
    pricing_of,
)
from governor.daemon.pricing import tariffs_of
from governor.daemon.receivers import fixed
from governor.settings import load


def test_what_acts_answers_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HTTP pages are up before the threads are: /status is answered from its first moment."""
    monkeypatch.chdir(tmp_path)
    settings = load(overrides={"store.min_free": "0B"}).settings
    wall = WallClock()
    now = partial(wall.at, None)
    catalogue, book = Catalogue(), price_book(settings)
    tariffs = tariffs_of(catalogue, book)
    store = Store(file_options(settings), RateTable(tariffs), now)
    try:
        state, receivers = State(store, now), fixed(settings)
        connection = connection_of(settings)
        judging = judging_of(settings, state, receivers, now, None, follow_events=False)
        pricing = pricing_of(settings, catalogue, (book, tariffs), store, state, judging, now)
        judges = Judges([judging.evaluate, pricing])
        ingest = ingest_of(settings, connection, store, wall, wall, judge=judges)
        acting = Acting(settings, connection, judging, pricing, state, ingest, now=now)
        assert acting.troubles == []
        assert judging.seen is not None
    finally:
        store.close()
