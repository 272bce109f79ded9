"""What may be kept of what people said and who they are: of rejected records, and of names.

A record that is set aside may carry prompts, completions or addresses where we expect none, so what
is kept of it is its shape: names, numbers, and the texts of fields that identify a request. All of
it stays in Kafka at its offset.
"""

import hashlib
import re
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

MAX_RAW_BYTES: Final = 65_536
"""How much of a rejected record is looked at and kept."""

_KEPT_TEXTS: Final = frozenset(
    b"event_id source event_time provider model model_requested operation service_tier status"
    b" tier feature environment region trace_id span_id"
    b" id type specversion time datacontenttype object created traceId spanId parentSpanId kind"
    b" startTimeUnixNano endTimeUnixNano timeUnixNano intValue op updated_at measure value currency"
    b" litellm_call_id call_type custom_llm_provider startTime endTime key".split()
)
"""Fields whose texts are kept: they say which request it was, and hold nobody's words."""

_TOKEN: Final = re.compile(
    rb'"(?P<text>(?:[^"\\]|\\.)*)(?P<end>"?)(?P<colon>\s*:)?'
    rb"|(?P<number>(?:(?<=[:,\[])|(?<=[:,\[] ))"
    rb"-?[0-9]{1,20}(?:\.[0-9]{1,20})?(?:[eE][+-]?[0-9]{1,3})?(?=[\s,\]}]|$))"
    rb"|(?P<word>\b(?:true|false|null)\b)"
    rb"|(?P<mark>[\s{}\[\],:]+)"
    rb'|(?P<else>[^\s{}\[\],:"]+)',
    re.DOTALL,
)
_KEY: Final = re.compile(rb"[A-Za-z0-9_.$\-/]{1,64}")
_PLAIN: Final = re.compile(rb"[^@\s]{1,128}")

_PERSONAL: Final = (
    r"(?i)[^\s@]+@[^\s@]+\.[a-z]{2,}|^(sk|pk|rk|xox[a-z]|ghp|gsk|aiza)[-_][a-z0-9_-]{12,}"
)
_NAMES: Final = ("customer", "user", "api_key", "session_id", "team", "project", "segment")
"""Columns in which senders put addresses and keys, although they are meant for ids."""
_WORDS: Final = (
    *("event_id", "source", "model_requested", "operation", "service_tier", "error_type", "tier"),
    *("feature", "environment", "region", "trace_id", "span_id", "outcome"),
)
"""Columns that are not looked at for keys, and for addresses only where there is an `@`."""
_SENTENCE: Final = r"\s"
OTHER: Final = "_OTHER"
"""What OpenTelemetry calls a class of error that has no name."""


def redacted(raw: bytes | None) -> bytes | None:
    """Return what of a record is kept: texts that could be anybody's words become `<12 bytes>`."""
    if raw is None:
        return None
    key = b""

    def keep(found: re.Match[bytes]) -> bytes:
        nonlocal key
        whole = found[0]
        text = found["text"]
        if text is None:
            return b"<%d bytes>" % len(whole) if found["else"] is not None else whole
        if found["colon"] is not None:
            key = text
            return whole if _KEY.fullmatch(text) else b'"<%d bytes>":' % len(text)
        if key in _KEPT_TEXTS and found["end"] and _PLAIN.fullmatch(text):
            return whole
        return b'"<%d bytes>"' % len(text)

    return _TOKEN.sub(keep, raw[:MAX_RAW_BYTES])


def without_personal_data(columns: pa.Table) -> pa.Table:
    """Put `anon-` and a hash in place of e-mail addresses and keys in the columns of names.

    The same address has the same hash, so its usage still adds up. A class of error that is a
    sentence is `_OTHER`.
    """
    for place, name in enumerate(columns.column_names):
        column = columns[name]
        if column.null_count == len(column):
            continue
        if name in _NAMES or (name in _WORDS and _any(pc.match_substring(column, "@"))):
            personal = pc.match_substring_regex(column, _PERSONAL)
            if _any(personal):
                hashes = [None if text is None else pseudonym(text) for text in column.to_pylist()]
                column = pc.if_else(personal, pa.array(hashes, pa.string()), column)
                columns = columns.set_column(place, name, column)
        if name == "error_type" and _any(pc.match_substring_regex(column, _SENTENCE)):
            column = pc.if_else(pc.match_substring_regex(column, _SENTENCE), OTHER, column)
            columns = columns.set_column(place, name, column)
    return columns


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def pseudonym(text: str) -> str:
    """Return the name that stands for an address or a key."""
    return f"anon-{hashlib.blake2b(text.strip().lower().encode(), digest_size=8).hexdigest()}"
