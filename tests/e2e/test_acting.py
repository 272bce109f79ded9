"""What a daemon with rules does, as its users see it: Slack, the topic, the commands."""

import json
import signal
import time
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import FULL, Daemon, Gate, governor, sql

pytestmark = pytest.mark.kafka

SLACK_AWAY_S = 300.0 if FULL else 5.0


def budget(limit: str = "10 USD", mode: str = "enforce", name: str = "free-tier") -> str:
    """Return a rule file with one daily budget of the free tier."""
    return f"""
version: 1
rules:
  - id: {name}
    kind: budget
    mode: {mode}
    owner: growth
    summary: "{{{{ value }}}} of {{{{ limit }}}}"
    where: {{tier: free}}
    limit: {limit}
    period: day
    thresholds:
      - {{at: 50%, level: info}}
      - {{at: 80%, level: warning}}
      - {{at: 100%, level: critical, actions: [slow]}}
    actions:
      slow: {{do: throttle, to: 2/min, each: user}}
"""


def see_explained(stage: Stage) -> None:
    """See that the running daemon explains its rule by what it came to."""
    why = governor("rules", "explain", "free-tier", "--json", env=stage.env)
    (explained,) = json.loads(why.stdout)
    (group,) = explained["groups"]
    assert (group["value"], group["reached"]) == ("12.00 USD", "100%")
    assert [each["effect"] for each in group["throttles"]] == ["throttle"]
    assert group["alert"]["phase"] == "firing"


