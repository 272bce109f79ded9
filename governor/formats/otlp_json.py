"""OTLP as JSON: an export of traces, as the Kafka exporter of the OpenTelemetry Collector sends it.

Ids are hexadecimal and 64-bit integers are texts, as the OTLP specification has them. A record is
one export and holds any number of spans.
"""

from typing import Any, Final

import msgspec

from governor.core.errors import DecodeError
from governor.core.usage import Reason
from governor.formats.reading import Decode, Fields, Found, decoding
from governor.formats.spans import Names, Span, add_spans, checked, put

_ERROR: Final = 2
_ABSENT: Final = msgspec.Raw()


class _Value(msgspec.Struct, rename="camel", gc=False):
    string_value: str | None = None
    int_value: str | int | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None


class _Attribute(msgspec.Struct, rename="camel", gc=False):
    key: str
    value: _Value | None = None


class _Status(msgspec.Struct, rename="camel", gc=False):
    code: int | str = 0


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str
    span_id: str
    start_time_unix_nano: str | int = 0
    end_time_unix_nano: str | int = 0
    attributes: list[_Attribute] = []
    status: _Status | None = None


class _ScopeSpans(msgspec.Struct, rename="camel"):
    spans: list[_Span] = []


class _Resource(msgspec.Struct, rename="camel"):
    attributes: list[_Attribute] = []


class _ResourceSpans(msgspec.Struct, rename="camel"):
    scope_spans: list[_ScopeSpans] = []
    resource: _Resource | None = None


class _Export(msgspec.Struct, rename="camel"):
    resource_spans: list[_ResourceSpans] | None = None
    resource_logs: msgspec.Raw = _ABSENT
    resource_metrics: msgspec.Raw = _ABSENT


_export: Final = msgspec.json.Decoder(_Export)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` name the attribute of a field: `{team: company.team}`."""
    names = Names(fields)

    def read(value: bytes, found: Found) -> None:
        try:
            export = _export.decode(value)
        except msgspec.ValidationError as error:
            raise DecodeError(Reason.INVALID, str(error)) from error
        if export.resource_spans is None:
            raise DecodeError(Reason.INVALID, _what(export))
        spans: list[Span] = []
        for resource in export.resource_spans:
            common: dict[str, tuple[int, Any]] = {}
            if resource.resource:
                _read(resource.resource.attributes, names, common)
            for scope in resource.scope_spans:
                spans += [_span(span, names, common) for span in scope.spans]
        add_spans(spans, found)

    return decoding(read)


def _what(export: _Export) -> str:
    for signal, held in (("logs", export.resource_logs), ("metrics", export.resource_metrics)):
        if held is not _ABSENT:
            return (
                f"an export of {signal}; usage is read from spans: give this topic the"
                " traces pipeline of the collector"
            )
    return "no OTLP export: there is no resourceSpans"


def _span(span: _Span, names: Names, common: dict[str, tuple[int, Any]]) -> Span:
    found = dict(common)
    _read(span.attributes, names, found)
    try:
        start_ns, end_ns = int(span.start_time_unix_nano), int(span.end_time_unix_nano)
    except ValueError:
        raise DecodeError(Reason.INVALID, "a time is no number of nanoseconds") from None
    failed = span.status is not None and span.status.code in (_ERROR, "STATUS_CODE_ERROR")
    return Span(*checked(span.trace_id, span.span_id), start_ns, end_ns, failed, found)


def _read(attributes: list[_Attribute], names: Names, found: dict[str, tuple[int, Any]]) -> None:
    for attribute in attributes:
        fields = names.of.get(attribute.key)
        if fields is not None and attribute.value is not None:
            value = _plain(attribute.value)
            if value is not None and value != "":
                put(found, fields, value)


def _plain(value: _Value) -> Any:
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return int(value.int_value)
    return value.bool_value if value.double_value is None else float(value.double_value)
