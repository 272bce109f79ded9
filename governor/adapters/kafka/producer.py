"""A producer for files of events: every record acknowledged by all replicas, or counted as lost."""

from types import TracebackType
from typing import Final, Self

from kafka import KafkaProducer, errors

from governor.adapters.kafka.connection import Connection, translated

MAX_PENDING: Final = 10_000
FLUSH_TIMEOUT_S: Final = 60


class EventProducer:
    """Sends records to one topic; `acknowledged` and `failed` count what became of them."""

    def __init__(self, connection: Connection, topic: str) -> None:
        self._connection = connection
        self._topic = topic
        self.acknowledged = 0
        self.failed = 0
        self.first_failure = ""
        self._sent = 0
        with translated(connection):
            self._producer = KafkaProducer(
                **connection.options(),
                acks="all",
                enable_idempotence=connection.api_version is None,
                linger_ms=20,
                batch_size=256 * 1024,
                compression_type="lz4",
                allow_auto_create_topics=False,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._producer.close(timeout=5)

    def send(self, value: bytes, key: bytes | None) -> None:
        """Send one record; wait for acknowledgements when too many are pending."""
        with translated(self._connection):
            sent = self._producer.send(self._topic, value, key=key)
        sent.add_callback(self._acknowledge).add_errback(self._fail)
        self._sent += 1
        if self._sent - self.acknowledged - self.failed > MAX_PENDING:
            self.flush()

    def flush(self) -> None:
        """Wait until every record sent so far is acknowledged or has failed."""
        with translated(self._connection):
            self._producer.flush(timeout=FLUSH_TIMEOUT_S)

    def _acknowledge(self, _: object) -> None:
        self.acknowledged += 1

    def _fail(self, error: errors.KafkaError) -> None:
        self.failed += 1
        self.first_failure = self.first_failure or str(error)
