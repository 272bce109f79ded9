"""What kafka-python sees of a broker, and governor leans on: the same on both brokers."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from time import monotonic
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.net.sasl.oauth import AbstractTokenProvider
from kafka.structs import OffsetAndMetadata

from governor.demo.broker import EmbeddedBroker
from tests.brokers import ApacheKafka, Broker

pytestmark = pytest.mark.kafka

POLL_MS = 10_000
OUTAGE_TIMEOUT_S = 60


@contextmanager
def consuming(broker: Broker, group_id: str | None = None) -> Iterator[KafkaConsumer]:
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        group_id=group_id,
        enable_auto_commit=False,
        auto_offset_reset="none",
        allow_auto_create_topics=False,
        reconnect_backoff_max_ms=500,
    )
    with closing(consumer):
        yield consumer


def produce(broker: Broker, at: TopicPartition, values: list[bytes], **options: Any) -> None:
    """Send values to one partition and wait until the broker has them all."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, api_version=broker.api_version, **options
    )
    with closing(producer):
        sent = [producer.send(at.topic, value, partition=at.partition) for value in values]
        for future in sent:
            future.get(timeout=POLL_MS / 1000)


def read(consumer: KafkaConsumer, at: TopicPartition, count: int, *, within_s: float = 10) -> list:
    """Poll until `count` records of the partition have come."""
    records: list[Any] = []
    deadline = monotonic() + within_s
    while len(records) < count and monotonic() < deadline:
        records += consumer.poll(timeout_ms=500).get(at, [])
    return records


@pytest.fixture
def partition(broker: Broker, topic_name: str) -> TopicPartition:
    """Return partition 0 of a new topic of two partitions."""
    broker.create_topic(topic_name, 2)
    return TopicPartition(topic_name, 0)


def test_order_and_content(broker: Broker, partition: TopicPartition) -> None:
    """A partition gives its records in order, each once, with consecutive offsets from 0."""
    values = [f"event {number}".encode() for number in range(1000)]
    produce(broker, partition, values)
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        records = read(consumer, partition, len(values))
    assert [record.value for record in records] == values
    assert [record.offset for record in records] == list(range(1000))


def test_key_headers_and_timestamp(broker: Broker, partition: TopicPartition) -> None:
    """Key, headers and the producer's timestamp arrive as sent; a None value is a tombstone."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers, api_version=broker.api_version
    )
    headers = [("source", b"gateway"), ("source", b"")]
    with closing(producer):
        producer.send(
            partition.topic,
            None,
            key=b"acme",
            headers=headers,
            partition=0,
            timestamp_ms=1_795_000_000_123,
        ).get(timeout=10)
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        (record,) = read(consumer, partition, 1)
    assert (record.key, record.value, record.timestamp) == (b"acme", None, 1_795_000_000_123)
    assert record.headers == headers


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
def test_compression(broker: Broker, partition: TopicPartition, codec: str) -> None:
    """A batch may be compressed by gzip, lz4 or zstd."""
    values = [b"x" * 100] * 100
    produce(broker, partition, values, compression_type=codec, linger_ms=50)
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        assert [record.value for record in read(consumer, partition, 100)] == values


def test_position_follows_seek_and_poll(broker: Broker, partition: TopicPartition) -> None:
    """The position is where `seek` put it, then one past the last record `poll` gave."""
    produce(broker, partition, [b"0", b"1", b"2", b"3"])
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 2)
        assert consumer.position(partition) == 2
        assert [record.value for record in read(consumer, partition, 2)] == [b"2", b"3"]
        assert consumer.position(partition) == 4


def test_seek_back_reads_again(broker: Broker, partition: TopicPartition) -> None:
    """Seeking back, after a poll has fetched ahead, gives the same records again."""
    produce(broker, partition, [b"0", b"1", b"2"])
    with consuming(broker) as consumer:
        consumer.assign([partition])
        for _ in range(2):
            consumer.seek(partition, 0)
            assert [record.offset for record in read(consumer, partition, 3)] == [0, 1, 2]


@pytest.mark.parametrize("offset", [4, 1_000_000])
def test_past_the_end_is_out_of_range(
    broker: Broker, partition: TopicPartition, offset: int
) -> None:
    """With reset `none`, reading past the end raises OffsetOutOfRangeError naming the offset."""
    produce(broker, partition, [b"0", b"1", b"2"])
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, offset)
        with pytest.raises(OffsetOutOfRangeError) as caught:
            consumer.poll(timeout_ms=POLL_MS)
    assert caught.value.args == ({partition: offset},)


def test_expired_records_are_out_of_range(broker: Any, partition: TopicPartition) -> None:
    """Once records are deleted the beginning has moved, and reading before it is out of range."""
    produce(broker, partition, [b"0", b"1", b"2", b"3"])
    broker.delete_records(partition.topic, 0, 2)
    with consuming(broker) as consumer:
        assert consumer.beginning_offsets([partition]) == {partition: 2}
        consumer.assign([partition])
        consumer.seek(partition, 1)
        with pytest.raises(OffsetOutOfRangeError) as caught:
            consumer.poll(timeout_ms=POLL_MS)
        assert caught.value.args == ({partition: 1},)
        consumer.seek(partition, 2)
        assert [record.value for record in read(consumer, partition, 2)] == [b"2", b"3"]


def test_no_position_is_an_error(broker: Broker, partition: TopicPartition) -> None:
    """With reset `none` and neither a seek nor a commit, polling raises, and invents nothing."""
    with consuming(broker, group_id=partition.topic) as consumer:
        consumer.assign([partition])
        with pytest.raises(NoOffsetForPartitionError):
            consumer.poll(timeout_ms=POLL_MS)


def test_offsets_are_committed_without_joining(broker: Broker, partition: TopicPartition) -> None:
    """A group's offset is committed by a consumer that only assigns, and any other reads it."""
    other = TopicPartition(partition.topic, 1)
    with consuming(broker, group_id=partition.topic) as consumer:
        consumer.assign([partition, other])
        assert consumer.committed(partition) is None
        consumer.commit({partition: OffsetAndMetadata(42, "", -1)})
    with consuming(broker, group_id=partition.topic) as consumer:
        assert consumer.committed(partition) == 42
        assert consumer.committed(other) is None


