"""Stage 1 of the path: bytes to usage events, pure; one file a format, one line here."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from governor.core.usage import Decoded, Record
from governor.formats import native

Decode = Callable[[str, Sequence[Record], int], Decoded]
"""From a topic, its records and the size limit in bytes to events and rejects; never raises."""

FORMATS: Final[Mapping[str, Decode]] = {
    "native": native.decode,
}
"""Every format by the name that `topics.<topic>.format` takes."""
