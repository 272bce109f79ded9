"""The gate's HTTP pages as one plain ASGI application; the board lives in its event loop."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from typing import Annotated, Any, Final

import msgspec
import structlog

from governor import telemetry
from governor.core.directives import Directive
from governor.core.scopes import DIMENSIONS
from governor.gate.board import Board
from governor.gate.buckets import Buckets
from governor.gate.decide import ALLOW, Decision, decide
from governor.gate.follow import News

MAX_BODY_BYTES: Final = 16_384
MAX_VALUE_CHARS: Final = 256
MAX_LISTED: Final = 1_000
"""Most directives that `/v1/directives` lists; `in_force` counts all."""

_log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_KNOWN: Final = frozenset(DIMENSIONS)
_JSON: Final = b"application/json"
_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(
    dict[str, Annotated[str, msgspec.Meta(max_length=MAX_VALUE_CHARS)] | None], strict=True
).decode
_UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_ALLOW: Final = _encode(ALLOW)


@dataclass(frozen=True, slots=True)
class Answer:
    """A status code, a body and its type; `closing` hangs up after it."""

    status: int
    body: bytes
    content_type: bytes = _JSON
    allow: bytes = b""
    closing: bool = False


class Gate:
    """Answers requests. Everything but the clocks is its own; all of it is used by one thread."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        monotonic_ns: Callable[[], int],
        board: Board | None = None,
        buckets: Buckets | None = None,
    ) -> None:
        self._now = now
        self._monotonic_ns = monotonic_ns
        self._board = board or Board()
        self._buckets = buckets or Buckets()
        self._opened = False
        self._trouble: str | None = None
        self._lease_was_fresh = False
        self._pages: dict[str, tuple[bytes, Callable[[], Answer]]] = {
            "/healthz": (b"GET, HEAD", lambda: _text(200, "ok")),
            "/readyz": (b"GET, HEAD", self._ready),
            "/v1/directives": (b"GET, HEAD", self._directives),
            "/metrics": (b"GET, HEAD", self._metrics),
        }

    def learn(self, news: News) -> None:
        """Take what the topic says. Until it was read to its end once, everything is allowed."""
        now = self._now()
        self._board.take(news.records, now)
        self._trouble = news.trouble
        if news.caught_up and not self._opened:
            self._opened = True
            _log.info("directives.read", known=len(self._board))
        fresh = self._board.lease_is_fresh(now)
        if fresh is not self._lease_was_fresh:
            self._lease_was_fresh = fresh
            _log.info("lease.renewed") if fresh else _log.warning("lease.ran_out")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == "/v1/decide":
            answer = await self._decide(scope, receive)
        elif path in self._pages:
            methods, page = self._pages[path]
            answer = page() if scope["method"] in ("GET", "HEAD") else _not_allowed(methods)
        else:
            pages = ", ".join(["POST /v1/decide", *(f"GET {page}" for page in self._pages)])
            answer = _error(404, f"there is no page {path}; there are {pages}")
        await _send(answer, send)

    async def _decide(self, scope: Scope, receive: Receive) -> Answer:
        refused = _refused(scope)
        if refused is not None:
            return refused
        body = await _body(receive)
        if body is None:
            return _too_large()
        try:
            dimensions = _decode(body)
        except _UNREADABLE as error:
            return _error(400, _what_is_wrong(body, error))
        if not dimensions.keys() <= _KNOWN:
            return _error(400, _unknown(next(name for name in dimensions if name not in _KNOWN)))
        decision = self.decide(dimensions)
        return Answer(200, _ALLOW if decision is ALLOW else _encode(decision))

    def decide(self, dimensions: dict[str, str | None]) -> Decision:
        """Decide about one request, and count it."""
        if not self._opened:
            decision = ALLOW
        else:
            now, now_ns = self._now(), self._monotonic_ns()
            decision = decide(self._board, self._buckets, dimensions, now, now_ns)
        _COUNTERS[decision.allowed].inc()
        return decision

    def _ready(self) -> Answer:
        trouble = [f"the last try failed: {self._trouble}"] if self._trouble else []
        if not self._opened:
            first = "the directives were not read yet: everything is allowed"
            return _text(503, *[first, *trouble])
        return _text(200, *["ok", self._lease_line(), *trouble])

    def _lease_line(self) -> str:
        lease, now = self._board.lease, self._now()
        if lease is None:
            return "lease: none, the daemon gave no sign yet; open directives are not obeyed"
        age_s = (now - lease.sent_at).total_seconds()
        if self._board.lease_is_fresh(now):
            return f"lease: fresh, the daemon's last sign is {age_s:.0f} s old"
        return (
            f"lease: over, the daemon's last sign is {age_s:.0f} s old;"
            " open directives are not obeyed"
        )

    def _directives(self) -> Answer:
        lease, now = self._board.lease, self._now()
        found = self._in_force(now)
        said = {
            "read": self._opened,
            "now": now,
            "lease": lease
            and {
                "sent_at": lease.sent_at,
                "until": lease.lease_until,
                "age_s": (now - lease.sent_at).total_seconds(),
                "fresh": self._board.lease_is_fresh(now),
            },
            "known": len(self._board),
            "in_force": len(found),
            "directives": found[:MAX_LISTED],
        }
        return Answer(200, _encode(said))

    def _in_force(self, now: datetime) -> list[Directive]:
        return list(self._board.in_force(now)) if self._opened else []

    def _metrics(self) -> Answer:
        lease, now = self._board.lease, self._now()
        telemetry.GATE_DIRECTIVES.set(len(self._in_force(now)))
        if lease is not None:
            telemetry.GATE_LEASE_AGE.set((now - lease.sent_at).total_seconds())
        telemetry.GATE_READY.set(self._opened)
        telemetry.GATE_BUCKETS.set(len(self._buckets))
        return Answer(200, telemetry.exposition(telemetry.GATE_REGISTRY), _METRICS)


