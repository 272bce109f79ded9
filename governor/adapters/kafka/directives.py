"""Directives on their topic: all of it read from its beginning and followed, and records sent."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition, errors
from kafka.admin import ConfigResource, ConfigResourceType

from governor.adapters.kafka.connection import Connection, translated
from governor.core.directives import Directive, Heartbeat, decode, encode
from governor.core.errors import PermanentError, TransientError

POLL_RECORDS: Final = 500
"""Most records of one poll, so that whoever takes them is not held up for long."""
CATCH_UP_RECORDS: Final = 5_000
"""The same while the topic is read to its end, when nothing is decided by it yet."""
DESCRIBE_EVERY_S: Final = 30.0
"""How often the reader makes sure that the topic is still the same."""
PUBLISH_TIMEOUT_S: Final = 10.0
"""How long the records of one `publish` have to be acknowledged."""
GRACE_S: Final = 1.0
"""How much later the client has told that they were not."""
CLOSE_TIMEOUT_MS: Final = 2_000
TOPIC_CONFIGS: Final[Mapping[str, str]] = {
    "cleanup.policy": "compact",
    "segment.ms": "3600000",  # what is in the open segment is not compacted: heartbeats pile up
}
"""How the topic is made. Its one partition keeps all records in one order."""

Record = Directive | Heartbeat


class DirectiveReader:
    """Reads the whole topic, then follows it; used by one thread, and connects when first asked.

    After an error it forgets its place: the next `poll` connects anew and reads from the beginning.
    `caught_up` says whether the end that stood when it connected has been reached.
    """

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._consumer: Any = None
        self._admin: Any = None
        self._described: tuple[str, tuple[int, ...]] = ("", ())
        self._describe_at = 0.0
        self._unread: dict[TopicPartition, int] = {}
        self.caught_up = False
        self.unreadable = 0
        """Records passed over, because they are none of ours or of a newer governor."""

    def poll(self, timeout_ms: int) -> list[Record]:
        """Wait for records, at most about `timeout_ms`; return them in the order of the topic.

        Tombstones and what cannot be read are left out. A broker that is away gives nothing for
        some seconds, then raises TransientError, as does a topic that is missing.
        """
        try:
            with translated(self._connection):
                if self._consumer is None:
                    self._connect()
                self._require_the_same_topic()
                most = POLL_RECORDS if self.caught_up else CATCH_UP_RECORDS
                got = self._consumer.poll(timeout_ms, max_records=most)
                if not self.caught_up:
                    self._look_how_far()
        except BaseException:
            self.close()
            raise
        return [
            found
            for records in got.values()
            for record in records
            if (found := self._decoded(record)) is not None
        ]

    def catch_up(self, timeout_s: float) -> list[Record]:
        """Read up to the end of the topic and return it; TransientError where time runs out."""
        deadline = time.monotonic() + timeout_s
        records = self.poll(0)
        while not self.caught_up:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self.close()
                raise TransientError(
                    f"topic {self._topic}: its end was not reached within {timeout_s:g} s"
                )
            records += self.poll(min(500, int(left_s * 1000) + 1))
        return records

    def close(self) -> None:
        """Close the clients and forget the place; never raises for Kafka."""
        consumer, self._consumer, self.caught_up = self._consumer, None, False
        admin, self._admin = self._admin, None
        if consumer is not None:
            with suppress(errors.KafkaError, OSError):
                consumer.close(autocommit=False, timeout_ms=CLOSE_TIMEOUT_MS)
        if admin is not None:
            with suppress(errors.KafkaError, OSError):
                admin.close()

    def _connect(self) -> None:
        options = self._connection.options()
        self._admin = KafkaAdminClient(**options)
        self._described = self._describe()
        self._describe_at = time.monotonic() + DESCRIBE_EVERY_S
        self._consumer = KafkaConsumer(
            **options,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
            isolation_level="read_committed",
            allow_auto_create_topics=False,
            check_crcs=True,
            metrics_enabled=False,
        )
        places = [TopicPartition(self._topic, number) for number in self._described[1]]
        timeout_ms = self._connection.request_timeout_ms
        beginnings = self._consumer.beginning_offsets(places, timeout_ms=timeout_ms)
        self._unread = dict(self._consumer.end_offsets(places, timeout_ms=timeout_ms))
        self._consumer.assign(places)
        for place in places:
            self._consumer.seek(place, beginnings[place])

    def _describe(self) -> tuple[str, tuple[int, ...]]:
        """Return the topic's id and its partitions."""
        (topic,) = self._admin.describe_topics([self._topic])
        failure = errors.for_code(topic["error_code"])
        if failure is errors.UnknownTopicOrPartitionError:
            raise _missing(self._connection, self._topic)
        if failure is not errors.NoError:
            raise failure(self._topic)
        partitions = sorted(partition["partition_index"] for partition in topic["partitions"])
        return str(topic.get("topic_id")), tuple(partitions)

    def _require_the_same_topic(self) -> None:
        """Begin again where the topic was made anew, or has grown: keys move to partitions then."""
        if time.monotonic() < self._describe_at:
            return
        self._describe_at = time.monotonic() + DESCRIBE_EVERY_S
        if self._describe() != self._described:
            raise TransientError(
                f"topic {self._topic} is not what it was; it is read again from the beginning"
            )

    def _look_how_far(self) -> None:
        for place, end in list(self._unread.items()):
            at = self._consumer.position(place, timeout_ms=0)
            if at is not None and at >= end:
                del self._unread[place]
        self.caught_up = not self._unread

    def _decoded(self, record: Any) -> Record | None:
        found = decode(record.key, record.value)
        if found is None and record.value:
            self.unreadable += 1
        return found


