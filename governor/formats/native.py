"""The native format: one JSON object a record, its keys the fields of `UsageEvent`."""

from collections.abc import Sequence
from typing import Final

import msgspec

from governor.core.decoded import Decoded
from governor.core.usage import Reason, Record, Reject, UsageEvent
from governor.formats.reading import (
    EMPTY,
    Decode,
    Fields,
    malformed_text,
    refusal_text,
    too_large,
)

_DECODER: Final = msgspec.json.Decoder(UsageEvent)
_UNREADABLE: Final = (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; its fields have their own names, so `fields` must be empty."""
    if fields:
        raise ValueError("says where fields are, and native events have them by their names")
    return decode


def decode(topic: str, records: Sequence[Record], max_record_bytes: int) -> Decoded:
    """Decode each record strictly; one that is no usage event becomes a reject with its reason.

    This is the loop of the hot path: what other formats share in `reading` is written out here.
    """
    events: list[UsageEvent] = []
    origins: list[Record] = []
    rejects: list[Reject] = []
    read = _DECODER.decode
    for record in records:
        try:
            event = read(record.value)  # type: ignore[arg-type]  # None is caught below, with the rest
        except _UNREADABLE as error:
            rejects.append(Reject.of(topic, record, *_reason(record.value, error)))
            continue
        if len(record.value) > max_record_bytes:  # type: ignore[arg-type]  # None does not decode
            detail = too_large(record.value or b"", max_record_bytes)
            rejects.append(Reject.of(topic, record, Reason.TOO_LARGE, detail))
            continue
        events.append(event)
        origins.append(record)
    return Decoded(events, origins, rejects)


def _reason(value: bytes | None, error: Exception) -> tuple[Reason, str]:
    if value is None:
        return Reason.EMPTY, EMPTY
    if isinstance(error, msgspec.ValidationError):
        return Reason.INVALID, refusal_text(error)
    return Reason.MALFORMED, malformed_text(error)
