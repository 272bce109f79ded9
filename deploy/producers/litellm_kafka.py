"""Ships what LiteLLM logs of each request to Kafka, for governor's format `litellm`.

Put this file beside the config of the proxy, install kafka-python and crc32c, and name it there:

    litellm_settings:
      callbacks: litellm_kafka.logger

Variables: LITELLM_KAFKA_SERVERS (127.0.0.1:9092), LITELLM_KAFKA_TOPIC (usage), and
LITELLM_KAFKA_OPTIONS, more options of kafka-python's producer as JSON, such as those of TLS.

A request never waits for Kafka: payloads go into a queue of 10,000, and what finds it full is
counted and said in the log. Messages, responses and addresses are taken out before.
"""

import atexit
import json
import logging
import os
import queue
import threading
from typing import Any

from kafka import KafkaProducer
from kafka.errors import KafkaError
from litellm.integrations.custom_logger import CustomLogger

MAX_WAITING = 10_000
FLUSH_S = 10.0
DROPPED = (
    *("messages", "response", "error_str", "model_parameters", "requester_ip_address"),
    *("user_agent", "api_base", "guardrail_information"),
)
"""What of a payload is nobody's business but the application's."""

log = logging.getLogger("litellm_kafka")


class KafkaLogger(CustomLogger):
    """A logger of LiteLLM that hands payloads to a thread of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.lost = 0
        self._topic = os.environ.get("LITELLM_KAFKA_TOPIC", "usage")
        self._waiting: queue.Queue[bytes | None] = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._run, name="litellm-kafka", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Ship a request that succeeded."""
        self._ship(kwargs)

    def log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Ship a request that failed."""
        self._ship(kwargs)

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Ship a request that succeeded."""
        self._ship(kwargs)

    async def async_log_failure_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Ship a request that failed."""
        self._ship(kwargs)

    def close(self) -> None:
        """Send what waits; called at the end of the process."""
        if self._thread.is_alive():
            self._waiting.put(None, timeout=FLUSH_S)
            self._thread.join(FLUSH_S)

    def _ship(self, kwargs: Any) -> None:
        payload = kwargs.get("standard_logging_object")
        if not payload:
            return
        try:
            kept = {name: value for name, value in payload.items() if name not in DROPPED}
            self._waiting.put_nowait(json.dumps(kept, default=str).encode())
        except queue.Full:
            self._lose(1, "Kafka takes them too slowly")
        except (TypeError, ValueError) as error:
            self._lose(1, type(error).__name__)

    def _run(self) -> None:
        producer = None
        while (value := self._waiting.get()) is not None:
            try:
                producer = producer or self._producer()
                producer.send(self._topic, value).add_errback(self._failed)
            except KafkaError as error:
                self._lose(1, str(error))
        if producer:
            producer.close(timeout=FLUSH_S)

    def _producer(self) -> KafkaProducer:
        options = json.loads(os.environ.get("LITELLM_KAFKA_OPTIONS", "{}"))
        return KafkaProducer(
            bootstrap_servers=os.environ.get("LITELLM_KAFKA_SERVERS", "127.0.0.1:9092").split(","),
            **{"acks": "all", "linger_ms": 50, "compression_type": "gzip", **options},
        )

    def _failed(self, error: Exception) -> None:
        self._lose(1, str(error))

    def _lose(self, count: int, why: str) -> None:
        self.lost += count
        if self.lost & (self.lost - 1) == 0:  # 1, 2, 4, 8, ...: said, and not once a request
            log.error("%d usage events lost so far: %s", self.lost, why)


logger = KafkaLogger()
