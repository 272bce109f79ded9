"""The samples of formats as records of Kafka, and others made of them."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format
from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

from governor.core.decoded import Decoded
from governor.core.usage import UsageEvent
from governor.formats import FORMATS

FOLDER = Path(__file__).parents[1] / "data" / "formats"
WRITTEN_MS = 1_795_478_500_000
"""When Kafka says that the records were written: 2026-11-24T00:01:40Z."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A record as Kafka hands it over."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = field(default=())
    offset: int = 0
    partition: int = 0
    timestamp: int = WRITTEN_MS


def sample(name: str) -> Any:
    """Return a sample as a document."""
    return json.loads((FOLDER / f"{name}.json").read_text("utf-8"))


def record(document: Any, **headers: str) -> Sample:
    """Return a document as a record; `ce_id` and the like are headers."""
    named = [(name.replace("content_type", "content-type"), text) for name, text in headers.items()]
    return Sample(
        document if isinstance(document, bytes) else json.dumps(document).encode(),
        [(name, text.encode()) for name, text in named],
    )


def records() -> dict[str, tuple[str, Sample]]:
    """Return every sample with the format that it is in."""
    openmeter, binary = sample("openmeter_kafka_internal"), sample("cloudevent_kafka_binary")
    span = sample("otlp_span")
    enveloped = {
        name: {"source": "app", "event_id": name, "model": model, "usage": sample(name)}
        for name, model in (
            ("anthropic_usage", "claude-sonnet-4-5"),
            ("openai_chat_usage", "gpt-4o"),
            ("openai_responses_usage", "gpt-4o"),
        )
    }
    return {
        "cloudevent_structured": ("cloudevents", record(sample("cloudevent_structured"))),
        "cloudevent_kafka_binary": (
            "cloudevents",
            Sample(
                json.dumps(binary["value"]).encode(),
                [(name, text.encode()) for name, text in binary["headers"].items()],
            ),
        ),
        "litellm_openmeter_cloudevent": (
            "cloudevents",
            record(sample("litellm_openmeter_cloudevent")),
        ),
        "litellm_standard_logging_payload": (
            "litellm",
            record(sample("litellm_standard_logging_payload")),
        ),
        "openmeter_kafka_internal": (
            "openmeter",
            Sample(
                json.dumps(openmeter["value"]).encode(),
                [(name, text.encode()) for name, text in openmeter["headers"].items()],
            ),
        ),
        "otlp_span": ("otlp_json", record(span)),
        "otlp_span_legacy": ("otlp_json", record(sample("otlp_span_legacy"))),
        "otlp_span as protobuf": ("otlp_proto", Sample(protobuf(span))),
        "otlp_event_operation_details": (
            "otlp_json",
            record(sample("otlp_event_operation_details")),
        ),
        "otlp_metric_token_usage": ("otlp_json", record(sample("otlp_metric_token_usage"))),
        **{
            name: ("provider", record(envelope | {"provider": "unknown"}))
            for name, envelope in enveloped.items()
        },
        "native": (
            "native",
            record(
                {
                    "event_id": "e-1",
                    "source": "app",
                    "event_time": "2026-11-24T00:00:00Z",
                    "provider": "openai",
                    "model": "gpt-4o",
                    "input_tokens": 1000,
                    "output_tokens": 10,
                }
            ),
        ),
    }


def protobuf(export: Any) -> bytes:
    """Return an export in OTLP/JSON, whose ids are hexadecimal, as protobuf."""
    copy = json.loads(json.dumps(export))
    for resource in copy["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for key in ("traceId", "spanId", "parentSpanId"):
                    span[key] = base64.b64encode(bytes.fromhex(span.get(key, ""))).decode()
    message: bytes = json_format.ParseDict(copy, TracesData()).SerializeToString()
    return message


def decode(name: str, *found: Sample, fields: dict[str, str] | None = None) -> Decoded:
    """Decode records of a topic `usage` in a format."""
    return FORMATS[name](fields or {})("usage", found, 1_000_000)


def told(event: UsageEvent) -> dict[str, Any]:
    """Return what an event says, without what it does not."""
    known = {name: getattr(event, name) for name in event.__struct_fields__}
    return {name: value for name, value in known.items() if value is not None}
