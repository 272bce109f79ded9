"""Directives on a topic: what is published is read back, from the beginning and as it comes."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import pytest
from kafka import KafkaProducer

from governor.adapters.kafka import topics
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import (
    TOPIC_CONFIGS,
    DirectivePublisher,
    DirectiveReader,
    Record,
    require_compacted,
)
from governor.core.directives import Directive, Effect, Heartbeat, WireCondition
from governor.core.errors import PermanentError, TransientError
from governor.demo.broker import EmbeddedBroker
from tests.brokers import ApacheKafka, Broker

NOW = datetime(2026, 11, 24, 9, 0, tzinfo=UTC)
TIMEOUT_S = 20.0


def directive(name: str = "d", version: int = 1, effect: Effect = Effect.THROTTLE) -> Directive:
    return Directive(
        id=name,
        version=version,
        effect=effect,
        rule="free-tier",
        action="slow",
        reason="free-tier is at 110% of 400 USD",
        scope={"tier": WireCondition(values=("free",))},
        issued_at=NOW,
        until=NOW + timedelta(hours=6),
        rate_requests=2,
        rate_span_s=60,
    )


def heartbeat(version: int) -> Heartbeat:
    return Heartbeat(version=version, sent_at=NOW, lease_until=NOW + timedelta(seconds=30))


def connection_to(broker: Broker) -> Connection:
    return Connection([broker.bootstrap_servers], api_version=broker.api_version)


@pytest.fixture
def connection(broker: Broker) -> Connection:
    return connection_to(broker)


@pytest.fixture
def topic(broker: Broker, topic_name: str) -> str:
    """Return the name of a new topic of one partition."""
    broker.create_topic(topic_name, 1)
    return topic_name


@pytest.fixture
def publisher(connection: Connection, topic: str) -> Iterator[DirectivePublisher]:
    with closing(DirectivePublisher(connection, topic)) as publisher:
        yield publisher


@pytest.fixture
def reader(connection: Connection, topic: str) -> Iterator[DirectiveReader]:
    with closing(DirectiveReader(connection, topic)) as reader:
        yield reader


def follow(reader: DirectiveReader, count: int) -> list[Record]:
    """Poll until `count` records have come."""
    records: list[Record] = []
    deadline = monotonic() + TIMEOUT_S
    while len(records) < count and monotonic() < deadline:
        records += reader.poll(200)
    return records


def test_what_is_published_is_read_back(
    publisher: DirectivePublisher, reader: DirectiveReader
) -> None:
    """All records come back equal and in order, and then the reader has caught up."""
    sent = [heartbeat(0), directive(), directive("e", 2), directive("d", 3, Effect.RELEASE)]
    publisher.publish(sent)
    assert not reader.caught_up
    assert reader.catch_up(TIMEOUT_S) == sent
    assert reader.caught_up


def test_an_empty_topic_is_caught_up(reader: DirectiveReader) -> None:
    """Where nothing was published there is nothing to wait for."""
    assert reader.catch_up(TIMEOUT_S) == []
    assert reader.caught_up


def test_the_reader_follows(publisher: DirectivePublisher, reader: DirectiveReader) -> None:
    """What is published after the reader has caught up comes to it, too."""
    reader.catch_up(TIMEOUT_S)
    for version in (1, 2):
        publisher.publish([directive(version=version), heartbeat(version)])
        assert follow(reader, 2) == [directive(version=version), heartbeat(version)]


def test_more_than_one_poll(publisher: DirectivePublisher, reader: DirectiveReader) -> None:
    """A topic of thousands is read to its end, in the order it was published."""
    sent = [directive(str(number), number) for number in range(2_000)]
    publisher.publish(sent)
    assert reader.catch_up(TIMEOUT_S) == sent


def test_each_reader_begins_at_the_beginning(
    publisher: DirectivePublisher, connection: Connection, topic: str
) -> None:
    """Readers share no position: each reads all of it, and so does one that was closed."""
    publisher.publish([directive(), heartbeat(1)])
    with closing(DirectiveReader(connection, topic)) as reader:
        for _ in range(2):
            assert len(reader.catch_up(TIMEOUT_S)) == 2
            reader.close()
            assert not reader.caught_up
    with closing(DirectiveReader(connection, topic)) as other:
        assert len(other.catch_up(TIMEOUT_S)) == 2


def test_every_partition_is_read(broker: Broker, connection: Connection, topic_name: str) -> None:
    """A topic that was made with more partitions than one is read whole."""
    broker.create_topic(topic_name, 3)
    sent = [directive(str(number), number) for number in range(20)]
    with closing(DirectivePublisher(connection, topic_name)) as publisher:
        publisher.publish(sent)
    with closing(DirectiveReader(connection, topic_name)) as reader:
        found = reader.catch_up(TIMEOUT_S)
    assert sorted(found, key=lambda record: record.version) == sent


def test_what_is_none_of_ours_is_passed_over(
    broker: Broker, connection: Connection, topic: str, reader: DirectiveReader
) -> None:
    """A tombstone is no record; what cannot be read is counted; neither stops the reader."""
    options: dict[str, Any] = {
        "bootstrap_servers": broker.bootstrap_servers,
        "api_version": broker.api_version,
    }
    with closing(KafkaProducer(**options)) as producer:
        for key, value in ((b"directive:d", None), (b"directive:d", b"{}"), (b"x", b"\xff")):
            producer.send(topic, value, key=key).get(timeout=10)
    with closing(DirectivePublisher(connection, topic)) as publisher:
        publisher.publish([heartbeat(7)])
    assert reader.catch_up(TIMEOUT_S) == [heartbeat(7)]
    assert reader.unreadable == 2


def test_what_is_buried_is_no_record(
    publisher: DirectivePublisher, reader: DirectiveReader
) -> None:
    """The tombstone of an ended directive is passed over, and is nothing unreadable."""
    publisher.publish([directive()])
    publisher.bury([directive()])
    publisher.publish([heartbeat(2)])
    assert reader.catch_up(TIMEOUT_S) == [directive(), heartbeat(2)]
    assert reader.unreadable == 0


def test_a_missing_topic_is_told(connection: Connection, topic_name: str) -> None:
    """Reading what does not exist says how to make it, and asking does not make it."""
    with closing(DirectiveReader(connection, topic_name)) as reader:
        for _ in range(2):
            with pytest.raises(TransientError, match=r"no topic .*`governor topics create`"):
                reader.poll(100)
    assert not topics.exists(connection, topic_name)


def test_a_topic_that_comes_is_read(
    broker: Broker, connection: Connection, topic_name: str
) -> None:
    """The reader needs no restart once the topic that was missing is there."""
    with closing(DirectiveReader(connection, topic_name)) as reader:
        with pytest.raises(TransientError):
            reader.poll(100)
        broker.create_topic(topic_name, 1)
        assert reader.catch_up(TIMEOUT_S) == []


def test_a_topic_that_is_made_anew_is_read_again(
    broker: Any,
    connection: Connection,
    topic: str,
    reader: DirectiveReader,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A reader that finds its place gone says so, and begins at the beginning of what is there."""
    monkeypatch.setattr("governor.adapters.kafka.directives.DESCRIBE_EVERY_S", 0.0)
    with closing(DirectivePublisher(connection, topic)) as publisher:
        publisher.publish([directive(version=v) for v in (1, 2, 3)])
    assert len(reader.catch_up(TIMEOUT_S)) == 3
    broker.delete_topic(topic)
    broker.create_topic(topic, 1)
    with closing(DirectivePublisher(connection, topic)) as publisher:
        publisher.publish([heartbeat(9)])
    found: list[Record] = []
    deadline = monotonic() + TIMEOUT_S
    while not found and monotonic() < deadline:
        try:
            found = reader.poll(200)
        except TransientError:
            assert not reader.caught_up
    assert found == [heartbeat(9)]


