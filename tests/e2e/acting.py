"""A stage for what acts: a broker with both topics, a local Slack, rules in their own folder."""

import json
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kafka import KafkaConsumer, TopicPartition

from governor.demo.slack import CHANNEL, TOKEN, SlackStandIn
from governor.demo.slack_workspace import Message
from tests.brokers import Broker, KafkaTopics
from tests.e2e.daemon import environment
from tests.e2e.ledger import Sent, producing, send

TOKENS_A_USD = 400_000
"""Input tokens of gpt-4o that cost one dollar, at 2.50 USD a million."""


AT_ONCE = """
version: 1
grouping: {by: [alert], wait: 0s, update: 0s, storm: never}
"""
"""Each alert is told by itself and at once; tests of grouping write a routing of their own."""


def usage(
    tokens: int = TOKENS_A_USD, *, at: datetime | None = None, **fields: Any
) -> dict[str, Any]:
    """Return an event of gpt-4o that costs a dollar, or as many tokens as are asked for."""
    return {
        "event_id": uuid.uuid4().hex,
        "source": "acting",
        "event_time": (at or datetime.now(UTC)).isoformat(),
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": tokens,
        "output_tokens": 0,
        **fields,
    }


@dataclass
class Stage:
    """Where a daemon acts; `env` is what it is started with."""

    broker: Broker
    folder: Path
    topic: str
    slack: SlackStandIn
    partitions: int = 2
    env: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.directives = f"{self.topic}-directives"
        self.broker.create_topic(self.topic, self.partitions)
        if isinstance(self.broker, KafkaTopics):
            self.broker.create_topic(self.directives, 1, **{"cleanup.policy": "compact"})
        else:
            self.broker.create_topic(self.directives, 1)
        self.env = environment(
            self.folder,
            self.broker,
            self.topic,
            directives__topic=self.directives,
            rules__path=self.folder / "rules",
            rules__reload_every="200ms",
            control__socket="control.sock",
            slack__bot_token=TOKEN,
            slack__channel=CHANNEL,
            slack__base_url=self.slack.base_url,
            slack__timeout="2s",
            gate__port=0,
        )
        (self.folder / "rules").mkdir(exist_ok=True)
        self.rules(AT_ONCE, "routing.yaml")

    @property
    def store(self) -> Path:
        """The DuckDB file."""
        return self.folder / "governor.duckdb"

    def rules(self, text: str, name: str = "rules.yaml") -> None:
        """Write a rule file, as an editor that replaces it does."""
        fresh = self.folder / "rules" / f".{name}"
        fresh.write_text(text)
        fresh.replace(self.folder / "rules" / name)

    def send(self, events: Iterable[dict[str, Any]]) -> int:
        """Send events, spread over the partitions; return how many were acknowledged."""
        records = [
            Sent(number % self.partitions, json.dumps(event).encode())
            for number, event in enumerate(events)
        ]
        with producing(self.broker) as producer:
            return send(producer, self.topic, records)

    def told(self, channel: str = CHANNEL) -> list[Message]:
        """Return the messages that stand in a channel of Slack, oldest first."""
        return list(self.slack.messages[channel])

    def records(self) -> list[tuple[str, dict[str, Any] | None]]:
        """Return key and value of every record on the topic of directives, in order."""
        return list(records_of(self.broker, self.directives))

    def standing(self) -> dict[str, dict[str, Any]]:
        """Return the newest version of each directive that throttles, by its key."""
        newest: dict[str, dict[str, Any]] = {}
        for key, value in self.records():
            if key.startswith("directive:"):
                newest.pop(key, None)
                if value and value["effect"] == "throttle":
                    newest[key] = value
        return newest


def records_of(broker: Broker, topic: str) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield key and value of all records of a topic with one partition, up to its end."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        enable_auto_commit=False,
    )
    try:
        place = TopicPartition(topic, 0)
        consumer.assign([place])
        consumer.seek_to_beginning(place)
        end = consumer.end_offsets([place])[place]
        while consumer.position(place) < end:
            for found in consumer.poll(500).values():
                for record in found:
                    yield record.key.decode(), json.loads(record.value) if record.value else None
    finally:
        consumer.close(autocommit=False)


def text_of(message: Message) -> str:
    """Return what a message says now."""
    return message.versions[-1].text


@contextmanager
def staged(
    broker: Broker, folder: Path, topic: str, channels: Iterable[str] = (CHANNEL,)
) -> Iterator[Stage]:
    """Open a stage with a Slack of its own."""
    with SlackStandIn(channels=channels) as slack:
        yield Stage(broker, folder, topic, slack)