def test_a_cap_is_told_and_acted_on(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """A jump over all thresholds is three lines of history, one message and one throttle.

    Commands list both; a release is obeyed, sticks, and is in the audit with who did it.
    """
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(budget())
        with Daemon(stage.env) as daemon:
            stage.send([usage(12 * 400_000, tier="free")])
            daemon.until(stage.told, "a message", timeout_s=20)
            throttles = daemon.until(stage.standing, "a throttle", timeout_s=20)
            (message,) = stage.told()
            assert "Critical" in text_of(message)
            assert "12.00 USD of 10 USD" in text_of(message)
            (directive,) = throttles.values()
            assert directive["scope"] == {"tier": {"values": ["free"]}}
            assert (directive["rate_requests"], directive["rate_span_s"]) == (2, 60)
            assert "12.00 USD of 10 USD" in directive["reason"]

            listed = governor("alerts", "list", "--json", env=stage.env)
            assert [alert["level"] for alert in json.loads(listed.stdout)] == ["critical"]
            (throttle,) = json.loads(governor("throttles", "list", "--json", env=stage.env).stdout)
            see_explained(stage)
            done = governor("throttles", "release", throttle["id"], env=stage.env)
            assert done.returncode == 0, done.stderr
            daemon.until(lambda: not stage.standing(), "the release", timeout_s=20)
            stage.send([usage(tier="free")])
            daemon.await_events(2)
            again = governor("throttles", "release", throttle["id"], env=stage.env)
            assert (again.returncode, "no throttle" in again.stderr) == (1, True)
            assert not stage.standing()
            assert daemon.stop() == 0
        crossed = "SELECT threshold FROM alert_lines WHERE threshold IS NOT NULL ORDER BY seq"
        assert sql(stage.store, crossed) == [("50%",), ("80%",), ("100%",)]
        audit = "SELECT action, outcome, via FROM audit WHERE action = 'throttles.release'"
        assert sql(stage.store, audit) == [
            ("throttles.release", "released", "socket"),
            ("throttles.release", "not found", "socket"),
        ]


def test_shadow_acts_on_nobody(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """A rule in shadow writes down what it would have done, gates count it, and nobody hears."""
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(budget(mode="shadow"))
        with Daemon(stage.env) as daemon:
            stage.send([usage(12 * 400_000, tier="free")])
            daemon.await_log("alert.changed", threshold="100%")
            (alert,) = json.loads(governor("alerts", "list", "--json", env=stage.env).stdout)
            assert alert["mode"] == "shadow"
            assert daemon.stop() == 0
        assert stage.told() == []
        assert [each["shadow"] for each in stage.standing().values()] == [True]
        lines = "SELECT actions FROM alert_lines WHERE threshold = '100%' AND mode = 'shadow'"
        assert sql(stage.store, lines) == [(["slow"],)]


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_slack_away(embedded_broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """What fires while Slack is away is told when it is back, once, as it stands by then."""
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.rules(budget(name="one"), "one.yaml")
        stage.rules(budget(name="two", limit="20 USD"), "two.yaml")
        stage.slack.down(closed=True)
        with Daemon(stage.env) as daemon:
            stage.send([usage(6 * 400_000, tier="free")])
            daemon.await_log("message.not_told", receiver="slack")
            stage.send([usage(6 * 400_000, tier="free")])
            daemon.await_events(2)
            time.sleep(SLACK_AWAY_S)
            stage.slack.up()
            began = time.monotonic()
            daemon.until(lambda: len(stage.told()) == 2, "both messages", timeout_s=90)
            print(f"told {time.monotonic() - began:.1f} s after Slack was back")
            time.sleep(2)
            said = " ".join(text_of(message) for message in stage.told())
            assert ("Critical: one" in said, "Info: two" in said) == (True, True)
            assert [len(message.versions) for message in stage.told()] == [1, 1]
            assert daemon.stop() == 0


def test_rule_files_broken_and_mended(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Broken rule files change nothing, are told with their place, and are told as mended.

    A daemon started on broken files begins with the last good rules.
    """
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(budget())
        with Daemon(stage.env) as daemon:
            daemon.await_log("daemon.started")
            stage.rules(budget().replace("where:", "wher:"))
            daemon.until(stage.told, "the refusal", timeout_s=20)
            assert "rules.yaml:9:5: unknown key 'wher'" in text_of(stage.told()[0])
            assert any("last good rules" in trouble for trouble in daemon.status()["troubles"])
            stage.send([usage(6 * 400_000, tier="free")])
            daemon.until(lambda: len(stage.told()) == 2, "the old rule's alert", timeout_s=20)
            assert daemon.stop() == 0
            daemon.start()
            daemon.await_log("rules.rejected")
            stage.send([usage(6 * 400_000, tier="free")])
            daemon.until(stage.standing, "the kept rule's throttle", timeout_s=20)

            stage.rules(budget(limit="100 USD"))
            daemon.until(lambda: not stage.standing(), "the release", timeout_s=20)
            daemon.until(
                lambda: all("esolved" in text_of(message) for message in stage.told()),
                "both resolved",
                timeout_s=20,
            )
            assert len(stage.told()) == 2
            assert daemon.status()["troubles"] == []
            assert daemon.stop() == 0
        ended = "SELECT reason FROM alert_lines WHERE what = 'resolved'"
        assert sql(stage.store, ended) == [("rule_changed",)]


def test_reload_on_hangup(embedded_broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """SIGHUP has the rule files read at once, however seldom they are looked at."""
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.rules(budget())
        with Daemon(stage.env | {"GOVERNOR_RULES__RELOAD_EVERY": "1h"}) as daemon:
            daemon.await_log("daemon.started")
            assert daemon.process is not None
            stage.rules(budget(name="another"), "another.yaml")
            daemon.process.send_signal(signal.SIGHUP)
            daemon.await_log("rules.loaded", rules=2)
            assert daemon.stop() == 0


def test_a_daemon_that_dies(embedded_broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """When the daemon is killed, open throttles end with the lease; closed ones are held.

    A daemon that is back renews the lease, and the open throttle is obeyed again.
    """
    closed = budget(name="closed").replace("tier: free", "tier: trial")
    closed = closed.replace("each: user}", "each: user, fail: closed}")
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.rules(budget(name="open"), "open.yaml")
        stage.rules(closed, "closed.yaml")
        stage.env["GOVERNOR_DIRECTIVES__LEASE"] = "3s"
        with Daemon(stage.env) as daemon, Gate(stage.env) as gate:

            def slowed() -> list[str]:
                tiers = ("free", "trial", "pro")
                return [t for t in tiers if gate.decide(tier=t)["decision"] == "throttle"]

            stage.send([usage(12 * 400_000, tier="free"), usage(12 * 400_000, tier="trial")])
            gate.until(lambda: slowed() == ["free", "trial"], "both slowed", timeout_s=30)
            daemon.kill()
            gate.until(lambda: slowed() == ["trial"], "the open one freed", timeout_s=15)
            time.sleep(3)
            assert slowed() == ["trial"]
            daemon.start()
            gate.until(lambda: slowed() == ["free", "trial"], "both slowed", timeout_s=30)
            assert (daemon.stop(), gate.stop()) == (0, 0)
