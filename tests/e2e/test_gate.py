"""The real gate as a process: throttles obeyed, leases that run out, Kafka that goes away."""

import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import DirectivePublisher, Record
from governor.core.directives import Directive, Effect, Heartbeat, WireCondition
from governor.core.rules.actions import Fail
from governor.demo.broker import EmbeddedBroker
from tests.brokers import ApacheKafka, Broker
from tests.e2e.daemon import Gate, environment, governor

pytestmark = pytest.mark.kafka

LEASE = timedelta(seconds=3)
SEEN_WITHIN_S = 15.0
"""Within this long of being published, or of Kafka's return, a record is obeyed."""
STOP_WITHIN_S = 5.0


class GateProcess(Gate):
    """The gate, asked by tier."""

    def is_throttled(self, tier: str) -> bool:
        return bool(self.decide(tier=tier)["decision"] == "throttle")

    def await_throttled(self, tier: str, *, wanted: bool = True) -> None:
        """Wait until requests of the tier are throttled, or no longer."""
        what = f"{tier} {'throttled' if wanted else 'freed'}"
        self.until(lambda: self.is_throttled(tier) is wanted, what, timeout_s=SEEN_WITHIN_S)


def throttle(tier: str, version: int, *, fail: Fail = Fail.OPEN, rate: int = 2) -> Directive:
    now = datetime.now(UTC)
    return Directive(
        id=f"budget:{tier}",
        version=version,
        effect=Effect.THROTTLE,
        rule="free-tier",
        action="slow",
        reason="free-tier is at 110% of 400 USD",
        scope={"tier": WireCondition(values=(tier,))},
        issued_at=now,
        until=now + timedelta(minutes=10),
        rate_requests=rate,
        rate_span_s=60,
        each="customer",
        fail=fail,
    )


def heartbeat(lease: timedelta = LEASE) -> Heartbeat:
    now = datetime.now(UTC)
    return Heartbeat(version=1_000, sent_at=now, lease_until=now + lease)


class Site:
    """A topic of directives and how gates find it."""

    def __init__(self, broker: Broker, topic: str, folder: Path) -> None:
        self.topic = topic
        self.env = environment(folder, broker, "usage", directives__topic=topic, gate__port=0)
        self.connection = Connection([broker.bootstrap_servers], api_version=broker.api_version)

    def publish(self, *records: Record) -> None:
        with closing(DirectivePublisher(self.connection, self.topic)) as publisher:
            publisher.publish(records)


@contextmanager
def running(site: Site) -> Iterator[GateProcess]:
    with GateProcess(site.env) as gate:
        gate.await_log("directives.read")
        yield gate


@pytest.fixture
def site(broker: Broker, topic_name: str, tmp_path: Path) -> Site:
    """Return a new topic on each of the two brokers."""
    broker.create_topic(topic_name, 1)
    return Site(broker, topic_name, tmp_path)


def test_a_throttle_is_obeyed(site: Site) -> None:
    """A throttled tier gets its rate for each customer and no more; another runs; release frees."""
    long = timedelta(minutes=5)
    site.publish(throttle("free", 1), heartbeat(long))
    with running(site) as gate:
        found = [gate.decide(tier="free", customer="acme") for _ in range(3)]
        assert [one["allowed"] for one in found] == [True, True, False]
        refused = found[-1]
        assert (refused["rate"], refused["rule"]) == ("2/min", "free-tier")
        assert refused["reason"] == "free-tier is at 110% of 400 USD"
        assert 0 < refused["retry_after_s"] <= 30
        assert gate.decide(tier="free", customer="hooli")["allowed"]
        assert gate.decide(tier="paid", customer="acme") == {"decision": "allow"}
        listed = json.loads(gate.ask("/v1/directives")[1])
        assert (listed["in_force"], listed["lease"]["fresh"]) == (1, True)
        assert "governor_gate_directives 1.0\n" in gate.ask("/metrics")[1]
        site.publish(replace(throttle("free", 2), effect=Effect.RELEASE), heartbeat(long))
        gate.await_throttled("free", wanted=False)
        assert gate.ask("/v1/decide", b" " * 100_000)[0] == 413
        began = time.monotonic()
        assert gate.stop() == 0
        assert time.monotonic() - began < STOP_WITHIN_S
        assert gate.log("gate.stopped")


