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
from governor.daemon.parts import (
    connection_of,
    file_options,
    ingest_of,
    judging_of,
    receivers_of,
)
from governor.settings import load


def test_what_acts_answers_before_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The HTTP pages are up before the threads are: /status is answered from its first moment."""
    monkeypatch.chdir(tmp_path)
    settings = load(overrides={"store.min_free": "0B"}).settings
    wall = WallClock()
    now = partial(wall.at, None)
    catalogue = Catalogue()
    rates = RateTable(catalogue.prices(), catalogue.resolve, catalogue.resolve_provider)
    store = Store(file_options(settings), rates, now)
    try:
        state, receivers = State(store, now), receivers_of(settings)
        connection = connection_of(settings)
        judging = judging_of(settings, state, receivers, now, follow_events=False)
        ingest = ingest_of(settings, connection, store, wall, wall, judge=judging.evaluate)
        acting = Acting(settings, connection, judging, state, ingest, receivers=receivers, now=now)
        assert acting.troubles == []
        assert judging.seen is not None
    finally:
        store.close()
