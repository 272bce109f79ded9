"""A spike by a daemon on a broker: told, explained, drawn, forgiven, planned; kills and all."""

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, governor, sql

pytestmark = pytest.mark.kafka

HOUR = timedelta(hours=1)
RULES = """
version: 1
defaults: {owner: platform}
rules:
  - id: feature-spike
    kind: spike
    summary: "{{ group.feature }} costs {{ value }}"
    per: [feature]
    every: 10s
    thresholds: [{at: 5 USD, level: warning}]
  - id: month
    kind: budget
    summary: "{{ value }} of {{ limit }}"
    limit: 100000 USD
    period: month
    thresholds: [{at: 100%, level: warning}]
"""


def ask(stage: Stage, *words: str) -> Any:
    """Return the answer of a command as JSON."""
    done = governor(*words, "--json", env=stage.env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def alerts(stage: Stage) -> list[dict[str, Any]]:
    """Return what fires, from the control socket; nothing while no daemon answers."""
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as connection:
        try:
            connection.connect(str(stage.folder / "control.sock"))
        except OSError:
            return []
        connection.sendall(b"GET /v1/alerts HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    found: list[dict[str, Any]] = json.loads(answer.partition(b"\r\n\r\n")[2] or "[]")
    return [alert for alert in found if alert["phase"] != "resolved"]


@contextmanager
def learned(broker: Broker, folder: Path, topic: str) -> Iterator[tuple[Stage, Daemon, datetime]]:
    """Give a daemon that has learned from three weeks of two features, a dollar an hour each."""
    with staged(broker, folder, topic) as stage:
        stage.rules(RULES)
        hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        stage.send(
            [
                usage(at=hour - back * HOUR, feature=feature, customer="acme")
                for back in range(21 * 24, 0, -1)
                for feature in ("chat", "search")
            ]
        )
        with Daemon(stage.env) as daemon:
            daemon.await_events(2 * 21 * 24)
            daemon.kill()
            daemon.start()
            daemon.await_ready()
            assert alerts(stage) == []
            yield stage, daemon, hour


def burst(stage: Stage, feature: str) -> None:
    """Use twelve dollars at once."""
    now = datetime.now(UTC)
    stage.send([usage(at=now, feature=feature, customer="beta") for _ in range(12)])


def test_a_spike_from_kafka_to_slack(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """It is told once, with its cause, and drawn; after a kill the alert stands as it did."""
    with learned(broker, tmp_path, topic_name) as (stage, daemon, _):
        burst(stage, "chat")
        daemon.until(lambda: alerts(stage), "an alert", timeout_s=60)
        (alert,) = alerts(stage)
        assert alert["group"] == {"feature": "chat"}
        sentence, drivers, who = ask(stage, "alerts", "show", alert["id"])["why"]
        assert sentence.startswith("feature chat used ")
        assert "volume +" in drivers
        assert who.startswith("Most of it: customer beta +")
        daemon.until(stage.told, "a message", timeout_s=20)
        assert "where 1.00 USD is usual" in text_of(stage.told()[0])
        picture = tmp_path / "spike.svg"
        drawn = governor("alerts", "chart", alert["id"], str(picture), env=stage.env)
        assert drawn.returncode == 0, drawn.stderr
        assert "usual in an hour" in picture.read_text()
        (month,) = ask(stage, "forecast", "month")
        assert month["amounts"]["likely"] > month["amounts"]["so_far"] > 12 * 10**9
        daemon.kill()
        daemon.start()
        daemon.until(lambda: alerts(stage), "the same", timeout_s=60)
        assert [a["id"] for a in alerts(stage)] == [alert["id"]]
        assert len(stage.told()) == 1
    fired = "SELECT count(*) FROM alert_lines WHERE what = 'fired'"
    assert sql(stage.store, fired) == [(1,)]


def test_what_people_say_of_spikes(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """A planned burst is not told, over a kill too; what is forgiven is kept with who said so."""
    with learned(broker, tmp_path, topic_name) as (stage, daemon, hour):
        plan = ("rules", "plan", "feature-spike", "--group", "feature=search")
        span = ("--from", hour.isoformat(), "--until", (hour + 3 * HOUR).isoformat())
        assert ask(stage, *plan, *span)["group"] == {"feature": "search"}
        daemon.kill()
        daemon.start()
        burst(stage, "search")
        burst(stage, "chat")
        daemon.until(lambda: alerts(stage), "an alert", timeout_s=60)
        (alert,) = alerts(stage)
        assert alert["group"] == {"feature": "chat"}
        done = ask(stage, "alerts", "forgive", alert["id"], "--reason", "a loop")
        assert (done["rule"], done["planned"]) == ("feature-spike", False)
        wrong = governor("rules", "plan", "month", *span, env=stage.env)
        assert wrong.returncode == 2
        assert "only a spike learns what is usual" in wrong.stderr
        unknown = governor("alerts", "show", "nobody", env=stage.env)
        assert "no alert 'nobody' is known" in unknown.stderr
        daemon.await_events(2 * 21 * 24 + 24)
        assert [a["group"] for a in alerts(stage)] == [{"feature": "chat"}]
    exempt = 'SELECT planned, reason, "group"[1] FROM exemptions ORDER BY made_at'
    assert sql(stage.store, exempt) == [(True, "", "search"), (False, "a loop", "chat")]
    asked = "SELECT DISTINCT action FROM audit WHERE outcome IN ('planned', 'forgiven') ORDER BY 1"
    assert sql(stage.store, asked) == [("alerts.forgive",), ("rules.plan",)]