def test_a_lease_runs_out(site: Site) -> None:
    """Without heartbeats an open throttle frees in time and a closed one stays.

    A gate that is killed and starts again in the meantime decides the same, and a heartbeat
    brings the open one back.
    """
    site.publish(throttle("free", 1), throttle("trial", 2, fail=Fail.CLOSED), heartbeat())
    with running(site) as gate:
        site.publish(heartbeat())
        sent = time.monotonic()
        gate.await_throttled("free")
        assert gate.is_throttled("trial")
        gate.await_throttled("free", wanted=False)
        assert LEASE.total_seconds() - 0.5 < time.monotonic() - sent < LEASE.total_seconds() + 5
        assert gate.is_throttled("trial")
        status, text = gate.ask("/readyz")
        assert status == 200
        assert "lease: over" in text
        gate.kill()
        gate.start()
        gate.await_log("directives.read")
        assert not gate.is_throttled("free")
        assert gate.is_throttled("trial")
        site.publish(heartbeat(timedelta(minutes=5)))
        gate.await_throttled("free")


def test_kafka_stops(own_kafka: ApacheKafka, topic_name: str, tmp_path: Path) -> None:
    """While Kafka is away a gate answers by what it knows: open frees with the lease, closed stays.

    Once Kafka is back, a heartbeat brings the open one back and a release ends the closed one.
    """
    own_kafka.create_topic(topic_name, 1, cleanup_policy="compact")
    site = Site(own_kafka, topic_name, tmp_path)
    site.publish(throttle("free", 1), throttle("trial", 2, fail=Fail.CLOSED))
    with running(site) as gate:
        site.publish(heartbeat(timedelta(seconds=4)))
        gate.await_throttled("free")
        own_kafka.stop()
        try:
            gate.await_throttled("free", wanted=False)
            assert gate.is_throttled("trial")
            assert gate.ask("/healthz") == (200, "ok\n")
            assert gate.ask("/readyz")[0] == 200
        finally:
            own_kafka.start()
        ended = replace(throttle("trial", 3), effect=Effect.RELEASE)
        site.publish(ended, heartbeat(timedelta(minutes=5)))
        gate.await_throttled("free")
        gate.await_throttled("trial", wanted=False)
        assert gate.stop() == 0


def test_kafka_is_away_at_the_start(topic_name: str, tmp_path: Path) -> None:
    """A gate that never read the topic allows everything and says so, then obeys by itself.

    It stops in time, also while it waits for Kafka.
    """
    with EmbeddedBroker(topics={topic_name: 1}) as broker:
        site = Site(broker, topic_name, tmp_path)
        site.publish(throttle("trial", 1, fail=Fail.CLOSED))
        broker.down()
        with GateProcess(site.env) as gate:
            assert not gate.is_throttled("trial")
            status, text = gate.ask("/readyz")
            assert status == 503
            assert text.startswith("the directives were not read yet: everything is allowed")
            assert gate.ask("/healthz")[0] == 200
            began = time.monotonic()
            assert gate.stop() == 0
            assert time.monotonic() - began < STOP_WITHIN_S
            gate.start()
            assert not gate.is_throttled("trial")
            broker.up()
            gate.await_throttled("trial")
            assert gate.ask("/readyz")[0] == 200


def test_a_port_that_is_taken(tmp_path: Path, topic_name: str) -> None:
    """The gate ends with 2, says which, and needs no Kafka to say so."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = governor("gate", "--port", port, env=environment(tmp_path, None, topic_name))
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr


def test_topics_are_created(apache_kafka: ApacheKafka, topic_name: str, tmp_path: Path) -> None:
    """`topics create` makes all topics, can be repeated, and refuses a topic that forgets."""
    names = {"directives__topic": f"{topic_name}-d"}
    env = environment(tmp_path, apache_kafka, topic_name, **names)
    for said in ("created", "exists already"):
        done = governor("topics", "create", "--partitions", 2, "--json", env=env)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout) == {topic_name: said, f"{topic_name}-d": said}
    env = environment(tmp_path, apache_kafka, topic_name, directives__topic=topic_name)
    done = governor("topics", "create", env=env)
    assert done.returncode == 1
    assert "cleanup.policy=delete" in done.stderr
