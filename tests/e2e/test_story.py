"""The whole story with real requests: a cap that is told, acted on at the gate, and ended."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from tests.brokers import ApacheKafka, Broker, GivenKafka, fetch_jars
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, Gate, governor, sql
from tests.e2e.test_azure import trace, write

pytestmark = pytest.mark.kafka

PACE = 2_000
"""Events a second at which the crossings of the trace fall into different batches."""
RULES = """
version: 1
rules:
  - id: free-tier-daily
    kind: budget
    mode: enforce
    owner: growth
    summary: "The free tier spent {{{{ value }}}} of {{{{ limit }}}}"
    where: {{tier: free}}
    limit: 100 USD
    period: day
    timezone: {zone}
    thresholds:
      - {{at: 50%, level: info}}
      - {{at: 80%, level: warning}}
      - {{at: 100%, level: critical, actions: [slow]}}
    actions:
      slow: {{do: throttle, to: 2/min, each: user}}
"""
CROSSINGS = "SELECT threshold FROM alert_lines WHERE threshold IS NOT NULL ORDER BY seq"


def near_noon() -> str:
    """Return a time zone in which it is about noon."""
    hours = 12 - datetime.now(UTC).hour
    return f"Etc/GMT{-hours:+d}"


def near_midnight(ahead: timedelta) -> tuple[str, float]:
    """Return a zone, and the seconds that a clock must be ahead for its midnight to be as far."""
    zone = "America/New_York"
    now = datetime.now(UTC).astimezone(ZoneInfo(zone))
    midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    return zone, (midnight - now - ahead).total_seconds()


@pytest.fixture
def stage(broker: Broker, tmp_path: Path, topic_name: str) -> Iterator[Stage]:
    """Return a stage on each of the two brokers, with the Azure trace of a free tier in a file."""
    with staged(broker, tmp_path, topic_name) as stage:
        write(tmp_path / "azure.ndjson", ({**event, "tier": "free"} for event in trace()))
        yield stage


def produce(stage: Stage, *options: object) -> None:
    """Send the trace, its last request at the present."""
    done = governor(
        *("produce", stage.folder / "azure.ndjson", "--topic", stage.topic),
        *("--shift-to", "now", *options),
        env=stage.env,
    )
    assert done.returncode == 0, done.stderr


def test_a_day_of_azure_paced(stage: Stage) -> None:
    """A cap of 100 USD on 144 USD of real requests says 50, 80 and 100 %, once each, in order.

    Slack's one message said each in turn, but for what was outrun before it was told. One throttle
    stands on the topic; the gate refuses the free tier and serves the paid one.
    """
    stage.rules(RULES.format(zone=near_noon()))
    with Daemon(stage.env) as daemon, Gate(stage.env) as gate:
        daemon.await_log("daemon.started")
        gate.await_log("gate.opened")
        produce(stage, "--rate", PACE)
        daemon.await_events(28_185, 60)
        throttle = daemon.until(stage.standing, "a throttle", timeout_s=20)
        assert len(throttle) == 1
        gate.until(
            lambda: gate.decide(tier="free", user="u1")["decision"] == "throttle",
            "the throttle at the gate",
            timeout_s=20,
        )
        answers = [gate.decide(tier="free", user="u2") for _ in range(4)]
        assert [answer["allowed"] for answer in answers] == [True, True, False, False]
        assert "of 100 USD" in answers[-1]["reason"]
        assert all(gate.decide(tier="pro", user="u2") == {"decision": "allow"} for _ in range(10))
        daemon.until(
            lambda: stage.told() and "Critical" in text_of(stage.told()[0]),
            "the last word in Slack",
            timeout_s=20,
        )
        (message,) = stage.told()
        said = [version.text.split()[1] for version in message.versions]
        assert said == [level for level in ("Info:", "Warning:", "Critical:") if level in said]
        assert said[-1] == "Critical:"
        if isinstance(stage.broker, ApacheKafka):
            assert seen_by_console_consumer(stage) == throttle
        assert daemon.stop() == 0
        assert gate.stop() == 0
    assert sql(stage.store, CROSSINGS) == [("50%",), ("80%",), ("100%",)]


def test_a_day_of_azure_at_once(stage: Stage) -> None:
    """Sent at once before the daemon starts, history holds all three and Slack hears the highest.

    Slack is slow to be reached, so that all three are crossed before it is told.
    """
    stage.rules(RULES.format(zone=near_noon()))
    stage.slack.down()
    produce(stage)
    with Daemon(stage.env) as daemon:
        daemon.await_events(28_185, 60)
        daemon.await_log("alert.changed", threshold="100%")
        stage.slack.up()
        daemon.until(stage.told, "the message", timeout_s=70)
        time.sleep(1.5)
        (message,) = stage.told()
        assert [version.text.split()[1] for version in message.versions] == ["Critical:"]
        daemon.until(stage.standing, "a throttle", timeout_s=20)
        assert daemon.stop() == 0
    assert sql(stage.store, CROSSINGS) == [("50%",), ("80%",), ("100%",)]


def test_freed_at_local_midnight(embedded_broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """At the midnight of the rule's zone, by a clock that is ahead, everyone is free again.

    Slack says that the period ended, and the new day begins from zero.
    """
    zone, ahead_s = near_midnight(timedelta(seconds=15))
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.rules(RULES.format(zone=zone))
        with shifted(stage, ahead_s) as (daemon, gate):
            today = datetime.now(UTC) + timedelta(seconds=ahead_s)
            stage.send([usage(120 * 400_000, at=today, tier="free")])
            gate.until(
                lambda: gate.decide(tier="free", user="u1")["decision"] == "throttle",
                "the throttle at the gate",
                timeout_s=20,
            )
            gate.until(
                lambda: gate.decide(tier="free", user="u1") == {"decision": "allow"},
                "midnight",
                timeout_s=40,
            )
            daemon.until(
                lambda: "the period ended" in text_of(stage.told()[0]), "the end", timeout_s=20
            )
            assert stage.standing() == {}
            tomorrow = datetime.now(UTC) + timedelta(seconds=ahead_s)
            stage.send([usage(10 * 400_000, at=tomorrow, tier="free")])
            daemon.await_events(2)
            assert len(stage.told()) == 1
            assert daemon.stop() == 0
            assert gate.stop() == 0
        ended = "SELECT reason FROM alert_lines WHERE what = 'resolved'"
        assert sql(stage.store, ended) == [("period_ended",)]


@contextmanager
def shifted(stage: Stage, ahead_s: float) -> Iterator[tuple[Daemon, Gate]]:
    """Run a daemon and a gate whose clocks are ahead."""
    with Daemon(stage.env, ahead_s=ahead_s) as daemon, Gate(stage.env, ahead_s=ahead_s) as gate:
        daemon.await_log("daemon.started")
        gate.await_log("gate.opened")
        yield daemon, gate


def seen_by_console_consumer(stage: Stage) -> dict[str, dict[str, object]]:
    """Return the directives on the topic as Kafka's own console consumer prints them."""
    assert isinstance(stage.broker, ApacheKafka | GivenKafka)
    done = subprocess.run(
        [
            *("java", "-cp", f"{fetch_jars()}/*"),
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            *("--bootstrap-server", stage.broker.bootstrap_servers, "--topic", stage.directives),
            *("--from-beginning", "--timeout-ms", "6000"),
            *("--formatter-property", "print.key=true"),
            *("--formatter-property", "key.separator=|"),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    pairs = [line.split("|", 1) for line in done.stdout.splitlines() if line.startswith("dir")]
    assert pairs, done.stderr
    return {key: json.loads(value) for key, value in pairs}
