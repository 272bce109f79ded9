"""The same rules over the same usage, three ways: in a test, in a backtest, and by the daemon."""

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.brokers import ApacheKafka, GivenKafka
from tests.e2e.acting import TOKENS_A_USD, staged, usage
from tests.e2e.daemon import FULL, Daemon, governor, sql

pytestmark = pytest.mark.kafka

EVENTS = 6_000 if FULL else 1_500
KILLS = 20 if FULL else 3
RULES = """
version: 1
defaults: {owner: growth, mode: notify}
rules:
  - id: in-all
    kind: budget
    summary: "{{ value }}"
    where: all
    limit: 100 USD
    period: month
    thresholds: [{at: 10%, level: info}, {at: 50%, level: warning}, {at: 100%, level: critical}]
  - id: free-users
    kind: budget
    mode: enforce
    summary: "{{ group.user }} {{ value }}"
    where: {tier: free}
    per: [user]
    limit: 40 requests
    period: month
    thresholds: [{at: 50%, level: info}, {at: 100%, level: warning, actions: [slow]}]
    actions: {slow: {do: throttle, to: 2/min}}
  - id: teams
    kind: budget
    mode: shadow
    summary: "{{ group.team }} {{ value }}"
    where: {feature: {like: "a*"}, team: {not: ops}}
    per: [team, feature]
    limit: 2M tokens
    period: month
    thresholds: [{at: 50%, level: info}, {at: 80%, level: warning}]
"""

Happened = list[tuple[Any, ...]]


def drawn(draw: Random, at: datetime) -> dict[str, Any]:
    """Return usage of somebody."""
    return usage(
        draw.randrange(1, 80) * 1_000,
        at=at,
        tier=draw.choice(["free", "pro"]),
        user=f"u{min(draw.randrange(40), draw.randrange(40))}",
        team=draw.choice(["search", "support", "ops", None]),
        feature=draw.choice(["answers", "agents", "evals"]),
    )


def as_test(events: list[dict[str, Any]], start: datetime) -> str:
    """Return the events as a test of rules that expects nothing."""
    lines = []
    for event in events:
        after = datetime.fromisoformat(event["event_time"]) - start
        tokens = event["input_tokens"]
        told = {
            "at": f"{int(after.total_seconds())}s",
            "cost": f"{Decimal(tokens) / TOKENS_A_USD:f} USD",
            "tokens": str(tokens),
        }
        told |= {name: event[name] for name in ("tier", "user", "team", "feature") if event[name]}
        lines.append("      - {" + ", ".join(f"{k}: {v}" for k, v in told.items()) + "}")
    head = [
        "version: 1",
        "rules: [rules/rules.yaml]",
        "tests:",
        "  - name: as sent",
        f"    start: {start.isoformat()}",
        "    until: 31d",
        "    events:",
    ]
    return "\n".join([*head, *lines, "    expect: {}", ""])


def ordered(found: Iterable[tuple[Any, ...]]) -> Happened:
    """Return happenings in an order of their own, not that of time."""
    return sorted(found, key=str)


def by_the_daemon(store: Path) -> Happened:
    """Return what the daemon wrote down."""
    rows = sql(store, 'SELECT rule, "group", what, level, threshold FROM alert_lines')
    return ordered(((rule, *json.loads(group)), *rest) for rule, group, *rest in rows)


def by_rows(rows: list[dict[str, Any]]) -> Happened:
    """Return what a backtest told."""
    return ordered(
        ((row["rule"], *row["group"].values()), row["what"], row["level"], row["threshold"])
        for row in rows
        if row["what"] != "resolved"  # the month is not over for the daemon
    )


def by_test(printed: str) -> Happened:
    """Return what a test of rules said that happened."""
    (result,) = json.loads(printed)
    found = []
    for text in result["happened"]["transitions"]:
        entry = _fields(text)
        if entry["what"] != "resolved":
            group = tuple(value or None for value in entry.get("group", {}).values())
            found.append(
                ((entry["rule"], *group), entry["what"], entry["level"], entry["threshold"])
            )
    return ordered(found)


def _fields(text: str) -> dict[str, Any]:
    from ruamel.yaml import YAML  # noqa: PLC0415 - an entry of a test file is YAML

    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return found


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_three_ways_are_one(
    apache_kafka: ApacheKafka | GivenKafka, tmp_path: Path, topic_name: str
) -> None:
    """A daemon that is killed again and again, a backtest of its store, and a test of the rules."""
    draw = Random(3)
    now = datetime.now(UTC).replace(microsecond=0)
    month = now.replace(day=1, hour=0, minute=0, second=0)
    first = max(month, now - timedelta(minutes=30))
    with staged(apache_kafka, tmp_path, topic_name) as stage:
        stage.rules(RULES)
        step = (now - first) / EVENTS
        events = [
            drawn(draw, (first + number * step).replace(microsecond=0)) for number in range(EVENTS)
        ]
        with Daemon(stage.env) as daemon:
            parts = KILLS + 1
            for part in range(parts):
                some = events[part * EVENTS // parts : (part + 1) * EVENTS // parts]
                stage.send(some)
                if part < KILLS:
                    daemon.await_log("daemon.started")
                    daemon.kill()
                    daemon.start()
            daemon.await_events(EVENTS, timeout_s=120)
            assert daemon.stop() == 0
        (tmp_path / "sent.test.yaml").write_text(as_test(events, month))
        tested = governor("rules", "test", "sent.test.yaml", "--json", env=stage.env)
        span = ("--from", month.isoformat(), "--to", (now + timedelta(hours=1)).isoformat())
        replayed = governor("rules", "backtest", "--json", *span, env=stage.env)
        assert replayed.returncode == 0, replayed.stderr
        daemons = by_the_daemon(stage.store)
        assert len(daemons) > 30
        assert by_rows(json.loads(replayed.stdout)["transitions"]) == daemons
        assert by_test(tested.stdout) == daemons
