"""Reading: the body of a question, strictly; what is wrong with it is said by name."""

from difflib import get_close_matches
from typing import Annotated, Final

import msgspec

from governor.core.scopes import DIMENSIONS
from governor.gate.answer import JSON, Answer, Receive, Scope, error, not_allowed

MAX_BODY_BYTES: Final = 65_536
MAX_VALUE_CHARS: Final = 256
MAX_BATCH: Final = 100
"""Most questions in one body."""

Asked = dict[str, str | None]

_KNOWN: Final = frozenset(DIMENSIONS)
_Value = Annotated[str, msgspec.Meta(max_length=MAX_VALUE_CHARS)] | None
_decode: Final = msgspec.json.Decoder(
    dict[str, _Value] | Annotated[list[dict[str, _Value]], msgspec.Meta(max_length=MAX_BATCH)],
    strict=True,
).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


def refused(scope: Scope) -> Answer | None:
    """Return why a question is not even read; None where it is."""
    if scope["method"] != "POST":
        return not_allowed(b"POST")
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and int(value) > MAX_BODY_BYTES:
            return too_large()
        elif name == b"content-encoding" and value.lower() != b"identity":
            return error(415, "the body must not be encoded", closing=True)
    if media_type != JSON:  # also keeps out what a web page could send unasked
        return error(415, "the body must be JSON: Content-Type: application/json", closing=True)
    return None


async def read_body(receive: Receive) -> bytes | None:
    """Return the whole body; None where it is too large."""
    body = b""
    while True:
        message = await receive()
        part: bytes = message.get("body", b"")
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
        if not message.get("more_body"):
            return body


def questions(body: bytes) -> Asked | list[Asked] | str:
    """Return the dimensions asked about, or several times those; else what is wrong."""
    try:
        asked: Asked | list[Asked] = _decode(body)
    except _UNREADABLE as problem:
        return _what_is_wrong(body, problem)
    for one in asked if isinstance(asked, list) else (asked,):
        if not one.keys() <= _KNOWN:
            return _unknown(next(name for name in one if name not in _KNOWN))
    return asked


def too_large() -> Answer:
    """Return that a body is too large."""
    return error(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes", closing=True)


def _what_is_wrong(body: bytes, problem: Exception) -> str:
    """Name the dimension that is wrong, where the body is an object at all."""
    try:
        found = msgspec.json.decode(body)
    except _UNREADABLE as unreadable:
        return f"the body is not JSON: {unreadable}"
    if isinstance(found, list) and len(found) > MAX_BATCH:
        return f"the body has {len(found):,} questions; at most {MAX_BATCH} are answered at once"
    for one in found if isinstance(found, list) else [found]:
        if not isinstance(one, dict):
            return 'the body must be an object of dimensions, such as {"tier": "free"}, or a list'
        if wrong := _wrong_dimension(one):
            return wrong
    return str(problem)


def _wrong_dimension(found: dict[str, object]) -> str | None:
    for name, value in found.items():
        if name not in _KNOWN:
            return _unknown(name)
        if value is not None and not isinstance(value, str):
            return f"{name} must be a text or null"
        if value is not None and len(value) > MAX_VALUE_CHARS:
            return f"{name} has {len(value)} characters; at most {MAX_VALUE_CHARS} are read"
    return None


def _unknown(name: str) -> str:
    close = get_close_matches(name[:MAX_VALUE_CHARS], DIMENSIONS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DIMENSIONS)}"
    return f"unknown dimension {name[:MAX_VALUE_CHARS]!r} ({hint})"
