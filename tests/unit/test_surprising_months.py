"""Backtests over four weeks made of the Azure traces: what happens is found, and explained."""

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governor.adapters.duckdb.history import History
from governor.rehearsal.backtest import run
from governor.rulebook import load
from tests.unit.azure import DAYS, START, Story, build

pytestmark = pytest.mark.slow

HOUR = timedelta(hours=1)
FIRST = 21
"""The day from which rules are replayed; what is before it they begin with."""
RULES = """\
version: 1
defaults: {owner: platform}
rules:
  - id: feature-spike
    kind: spike
    summary: "{{ value }}"
    per: [feature]
    every: 5m
    thresholds: [{at: 0.10 USD, level: warning}]
  - id: model-mix
    kind: mix_drift
    summary: "{{ value }}"
    per: [feature]
    against: {windows: 14}
    thresholds: [{at: 15pp, level: warning}]
  - id: month-ahead
    kind: forecast
    summary: "{{ value }}"
    limit: LIMIT USD
    period: month
    thresholds: [{at: 100%, level: warning}]
"""


def replayed(tmp_path: Path, story: Story, seed: int) -> list[Mapping[str, Any]]:
    """Return what fires in the last week of a story, by a limit far above it."""
    path = tmp_path / "g.duckdb"
    build(path, story, seed)
    return fired(path, tmp_path / "rules", "2000")


def fired(path: Path, folder: Path, limit: str) -> list[Mapping[str, Any]]:
    """Return what fires in the last week of a store."""
    folder.mkdir()
    (folder / "a.yaml").write_text(RULES.replace("LIMIT", limit))
    start, end = START + FIRST * 24 * HOUR, START + DAYS * 24 * HOUR
    with closing(History(path)) as past:
        known = past.past(start)
        found = run(
            load(folder).rules,
            lambda masks: past.usage(masks, start, end, ()),
            start,
            end,
            facts=known,
            before=known,
        )
    return [row for row in found.transitions if row["what"] == "fired"]


def amounts(drivers: str) -> dict[str, float]:
    """Return the drivers of an alert, in dollars."""
    parts = drivers.split(": ")[1].rstrip(".").split(", ")
    words = [part.rsplit(" ", 2) for part in parts]
    return {name: float(amount) for name, amount, _ in words}


def test_where_nothing_happens_nothing_fires(tmp_path: Path) -> None:
    """Real requests, a daily rhythm, noise: a quiet week, and only a limit too low is told of."""
    path = tmp_path / "g.duckdb"
    ledger = build(path, Story(), 1)
    month = sum(ledger.values()) / 10**9 * 31 / DAYS
    assert fired(path, tmp_path / "enough", f"{1.2 * month:.2f}") == []
    (ahead,) = fired(path, tmp_path / "low", f"{0.8 * month:.2f}")
    assert ahead["rule"] == "month-ahead"
    assert ahead["why"].startswith("It is heading for ")


def test_a_runaway_is_found_and_named(tmp_path: Path) -> None:
    """One customer's code assistant, twelve times for six hours: within its first hour."""
    begins = 24 * 24 + 13
    (spike,) = replayed(tmp_path, Story(runaway=(begins, begins + 6)), 3)
    assert (spike["rule"], spike["group"]) == ("feature-spike", {"feature": "code"})
    assert timedelta(0) < spike["at"] - (START + begins * HOUR) <= HOUR
    sentence, drivers, who = spike["why"].split("\n")
    assert "where" in sentence
    found = amounts(drivers)
    assert max(found, key=lambda name: found[name]) == "volume"
    assert found["volume"] > 0.7 * sum(found.values())
    assert "customer acme" in who


def test_a_model_switch_is_found_and_called_mix(tmp_path: Path) -> None:
    """Chat goes from a tenth at the large model to six: the mix fires first, cost follows."""
    begins = 24 * 24
    told = replayed(tmp_path, Story(switch=begins), 4)
    by_rule = {row["rule"]: row for row in reversed(told)}
    drift = by_rule["model-mix"]
    assert drift["group"] == {"feature": "chat"}
    assert drift["at"] - (START + begins * HOUR) <= 18 * HOUR
    sentence, drivers, *_ = drift["why"].split("\n")
    assert "gpt-4o" in sentence
    assert "is usual" in sentence
    found = amounts(drivers)
    assert max(found, key=lambda name: found[name]) == "model mix"
    spike = by_rule["feature-spike"]
    assert spike["group"] == {"feature": "chat"}
    named = amounts(spike["why"].split("\n")[1])
    assert max(named, key=lambda name: named[name]) == "model mix"


def test_a_price_change_is_found_and_called_price(tmp_path: Path) -> None:
    """The large model costs four times as much: no mix moves, and price is what drove it."""
    begins = 24 * 24 + 8
    told = replayed(tmp_path, Story(dearer=begins), 5)
    assert {row["rule"] for row in told} == {"feature-spike"}
    for row in told:
        found = amounts(row["why"].split("\n")[1])
        assert max(found, key=lambda name: found[name]) == "price"
        assert row["at"] - (START + begins * HOUR) <= 24 * HOUR
