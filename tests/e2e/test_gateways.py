"""Real gateways with the files of deploy/: each asks the real gate, and does as it is told."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from msgspec.structs import replace

from governor.core.directives import Directive, Effect, WireCondition
from governor.demo.broker import EmbeddedBroker
from tests import gateways
from tests.e2e.test_gate import GateProcess, Site, heartbeat, throttle
from tests.environments import python_of
from tests.gateways import Client, Upstream

pytestmark = pytest.mark.timeout(600)

KEY = "a key that is shared and long enough for it"
TIERS = {"free": ("beta", "Bearer key-of-beta"), "paid": ("acme", "Bearer key-of-acme")}
ALONE = timedelta(minutes=10)


@dataclass
class Stage:
    """A gateway between a client and an upstream, with a gate beside it."""

    client: Client
    upstream: Upstream
    gate: GateProcess
    publish: Callable[..., None]
    name: str

    def ask(self, tier: str, **more: str) -> tuple[int, Any, bytes]:
        """Ask as a client of a tier, which says who it is as the gateway wants it."""
        return self.client.ask({"Authorization": self.shown(tier), **more})

    def shown(self, tier: str) -> str:
        if self.name == "nginx":
            return TIERS[tier][1]
        ends = datetime.now(UTC) + timedelta(hours=1)
        claims = {"sub": TIERS[tier][0], "tier": tier, "exp": ends}
        return f"Bearer {jwt.encode(claims, KEY, algorithm='HS256')}"

    def until(self, tier: str, status: int) -> tuple[int, Any, bytes]:
        """Ask until this is answered, at most 10 s."""
        deadline = time.monotonic() + 10
        while (found := self.ask(tier))[0] != status:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found


Gateway = Callable[[Path, int, int], AbstractContextManager[Client]]


def gateway(name: str) -> Gateway:
    if name == "nginx":
        return gateways.nginx
    return partial(getattr(gateways, name), python=python_of("proxies"))


@contextmanager
def staged(name: str, broker: EmbeddedBroker, topic: str, folder: Path) -> Iterator[Stage]:
    broker.create_topic(topic, 1)
    site = Site(broker, topic, folder)
    if name == "nginx":
        site.env["GOVERNOR_GATE__HEADERS"] = "customer=x-customer,tier=x-tier,feature=x-feature"
    else:
        site.env["GOVERNOR_GATE__TOKEN_KEY"] = KEY
        site.env["GOVERNOR_GATE__TOKEN_CLAIMS"] = "customer=sub,tier=tier"
    site.publish(heartbeat(ALONE))
    with GateProcess(site.env) as gate, Upstream() as upstream:
        gate.await_log("directives.read")
        port = gate.await_log("gate.opened")["port"]
        with gateway(name)(folder, port, upstream.port) as client:
            yield Stage(client, upstream, gate, site.publish, name)


def blocked(customer: str, version: int) -> Directive:
    scope = {"customer": WireCondition(values=(customer,))}
    fields = {"id": f"block:{customer}", "effect": Effect.BLOCK, "scope": scope}
    return replace(throttle("free", version), **fields, reason="over 20 USD today")


@pytest.mark.parametrize("name", ["nginx", "envoy", "traefik"])
def test_a_gateway_does_as_it_is_told(
    name: str, embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path
) -> None:
    """Slowed, blocked, downgraded, freed: the client hears why, and the upstream which model.

    Where the gate is gone nginx and Envoy let requests through; Traefik refuses them.
    """
    with staged(name, embedded_broker, topic_name, tmp_path) as stage:
        assert stage.ask("free")[0] == stage.ask("paid")[0] == 200
        stage.publish(throttle("free", 1, rate=2), heartbeat(ALONE))
        stage.gate.await_throttled("free")
        found = [stage.ask("free") for _ in range(4)]
        assert [status for status, _, _ in found] == [200, 200, 429, 429]
        _, headers, body = found[-1]
        assert 0 < int(headers["retry-after"]) <= 30
        assert headers["governor-rule"] == "free-tier"
        assert headers["governor-reason"] == "free-tier is at 110% of 400 USD"
        assert b"110%" in body
        ran = len(stage.upstream.seen)
        assert stage.ask("free")[0] == 429
        assert len(stage.upstream.seen) == ran
        assert stage.ask("paid", **{"X-Tier": "free", "X-Customer": "beta"})[0] == 200

        stage.publish(blocked("acme", 2))
        assert "over 20 USD today" in stage.until("paid", 403)[1]["governor-reason"]

        cheaper = {"effect": Effect.DOWNGRADE, "models": {"*": "gpt-4o-mini"}, "scope": {}}
        stage.publish(
            replace(blocked("acme", 3), effect=Effect.RELEASE),
            replace(throttle("free", 4), effect=Effect.RELEASE),
            replace(throttle("free", 5), id="cheaper", **cheaper),
        )
        stage.until("paid", 200)
        stage.ask("paid", **{"Governor-Model": "forged"})
        assert stage.upstream.seen[-1].get("governor-model") in (None, "")

        stage.gate.kill()
        away = stage.ask("free")[0]
        assert away == 200 if name != "traefik" else away >= 500


def test_a_model_that_the_gateway_knows(
    embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path
) -> None:
    """Where the gateway says which model is asked for, the upstream is told what to use instead."""
    with staged("nginx", embedded_broker, topic_name, tmp_path) as stage:
        headers = "customer=x-customer,tier=x-tier,model=x-feature"
        stage.gate.kill()
        stage.gate.env["GOVERNOR_GATE__HEADERS"] = headers
        stage.gate.env["GOVERNOR_GATE__PORT"] = str(stage.gate.await_log("gate.opened")["port"])
        stage.gate.start()
        stage.gate.await_log("directives.read")
        cheaper = {"effect": Effect.DOWNGRADE, "models": {"chat": "chat-mini"}, "scope": {}}
        stage.publish(replace(throttle("free", 5), id="cheaper", **cheaper), heartbeat(ALONE))
        stage.gate.until(
            lambda: stage.gate.decide(model="chat").get("model") == "chat-mini",
            "a downgrade",
            timeout_s=10,
        )
        assert stage.ask("paid")[0] == 200
        assert stage.upstream.seen[-1]["governor-model"] == "chat-mini"