_COUNTERS: Final = {
    None: telemetry.GATE_DECISIONS.labels("allow"),
    True: telemetry.GATE_DECISIONS.labels("throttle_allowed"),
    False: telemetry.GATE_DECISIONS.labels("throttle_refused"),
}


def _refused(scope: Scope) -> Answer | None:
    """Return why a request for a decision is not even read; None where it is."""
    if scope["method"] != "POST":
        return _not_allowed(b"POST")
    media_type = b""
    for name, value in scope["headers"]:
        if name == b"content-type":
            media_type = value.partition(b";")[0].strip().lower()
        elif name == b"content-length" and int(value) > MAX_BODY_BYTES:
            return _too_large()
        elif name == b"content-encoding" and value.lower() != b"identity":
            return _error(415, "the body must not be encoded", closing=True)
    if media_type != _JSON:  # also keeps out what a web page could send unasked
        return _error(415, "the body must be JSON: Content-Type: application/json", closing=True)
    return None


async def _body(receive: Receive) -> bytes | None:
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


def _what_is_wrong(body: bytes, error: Exception) -> str:
    """Name the dimension that is wrong, where the body is an object at all."""
    try:
        found = msgspec.json.decode(body)
    except _UNREADABLE as unreadable:
        return f"the body is not JSON: {unreadable}"
    if not isinstance(found, dict):
        return 'the body must be an object of dimensions, such as {"tier": "free"}'
    for name, value in found.items():
        if name not in _KNOWN:
            return _unknown(name)
        if value is not None and not isinstance(value, str):
            return f"{name} must be a text or null"
        if value is not None and len(value) > MAX_VALUE_CHARS:
            return f"{name} has {len(value)} characters; at most {MAX_VALUE_CHARS} are read"
    return str(error)


def _unknown(name: str) -> str:
    close = get_close_matches(name[:MAX_VALUE_CHARS], DIMENSIONS, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DIMENSIONS)}"
    return f"unknown dimension {name[:MAX_VALUE_CHARS]!r} ({hint})"


def _too_large() -> Answer:
    return _error(413, f"the body is larger than {MAX_BODY_BYTES:,} bytes", closing=True)


def _not_allowed(methods: bytes) -> Answer:
    refused = _error(405, f"the method must be {methods.decode()}", closing=True)
    return Answer(refused.status, refused.body, allow=methods, closing=True)


def _error(status: int, message: str, *, closing: bool = False) -> Answer:
    return Answer(status, _encode({"error": message}), closing=closing)


def _text(status: int, *lines: str) -> Answer:
    return Answer(status, "".join(f"{line}\n" for line in lines).encode(), _TEXT)


async def _send(answer: Answer, send: Send) -> None:
    headers = [
        (b"content-type", answer.content_type),
        (b"content-length", b"%d" % len(answer.body)),
    ]
    if answer.allow:
        headers.append((b"allow", answer.allow))
    if answer.closing:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
