"""OpenMeter's own topic: its events as its collector writes them to Kafka, not CloudEvents.

The data is a JSON text inside the JSON, and the time is whole seconds. The meter of OpenMeter's
quickstart sends an event for each kind of token: `{"tokens": "10000", "model": "gpt-4o", "type":
"input"}`; only that of the input stands for a request.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

import msgspec

from governor.core.errors import DecodeError
from governor.core.usage import Reason
from governor.formats.paths import finders
from governor.formats.payloads import payload_fields
from governor.formats.quantities import whole
from governor.formats.reading import (
    UNKNOWN_PROVIDER,
    Decode,
    Fields,
    Found,
    decoding,
    instant,
)

_KINDS: Final = {"input": "input_tokens", "system": "input_tokens", "output": "output_tokens"}


class _Event(msgspec.Struct):
    id: str
    source: str
    time: int | float
    subject: str | None = None
    type: str | None = None
    data: str | None = None


_envelope: Final = msgspec.json.Decoder(_Event)
_json: Final = msgspec.json.Decoder(float_hook=Decimal)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; `fields` are paths from the event, `$.data` being what its text holds."""
    found_at = finders(fields)

    def read(value: bytes, found: Found) -> None:
        try:
            event = _envelope.decode(value)
        except msgspec.ValidationError as error:
            raise DecodeError(Reason.INVALID, str(error)) from error
        data = _json.decode(event.data) if event.data else None
        document = {**msgspec.structs.asdict(event), "data": data}
        mapped = {name: find(document) for name, find in found_at.items()}
        found.add(
            {
                "customer": event.subject or None,
                "provider": UNKNOWN_PROVIDER,
                **(_data_fields(data) if isinstance(data, dict) else {}),
                **{name: value for name, value in mapped.items() if value is not None},
                "event_id": event.id,
                "source": event.source,
                "event_time": instant(event.time),
            }
        )

    return decoding(read)


def _data_fields(data: Mapping[str, Any]) -> dict[str, Any]:
    kind = _KINDS.get(str(data.get("type")))
    if kind is None or "tokens" not in data:
        return payload_fields(data)
    requests = {} if data["type"] == "input" else {"requests": 0}
    return {**payload_fields(data), kind: whole(data, "tokens"), **requests}
