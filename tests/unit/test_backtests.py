"""Backtests: what can be left out of a history, gauges replayed, and the picture."""

import json
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor.adapters.duckdb.history import History
from governor.core.periods import Every
from governor.core.rules.ratio import Against
from governor.core.rules.shared import Level, Mode, Rule
from governor.core.rules.units import Measure
from governor.core.scopes import Condition, Scope
from governor.rehearsal.backtest import Backtest, run
from governor.rehearsal.chart import draw
from tests.unit.site import NOON, Clock, budget, opened
from tests.unit.test_gauges import absence, query, ratio, steps

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
NANO = 10**9


def replayed(
    path: Path,
    rules: Sequence[Rule],
    start: datetime,
    end: datetime,
    *,
    filtered: bool,
    sampled: timedelta | None = None,
) -> Backtest:
    """Run rules over a store, with or without leaving out what cannot matter."""
    with closing(History(path)) as past:
        known = past.past(start)
        return run(
            rules,
            lambda masks: past.usage(masks, start, end, rules if filtered else ()),
            start,
            end,
            facts=known,
            before=known,
            sampled=sampled,
        )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_what_is_left_out_changes_nothing(tmp_path: Path, seed: int) -> None:
    """Over zones, periods, measures, conditions and a start within a period: the same lines."""
    draw_ = Random(seed)
    path, clock = tmp_path / "g.duckdb", Clock(NOON + 6 * DAY)
    with opened(path, [], clock) as site:
        times = sorted(NOON + draw_.random() * 6 * DAY for _ in range(500))
        site.usage(
            [
                site.event(
                    draw_.randint(1, 9),
                    at=at,
                    tier=draw_.choice(["free", "pro"]),
                    customer=draw_.choice(["acme", "beta", None, "gamma"]),
                    team=draw_.choice(["a1", "a2", "b", None]),
                )
                for at in times
            ]
        )
    zones = ["UTC", "America/New_York", "Pacific/Auckland"]
    zones += ["Asia/Kolkata"] if seed == 0 else []  # by half an hour: nothing is left out
    rules: list[Rule] = []
    for number in range(24):
        rule = budget(
            draw_.choice([5, 40, 200, 900]),
            name=f"r{number}",
            where=draw_.choice([{}, {"tier": "free"}]),
            per=draw_.choice([(), ("customer",), ("team", "customer")]),
            every=draw_.choice(list(Every)),
            zone=draw_.choice(zones),
            hold=draw_.choice([0, 0, 30]) * MINUTE,
        )
        if number % 5 == 0:
            rule = replace(
                rule,
                where=Scope((Condition("team", patterns=("a*",), negated=number % 2 == 0),)),
                measure=Measure.REQUESTS,
                thresholds=steps(("3", 3, Level.INFO), ("9", 9, Level.WARNING)),
                actions={},
            )
        rules.append(rule)
    start, end = NOON + DAY + 95 * MINUTE, NOON + 6 * DAY
    whole, part = (
        replayed(path, rules, start, end, filtered=filtered) for filtered in (False, True)
    )
    assert len(whole.transitions) > 50
    assert sorted(map(str, part.transitions)) == sorted(map(str, whole.transitions))
    assert sorted(map(str, part.throttles)) == sorted(map(str, whole.throttles))


@pytest.mark.slow
def test_gauges_are_replayed_as_they_were_judged(tmp_path: Path) -> None:
    """Ratio, absence and query: each line of the daemon at its minute, and no other."""
    draw_ = Random(7)
    path, clock = tmp_path / "g.duckdb", Clock(NOON)
    rules: list[Rule] = [
        ratio(
            denominator=Against.ACTIVE_USERS,
            window=timedelta(hours=2),
            per=("tier",),
            min_denominator=2,
            max_age=None,
            thresholds=steps(("8 USD", 8 * NANO, Level.INFO), ("12 USD", 12 * NANO, Level.WARNING)),
            every=5 * MINUTE,
            keep=20 * MINUTE,
        ),
        absence(),
        query(hold=10 * MINUTE),
    ]
    with opened(path, rules, clock) as site:
        for minute in range(8 * 60):
            site.turn(NOON + minute * MINUTE)
            busy = minute % 180 < 120
            if draw_.random() < (0.3 if busy else 0.02):
                site.spend(
                    draw_.randint(1, 9),
                    tier=draw_.choice(["free", "pro"]),
                    user=f"u{draw_.randrange(9)}",
                    feature=draw_.choice(["chat", "search"]),
                    customer=draw_.choice(["acme", "beta"]),
                    status=draw_.choice(["ok", "error"]),
                )
        end = NOON + 8 * 60 * MINUTE
        site.turn(end)
        did = site.ask(
            "SELECT strftime(happened_at, '%H:%M'), rule, \"group\", what, threshold, level,"
            " amount FROM alert_lines"
        )
    found = replayed(path, rules, NOON, end, filtered=True)
    said = [
        (
            f"{row['at']:%H:%M}",
            row["rule"],
            json.dumps(list(row["group"].values())),
            row["what"],
            row["threshold"],
            row["level"],
            row["amount"],
        )
        for row in found.transitions
    ]
    assert {row[1] for row in said} == {"margin", "quiet", "waste"}
    assert {"recovering", "resolved", "pending"} <= {row[3] for row in said}
    assert sorted(map(str, said)) == sorted(str((*row[:6], int(row[6]))) for row in did)


@pytest.mark.slow
def test_a_picture(tmp_path: Path) -> None:
    """Curves with what was counted, a line for each threshold, a mark for each crossing."""
    path, clock = tmp_path / "g.duckdb", Clock(NOON)
    rules: list[Rule] = [budget(100), budget(20, name="by-team", per=("team",), mode=Mode.SHADOW)]
    with opened(path, [], clock) as site:
        for hour in range(36):
            clock.now = NOON + hour * 60 * MINUTE
            site.spend(4, team=f"t{hour % 2}")
    end = NOON + 36 * 60 * MINUTE
    found = replayed(path, rules, NOON, end, filtered=False, sampled=10 * MINUTE)
    by_id = {rule.id: rule for rule in rules}
    for name in ("picture.png", "picture.svg", "picture.json"):
        draw(found, by_id, tmp_path / name)
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    svg = (tmp_path / "picture.svg").read_text("utf-8")
    assert all(text in svg for text in ("free-tier", "by-team", "shadow", "USD"))
    spec: dict[str, Any] = json.loads((tmp_path / "picture.json").read_text("utf-8"))
    charts = {chart["title"]["text"]: chart for chart in spec["vconcat"]}
    curve, *lines, marks = charts["free-tier"]["layer"]
    values = spec["datasets"]
    amounts = [each["value"] for each in values[curve["data"]["name"]]]
    assert (max(amounts), len(lines)) == (96.0, 3)
    crossed = [row for row in found.transitions if row["rule"] == "free-tier" and row["threshold"]]
    assert len(values[marks["data"]["name"]]) == len(crossed) == 2
