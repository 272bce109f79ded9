"""Responses of providers in an envelope: who asked, and the response's `usage` as it came.

    {"source": "my-app", "provider": "anthropic", "customer": "acme", "response": {"id": "msg_1",
     "model": "claude-sonnet-4-5", "usage": {"input_tokens": 4000, ...}}}

The keys of the envelope are fields of the event. Of the response, id, model, time, tier and usage
are read; what was said is dropped. A stream is `response: [chunks]`: its counts are cumulative.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from governor.core.errors import DecodeError
from governor.core.usage import Reason
from governor.formats.paths import finders
from governor.formats.quantities import quantities
from governor.formats.reading import (
    FIELDS,
    Decode,
    Fields,
    Found,
    decoding,
    instant,
    unknown_field,
    written_at,
)

_OWN_KEYS: Final = ("response", "usage", "batch")
_KEYS: Final = (*FIELDS, *_OWN_KEYS)
_json: Final = msgspec.json.Decoder(float_hook=Decimal)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` are paths from the envelope: `$.response.metadata.team`."""
    found_at = finders(fields)

    def read(value: bytes, found: Found) -> None:
        envelope = _json.decode(value)
        if not isinstance(envelope, dict):
            raise DecodeError(Reason.INVALID, "the envelope is no JSON object")
        for key in envelope:
            if key not in _KEYS:
                raise DecodeError(Reason.INVALID, f"Object contains {unknown_field(key, _KEYS)}")
        told = {name: value for name, value in envelope.items() if name not in _OWN_KEYS}
        mapped = {name: find(envelope) for name, find in found_at.items()}
        event = {
            "source": found.topic,
            **_response_fields(envelope),
            **({"service_tier": "batch"} if envelope.get("batch") is True else {}),
            **{name: value for name, value in mapped.items() if value is not None},
            **told,
        }
        event.setdefault("event_time", written_at(found.record))
        found.add(event)

    return decoding(read)


def _response_fields(envelope: Mapping[str, Any]) -> dict[str, Any]:
    response = envelope.get("response")
    chunks = response if isinstance(response, list) else [response]
    parts = [part for chunk in chunks for part in _parts(chunk)]
    usage = envelope.get("usage") or chunks
    if not isinstance(response, list) and "usage" not in envelope:
        usage = next((u for part in parts if (u := _usage(part)) is not None), None)
    if usage is None:
        raise DecodeError(Reason.NO_USAGE, "there is no usage object")
    fields = {name: count for name, count in quantities(usage).items() if count is not None}
    for name, keys in _READ.items():
        for key in keys:
            found = [part[key] for part in parts if part.get(key)]
            if found:
                fields[name] = found[-1]
    created = [part[key] for part in parts for key in _CREATED if _is_time(part.get(key))]
    if created:
        fields["event_time"] = instant(float(created[0]))
    provider = next((p for part in parts for p in [_provider(part)] if p), None)
    return {**fields, **({"provider": provider} if provider else {})}


_READ: Final = {
    "event_id": ("id", "responseId"),
    "model": ("model", "modelVersion"),
    "service_tier": ("service_tier",),
}
_CREATED: Final = ("created", "created_at")


def _parts(chunk: Any) -> list[Mapping[str, Any]]:
    """Return a response, or of a chunk of a stream what is in it and the chunk itself."""
    if not isinstance(chunk, dict):
        return []
    inner = [chunk[key] for key in ("message", "response") if isinstance(chunk.get(key), dict)]
    return [*inner, chunk]


def _usage(part: Mapping[str, Any]) -> Any:
    return next((part[key] for key in ("usage", "usageMetadata") if part.get(key)), None)


def _is_time(value: Any) -> bool:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _provider(part: Mapping[str, Any]) -> str | None:
    """Tell whose response it is, where its shape says so."""
    if part.get("type") == "message":
        return "anthropic"
    if "usageMetadata" in part:
        return "google"
    kind = part.get("object")
    if isinstance(kind, str) and kind in _OPENAI_OBJECTS:
        return "openai"
    return None


_OPENAI_OBJECTS: Final = frozenset(
    {"chat.completion", "chat.completion.chunk", "response", "text_completion", "list"}
)
