"""OTLP as protobuf: an export of traces, the default of the Collector's Kafka exporter."""

from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError as ParseError
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status, TracesData

from governor.core.errors import DecodeError
from governor.core.usage import Reason
from governor.formats.reading import Decode, Fields, Found, decoding
from governor.formats.spans import Names, Span, add_spans, checked, put

_SCALARS: Final = frozenset({"string_value", "int_value", "double_value", "bool_value"})


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` name the attribute of a field: `{team: company.team}`."""
    names = Names(fields)

    def read(value: bytes, found: Found) -> None:
        try:
            export = TracesData.FromString(value)
        except ParseError as error:
            raise DecodeError(Reason.MALFORMED, "not OTLP in protobuf") from error
        spans: list[Span] = []
        for resource in export.resource_spans:
            common: dict[str, tuple[int, Any]] = {}
            _read(resource.resource.attributes, names, common)
            for scope in resource.scope_spans:
                spans += [_span(span, names, common) for span in scope.spans]
        if not spans:
            raise DecodeError(Reason.MALFORMED, "no spans in it; is it an export of traces?")
        add_spans(spans, found)

    return decoding(read)


def _span(span: ProtoSpan, names: Names, common: dict[str, tuple[int, Any]]) -> Span:
    found = dict(common)
    _read(span.attributes, names, found)
    return Span(
        *checked(span.trace_id.hex(), span.span_id.hex()),
        span.start_time_unix_nano,
        span.end_time_unix_nano,
        span.status.code == Status.STATUS_CODE_ERROR,
        found,
    )


def _read(attributes: Iterable[KeyValue], names: Names, found: dict[str, tuple[int, Any]]) -> None:
    for attribute in attributes:
        fields = names.of.get(attribute.key)
        if fields is not None:
            value = attribute.value
            kind = value.WhichOneof("value")
            if kind in _SCALARS:
                plain = getattr(value, kind)
                if plain != "":
                    put(found, fields, plain)
