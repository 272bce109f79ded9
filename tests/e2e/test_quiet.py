"""Acknowledged, silenced, escalated and handed over by a daemon on a broker, with its commands."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from governor.demo.slack import APP_TOKEN, CHANNEL, Fault
from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, governor, sql
from tests.unit.test_receivers import SECRET, Site

pytestmark = pytest.mark.kafka

OTHER = "C0ONCALL"
RULES = """
version: 1
defaults: {owner: growth}
rules:
  - {id: cap, kind: budget, period: day, per: [feature], limit: 10 USD,
     summary: "{{ group.feature }} spent {{ value }}",
     thresholds: [{at: 50%, level: warning}, {at: 100%, level: critical}]}
  - {id: other, kind: budget, period: day, where: {feature: other}, limit: 1 USD,
     summary: "{{ value }}",
     thresholds: [{at: 100%, level: warning}]}
"""
ROUTING = """
version: 1
receivers:
  oncall: {slack: {channel: C0ONCALL, mention: {critical: "<!here>"}}}
  hook: {webhook: {}}
routes:
  - to: [slack]
    escalate: [{after: 2s, to: [oncall]}]
grouping: {wait: 1s, update: 1s}
fallback: hook
heartbeat: {to: [hook], every: 1h}
people: {approve: [U0ANN]}
"""


def ask(stage: Stage, *words: str) -> Any:
    done = governor(*words, "--json", env=stage.env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@contextmanager
def watched(broker: Broker, folder: Path, topic: str) -> Iterator[tuple[Stage, Daemon, Site]]:
    """Give a daemon that tells two channels and a webhook, with two alerts in a message."""
    hook = Site()
    with staged(broker, folder, topic, (CHANNEL, OTHER)) as stage:
        stage.rules(RULES)
        stage.rules(ROUTING, "routing.yaml")
        stage.env["GOVERNOR_WEBHOOK__URL"] = hook.url
        stage.env["GOVERNOR_WEBHOOK__SECRET"] = SECRET
        stage.env["GOVERNOR_SLACK__APP_TOKEN"] = APP_TOKEN
        with Daemon(stage.env) as daemon:
            stage.send(usage(feature=feature) for feature in ("chat", "search") for _ in range(6))
            soon(daemon, lambda: counted(stage, "2 of 2 alerts open"), "a message of two")
            yield stage, daemon, hook
            assert daemon.stop() == 0
    hook.shutdown()
    hook.server_close()


def soon(daemon: Daemon, reached: Callable[[], object], what: str) -> None:
    daemon.until(reached, what, timeout_s=40)


def test_people_say_what_they_have_seen(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Acknowledged and silenced, across a kill; the audit has all of it."""
    with watched(broker, tmp_path, topic_name) as (stage, daemon, _):
        (chat,) = [a for a in ask(stage, "alerts", "list") if a["group"] == {"feature": "chat"}]
        seen = ask(stage, "alerts", "ack", chat["id"], "--for", "1h", "--note", "on it")
        assert (seen["rule"], seen["note"]) == ("cap", "on it")
        soon(daemon, lambda: "acknowledged by" in text_of(stage.told()[0]), "who has seen it")
        shown = governor("alerts", "show", chat["id"], env=stage.env).stdout
        assert "acknowledged by" in shown
        listed = {alert["id"]: alert["seen"] for alert in ask(stage, "alerts", "list")}
        assert [bool(seen) for name, seen in listed.items() if name != chat["id"]] == [False]
        ask(stage, "silences", "add", "rule=other", "--for", "1h", "--reason", "load test")
        stage.send([usage(feature="other")])
        daemon.await_events(13)
        daemon.kill()
        daemon.start()
        daemon.await_ready()
        (silence,) = ask(stage, "silences", "list")
        assert len(stage.told()) == 1
        ask(stage, "silences", "end", silence["id"])
        soon(daemon, lambda: len(stage.told()) == 2, "what was silenced")
        late = governor("alerts", "ack", "000000000000", env=stage.env)
        assert (late.returncode, late.stderr) == (1, "governor: no alert '000000000000' is open\n")
    orders = sql(stage.store, "SELECT action FROM audit WHERE outcome <> 'answered'")
    assert {("alerts.ack",), ("silences.add",), ("silences.end",)} <= set(orders)


def test_somebody_hears_of_it(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """A heartbeat, an escalation by name, and a webhook in place of a channel that is gone."""
    with watched(broker, tmp_path, topic_name) as (stage, daemon, hook):
        soon(daemon, lambda: "governor.heartbeat" in types(hook), "a heartbeat")
        stage.send(usage(feature="search") for _ in range(5))
        soon(daemon, lambda: stage.told(OTHER), "an escalation")
        assert text_of(stage.told(OTHER)[0]).startswith("<!here> ")
        assert any("100% reached" in text_of(line) for line in stage.slack.replies[CHANNEL])
        stage.slack.fail_next(Fault.REFUSED, 50, error="channel_not_found")
        stage.send(usage(feature="voice") for _ in range(6))
        soon(daemon, lambda: "cap" in rules(hook), "the fallback to hear it")
        soon(daemon, lambda: "receiver-broken-slack" in rules(hook), "why it hears it")
        stage.slack.forget_faults()
        assert len(stage.told(OTHER)) == 1


def test_buttons_do_what_commands_do(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Pressed in Slack, done by the daemon, answered to whoever pressed, after a kill too."""
    with watched(broker, tmp_path, topic_name) as (stage, daemon, _):
        soon(daemon, lambda: stage.slack.listeners == 1, "somebody to listen")
        daemon.kill()
        while stage.slack.listeners:
            time.sleep(0.05)
        daemon.start()
        soon(daemon, lambda: stage.slack.listeners == 1, "somebody to listen again")
        (message,) = stage.told()
        assert stage.slack.press(message, "governor.ack", user="U0BOB")
        soon(daemon, lambda: stage.slack.whispers, "an answer")
        ((channel, user, said),) = stage.slack.whispers
        assert (channel, user) == (CHANNEL, "U0BOB")
        assert said.startswith("Acknowledged until ")
        assert said.endswith(": 2 of cap.")
        soon(daemon, lambda: "acknowledged by u0bob" in text_of(stage.told()[0]), "who it was")
    rows = sql(stage.store, "SELECT who, via, action FROM audit WHERE action = 'alerts.ack'")
    assert rows == [("u0bob (U0BOB)", "slack", "alerts.ack")] * 2


def counted(stage: Stage, words: str) -> bool:
    return any(words in text_of(message) for message in stage.told())


def types(hook: Site) -> list[str]:
    return [body["type"] for body in hook.bodies]


def rules(hook: Site) -> set[str]:
    return {body["data"]["rule"] for body in hook.bodies}
