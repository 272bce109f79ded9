"""The native format: what is read, what is set aside, and what a reject says."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor.core.decoded import Decoded
from governor.core.redaction import redacted
from governor.core.usage import MAX_QUANTITY, QUANTITIES, Reason, UsageEvent
from governor.formats import FORMATS, native

MAX_BYTES = 10_000
MAX_DETAIL_CHARACTERS = 1_000

LEAST = {
    "event_id": "req-1",
    "source": "gateway",
    "event_time": "2026-07-01T12:00:00Z",
    "provider": "openai",
    "model": "gpt-5",
}
OTHERS = {
    "status": "success",
    "requests": 3,
    "duration_ms": 1_250,
    "reported_cost_usd": "12.000000000001",
    "tags": {"team:cost-centre": "4711", "empty": ""},
    **{quantity: 7 * number for number, quantity in enumerate(QUANTITIES)},
}
FULL: dict[str, Any] = {
    **{name: f"some {name}" for name in UsageEvent.__struct_fields__},
    **LEAST,
    **OTHERS,
}


class Message(NamedTuple):
    """One message as a log hands it over."""

    partition: int
    offset: int
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 1_780_000_000_000


def decoded(*values: bytes | None) -> Decoded:
    messages = [Message(3, 100 + place, value) for place, value in enumerate(values)]
    return native.decode("usage", messages, MAX_BYTES)


def document(**changes: Any) -> bytes:
    return json.dumps({**LEAST, **changes}).encode()


def with_text(json_member: bytes) -> bytes:
    """Return the least event with a member that `json.dumps` would not write."""
    return document()[:-1] + b", " + json_member + b"}"


def event(**changes: Any) -> UsageEvent:
    found = decoded(document(**changes))
    assert not found.rejects
    return found.events[0]


def refusal(value: bytes | None) -> tuple[Reason, str]:
    found = decoded(value)
    assert (found.events, found.origins, len(found.rejects)) == ([], [], 1)
    reject = found.rejects[0]
    assert (reject.topic, reject.partition, reject.offset) == ("usage", 3, 100)
    assert (reject.raw, reject.size) == (redacted(value), None if value is None else len(value))
    return reject.reason, reject.detail


# ------------------------------------------------------------------------------- what is read


def test_a_full_event_is_read_field_by_field() -> None:
    """Every field of `UsageEvent` is a key of the format, and its value comes through unchanged."""
    assert list(FULL) == list(UsageEvent.__struct_fields__)
    read = event(**FULL)
    for name, value in FULL.items():
        wanted = datetime(2026, 7, 1, 12, tzinfo=UTC) if name == "event_time" else value
        assert getattr(read, name) == wanted, name


@pytest.mark.parametrize("name", FULL)
def test_each_field_is_accepted_without_the_optional_others(name: str) -> None:
    """Only five fields are required; any other may stand alone beside them."""
    assert getattr(event(**{name: FULL[name]}), name) is not None


def test_what_is_left_out_is_unknown_and_not_zero() -> None:
    """A field that is not reported reads None, except `requests`: one event is one request."""
    read = event()
    for name in set(FULL) - set(LEAST) - {"requests"}:
        assert getattr(read, name) is None, name
    assert read.requests == 1


def test_null_means_not_reported() -> None:
    """`null` reads as a field that was left out, and 0 as zero."""
    read = event(input_tokens=None, output_tokens=0, tags=None)
    assert (read.input_tokens, read.output_tokens, read.tags) == (None, 0, None)


def test_records_keep_their_order_and_their_places() -> None:
    """`origins[i]` is the record of `events[i]`; rejects keep the order of the records too."""
    good, bad = document(), b"?"
    found = decoded(bad, good, None, good, bad)
    assert [origin.offset for origin in found.origins] == [101, 103]
    assert [reject.offset for reject in found.rejects] == [100, 102, 104]


def test_a_quantity_at_its_limit_is_accepted() -> None:
    """A quantity is at least 0 and at most `MAX_QUANTITY`, both included."""
    for quantity in (0, MAX_QUANTITY):
        assert event(input_tokens=quantity).input_tokens == quantity


def test_names_and_tags_at_their_limits_are_accepted() -> None:
    """256 characters (not bytes) make a name, 32 tags an event."""
    assert len(event(user="\U0001f4b8" * 256).user or "") == 256
    assert len(event(tags={str(number): "x" * 256 for number in range(32)}).tags or ()) == 32


def test_space_around_the_document_is_ignored() -> None:
    """A line end after the object does no harm."""
    assert len(decoded(b" \t" + document() + b"\r\n").events) == 1


def test_the_last_of_two_equal_keys_counts() -> None:
    """JSON leaves duplicate keys open; here the last one wins, in the event and in its tags."""
    (read,) = decoded(
        with_text(b'"input_tokens": 1, "input_tokens": 2, "tags": {"a": "1", "a": "2"}')
    ).events
    assert (read.input_tokens, read.tags) == (2, {"a": "2"})


def test_an_escaped_nul_is_a_character_like_any_other() -> None:
    r"""`\u0000` is legal JSON and is kept."""
    assert event(user="a\0b").user == "a\0b"


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-07-01T14:00:00+02:00", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01 12:00:00z", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("2026-07-01T12:00:00.000001Z", datetime(2026, 7, 1, 12, 0, 0, 1, UTC)),
        ("2026-06-30T23:59:59.999999999Z", datetime(2026, 7, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59.999999Z", datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC)),
    ],
)
def test_times_are_rfc_3339(text: str, instant: datetime) -> None:
    """Any offset is accepted; nanoseconds are rounded to microseconds."""
    assert event(event_time=text).event_time == instant


def test_times_beyond_the_calendar_are_still_read() -> None:
    """An offset may push a time out of years 1 to 9999; admission sets such an event aside."""
    first = event(event_time="0001-01-01T00:00:00+01:00").event_time
    last = event(event_time="9999-12-31T23:59:59-01:00").event_time
    assert (first.utcoffset(), last.utcoffset()) == (timedelta(hours=1), timedelta(hours=-1))


# --------------------------------------------------------------------------- what is set aside


def test_a_tombstone_is_empty() -> None:
    """A record without a value is no event and no fault of the format."""
    assert refusal(None) == (Reason.EMPTY, "the record has no value")


def test_a_large_record_is_too_large() -> None:
    """The limit is in bytes and itself allowed; beyond it the detail gives size and limit."""
    fitting = document() + b" " * (MAX_BYTES - len(document()))
    assert len(decoded(fitting).events) == 1
    assert refusal(fitting + b" ") == (Reason.TOO_LARGE, "10,001 bytes, limit 10,000")


@pytest.mark.parametrize(
    ("value", "detail"),
    [
        (b"", "truncated"),
        (b" ", "truncated"),
        (document()[:-1], "truncated"),
        (b"?", "byte 0"),
        (document() + document(), "trailing characters (byte 121)"),
        (b"\xef\xbb\xbf" + document(), "byte 0"),
        (b"\x1f\x8b\x08\x00", "byte 0"),
        (with_text(b'"user": "a\xffb"'), "utf-8"),
        (with_text(b'"user": "a\xed\xa0\x80b"'), "utf-8"),
        (with_text(b'"user": "a\x00b"'), "byte"),
        (with_text(b'"user": "\\ud800 alone"'), "surrogate"),
        (with_text(b'"user": "\\udc00 alone"'), "surrogate"),
        (with_text(b'"tags": {"\\ud800 alone": ""}'), "surrogate"),
        (with_text(b'"input_tokens": NaN'), "byte"),
        (with_text(b'"input_tokens": Infinity'), "byte"),
        (with_text(b'"input_tokens": -Infinity'), "byte"),
        (with_text(b'"input_tokens": 01'), "byte"),
    ],
)
def test_what_is_no_json_is_malformed(value: bytes, detail: str) -> None:
    """Cut off, not UTF-8, lone surrogates, NaN and Infinity: the detail says what and where."""
    reason, said = refusal(value)
    assert reason is Reason.MALFORMED
    assert detail in said


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"input_token": 1}, "unknown field `input_token` (did you mean `input_tokens`?)"),
        ({"Customer": "x"}, "unknown field `Customer` (did you mean `customer`?)"),
        ({"zzz": 1}, "unknown field `zzz`"),
        ({"input_tokens": 1.0}, "got `float` - at `$.input_tokens`"),
        ({"input_tokens": 1.5}, "got `float` - at `$.input_tokens`"),
        ({"input_tokens": -1}, ">= 0 - at `$.input_tokens`"),
        ({"input_tokens": MAX_QUANTITY + 1}, "<= 10000000000 - at `$.input_tokens`"),
        ({"input_tokens": 2**64}, "<= 10000000000 - at `$.input_tokens`"),
        ({"input_tokens": 10**400}, "<= 10000000000 - at `$.input_tokens`"),
        ({"input_tokens": "1"}, "got `str` - at `$.input_tokens`"),
        ({"input_tokens": True}, "got `bool` - at `$.input_tokens`"),
        ({"requests": None}, "got `null` - at `$.requests`"),
        ({"event_id": ""}, "length >= 1 - at `$.event_id`"),
        ({"event_id": 17}, "got `int` - at `$.event_id`"),
        ({"user": "x" * 257}, "length <= 256 - at `$.user`"),
        ({"status": "ok"}, "is not one of the known values - at `$.status`"),
        ({"tags": []}, "got `array` - at `$.tags`"),
        ({"tags": {"a": 1}}, "got `int` - at `$.tags[...]`"),
        ({"tags": {"": "a"}}, "length >= 1 - at `key` in `$.tags`"),
        ({"tags": {"a": "x" * 257}}, "length <= 256 - at `$.tags[...]`"),
        ({"tags": {str(number): "" for number in range(33)}}, "length <= 32 - at `$.tags`"),
        ({"event_time": "2026-07-01T12:00:00"}, "timezone component - at `$.event_time`"),
        ({"event_time": "2026-07-01"}, "RFC3339 encoded datetime - at `$.event_time`"),
        ({"event_time": 1_782_907_200}, "got `int` - at `$.event_time`"),
        ({"event_time": "0000-12-31T00:00:00Z"}, "RFC3339 encoded datetime - at `$.event_time`"),
        ({"event_time": "10000-01-01T00:00:00Z"}, "RFC3339 encoded datetime - at `$.event_time`"),
        ({"event_time": "2026-07-01T12:00:00+24:00"}, "RFC3339 encoded datetime - at `$.event_"),
        ({"event_time": "2026-06-30T23:59:60Z"}, "RFC3339 encoded datetime - at `$.event_time`"),
    ],
)
def test_a_wrong_field_is_invalid(changes: Mapping[str, Any], detail: str) -> None:
    """Unknown keys, wrong types and broken limits: the detail names the field and its place."""
    reason, said = refusal(document(**changes))
    assert reason is Reason.INVALID
    assert detail in said


@pytest.mark.parametrize("name", LEAST)
def test_a_missing_field_is_invalid(name: str) -> None:
    """Each of the five required fields is asked for by name."""
    rest = {key: value for key, value in LEAST.items() if key != name}
    assert refusal(json.dumps(rest).encode()) == (
        Reason.INVALID,
        f"Object missing required field `{name}`",
    )


@pytest.mark.parametrize("value", [b"[]", b"null", b"7", b'"text"', b"true"])
def test_what_is_no_object_is_invalid(value: bytes) -> None:
    """JSON of another kind than an object is readable and still no event."""
    reason, said = refusal(value)
    assert reason is Reason.INVALID
    assert said.startswith("Expected `object`, got ")


@pytest.mark.parametrize(
    "value",
    [
        b"[" * 20_000,
        b"[" * 20_000 + b"]" * 20_000,
        b'{"tags":' * 20_000 + b"1" + b"}" * 20_000,
        with_text(b'"tags": ' + b'{"a":' * 20_000 + b'"b"' + b"}" * 20_000),
        with_text(b'"depth": ' + b"[" * 20_000 + b"]" * 20_000),
    ],
    ids=["open", "array", "object", "tags", "unknown"],
)
def test_deep_nesting_is_refused_like_any_other_fault(value: bytes) -> None:
    """20,000 levels neither break the stack nor take long."""
    assert refusal(value)[0] is Reason.INVALID


@pytest.mark.parametrize("changes", [{"x" * 9_000: 1}, {"status": "x" * 9_000}])
def test_a_detail_is_short_whatever_the_record_holds(changes: Mapping[str, Any]) -> None:
    """A detail is for people and stored for 90 days; it does not quote a record at length."""
    reason, said = refusal(document(**changes))
    assert reason is Reason.INVALID
    assert len(said) <= MAX_DETAIL_CHARACTERS


# ------------------------------------------------------------------------------ whatever comes

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
nearly_events = st.builds(
    lambda changes, tail: json.dumps({**LEAST, **changes}).encode() + tail,
    st.dictionaries(st.sampled_from([*FULL, "input", ""]), json_values, max_size=3),
    st.sampled_from([b"", b" ", b"}", b"\xff"]),
)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=150, deadline=None)
@given(st.lists(st.none() | st.binary(max_size=40) | nearly_events, max_size=6))
def test_every_record_is_accounted_for(name: str, values: list[bytes | None]) -> None:
    """No bytes make a format raise, and each record is events, a reject, or ignored as no usage."""
    messages = [Message(0, offset, value) for offset, value in enumerate(values)]
    found = FORMATS[name]({})("usage", messages, 200)
    offsets = {part.offset for part in (*found.origins, *found.rejects)}
    assert len(found.events) == len(found.origins)
    assert len(offsets) + found.ignored >= len(values)
    if name == "native":
        assert len(found.events) + len(found.rejects) == len(values)
    assert all(reject.detail for reject in found.rejects)