def test_an_unacknowledged_record_is_told(
    embedded_broker: EmbeddedBroker, topic_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is away `publish` raises in its time; sent again later, it arrives."""
    monkeypatch.setattr("governor.adapters.kafka.directives.PUBLISH_TIMEOUT_S", 1.0)
    embedded_broker.create_topic(topic_name, 1)
    connection = connection_to(embedded_broker)
    with (
        closing(DirectivePublisher(connection, topic_name)) as publisher,
        closing(DirectiveReader(connection, topic_name)) as reader,
    ):
        publisher.publish([heartbeat(1)])
        embedded_broker.down()
        try:
            began = monotonic()
            with pytest.raises(TransientError):
                publisher.publish([heartbeat(2)])
            assert monotonic() - began < 10
        finally:
            embedded_broker.up()
        deadline = monotonic() + TIMEOUT_S
        while True:
            try:
                publisher.publish([heartbeat(3)])
                break
            except TransientError:
                assert monotonic() < deadline
        found = reader.catch_up(TIMEOUT_S)
    assert found[0] == heartbeat(1)
    assert found[-1] == heartbeat(3)


def test_publishing_to_a_missing_topic(apache_kafka: ApacheKafka, topic_name: str) -> None:
    """Nothing is made by accident: the records are refused, in time."""
    connection = connection_to(apache_kafka)
    with (
        closing(DirectivePublisher(connection, topic_name)) as publisher,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("governor.adapters.kafka.directives.PUBLISH_TIMEOUT_S", 1.0)
        with pytest.raises(TransientError, match=topic_name):
            publisher.publish([heartbeat(1)])
    assert not topics.exists(connection, topic_name)


def test_the_topic_is_made_compacted(apache_kafka: ApacheKafka, topic_name: str) -> None:
    """The topic as governor makes it passes the check; making it again changes nothing."""
    connection = connection_to(apache_kafka)
    made = [
        topics.create(connection, topic_name, partitions=1, replication=1, configs=TOPIC_CONFIGS)
        for _ in range(2)
    ]
    assert made == [True, False]
    assert require_compacted(connection, topic_name)


@pytest.mark.parametrize("policy", ["delete", "compact,delete"])
def test_a_topic_that_forgets_is_refused(
    apache_kafka: ApacheKafka, topic_name: str, policy: str
) -> None:
    """A topic that loses old records would lose directives; the message says how to mend it."""
    apache_kafka.create_topic(topic_name, 1, cleanup_policy=policy)
    with pytest.raises(PermanentError, match=r"would lose directives.*kafka-configs") as caught:
        require_compacted(connection_to(apache_kafka), topic_name)
    assert f"cleanup.policy={policy} " in str(caught.value)


def test_a_missing_topic_is_not_compacted(apache_kafka: ApacheKafka, topic_name: str) -> None:
    """The check tells a topic that is missing from one that is wrong."""
    with pytest.raises(TransientError, match="no topic"):
        require_compacted(connection_to(apache_kafka), topic_name)


def test_the_embedded_broker_cannot_tell(embedded_broker: EmbeddedBroker, topic_name: str) -> None:
    """A broker that answers no question about settings passes, and the caller is told."""
    embedded_broker.create_topic(topic_name, 1)
    assert require_compacted(connection_to(embedded_broker), topic_name) is False


def test_compaction_keeps_what_holds(apache_kafka: ApacheKafka, topic_name: str) -> None:
    """After compaction a new reader still finds the newest version of each directive."""
    apache_kafka.create_topic(
        topic_name, 1, cleanup_policy="compact", segment_ms=500, min_cleanable_dirty_ratio=0.01
    )
    connection = connection_to(apache_kafka)
    deadline = monotonic() + 2 * TIMEOUT_S
    with closing(DirectivePublisher(connection, topic_name)) as publisher:
        version, found = 0, []
        while monotonic() < deadline:
            version += 1
            publisher.publish([directive("a", version), directive(f"b{version % 3}", version)])
            with closing(DirectiveReader(connection, topic_name)) as reader:
                found = reader.catch_up(TIMEOUT_S)
            if version > 5 and len(found) < version:
                break
    newest = {record.key: record.version for record in found if isinstance(record, Directive)}
    assert len(found) < version
    assert newest["directive:a"] == version
    assert set(newest) == {"directive:a", "directive:b0", "directive:b1", "directive:b2"}
