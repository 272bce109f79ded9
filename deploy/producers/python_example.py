"""Sends one usage event to governor: what your service does after each request to a model."""

import json
import os
import sys
import uuid
from datetime import UTC, datetime

from kafka import KafkaProducer

producer = KafkaProducer(
    bootstrap_servers=os.environ.get("KAFKA_SERVERS", "127.0.0.1:9092").split(","),
    acks="all",
    compression_type="gzip",
)
event = {
    "event_id": str(uuid.uuid4()),  # made once a request, and the same in each try to send it
    "source": "my-service",
    "event_time": datetime.now(UTC).isoformat(),
    "provider": "openai",
    "model": "gpt-4o",
    "customer": "acme",
    "feature": "answers",
    "input_tokens": 1000,
    "cache_read_tokens": 400,
    "output_tokens": 200,
}
producer.send(sys.argv[1] if sys.argv[1:] else "usage", json.dumps(event).encode()).get(timeout=30)
producer.close()
