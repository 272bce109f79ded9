"""How every format reads: one record after the other, each to events or rejects, never an error.

A format hands in what it found as `Found`: `add` takes the fields of one event, `refuse` says why
there is none, `ignore` counts what is no usage.
"""

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final, TypeAlias

import msgspec

from governor.core.business import BusinessEvent
from governor.core.decoded import Decoded
from governor.core.errors import DecodeError
from governor.core.usage import MAX_DETAIL_CHARACTERS, Reason, Record, Reject, UsageEvent

Decode: TypeAlias = Callable[[str, Sequence[Record], int], Decoded]
"""From a topic, its records and the size limit in bytes to events and rejects; never raises."""
Fields: TypeAlias = Mapping[str, str]
"""The setting `topics.<topic>.fields`: where a field of the event stands in a record."""

FIELDS: Final = UsageEvent.__struct_fields__

_UNKNOWN_FIELD: Final = re.compile(r"unknown field `(.*?)`(?= - at|$)", re.DOTALL)
_FIELD: Final = re.compile(r"[A-Za-z0-9_.$-]{1,64}")
_QUOTED: Final = re.compile(r"^Invalid enum value '.*?'(?=$| - at)", re.DOTALL)
_ADVICE: Final = {
    "timezone component": "end it with Z or an offset, such as 2026-11-24T07:00:00Z",
    "Invalid RFC3339": "write it such as 2026-11-24T07:00:00Z",
    "at `$.status`": "write `success` or `error`",
    "at `$.reported_cost_usd`": 'write US dollars as a decimal in quotes, such as "0.0125"',
}
"""What to write instead, by words of the refusal."""
_UNREADABLE: Final = (msgspec.MsgspecError, ValueError, TypeError, ArithmeticError, RecursionError)


class Found:
    """What one record held so far."""

    __slots__ = ("_decoded", "record", "topic")

    def __init__(self, decoded: Decoded, topic: str, record: Record) -> None:
        self._decoded = decoded
        self.topic = topic
        self.record = record

    def add(self, fields: dict[str, Any], what: str = "") -> None:
        """Take the fields of one event; `what` names it where a record holds many."""
        try:
            event = msgspec.convert(fields, UsageEvent)
        except (msgspec.ValidationError, OverflowError) as error:
            self.refuse(Reason.INVALID, f"{what}{refusal_text(error)}")
            return
        self._decoded.events.append(event)
        self._decoded.origins.append(self.record)

    def add_business(self, event: BusinessEvent) -> None:
        """Take a business event."""
        self._decoded.business.append((self.topic, self.record, event))

    def refuse(self, reason: Reason, detail: str) -> None:
        """Set the record, or one event of it, aside."""
        self._decoded.rejects.append(Reject.of(self.topic, self.record, reason, detail))

    def ignore(self) -> None:
        """Count what is no usage."""
        self._decoded.ignored += 1


Read: TypeAlias = Callable[[bytes, Found], None]
"""Reads the bytes of one record; may raise DecodeError, or what a parser raises."""


def decoding(read: Read) -> Decode:
    """Make the decoder of a format out of what reads one record."""

    def decode(topic: str, records: Sequence[Record], max_record_bytes: int) -> Decoded:
        decoded = Decoded([], [], [])
        for record in records:
            found = Found(decoded, topic, record)
            value = record.value
            if value is None:
                found.refuse(Reason.EMPTY, EMPTY)
            elif len(value) > max_record_bytes:
                found.refuse(Reason.TOO_LARGE, too_large(value, max_record_bytes))
            else:
                held = decoded.size
                try:
                    read(value, found)
                    if decoded.size == held:
                        found.ignore()
                except DecodeError as error:
                    found.refuse(Reason(error.reason), str(error))
                except _UNREADABLE as error:
                    found.refuse(Reason.MALFORMED, malformed_text(error))
        return decoded

    return decode


UNKNOWN_PROVIDER: Final = "unknown"
"""Where nobody says whose model it was; the price is then looked up by the model's name alone."""


def instant(seconds: float) -> datetime:
    """Return a time told in seconds since 1970."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):
        raise DecodeError(Reason.INVALID, "the time is not in seconds since 1970") from None


def usd(amount: Decimal | int | None) -> str | None:
    """Return reported dollars as the event takes them; None where they are no sensible amount."""
    if amount is None or not 0 <= amount < MAX_COST_USD:  # NaN is not, either
        return None
    return f"{Decimal(amount).quantize(_PICO_USD):f}"


MAX_COST_USD: Final = 10**9
_PICO_USD: Final = Decimal("0.000000000001")


def written_at(record: Record) -> datetime:
    """Return when Kafka says that a record was written."""
    return instant(record.timestamp / 1000)


EMPTY: Final = "the record has no value"


def too_large(value: bytes, limit: int) -> str:
    """Say that a record is larger than may be."""
    return f"{len(value):,} bytes, limit {limit:,}"


def malformed_text(error: Exception) -> str:
    """Say why bytes are no document; never what they hold."""
    if isinstance(error, msgspec.DecodeError | UnicodeDecodeError | RecursionError):
        return str(error)[:MAX_DETAIL_CHARACTERS] or type(error).__name__
    return f"not a document of this format ({type(error).__name__})"


def refusal_text(error: Exception, names: Sequence[str] = FIELDS) -> str:
    """Say why fields are no event, and what to write instead; never what they hold.

    `names` are those of the event's fields.
    """
    message = _QUOTED.sub("is not one of the known values", str(error))
    for words, advice in _ADVICE.items():
        if words in message:
            return f"{message} ({advice})"
    unknown = _UNKNOWN_FIELD.search(message)
    if unknown is None:
        return message
    before, after = message[: unknown.start()], message[unknown.end() :]
    return f"{before}{unknown_field(unknown[1], names)}{after}"


def unknown_field(name: str, names: Sequence[str]) -> str:
    """Say that there is no such field, and which may be meant; what is no name is not quoted."""
    if not _FIELD.fullmatch(name):
        return f"unknown field of {len(name)} characters"
    return f"unknown field `{name}`{did_you_mean(name, names)}"


def known(fields: Fields) -> Fields:
    """Return `fields`; raise ValueError where one is none of the event's."""
    for name in fields:
        if name not in FIELDS:
            raise ValueError(f"unknown field {name[:60]!r}{did_you_mean(name, FIELDS)}")
    return fields


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return ` (did you mean ...?)` with the known name most like `name`, or nothing."""
    near = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean `{near[0]}`?)" if near else ""
