"""Rules that are judged from time to time, by a daemon on a broker, told in two channels."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from governor.demo.slack import CHANNEL
from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, governor, sql
from tests.e2e.ledger import Sent, producing, send

pytestmark = pytest.mark.kafka

FINANCE = "C0FINANCE"
HOUR = timedelta(hours=1)
RULES = """
version: 1
defaults: {owner: sre, every: 10s}
rules:
  - id: margin
    kind: ratio
    owner: finance
    summary: "{{ group.customer }} costs {{ value }} of what it pays"
    per: [customer]
    numerator: cost
    denominator: revenue
    window: 1d
    guards: {min_denominator: 10 USD, max_age: 1d}
    thresholds: [{at: 25%, clear: 20%, level: warning}]
  - id: silent
    kind: absence
    summary: "{{ group.feature }} is silent for {{ value }}"
    per: [feature]
    known: {feature: [chat, search]}
    thresholds: [{at: 1h, level: info}]
  - id: wasted
    kind: query
    summary: "{{ group.customer }} wasted {{ value }}"
    per: [customer]
    sql: |
      SELECT customer, sum(cost_usd) AS wasted FROM usage
      WHERE event_time >= $from AND event_time < $to AND status = 'error' GROUP BY customer
    value: wasted
    unit: USD
    window: 1h
    thresholds: [{at: 2 USD, level: warning}]
"""
ROUTING = """
version: 1
receivers:
  finance: {slack: {channel: C0FINANCE}}
routes:
  - match: {owner: finance}
    to: [finance]
  - match: {rule: wasted}
    to: [slack]
  - to: [log]
"""


def tell(stage: Stage, topic: str, **statement: Any) -> None:
    """Send a business event."""
    value = json.dumps({"source": "crm", "measure": "revenue"} | statement).encode()
    with producing(stage.broker) as producer:
        send(producer, topic, [Sent(0, value)])


def open_alerts(stage: Stage) -> set[tuple[str, str]]:
    """Return rule and group of what fires, as the daemon says."""
    listed = governor("alerts", "list", "--json", env=stage.env)
    return {
        (alert["rule"], *alert["group"].values())
        for alert in json.loads(listed.stdout or "[]")
        if alert["phase"] == "firing"
    }


def test_ratio_absence_and_query(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Each fires by what came through Kafka, once, in its channel; a kill changes nothing.

    A correction of the revenue ends the ratio; usage ends the silence of one feature alone.
    """
    with staged(broker, tmp_path, topic_name, (CHANNEL, FINANCE)) as stage:
        business = f"{topic_name}-business"
        broker.create_topic(business, 1)
        stage.env["GOVERNOR_TOPICS"] = f"{topic_name}=native,{business}=business"
        stage.rules(RULES)
        stage.rules(ROUTING, "routing.yaml")
        now = datetime.now(UTC)
        today = {
            "event_time": (now - timedelta(hours=20)).isoformat(),
            "until": now.isoformat(),
            "customer": "acme",
            "event_id": "r1",
        }
        with Daemon(stage.env) as daemon:
            stage.send(
                [
                    *(usage(at=now - HOUR, customer="acme", feature="chat") for _ in range(3)),
                    usage(3 * 400_000, customer="beta", feature="chat", status="error"),
                ]
            )
            tell(stage, business, value="10", **today)
            tell(stage, business, value="500", **today | {"customer": "beta", "event_id": "r2"})
            expected = {("margin", "acme"), ("silent", "search"), ("wasted", "beta")}
            daemon.until(lambda: open_alerts(stage) == expected, "three alerts", timeout_s=60)
            (margin,) = daemon.until(lambda: stage.told(FINANCE), "a message", timeout_s=20)
            assert "acme costs 30.0% of what it pays" in text_of(margin)
            assert "30.0% (told from 25% on), for customer = acme" in text_of(margin)
            why = governor("rules", "explain", "margin", "--group", "customer=acme", env=stage.env)
            assert "acme: 30.0%" in why.stdout
            daemon.until(stage.told, "another message", timeout_s=20)
            assert "beta wasted 3.00 USD" in text_of(stage.told()[0])
            daemon.kill()
            daemon.start()
            daemon.until(lambda: open_alerts(stage) == expected, "the same", timeout_s=60)
            correction = {"op": "replace", "updated_at": now.isoformat(), "value": "100"}
            tell(stage, business, **today | correction)
            stage.send([usage(feature="search")])
            expected = {("wasted", "beta")}
            daemon.until(lambda: open_alerts(stage) == expected, "two resolved", timeout_s=60)
            daemon.until(
                lambda: "all is well again" in text_of(stage.told(FINANCE)[0]),
                "it is told",
                timeout_s=20,
            )
            assert daemon.stop() == 0
        assert [len(stage.told(channel)) for channel in (CHANNEL, FINANCE)] == [1, 1]
        lines = sql(
            stage.store, "SELECT rule, what FROM alert_lines WHERE what <> 'health' ORDER BY ALL"
        )
        assert lines == [
            ("margin", "fired"),
            ("margin", "resolved"),
            ("silent", "fired"),
            ("silent", "resolved"),
            ("wasted", "fired"),
        ]