class DirectivePublisher:
    """Sends records to the topic; used by one thread, and connects when first asked."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self._producer: Any = None

    def publish(self, records: Sequence[Record]) -> None:
        """Send all, and wait until all replicas have each.

        Raise TransientError where one was not acknowledged within about PUBLISH_TIMEOUT_S. Some
        may have arrived then; the caller sends all again, which is safe, since key and version
        tell a repeat. Nothing is sent any more once this has returned or raised.
        """
        self._send([encode(record) for record in records])

    def bury(self, directives: Sequence[Directive]) -> None:
        """Leave a tombstone for each, so that compaction drops what has ended."""
        self._send([(directive.key.encode(), None) for directive in directives])

    def close(self) -> None:
        """Close the client; never raises for Kafka."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(errors.KafkaError, OSError):
                producer.close(timeout=CLOSE_TIMEOUT_MS / 1000)

    def _send(self, pairs: Sequence[tuple[bytes, bytes | None]]) -> None:
        try:
            with translated(self._connection):
                producer = self._connected()
                sent = [producer.send(self._topic, value, key=key) for key, value in pairs]
                give_up = time.monotonic() + PUBLISH_TIMEOUT_S + GRACE_S
                for future in sent:
                    future.get(timeout=max(0.0, give_up - time.monotonic()))
        except TransientError as error:
            if isinstance(error.__cause__, errors.UnknownTopicOrPartitionError):
                raise _missing(self._connection, self._topic) from error
            raise

    def _connected(self) -> Any:
        if self._producer is None:
            timeout_ms = int(PUBLISH_TIMEOUT_S * 1000)
            options = self._connection.options()
            options["request_timeout_ms"] = min(options["request_timeout_ms"], timeout_ms)
            self._producer = KafkaProducer(
                **options,
                acks="all",
                enable_idempotence=self._connection.api_version is None,
                linger_ms=0,
                compression_type="lz4",
                allow_auto_create_topics=False,
                max_block_ms=timeout_ms,
                delivery_timeout_ms=timeout_ms,
            )
        return self._producer


def require_compacted(connection: Connection, topic: str) -> bool:
    """Return whether the brokers say that the topic is compacted; False: they cannot tell.

    The embedded broker, and one that does not let us describe topics, cannot tell; the caller
    logs it. Raise PermanentError where the topic is kept in another way, TransientError where it
    is missing or no broker answers.
    """
    with translated(connection):
        admin = KafkaAdminClient(**connection.options())
        try:
            (described,) = admin.describe_topics([topic])
            if errors.for_code(described["error_code"]) is errors.UnknownTopicOrPartitionError:
                raise _missing(connection, topic)
            resource = ConfigResource(ConfigResourceType.TOPIC, topic, ["cleanup.policy"])
            try:
                found = admin.describe_configs([resource], config_filter="all")
            except (errors.KafkaConnectionError, errors.UnsupportedVersionError):
                return False  # it answered before: it hangs up on the question
        finally:
            admin.close()
    policy = found.get("topic", {}).get(topic, {}).get("cleanup.policy", {}).get("value")
    if policy is None:
        return False
    if policy != "compact":
        brokers = ",".join(connection.bootstrap_servers)
        raise PermanentError(
            f"topic {topic} has cleanup.policy={policy} and would lose directives; it must be"
            f" compact: kafka-configs.sh --bootstrap-server {brokers} --alter --topic {topic}"
            " --add-config cleanup.policy=compact"
        )
    return True


def _missing(connection: Connection, topic: str) -> TransientError:
    brokers = ", ".join(connection.bootstrap_servers)
    return TransientError(
        f"Kafka at {brokers}: there is no topic {topic}; make it with `governor topics create`"
    )
