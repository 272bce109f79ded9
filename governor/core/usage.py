"""Stage 1, the usage event: one metered inference request, its fields, units and limits.

Token totals are inclusive, as the OpenTelemetry GenAI conventions have them: `input_tokens` holds
cache reads, cache writes, audio and images too, `output_tokens` holds reasoning and audio too.
`None` is "not reported" and 0 is "reported as zero".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Final, Literal, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from msgspec import Meta, Struct
from msgspec.structs import astuple

from governor.core.redaction import pseudonym, redacted, without_personal_data

MAX_NAME_CHARACTERS: Final = 256
MAX_QUANTITY: Final = 10**10
MAX_TAGS: Final = 32
MAX_DETAIL_CHARACTERS: Final = 500
"""How much the reason of a reject may say; it quotes names out of the record."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARACTERS)]
Quantity = Annotated[int, Meta(ge=0, le=MAX_QUANTITY)]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

Money = Annotated[str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,12})?$")]
"""US dollars as decimal digits in a text, so that no float takes part."""
Instant = Annotated[datetime, Meta(tz=True)]
Tags = Annotated[dict[Name, Annotated[str, Meta(max_length=256)]], Meta(max_length=MAX_TAGS)]


class UsageEvent(Struct, gc=False, forbid_unknown_fields=True):
    """One metered request. The field order is the column order of the stored event.

    Identity is (`source`, `event_id`, `event_time`). Tokens are counts, `duration_ms` is
    milliseconds, `compute_ms` is milliseconds of accelerator time.
    """

    event_id: Name
    source: Name
    event_time: Instant
    provider: Name
    model: Name
    model_requested: Name | None = None
    operation: Name | None = None
    service_tier: Name | None = None
    status: Literal["success", "error"] | None = None
    error_type: Name | None = None
    customer: Name | None = None
    user: Name | None = None
    tier: Name | None = None
    segment: Name | None = None
    feature: Name | None = None
    team: Name | None = None
    project: Name | None = None
    environment: Name | None = None
    api_key: Name | None = None
    region: Name | None = None
    session_id: Name | None = None
    trace_id: Name | None = None
    span_id: Name | None = None
    input_tokens: Quantity | None = None
    cache_read_tokens: Quantity | None = None
    cache_write_5m_tokens: Quantity | None = None
    cache_write_1h_tokens: Quantity | None = None
    output_tokens: Quantity | None = None
    reasoning_tokens: Quantity | None = None
    input_audio_tokens: Quantity | None = None
    output_audio_tokens: Quantity | None = None
    input_image_tokens: Quantity | None = None
    output_images: Quantity | None = None
    web_searches: Quantity | None = None
    compute_ms: Quantity | None = None
    requests: Quantity = 1
    duration_ms: Quantity | None = None
    reported_cost_usd: Money | None = None
    tags: Tags | None = None


QUANTITIES: Final = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "input_image_tokens",
    "output_images",
    "web_searches",
    "compute_ms",
)
"""What a price may be put on; an event that reports none of them says nothing about usage."""

DIMENSIONS: Final = (
    "customer",
    "user",
    "tier",
    "segment",
    "feature",
    "team",
    "project",
    "environment",
    "provider",
    "model",
    "operation",
    "service_tier",
    "api_key",
    "region",
)
"""What a sum may be grouped by; `tags` come beside them."""


class Reason(StrEnum):
    """Why a record was set aside; stored in `rejects.reason` and a label of the reject counter."""

    EMPTY = "empty"
    """The record has no value (a tombstone)."""
    TOO_LARGE = "too_large"
    """The record is larger than `ingest.max_record_bytes`."""
    MALFORMED = "malformed"
    """The bytes are not a document of the topic's format."""
    INVALID = "invalid"
    """A field is missing, unknown, of the wrong type or out of its limits."""
    NO_USAGE = "no_usage"
    """No token or other quantity is reported, and the request did not fail."""
    TOO_OLD = "too_old"
    """Its time is before `ingest.accept_back`."""
    TOO_NEW = "too_new"
    """Its time is after `ingest.accept_ahead`."""


class Record(Protocol):
    """One message as the log hands it over."""

    @property
    def partition(self) -> int:
        """The partition it was read from."""

    @property
    def offset(self) -> int:
        """Its offset in that partition."""

    @property
    def value(self) -> bytes | None:
        """Its bytes; None for a tombstone."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Its headers, in order; names may repeat."""

    @property
    def timestamp(self) -> int:
        """When it was written, milliseconds since 1970; by the producer or the broker."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A record set aside: where it stands, why, and what is kept of it (see `core.redaction`).

    `size` is how many bytes it had; None for a tombstone.
    """

    topic: str
    partition: int
    offset: int
    reason: Reason
    detail: str
    raw: bytes | None
    size: int | None

    @classmethod
    def of(cls, topic: str, record: Record, reason: Reason, detail: str) -> "Reject":
        """Set a record of a topic aside."""
        value = record.value
        return cls(
            topic,
            record.partition,
            record.offset,
            reason,
            detail[:MAX_DETAIL_CHARACTERS],
            redacted(value),
            None if value is None else len(value),
        )


EVENT_SCHEMA: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("source", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        *((name, pa.string()) for name in UsageEvent.__struct_fields__[3:23]),
        *((name, pa.int64()) for name in UsageEvent.__struct_fields__[23:37]),
        ("reported_cost_nano", pa.int64()),
        ("tags", pa.map_(pa.string(), pa.string())),
    ]
)
"""The columns of a batch, in the order of `UsageEvent`; times are microseconds UTC."""


def micros(instant: datetime) -> int:
    """Return an aware instant as whole microseconds since 1970 UTC."""
    return (instant - _EPOCH) // _MICROSECOND


def table_of(events: Sequence[UsageEvent]) -> pa.Table:
    """Turn decoded events into columns (`EVENT_SCHEMA`), row i from `events[i]`.

    Addresses and keys in place of names are replaced by hashes.
    """
    if not events:
        return EVENT_SCHEMA.empty_table()
    *columns, reported, tags = zip(*map(astuple, events), strict=True)
    arrays = [
        pa.array(column, field.type)
        for column, field in zip(columns, list(EVENT_SCHEMA)[:-2], strict=True)
    ]
    arrays.append(_nano(reported))
    some = tags.count(None) < len(tags)
    pairs = [None if tag is None else _impersonal(tag) for tag in tags] if some else None
    tag_type = EVENT_SCHEMA.field("tags").type
    arrays.append(pa.nulls(len(events), tag_type) if pairs is None else pa.array(pairs, tag_type))
    return without_personal_data(pa.Table.from_arrays(arrays, schema=EVENT_SCHEMA))


def _impersonal(tags: dict[str, str]) -> list[tuple[str, str]]:
    return [(name, pseudonym(text) if "@" in text else text) for name, text in tags.items()]


def _nano(usd: Sequence[str | None]) -> pa.Array:
    """Return dollars as nano-dollars, rounded half to even; exact on the way."""
    if usd.count(None) == len(usd):
        return pa.nulls(len(usd), pa.int64())
    exact = pa.array(usd, pa.string()).cast(pa.decimal128(21, 12))
    nano = pc.multiply(pc.round(exact, 9, "half_to_even"), pa.scalar(Decimal(10**9)))
    return nano.cast(pa.decimal128(38, 0)).cast(pa.int64())
