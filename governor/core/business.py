"""Stage 1, the business event: what usage is measured against: revenue, active users, outcomes.

An event has an id, and its newest version is what holds: `insert` says something first, `replace`
and `delete` correct it, however late. So the ratios of a past day move when its revenue does.
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Final, Literal

import pyarrow as pa
from msgspec import Struct

from governor.core.errors import DecodeError
from governor.core.pricing import NANO_PER_USD
from governor.core.redaction import without_personal_data
from governor.core.usage import Instant, Name, Reason, Record

MAX_USD: Final = 10**9
MAX_COUNT: Final = 10**12
MAX_SPAN: Final = timedelta(days=366)
_NANO_USD: Final = Decimal("0.000000001")


class BusinessEvent(Struct, gc=False, forbid_unknown_fields=True):
    """One statement about a time, or about the span from `event_time` to `until`.

    Identity is (`source`, `event_id`). `value` is US dollars for revenue, else a count. Who is not
    named, it is about: without a customer, it is about all of them together.
    """

    event_id: Name
    source: Name
    event_time: Instant
    measure: Literal["revenue", "active_users", "outcomes"]
    op: Literal["insert", "replace", "delete"] = "insert"
    value: Decimal | None = None
    currency: Literal["USD"] = "USD"
    until: Instant | None = None
    updated_at: Instant | None = None
    customer: Name | None = None
    tier: Name | None = None
    segment: Name | None = None
    feature: Name | None = None
    team: Name | None = None
    project: Name | None = None
    outcome: Name | None = None


BUSINESS_DIMENSIONS: Final = BusinessEvent.__struct_fields__[9:]

BUSINESS_SCHEMA: Final = pa.schema(
    [
        ("event_id", pa.string()),
        ("source", pa.string()),
        ("event_time", pa.timestamp("us", "UTC")),
        ("measure", pa.string()),
        ("op", pa.string()),
        ("amount", pa.int64()),
        ("currency", pa.string()),
        ("until", pa.timestamp("us", "UTC")),
        ("updated_at", pa.timestamp("us", "UTC")),
        *((name, pa.string()) for name in BUSINESS_DIMENSIONS),
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
"""The columns of a batch; `amount` is nano-dollars for revenue, else a count; NULL in a delete."""


def check(event: BusinessEvent) -> None:
    """Raise DecodeError where the fields, each right, do not go together."""
    for found in (_value_fault(event), _time_fault(event)):
        if found:
            raise DecodeError(Reason.INVALID, found)


def _value_fault(event: BusinessEvent) -> str | None:
    value = event.value
    if value is None:
        return None if event.op == "delete" else f"value is missing; {event.op} needs one"
    if not value.is_finite():
        return "value is not a number"
    if event.measure == "revenue":
        if abs(value) > MAX_USD:
            return f"value is beyond {MAX_USD:,} USD"
        if value.quantize(_NANO_USD) != value:
            return "value has more than 9 decimals; 10^-9 USD is the least"
    elif not 0 <= value <= MAX_COUNT or value % 1:
        return f"value must be a whole number from 0 to {MAX_COUNT:,} for {event.measure}"
    return None


def _time_fault(event: BusinessEvent) -> str | None:
    if event.op != "insert" and event.updated_at is None:
        return (
            f"updated_at is missing; a {event.op} needs the time of the correction, so that it"
            " does not undo a later one when it is sent again"
        )
    if event.until is None:
        return None
    if event.until <= event.event_time:
        return "until must be after event_time"
    if event.until - event.event_time > MAX_SPAN:
        return f"until must be within {MAX_SPAN.days} days of event_time"
    return None


def business_table(rows: Sequence[tuple[str, Record, BusinessEvent]]) -> pa.Table:
    """Return checked events as columns (`BUSINESS_SCHEMA`), each with the topic and its record."""
    return without_personal_data(
        pa.Table.from_pylist(
            [
                {
                    **{name: getattr(event, name) for name in _PLAIN},
                    "amount": _amount(event),
                    "topic": topic,
                    "partition": record.partition,
                    "offset": record.offset,
                }
                for topic, record, event in rows
            ],
            schema=BUSINESS_SCHEMA,
        )
    )


_PLAIN: Final = tuple(name for name in BusinessEvent.__struct_fields__ if name != "value")


def _amount(event: BusinessEvent) -> int | None:
    if event.value is None or event.op == "delete":
        return None
    return int(event.value * NANO_PER_USD if event.measure == "revenue" else event.value)
