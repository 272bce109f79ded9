"""Uses the real openai package, instrumented for OpenTelemetry, against a stand-in of its API.

Its spans go to Kafka as the Collector's exporter sends them. Run by tests/e2e/test_producers.py in
an environment of its own: `use_otel.py SERVERS TOPIC proto|json`.
"""

import base64
import json
import sys
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from kafka import KafkaProducer
from openai import OpenAI
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

ANSWER = {
    "object": "chat.completion",
    "created": 1_795_478_400,
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "kingfisher noted"},
        }
    ],
    "usage": {
        "prompt_tokens": 1_000,
        "completion_tokens": 200,
        "total_tokens": 1_200,
        "prompt_tokens_details": {"cached_tokens": 400},
        "completion_tokens_details": {"reasoning_tokens": 50},
    },
}


class Api(BaseHTTPRequestHandler):
    """Answers chat completions."""

    answered = 0

    def do_POST(self) -> None:
        """Answer, each time with another id."""
        self.rfile.read(int(self.headers["Content-Length"]))
        Api.answered += 1
        body = json.dumps({"id": f"chatcmpl-{Api.answered}", **ANSWER}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class KafkaExporter(SpanExporter):
    """Sends spans as the Kafka exporter of the Collector does, in either encoding."""

    def __init__(self, servers: str, topic: str, encoding: str) -> None:
        self._producer = KafkaProducer(bootstrap_servers=servers, acks="all")
        self._topic = topic
        self._encoding = encoding

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send one export."""
        message = encode_spans(spans)
        value = message.SerializeToString()
        if self._encoding == "json":
            value = json.dumps(_hexadecimal(MessageToDict(message))).encode()
        self._producer.send(self._topic, value).get(timeout=30)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Close the producer."""
        self._producer.close(timeout=10)


def _hexadecimal(document: Any) -> Any:
    """Write ids as OTLP/JSON has them: protobuf's own JSON has base64."""
    if isinstance(document, list):
        return [_hexadecimal(item) for item in document]
    if not isinstance(document, dict):
        return document
    return {
        key: base64.b64decode(value).hex()
        if key in {"traceId", "spanId", "parentSpanId"}
        else _hexadecimal(value)
        for key, value in document.items()
    }


def main(servers: str, topic: str, encoding: str) -> None:
    """Let an agent call a model twice."""
    resource = Resource.create({"service.name": "support-bot", "team": "cx"})
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(BatchSpanProcessor(KafkaExporter(servers, topic, encoding)))
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    api = ThreadingHTTPServer(("127.0.0.1", 0), Api)
    threading.Thread(target=api.serve_forever, daemon=True).start()
    client = OpenAI(api_key="sk-kingfisher", base_url=f"http://127.0.0.1:{api.server_port}/v1")
    with provider.get_tracer("agents").start_as_current_span("invoke_agent helper") as agent:
        for _ in range(2):
            client.chat.completions.create(
                model="gpt-4o", messages=[{"role": "user", "content": "the kingfisher merger"}]
            )
        agent.set_attributes(
            {
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.provider.name": "openai",
                "gen_ai.request.model": "gpt-4o",
                "gen_ai.usage.input_tokens": 2_000,
                "gen_ai.usage.output_tokens": 400,
            }
        )
    provider.shutdown()
    api.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
