"""Money that changes afterwards, with the daemon running: prices, stored costs, business."""

import json
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, drain, environment, governor, sql
from tests.e2e.ledger import Sent, producing, send

pytestmark = pytest.mark.kafka

MODEL = "in-house-7b"
RULE = """
version: 1
rules:
  - id: enterprise
    kind: budget
    mode: notify
    owner: growth
    summary: much
    where: {tier: enterprise}
    limit: 1000000 USD
    period: day
    thresholds: [{at: 100%, level: info}]
"""
PRICE = """
version: 1
prices:
  - id: in-house
    match: {{provider: "*", model: {model}}}
    usd_per_mtok: {{input: {usd}, output: {usd}}}
"""


def own(tokens: int, **fields: Any) -> dict[str, Any]:
    """Return usage of a model that only a company's own prices can know."""
    return usage(tokens, provider="in-house", model=MODEL, tier="free", **fields)


def rerated(stage: Stage, *options: str) -> dict[str, Any]:
    """Have everything priced again, and return what came of it."""
    span = ("--from", "2026-01-01", "--to", "2099-01-01", "--json")
    done = governor("prices", "rerate", *span, *options, env=stage.env)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_model_without_a_price_is_told_and_ended_by_a_price(
    broker: Broker, tmp_path: Path, topic_name: str
) -> None:
    """From unknown to priced without a restart: Slack, the price file, and pricing again.

    The message names model and tokens. A broken price file changes nothing and is told. With a
    price what comes is priced, the message ends, and `prices rerate` prices what was there before.
    """
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(RULE)
        file = tmp_path / "prices.yaml"
        file.write_text("version: 1\nprices: []\n")
        stage.env |= {
            "GOVERNOR_PRICES__PATH": str(file),
            "GOVERNOR_PRICES__RELOAD_EVERY": "200ms",
        }
        with Daemon(stage.env) as daemon:
            stage.send([own(1_000_000), own(2_000_000)])
            daemon.until(stage.told, "a message", timeout_s=20)
            (message,) = stage.told()
            assert f"No price for in-house/{MODEL}" in text_of(message)
            daemon.await_events(2)
            daemon.until(
                lambda: "3,000,000 tokens" in text_of(message) or "1,000,000" in text_of(message),
                "the tokens",
                timeout_s=20,
            )

            file.write_text(PRICE.format(model=MODEL, usd="free"))
            daemon.until(lambda: len(stage.told()) == 2, "the refusal", timeout_s=20)
            assert "prices.yaml:6:27" in text_of(stage.told()[1])

            file.write_text(PRICE.format(model=MODEL, usd="2"))
            daemon.until(
                lambda: all("esolved" in text_of(message) for message in stage.told()),
                "both resolved",
                timeout_s=20,
            )
            stage.send([own(500_000)])
            daemon.await_events(3)

            dry, real, again = (rerated(stage, *flag) for flag in (["--dry-run"], [], []))
            assert [run["total"]["events"] for run in (dry, real, again)] == [2, 2, 0]
            assert dry["changes"] == real["changes"]
            assert daemon.stop() == 0
        assert sql(stage.store, "SELECT sum(cost_usd) FROM spend_daily") == [(Decimal(7),)]
        stored = "SELECT count(*), sum(cost_nano)::BIGINT, count(cost_nano) FROM usage"
        assert sql(stage.store, stored) == [(3, 7 * 10**9, 3)]
        kept = "SELECT old_cost_nano, new_cost_nano FROM adjustments ORDER BY ALL"
        assert sql(stage.store, kept) == [(None, 2 * 10**9), (None, 4 * 10**9)]
        asked = "SELECT via FROM audit WHERE action = 'prices.rerate'"  # a dry run changes nothing
        assert sql(stage.store, asked) == [("socket",), ("socket",)]


def test_business_events_beside_usage(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Two topics, two formats, one store; a late correction moves the ratio of then."""
    business = f"{topic_name}-business"
    for topic in (topic_name, business):
        broker.create_topic(topic, 2)
    env = environment(tmp_path, broker, topic_name)
    env["GOVERNOR_TOPICS"] = f"{topic_name}=native,{business}=business"

    def tell(*statements: dict[str, Any]) -> None:
        with producing(broker) as producer:
            for number, statement in enumerate(statements):
                value = json.dumps({"source": "crm"} | statement).encode()
                send(producer, business, [Sent(number % 2, value)])

    event = usage(customer="acme", user="ann")  # a dollar
    at = event["event_time"]
    with producing(broker) as producer:
        send(producer, topic_name, [Sent(0, json.dumps(event).encode())])
    revenue = {"event_id": uuid.uuid4().hex, "event_time": at, "measure": "revenue"}
    tell(
        revenue | {"value": "8", "customer": "acme"},
        {"event_id": "o", "event_time": at, "measure": "outcomes", "value": 4, "customer": "acme"},
        {"event_id": "bad", "event_time": at, "measure": "profit", "value": 4},
    )
    totals = drain(env)
    assert (totals["events"], totals["counted"], totals["rejected"]) == (4, 3, 1)
    ratios = (
        "SELECT cost_per_revenue, cost_per_user_usd, cost_per_outcome_usd FROM unit_economics"
        " WHERE customer = 'acme'"
    )
    assert sql(tmp_path / "governor.duckdb", ratios) == [
        (Decimal("0.125"), Decimal(1), Decimal("0.25"))
    ]
    tell(revenue | {"op": "replace", "updated_at": at, "value": "2", "customer": "acme"})
    drain(env)
    ((ratio, *_),) = sql(tmp_path / "governor.duckdb", ratios)
    assert ratio == Decimal("0.5")
