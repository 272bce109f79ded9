"""Stage 1 of the path: bytes to usage events, pure; one file a format, one line here."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Final

from governor.core.decoded import Decoded
from governor.core.usage import Record
from governor.formats import (
    business,
    cloudevents,
    litellm,
    native,
    openmeter,
    otlp_json,
    otlp_proto,
    provider,
)
from governor.formats.detect import format_of
from governor.formats.reading import Decode, Fields

__all__ = ["FORMATS", "Decode", "Fields"]


def _auto(fields: Fields) -> Decode:
    """Return the decoder that tells the format of each record by itself."""
    if fields:
        raise ValueError("says where fields are; that differs by format, so name the format")
    decoders = {name: make({}) for name, make in FORMATS.items() if name not in _APART}

    def decode(topic: str, records: Sequence[Record], max_record_bytes: int) -> Decoded:
        all_of = Decoded([], [], [])
        for name, run in groupby(records, format_of):
            decoded = decoders[name](topic, list(run), max_record_bytes)
            all_of.events.extend(decoded.events)
            all_of.origins.extend(decoded.origins)
            all_of.rejects.extend(decoded.rejects)
            all_of.ignored += decoded.ignored
        return all_of

    return decode


_APART: Final = ("auto", "business")
"""Formats that no record is detected to be in: business events have a topic of their own."""

FORMATS: Final[Mapping[str, Callable[[Fields], Decode]]] = {
    "native": native.decoder,
    "cloudevents": cloudevents.decoder,
    "openmeter": openmeter.decoder,
    "otlp_json": otlp_json.decoder,
    "otlp_proto": otlp_proto.decoder,
    "litellm": litellm.decoder,
    "provider": provider.decoder,
    "auto": _auto,
    "business": business.decoder,
}
"""Every format by the name that `topics.<topic>.format` takes, and what makes its decoder.

It raises ValueError where the `fields` of the topic cannot be read.
"""
