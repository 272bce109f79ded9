"""Business events: one JSON object a record, its keys the fields of `BusinessEvent`."""

from typing import Final

import msgspec

from governor.core.business import BusinessEvent, check
from governor.core.errors import DecodeError
from governor.core.usage import Reason
from governor.formats.reading import Decode, Fields, Found, decoding, refusal_text

_event: Final = msgspec.json.Decoder(BusinessEvent)


def decoder(fields: Fields) -> Decode:
    """Return the decoder; its fields have their own names, so `fields` must be empty."""
    if fields:
        raise ValueError("says where fields are, and business events have them by their names")
    return decoding(_read)


def _read(value: bytes, found: Found) -> None:
    try:
        event = _event.decode(value)
    except msgspec.ValidationError as error:
        raise DecodeError(Reason.INVALID, refusal_text(error, _FIELDS)) from error
    check(event)
    found.add_business(event)


_FIELDS: Final = BusinessEvent.__struct_fields__
