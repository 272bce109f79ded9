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


def replayed(
    tmp_path: Path, story: Story, seed: int, limit: str = "2000"
) -> tuple[list[Mapping[str, Any]], int]:
    """Return what fired in the last week, and what all of it cost."""
    path, folder = tmp_path / "g.duckdb", tmp_path / "rules"
    ledger = build(path, story, seed)
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
    fired = [row for row in found.transitions if row["what"] == "fired"]
    return fired, sum(ledger.values())


def amounts(drivers: str) -> dict[str, float]:
    """Return the drivers of an alert, in dollars."""
    parts = drivers.split(": ")[1].rstrip(".").split(", ")
    words = [part.rsplit(" ", 2) for part in parts]
    return {name: float(amount) for name, amount, _ in words}


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_fires_where_nothing_happens(tmp_path: Path, seed: int) -> None:
    """Real requests, a daily rhythm, noise: a quiet week."""
    fired, _ = replayed(tmp_path, Story(), seed)
    assert fired == []


def test_a_runaway_is_found_and_named(tmp_path: Path) -> None:
    """One customer's code assistant, twelve times for six hours: within its first hour."""
    begins = 24 * 24 + 13
    fired, _ = replayed(tmp_path, Story(runaway=(begins, begins + 6)), 3)
    (spike,) = fired
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
    fired, _ = replayed(tmp_path, Story(switch=begins), 4)
    by_rule = {row["rule"]: row for row in reversed(fired)}
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
    fired, _ = replayed(tmp_path, Story(dearer=begins), 5)
    assert {row["rule"] for row in fired} == {"feature-spike"}
    for row in fired:
        found = amounts(row["why"].split("\n")[1])
        assert max(found, key=lambda name: found[name]) == "price"
        assert row["at"] - (START + begins * HOUR) <= 24 * HOUR


def test_the_month_is_told_of_only_where_it_goes_wrong(tmp_path: Path) -> None:
    """A limit a fifth above what it comes to stays silent, one a fifth below is told."""
    _, cost = replayed(tmp_path, Story(), 6)
    month = cost / 10**9 * 31 / DAYS
    for share, told in ((1.2, []), (0.8, ["month-ahead"])):
        folder = tmp_path / str(told)
        folder.mkdir()
        fired, _ = replayed(folder, Story(), 6, f"{share * month:.2f}")
        assert [row["rule"] for row in fired] == told
        assert all("It is heading for" in row["why"] for row in fired)