def test_beginning_and_end(broker: Broker, partition: TopicPartition) -> None:
    """The end is the offset of the next record to come; an empty partition begins and ends at 0."""
    other = TopicPartition(partition.topic, 1)
    produce(broker, partition, [b"0", b"1", b"2"])
    with consuming(broker) as consumer:
        assert consumer.beginning_offsets([partition, other]) == {partition: 0, other: 0}
        assert consumer.end_offsets([partition, other]) == {partition: 3, other: 0}


def test_partitions_of_topics(broker: Broker, partition: TopicPartition) -> None:
    """A topic tells its partitions; an unknown one has none, and asking does not create it."""
    with consuming(broker) as consumer:
        assert consumer.partitions_for_topic(partition.topic) == {0, 1}
        unknown = partition.topic + "-unknown"
        for _ in range(2):
            assert not consumer.partitions_for_topic(unknown)
        assert unknown not in consumer.topics()


def test_an_outage_is_silence(broker: Any, partition: TopicPartition) -> None:
    """While the broker is away `poll` gives nothing in its time; then it goes on where it was."""
    produce(broker, partition, [b"before"])
    with consuming(broker) as consumer:
        consumer.assign([partition])
        consumer.seek(partition, 0)
        assert [record.value for record in read(consumer, partition, 1)] == [b"before"]
        with away(broker):
            began = monotonic()
            assert consumer.poll(timeout_ms=1000) == {}
            assert monotonic() - began < 10
        produce(broker, partition, [b"after"])
        records = read(consumer, partition, 1, within_s=OUTAGE_TIMEOUT_S)
    assert [(record.offset, record.value) for record in records] == [(1, b"after")]


def test_a_moved_coordinator_is_found_again(topic_name: str) -> None:
    """When a group's coordinator moves, the next commit finds the new one."""
    partition = TopicPartition(topic_name, 0)
    with (
        EmbeddedBroker(topics={topic_name: 1}, brokers=2) as broker,
        consuming(broker, group_id=topic_name) as consumer,
    ):
        consumer.assign([partition])
        for offset in (1, 2, 3):
            consumer.commit({partition: OffsetAndMetadata(offset, "", -1)})
            broker.move_coordinator(topic_name)
        assert consumer.committed(partition) == 3


class UnsecuredTokens(AbstractTokenProvider):
    """Gives kafka-python the test broker's unsigned token."""

    def __init__(self, kafka: ApacheKafka) -> None:
        super().__init__()
        self._kafka = kafka

    def token(self) -> str:
        return self._kafka.unsecured_token()


@pytest.mark.parametrize(
    "mechanism", [None, "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"]
)
def test_secured_listeners(
    secured_kafka: ApacheKafka, topic_name: str, mechanism: str | None
) -> None:
    """Over TLS, with each mechanism of SASL or none, a record is acknowledged."""
    secured_kafka.create_topic(topic_name, 1)
    options: dict[str, Any] = {"security_protocol": "SASL_SSL" if mechanism else "SSL"}
    if mechanism == "OAUTHBEARER":
        options["sasl_oauth_token_provider"] = UnsecuredTokens(secured_kafka)
    elif mechanism:
        options["sasl_plain_username"] = secured_kafka.username
        options["sasl_plain_password"] = secured_kafka.password
    producer = KafkaProducer(
        bootstrap_servers=secured_kafka.listener(options["security_protocol"]),
        ssl_cafile=str(secured_kafka.ca_file),
        sasl_mechanism=mechanism,
        **options,
    )
    with closing(producer):
        assert producer.send(topic_name, b"x").get(timeout=10).offset == 0


@contextmanager
def away(broker: Any) -> Iterator[None]:
    embedded = isinstance(broker, EmbeddedBroker)
    leave, come_back = (broker.down, broker.up) if embedded else (broker.stop, broker.start)
    leave()
    try:
        yield
    finally:
        come_back()
