"""The native format: one JSON object a record, its keys the fields of `UsageEvent`."""

import difflib
import re
from collections.abc import Sequence
from typing import Final

import msgspec

from governor.core.usage import (
    MAX_DETAIL_CHARACTERS,
    Decoded,
    Reason,
    Record,
    Reject,
    UsageEvent,
)

_DECODER: Final = msgspec.json.Decoder(UsageEvent)
_UNKNOWN_FIELD: Final = re.compile(r"unknown field `([^`]*)`")
_ADVICE: Final = {
    "timezone component": "end it with Z or an offset, such as 2026-11-24T07:00:00Z",
    "Invalid RFC3339": "write it such as 2026-11-24T07:00:00Z",
    "at `$.status`": "write `success` or `error`",
}
"""What to write instead, by words of the refusal."""
_UNREADABLE: Final = (msgspec.MsgspecError, TypeError, UnicodeError, RecursionError)


def decode(topic: str, records: Sequence[Record], max_record_bytes: int) -> Decoded:
    """Decode each record strictly; one that is no usage event becomes a reject with its reason."""
    events: list[UsageEvent] = []
    origins: list[Record] = []
    rejects: list[Reject] = []
    read = _DECODER.decode
    for record in records:
        try:
            event = read(record.value)  # type: ignore[arg-type]  # None is caught below, with the rest
        except _UNREADABLE as error:
            rejects.append(_reject(topic, record, *_reason(record.value, error)))
            continue
        if len(record.value) > max_record_bytes:  # type: ignore[arg-type]  # None does not decode
            detail = f"{len(record.value or b''):,} bytes, limit {max_record_bytes:,}"
            rejects.append(_reject(topic, record, Reason.TOO_LARGE, detail))
            continue
        events.append(event)
        origins.append(record)
    return Decoded(events, origins, rejects)


def _reject(topic: str, record: Record, reason: Reason, detail: str) -> Reject:
    short = detail[:MAX_DETAIL_CHARACTERS]
    return Reject(topic, record.partition, record.offset, reason, short, record.value)


def _reason(value: bytes | None, error: Exception) -> tuple[Reason, str]:
    if value is None:
        return Reason.EMPTY, "the record has no value"
    if isinstance(error, msgspec.ValidationError):
        return Reason.INVALID, f"{error}{_suggestion(str(error))}"
    return Reason.MALFORMED, str(error) or type(error).__name__


def _suggestion(message: str) -> str:
    for words, advice in _ADVICE.items():
        if words in message:
            return f" ({advice})"
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is None:
        return ""
    near = difflib.get_close_matches(unknown[1], UsageEvent.__struct_fields__, n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""
