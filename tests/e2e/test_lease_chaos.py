"""Chaos: daemon killed, Kafka stopped, gate killed, clocks set; open opens, closed stays closed.

Meanwhile a watcher asks the gate again and again, and afterwards what it saw is checked: no version
went back, and nothing older than its lease was served as fresh.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.brokers import ApacheKafka
from tests.debian import FAKETIME, program
from tests.e2e.acting import Stage, staged, usage
from tests.e2e.daemon import FULL, Daemon, Gate

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(2400 if FULL else 600)]

LEASE_S = 8.0
SLACK_S = 3.0
"""How much later than a lease what follows from it may be seen: a poll, a slow machine."""
BACK_S = 30.0
ROUNDS = 12 if FULL else 1

RULES = """
version: 1
rules:
  - id: soft
    kind: budget
    mode: enforce
    owner: growth
    summary: "{{ value }} of {{ limit }}"
    where: {tier: free}
    limit: 1 USD
    period: month
    thresholds: [{at: 100%, level: critical, actions: [stop]}]
    actions: {stop: {do: block}}
  - id: hard
    kind: budget
    mode: enforce
    owner: growth
    summary: "{{ value }} of {{ limit }}"
    where: {tier: trial}
    limit: 1 USD
    period: month
    thresholds: [{at: 100%, level: critical, actions: [stop]}]
    actions: {stop: {do: block, fail: closed}}
"""


class Clock:
    """The time of day of a process, set from outside while it runs; its steady clock is not."""

    def __init__(self, folder: Path, name: str) -> None:
        self._file = folder / f"{name}.time"
        self.set(0)
        self.env = {
            "LD_PRELOAD": program(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, ahead_s: int) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(f"{ahead_s:+d}\n")
        fresh.replace(self._file)


@dataclass
class Watcher:
    """Asks the gate what it obeys, and keeps what it said."""

    gate: Gate
    seen: list[dict[str, Any]] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.wait(0.1):
            try:
                status, body = self.gate.ask("/v1/directives")
            except (OSError, AssertionError):
                continue
            if status == 200:
                self.seen.append(json.loads(body))

    def check(self) -> None:
        """See that no version went back, and that nothing was fresh beyond its lease."""
        assert len(self.seen) > 50
        newest: dict[str, int] = {}
        for said in self.seen:
            lease = said["lease"]
            if lease and lease["fresh"]:
                assert -0.5 <= lease["age_s"] < LEASE_S, lease
            for directive in said["directives"]:
                assert directive["version"] >= newest.get(directive["id"], 0)
                newest[directive["id"]] = directive["version"]
                is_open = directive.get("fail", "open") == "open"
                assert not is_open or (lease and lease["fresh"]), said
        assert len(newest) == 2


@dataclass
class Site:
    """Daemon and gate, each with a clock of its own."""

    stage: Stage
    kafka: ApacheKafka
    daemon: Daemon
    gate: Gate
    clocks: dict[str, Clock]

    def blocked(self) -> tuple[bool, bool]:
        """Return whether the open and the closed rule are obeyed."""
        soft, hard = (self.gate.decide(tier=tier)["decision"] for tier in ("free", "trial"))
        return soft == "block", hard == "block"

    def until(self, soft: bool, hard: bool, what: str, timeout_s: float) -> None:  # noqa: FBT001
        self.gate.until(lambda: self.blocked() == (soft, hard), what, timeout_s=timeout_s)

    def lasts(self, seconds: float) -> None:
        """See that both are obeyed for so long, longer than a lease."""
        for _ in range(int(seconds * 5)):
            assert self.blocked() == (True, True)
            self.stage_wait(0.2)

    @staticmethod
    def stage_wait(seconds: float) -> None:
        threading.Event().wait(seconds)

    # Each leaves both obeyed, as it found them.

    def clock_of_gate(self) -> None:
        for ahead_s in (300, -300):
            self.clocks["gate"].set(ahead_s)
            self.lasts(LEASE_S + 1)
        self.clocks["gate"].set(0)

    def clock_of_daemon(self) -> None:
        for ahead_s in (300, -300, 0):
            self.clocks["daemon"].set(ahead_s)
            self.lasts(LEASE_S / 2)

    def daemon_killed(self) -> None:
        self.daemon.kill()
        self.until(False, True, "open freed, closed held", LEASE_S + SLACK_S)  # noqa: FBT003
        self.stage_wait(LEASE_S)
        assert self.blocked() == (False, True)
        self.daemon.start()
        self.until(True, True, "both obeyed again", BACK_S)  # noqa: FBT003

    def kafka_stopped(self) -> None:
        self.kafka.stop()
        try:
            self.until(False, True, "open freed, closed held", LEASE_S + SLACK_S)  # noqa: FBT003
            self.clocks["gate"].set(-300)
            self.stage_wait(1)
            assert self.blocked() == (False, True)
        finally:
            self.kafka.start()
            self.clocks["gate"].set(0)
        self.until(True, True, "both obeyed again", 2 * BACK_S)  # noqa: FBT003

    def gate_killed(self) -> None:
        self.gate.kill()
        self.gate.start()
        self.gate.await_log("directives.read")
        self.until(True, True, "both obeyed again", LEASE_S + SLACK_S)  # noqa: FBT003

    def gate_started_without_daemon(self) -> None:
        self.daemon.kill()
        self.stage_wait(LEASE_S)
        self.gate.kill()
        self.gate.start()
        self.gate.await_log("directives.read")
        assert self.blocked() == (False, True)
        self.daemon.start()
        self.until(True, True, "both obeyed again", BACK_S)  # noqa: FBT003


@contextmanager
def acting(kafka: ApacheKafka, folder: Path, topic: str) -> Iterator[Site]:
    clocks = {name: Clock(folder, name) for name in ("daemon", "gate")}
    with staged(kafka, folder, topic) as stage:
        stage.rules(RULES)
        stage.env["GOVERNOR_DIRECTIVES__LEASE"] = f"{LEASE_S:.0f}s"
        daemon = Daemon(stage.env | clocks["daemon"].env)
        with daemon, Gate(stage.env | clocks["gate"].env) as gate:
            daemon.await_ready()
            gate.await_log("directives.read")
            gate.env["GOVERNOR_GATE__PORT"] = str(gate.await_log("gate.opened")["port"])
            stage.send([usage(2 * 400_000, tier=tier) for tier in ("free", "trial")])
            site = Site(stage, kafka, daemon, gate, clocks)
            site.until(True, True, "both obeyed", BACK_S)  # noqa: FBT003
            yield site


@pytest.mark.soak
def test_leases_hold_through_chaos(own_kafka: ApacheKafka, tmp_path: Path, topic_name: str) -> None:
    """Open rules open and closed ones stay closed, both within their lease, whatever dies."""
    random = Random(7)
    with acting(own_kafka, tmp_path, topic_name) as site:
        watcher = Watcher(site.gate)
        thread = threading.Thread(target=watcher.run)
        thread.start()
        try:
            for _ in range(ROUNDS):
                deeds = [
                    site.clock_of_gate,
                    site.clock_of_daemon,
                    site.daemon_killed,
                    site.kafka_stopped,
                    site.gate_killed,
                    *([site.gate_started_without_daemon] if FULL else []),
                ]
                random.shuffle(deeds)
                for deed in deeds:
                    deed()
        finally:
            watcher.stop.set()
            thread.join()
        watcher.check()
