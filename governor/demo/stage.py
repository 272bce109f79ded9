"""The demo's stage: broker, Slack, rules, settings, and the daemon and the gate on them."""

import http.client
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from governor import rulebook
from governor.adapters.kafka.connection import Connection
from governor.core.errors import ConfigError, TransientError
from governor.core.rules.budget import Budget
from governor.demo.broker import EmbeddedBroker
from governor.demo.evening import Evening
from governor.demo.process import Child
from governor.demo.slack import CHANNEL, TOKEN, SlackStandIn
from governor.demo.slack_workspace import Message

TOPIC: Final = "usage"
PARTITIONS: Final = 8
DIRECTIVES: Final = "governor.directives"
RULES: Final = Path(__file__).parents[2] / "rules"
STORE_NAME: Final = "governor.duckdb"
SETTINGS_NAME: Final = "governor.yaml"
RULES_NAME: Final = "rules"
ROUTING_NAME: Final = "routing.yaml"
ROUTING: Final = """\
# An evening passes in a minute here, so nothing waits for company before it is told.
version: 1
grouping: {wait: 0s, update: 0s}
"""
READY_TIMEOUT_S: Final = 60.0
TICK_S: Final = 0.1

_HEADING: Final = """\
# The settings of this demo's daemon and gate. The broker, the Slack and the token are stand-ins.
"""


@dataclass(slots=True)
class Stage:
    """What is open; all of it ends with `staged`."""

    evening: Evening
    broker: EmbeddedBroker
    slack: SlackStandIn
    rules: tuple[Budget, ...]
    daemon: Child
    gate: Child
    probes_port: int
    gate_port: int

    @property
    def connection(self) -> Connection:
        """How to reach the broker."""
        return Connection(
            bootstrap_servers=self.broker.bootstrap_servers.split(","),
            client_id="governor-demo",
            api_version=self.broker.api_version,
        )

    def messages(self) -> tuple[Message, ...]:
        """Return what stands in the Slack channel, oldest first."""
        return self.slack.messages[CHANNEL]

    def status(self) -> Any:
        """Return what the daemon's /status says; TransientError where it does not answer."""
        return json.loads(self.daemon.get(self.probes_port, "/status")[1])

    def close(self) -> None:
        """End the gate and the daemon; PermanentError where one of them did not end well."""
        children = (self.gate, self.daemon)
        for child in children:
            child.stop()
        for child in children:
            if code := child.close():
                raise child.failed(f"stopped with code {code}")


@contextmanager
def staged(folder: Path, evening: Evening, entry: str) -> Iterator[Stage]:
    """Open everything in `folder`, and wait until the daemon and the gate are ready.

    `entry` is the module that runs them by another clock. Raise PermanentError where one of them
    does not start, ConfigError where the example rules are not there.
    """
    _copy_rules(folder / RULES_NAME)
    with (
        EmbeddedBroker(topics={TOPIC: PARTITIONS, DIRECTIVES: 1}) as broker,
        SlackStandIn(clock=lambda: evening.now().timestamp()) as slack,
    ):
        _write_settings(folder, broker, slack, probes_port=0, gate_port=0)
        ahead_s = str(evening.ahead.total_seconds())
        with (
            Child(folder, "daemon", ["-m", entry, "run", ahead_s]) as daemon,
            Child(folder, "gate", ["-m", entry, "gate", ahead_s]) as gate,
        ):
            loaded = rulebook.load(folder / RULES_NAME).rules
            rules = tuple(rule for rule in loaded if isinstance(rule, Budget))
            probes, port = daemon.opened("probes.opened"), gate.opened("gate.opened")
            _write_settings(folder, broker, slack, probes_port=probes, gate_port=port)
            _await_ready(gate, port)
            yield Stage(evening, broker, slack, rules, daemon, gate, probes, port)


def _await_ready(gate: Child, port: int) -> None:
    """Wait until the gate has read the directives: before, it lets everything through."""
    pause = threading.Event()
    for _ in range(int(READY_TIMEOUT_S / TICK_S)):
        with suppress(TransientError):
            if gate.get(port, "/readyz")[0] == http.client.OK:
                return
        pause.wait(TICK_S)
    raise gate.failed("did not get ready")


def _copy_rules(folder: Path) -> None:
    files = sorted(RULES.glob("*.yaml"))
    if not files:
        raise ConfigError(f"{RULES}: the example rules are not there; run it in a checkout")
    folder.mkdir()
    for file in files:
        shutil.copyfile(file, folder / file.name)
    (folder / ROUTING_NAME).write_text(ROUTING)


def _write_settings(
    folder: Path, broker: EmbeddedBroker, slack: SlackStandIn, *, probes_port: int, gate_port: int
) -> None:
    """Write `governor.yaml`, for the children and for whoever asks them from another terminal."""
    settings: dict[str, dict[str, Any]] = {
        "kafka": {
            "bootstrap_servers": broker.bootstrap_servers,
            "api_version": ".".join(map(str, broker.api_version)),
        },
        "topics": {TOPIC: {"format": "native"}},
        "store": {"path": str(folder / STORE_NAME)},
        "rules": {"path": str(folder / RULES_NAME)},
        "slack": {"bot_token": TOKEN, "channel": CHANNEL, "base_url": slack.base_url},
        "directives": {"topic": DIRECTIVES},
        "control": {"socket": str(folder / "control.sock")},
        "http": {"host": "127.0.0.1", "port": probes_port},
        "gate": {"host": "127.0.0.1", "port": gate_port},
        "log": {"format": "json"},
    }
    lines = [
        line
        for group, values in settings.items()
        for line in (
            f"{group}:",
            *(f"  {name}: {json.dumps(value)}" for name, value in values.items()),
        )
    ]
    place = folder / SETTINGS_NAME
    fresh = place.with_suffix(".new")
    fresh.write_text(_HEADING + "\n".join(lines) + "\n", "utf-8")
    fresh.chmod(0o600)
    fresh.replace(place)
