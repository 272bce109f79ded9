"""CloudEvents 1.0 on Kafka: structured (JSON in the value) and binary (attributes in headers).

Which of the two a record is, its header `content-type` decides, as the Kafka binding of the
specification has it; without headers a JSON value with `specversion` is structured. The data is an
object of usage; what is not known there is dropped.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from governor.core.errors import DecodeError
from governor.core.usage import Reason, Record
from governor.formats.paths import finders
from governor.formats.payloads import payload_fields
from governor.formats.reading import (
    UNKNOWN_PROVIDER,
    Decode,
    Fields,
    Found,
    decoding,
    written_at,
)

STRUCTURED: Final = b"application/cloudevents"
_BATCH: Final = b"application/cloudevents-batch"
_PREFIX: Final = "ce_"
_REQUIRED: Final = ("id", "source", "specversion", "type")
_json: Final = msgspec.json.Decoder(float_hook=Decimal)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` are paths from the event: `$.data.total`, `$.subject`."""
    found_at = finders(fields)

    def read(value: bytes, found: Found) -> None:
        event = _event(value, found.record)
        for name in _REQUIRED:
            if not event.get(name):
                raise DecodeError(Reason.INVALID, f"the CloudEvent has no {name}")
        data = event.get("data")
        known = payload_fields(data) if isinstance(data, dict) else {}
        mapped = {name: find(event) for name, find in found_at.items()}
        found.add(
            {
                "customer": event.get("subject"),
                "provider": UNKNOWN_PROVIDER,
                **known,
                **{name: value for name, value in mapped.items() if value is not None},
                "event_id": event["id"],
                "source": event["source"],
                "event_time": event.get("time") or written_at(found.record),
            }
        )

    return decoding(read)


def _event(value: bytes, record: Record) -> Mapping[str, Any]:
    headers = dict(record.headers or ())
    content = _content_type(headers)
    if content.startswith(_BATCH):
        raise DecodeError(Reason.INVALID, "a batch of CloudEvents; Kafka has one event a record")
    if content.startswith(STRUCTURED) or "ce_specversion" not in headers:
        event = _json.decode(value)
        if not isinstance(event, dict):
            raise DecodeError(Reason.INVALID, "the CloudEvent is no JSON object")
        return event
    attributes = {
        name[len(_PREFIX) :]: text.decode()
        for name, text in headers.items()
        if name.startswith(_PREFIX)
    }
    return {**attributes, "data": _json.decode(value)}


def _content_type(headers: Mapping[str, bytes]) -> bytes:
    found = (text for name, text in headers.items() if name.lower() == "content-type")
    return next(found, b"").strip().lower()
