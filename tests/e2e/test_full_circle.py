"""The full circle: usage from real senders, the real daemon, the real gate, real gateways."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from governor.demo.slack import SlackStandIn
from tests import gateways
from tests.brokers import ApacheKafka, Broker, GivenKafka
from tests.e2e.acting import TOKENS_A_USD, Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, Gate, governor, sql
from tests.environments import python_of
from tests.gateways import Client, Upstream, complete

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]

BEFORE_MIDNIGHT_S = 40.0
WITHIN_S = 15.0

RULES = """
version: 1
rules:
  - id: free-chat
    kind: budget
    mode: enforce
    owner: growth
    summary: "{{ group.customer }} used {{ value }} of {{ limit }}"
    where: {tier: free, feature: chat}
    per: [customer]
    limit: 10 USD
    period: day
    thresholds: [{at: 100%, level: critical, actions: [slow]}]
    actions:
      slow: {do: throttle, to: 1/day, each: none}
"""


@dataclass
class Circle:
    """A client of nginx, and what stands behind it, at a time ahead of ours."""

    stage: Stage
    daemon: Daemon
    client: Client
    ahead: timedelta

    def ask(self, customer: str) -> int:
        return self.client.ask({"Authorization": f"Bearer key-of-{customer}"})[0]

    def until(self, customer: str, status: int, timeout_s: float = WITHIN_S) -> float:
        """Ask until a customer is answered so; return how long that took."""
        began = time.monotonic()
        self.daemon.until(
            lambda: self.ask(customer) == status, f"{customer}: {status}", timeout_s=timeout_s
        )
        return time.monotonic() - began

    def spend(self, usd: int, **fields: str) -> None:
        at = datetime.now(UTC) + self.ahead
        self.stage.send([usage(usd * TOKENS_A_USD, at=at, feature="chat", **fields)])

    def order(self, *words: str) -> Any:
        done = governor(*words, "--json", env=self.stage.env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


@contextmanager
def circle(broker: Broker, folder: Path, topic: str, ahead: timedelta) -> Iterator[Circle]:
    """Start all of it; the daemon's clock is ahead, the gate's is not."""
    with staged(broker, folder, topic) as stage:
        stage.rules(RULES)
        stage.env["GOVERNOR_GATE__HEADERS"] = "customer=x-customer,tier=x-tier,feature=x-feature"
        with (
            Daemon(stage.env, ahead_s=ahead.total_seconds()) as daemon,
            Gate(stage.env) as gate,
            Upstream() as upstream,
        ):
            daemon.await_ready()
            gate.await_log("directives.read")
            port = gate.await_log("gate.opened")["port"]
            (folder / "nginx").mkdir()
            customers = ("gamma", "delta")
            with gateways.nginx(folder / "nginx", port, upstream.port, customers) as client:
                yield Circle(stage, daemon, client, ahead)
            assert daemon.stop() == 0


def test_nginx_slows_the_free_tier_of_one_feature(
    broker: Broker, tmp_path: Path, topic_name: str
) -> None:
    """At its cap a customer's free tier is slowed in nginx, and nobody else is.

    A release frees at once, the switch frees everybody, and midnight (of a clock that is ahead of
    the gate's) frees the rest.
    """
    now = datetime.now(UTC)
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    ahead = midnight - now - timedelta(seconds=BEFORE_MIDNIGHT_S)
    with circle(broker, tmp_path, topic_name, ahead) as found:
        assert [found.ask(name) for name in ("beta", "acme")] == [200, 200]
        for name, tier in (("beta", "free"), ("gamma", "free"), ("acme", "paid")):
            found.spend(12, customer=name, tier=tier)
        found.until("beta", 429)
        found.until("gamma", 429)
        assert [found.ask(name) for name in ("acme", "delta")] == [200, 200]
        _, headers, body = found.client.ask({"Authorization": "Bearer key-of-beta"})
        assert "12.00 USD of 10 USD used" in headers["governor-reason"]
        assert b"12.00 USD of 10 USD used" in body

        listed = found.order("throttles", "list")
        (of_beta,) = [row["id"] for row in listed if row["scope"]["customer"] == "beta"]
        found.order("throttles", "release", of_beta)
        assert found.until("beta", 200) < 2
        assert found.ask("gamma") == 429

        found.order("enforce", "off", "--reason", "a test")
        assert found.until("gamma", 200) < 1
        assert found.order("enforce", "status")["enforcement"] == "off"
        found.order("enforce", "on")
        found.until("gamma", 429)

        found.until("gamma", 200, timeout_s=BEFORE_MIDNIGHT_S + WITHIN_S)
        assert datetime.now(UTC) + ahead >= midnight - timedelta(seconds=1)
        delays = found.daemon.status()["enforcement"]["delays"]
        assert 0 < delays["event_to_directive_s"]["p99"] < WITHIN_S
    orders = "SELECT action FROM audit WHERE via = 'socket' AND action NOT LIKE '%.list'"
    assert [name for (name,) in sql(tmp_path / "governor.duckdb", orders)] == [
        "throttles.release",
        "enforcement.off",
        "enforcement.status",
        "enforcement.on",
    ]


PROXY_RULES = """
version: 1
defaults: {owner: growth, mode: enforce}
rules:
  - id: bob-is-slow
    summary: "{{ value }} of {{ limit }}"
    where: {customer: bob}
    kind: budget
    limit: 0.001 USD
    period: day
    thresholds: [{at: 100%, level: critical, actions: [slow]}]
    actions: {slow: {do: throttle, to: 1/h, each: none}}
  - id: dan-is-cheap
    summary: "{{ value }} of {{ limit }}"
    where: {customer: dan}
    kind: budget
    limit: 0.001 USD
    period: day
    thresholds: [{at: 100%, level: critical, actions: [cheap]}]
    actions: {cheap: {do: downgrade_model, to: {gpt-4o: gpt-4o-mini}}}
  - id: eve-is-out
    summary: "{{ value }} of {{ limit }}"
    where: {customer: eve}
    kind: budget
    limit: 0.001 USD
    period: day
    thresholds: [{at: 100%, level: critical, actions: [stop]}]
    actions: {stop: {do: block}}
"""


def test_litellm_in_the_full_circle(
    apache_kafka: ApacheKafka | GivenKafka, tmp_path: Path, topic_name: str
) -> None:
    """A real proxy ships its usage and asks the gate: slowed, downgraded, blocked, and nobody else.

    What ran on the cheaper model is counted at its price.
    """
    python = python_of("proxies")
    with SlackStandIn() as slack:
        stage = Stage(apache_kafka, tmp_path, topic_name, slack)
        stage.rules(PROXY_RULES)
        stage.env["GOVERNOR_TOPICS"] = f"{topic_name}=litellm"
        with Daemon(stage.env) as daemon, Gate(stage.env) as gate:
            daemon.await_ready()
            gate.await_log("directives.read")
            port = gate.await_log("gate.opened")["port"]
            (tmp_path / "proxy").mkdir()
            variables = {
                "LITELLM_KAFKA_SERVERS": apache_kafka.bootstrap_servers,
                "LITELLM_KAFKA_TOPIC": topic_name,
            }
            with gateways.litellm(tmp_path / "proxy", port, python, **variables) as client:
                for name in ("bob", "dan", "eve", "ann"):
                    for _ in range(6):
                        assert complete(client, user=name)[0] == 200
                daemon.await_events(24, timeout_s=60)
                daemon.until(
                    lambda: (
                        [gate.decide(customer=n)["decision"] for n in ("bob", "eve")]
                        == ["throttle", "block"]
                    ),
                    "directives",
                    timeout_s=WITHIN_S,
                )
                complete(client, user="bob")  # what its rate lets through
                status, body, headers = complete(client, user="bob")
                assert (status, "of 0.001 USD used" in body) == (429, True)
                assert int(headers["Retry-After"]) > 1
                assert complete(client, user="eve")[0] == 403
                assert complete(client, user="ann")[1]["model"] == "gpt-4o"
                for _ in range(3):
                    assert complete(client, user="dan")[0] == 200
                daemon.await_events(24 + 1 + 1 + 3, timeout_s=60)
            assert daemon.stop() == 0
        models = "SELECT customer, model, count(*) FROM usage WHERE status = 'success' GROUP BY ALL"
        found = {row[:2]: row[2] for row in sql(stage.store, models)}
        assert found["dan", "gpt-4o"] == 6
        assert found["dan", "gpt-4o-mini"] == 3
        assert (found["eve", "gpt-4o"], found["ann", "gpt-4o"]) == (6, 7)


RADIUS = """
version: 1
rules:
  - id: customer-daily
    kind: budget
    mode: enforce
    owner: finops
    summary: "{{ group.customer }} used {{ value }} of {{ limit }}"
    where: all
    per: [customer]
    limit: 10 USD
    period: day
    thresholds: [{at: 100%, level: critical, actions: [stop]}]
    actions:
      stop: {do: block, max_affected: 25%}
"""


def test_a_rule_that_would_touch_most_customers(
    broker: Broker, tmp_path: Path, topic_name: str
) -> None:
    """60% of customers cross: a quarter is blocked, people read why, the rest waits for one."""
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(RADIUS)
        with Daemon(stage.env) as daemon, Gate(stage.env) as gate:
            daemon.await_ready()
            gate.await_log("directives.read")
            stage.send(usage(TOKENS_A_USD, customer=f"c{n}") for n in range(20))
            daemon.await_events(20)
            stage.send(usage(10 * TOKENS_A_USD, customer=f"c{n}") for n in range(12))
            daemon.until(lambda: gate_blocks(gate) == 5, "5 blocked", timeout_s=20)
            said = daemon.until(
                lambda: [t for t in map(text_of, stage.told()) if "stopped at its limit" in t],
                "a message",
                timeout_s=20,
            )
            assert "7 more than max_affected allows" in said[-1]
            listed = json.loads(governor("throttles", "list", "--json", env=stage.env).stdout)
            waiting = [row for row in listed if row["state"] == "waiting"]
            assert len(waiting) == 7
            daemon.kill()
            daemon.start()
            daemon.await_ready()
            one = governor("throttles", "approve", waiting[0]["id"], env=stage.env)
            assert one.returncode == 0, one.stderr
            daemon.until(lambda: gate_blocks(gate) == 6, "6 blocked", timeout_s=20)
            rest = governor(
                "throttles", "approve", "--rule", "customer-daily", "--json", env=stage.env
            )
            assert len(json.loads(rest.stdout)) == 6
            daemon.until(lambda: gate_blocks(gate) == 12, "12 blocked", timeout_s=20)
            daemon.until(
                lambda: any("nothing waits any more" in t for t in map(text_of, stage.told())),
                "the end of it",
                timeout_s=20,
            )
            stage.rules(f"{RADIUS}allow: [{{where: {{customer: c0}}, reason: contract}}]\n")
            daemon.until(lambda: gate_blocks(gate) == 11, "c0 let through", timeout_s=20)
            assert gate.decide(customer="c0")["reason"] == "contract"
            again = governor("throttles", "release", "allowed-x", env=stage.env)
            assert (again.returncode, "take it out there" in again.stderr) == (2, True)
            assert daemon.stop() == 0


def gate_blocks(gate: Gate) -> int:
    """Return how many of the customers are blocked."""
    body = json.dumps([{"customer": f"c{n}"} for n in range(20)]).encode()
    return sum(one["decision"] == "block" for one in json.loads(gate.ask("/v1/decide", body)[1]))
