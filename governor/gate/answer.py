"""Answers: status, body and headers of what the gate says, in JSON or plain text."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"
METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"

encode: Final = msgspec.json.Encoder().encode
_CLOSE: Final = ((b"connection", b"close"),)


class Answer:
    """A status code, a body and its type, and more headers."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self, status: int, body: bytes, content_type: bytes = JSON, headers: Headers = ()
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers

    async def send(self, send: Send) -> None:
        """Send it."""
        headers = [
            (b"content-type", self.content_type),
            (b"content-length", b"%d" % len(self.body)),
            *self.headers,
        ]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body})


def error(status: int, message: str, *, closing: bool = False) -> Answer:
    """Return `{"error": message}`; `closing` hangs up after it."""
    return Answer(status, encode({"error": message}), headers=_CLOSE if closing else ())


def not_allowed(methods: bytes) -> Answer:
    """Return that the method is another one."""
    refused = error(405, f"the method must be {methods.decode()}")
    return Answer(405, refused.body, headers=((b"allow", methods), *_CLOSE))


def text(status: int, *lines: str) -> Answer:
    """Return lines of plain text."""
    return Answer(status, "".join(f"{line}\n" for line in lines).encode(), TEXT)
