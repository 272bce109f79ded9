"""A local Slack: Web API and incoming webhook over HTTP, strict as Slack, with faults to order.

For `governor demo` and tests. It listens on loopback only and knows `auth.test`,
`chat.postMessage`, `chat.update`, `conversations.history` and `conversations.replies`; any other
method is refused.
"""

import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qsl

from governor.demo.slack_limits import SlackError
from governor.demo.slack_workspace import Message, Workspace

CHANNEL: Final = "C0GOVERNOR"
TOKEN: Final = "xoxb-stand-in"  # noqa: S105  # of a Slack that is not there
WEBHOOK: Final = "/services/T0GOVERNOR/B0GOVERNOR/stand-in"
SCOPES: Final = ("chat:write", "channels:history")
MAX_BODY_BYTES: Final = 1_000_000
MAX_CALLS: Final = 10_000
"""Calls that are kept; the oldest go."""

_RETRY_AFTER: Final = "Retry-After"


class Fault(StrEnum):
    """What can be made to go wrong with a call."""

    RATE_LIMITED = "rate_limited"
    SERVER_ERROR = "server_error"
    REFUSED = "refused"
    DROPPED = "dropped"
    """The connection is cut before the call is looked at."""
    REPLY_LOST = "reply_lost"
    """The call is done, then the connection is cut."""
    GARBLED = "garbled"
    """The call is done, and the answer cannot be read."""
    SLOW = "slow"
    """The call is done, and answered late."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call that came in, without its token, and what became of it: `ok`, an error or a fault."""

    method: str
    arguments: Mapping[str, Any]
    outcome: str


@dataclass(slots=True)
class _Plan:
    fault: Fault
    times: int = 1
    method: str | None = None
    status: int = 503
    error: str = "internal_error"
    retry_after_s: int = 1
    delay_s: float = 1.0


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/html"),)


class SlackStandIn:
    """The server; it listens from the constructor until `close` or the end of a `with`.

    For `scopes`, `burst` and `clock` see `Workspace`.
    """

    def __init__(
        self,
        *,
        token: str = TOKEN,
        channels: Iterable[str] = (CHANNEL,),
        scopes: Iterable[str] = SCOPES,
        burst: int | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._workspace = Workspace(
            token=token, channels=channels, scopes=scopes, burst=burst, clock=clock
        )
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._calls: deque[Call] = deque(maxlen=MAX_CALLS)
        self._plans: list[_Plan] = []
        self._down = False
        self._server: _Server | None = None
        self.port = port
        self._listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def base_url(self) -> str:
        """The address for slack.base_url."""
        return f"http://127.0.0.1:{self.port}/api/"

    @property
    def webhook_url(self) -> str:
        """The address of the webhook; it posts to the first channel."""
        return f"http://127.0.0.1:{self.port}{WEBHOOK}"

    @property
    def messages(self) -> dict[str, tuple[Message, ...]]:
        """A copy of what stands in each channel, oldest first, less what is in threads."""
        return self._workspace.messages()

    @property
    def replies(self) -> dict[str, tuple[Message, ...]]:
        """A copy of what stands in threads of each channel, oldest first."""
        return self._workspace.replies()

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls that came in, oldest first."""
        with self._lock:
            return tuple(self._calls)

    def fail_next(
        self,
        fault: Fault,
        times: int = 1,
        *,
        method: str | None = None,
        status: int = 503,
        error: str = "internal_error",
        retry_after_s: int = 1,
        delay_s: float = 1.0,
    ) -> None:
        """Let the next calls, of one method (`webhook` too) or of any, go wrong; orders queue up.

        `status` is for SERVER_ERROR, `error` for REFUSED, `retry_after_s` for RATE_LIMITED,
        `delay_s` for SLOW.
        """
        with self._lock:
            self._plans.append(_Plan(fault, times, method, status, error, retry_after_s, delay_s))

    def forget_faults(self) -> None:
        """Let nothing go wrong any more that was ordered and has not happened."""
        with self._lock:
            self._plans.clear()

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message, as a person does."""
        self._workspace.delete(channel, ts)

    def down(self, *, closed: bool = False) -> None:
        """Answer everything by 503; if `closed`, do not even listen. What was posted stays."""
        self._down = True
        if closed:
            self._stop()

    def up(self) -> None:
        """Answer again, at the same port."""
        self._down = False
        if self._server is None:
            self._listen()

    def close(self) -> None:
        """Stop listening. Safe to call twice."""
        self._closing.set()
        self._stop()

    def _listen(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), self._answer)
        self.port = self._server.server_address[1]

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> _Reply | None:
        """Return the answer to a request; None where the connection is cut."""
        is_hook = path.startswith("/services/")
        method = "webhook" if is_hook else path.removeprefix("/api/")
        arguments: dict[str, Any] = {}
        plan = self._planned(method)
        reply = _early(plan, is_hook=is_hook) if plan else None
        outcome = "ok"
        if reply is None and (plan is None or plan.fault is not Fault.DROPPED):
            serve = self._webhook if is_hook else self._web_api
            try:
                reply = serve(path, headers, body, arguments)
            except SlackError as error:
                outcome = error.error
                reply = _refusal(error, is_hook=is_hook)
        with self._lock:
            self._calls.append(Call(method, arguments, plan.fault if plan else outcome))
        return self._spoilt(plan, reply) if plan else reply

    def _planned(self, method: str) -> _Plan | None:
        with self._lock:
            if self._down:
                return _Plan(Fault.SERVER_ERROR)
            for plan in self._plans:
                if plan.method in (None, method):
                    plan.times -= 1
                    if plan.times < 1:
                        self._plans.remove(plan)
                    return plan
        return None

    def _web_api(
        self, path: str, headers: Mapping[str, str], body: bytes, arguments: dict[str, Any]
    ) -> _Reply:
        arguments |= _arguments(headers.get("Content-Type") or "", body)
        told = headers.get("Authorization") or ""
        token = str(arguments.pop("token", "")) or told.removeprefix("Bearer ")
        return _json(200, self._workspace.do(path.removeprefix("/api/"), token, arguments))

    def _webhook(
        self, path: str, _: Mapping[str, str], body: bytes, arguments: dict[str, Any]
    ) -> _Reply:
        if path != WEBHOOK:
            raise SlackError("no_service")
        arguments |= _json_object(body, "invalid_payload")
        self._workspace.hook(arguments)
        return _Reply(200, b"ok")

    def _spoilt(self, plan: _Plan, reply: _Reply | None) -> _Reply | None:
        """Return what the caller gets of the answer to a call that was done."""
        if plan.fault is Fault.REPLY_LOST:
            return None
        if plan.fault is Fault.GARBLED:
            return _Reply(200, b"<html>\xff\xfe it works")
        if plan.fault is Fault.SLOW:
            self._closing.wait(plan.delay_s)
        return reply


class _Server(ThreadingHTTPServer):
    """Hands each request to `answer`, on threads of its own, until stopped."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str, Mapping[str, str], bytes], _Reply | None],
    ) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self._thread = threading.Thread(target=self.serve_forever, args=(0.05,), name="slack")
        self._thread.start()

    def stop(self) -> None:
        """Close the port and let the thread end."""
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that did not wait for its answer."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 30

    def do_POST(self) -> None:
        """Answer one request, or cut the connection."""
        length = int(self.headers.get("Content-Length") or 0)
        if length > MAX_BODY_BYTES:
            self.send_error(413)
            return
        body = self.rfile.read(length)
        reply = self.server.answer(self.path.partition("?")[0], dict(self.headers.items()), body)
        if reply is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Say nothing: `calls` has it."""


def _early(plan: _Plan, *, is_hook: bool) -> _Reply | None:
    """Return the answer of a fault that comes before the call is looked at."""
    if plan.fault is Fault.RATE_LIMITED:
        wait = (_RETRY_AFTER, str(plan.retry_after_s))
        return _json(429, {"ok": False, "error": "ratelimited"}, wait)
    if plan.fault is Fault.SERVER_ERROR:
        return _Reply(plan.status, b"<html>upstream connect error</html>")
    if plan.fault is Fault.REFUSED:
        return _refusal(SlackError(plan.error), is_hook=is_hook)
    return None


def _refusal(error: SlackError, *, is_hook: bool) -> _Reply:
    """Say no: the Web API by 200 and JSON, a webhook by its status and a bare word."""
    limited = error.error == "ratelimited"
    wait = ((_RETRY_AFTER, "1"),) if limited else ()
    if is_hook:
        status = 429 if limited else {"no_service": 404}.get(error.error, 400)
        return _Reply(status, error.error.encode(), wait)
    answer = {"ok": False, "error": error.error} | error.more
    if error.detail:
        answer["response_metadata"] = {"messages": [error.detail]}
    return _json(429 if limited else 200, answer, *wait)


def _json(status: int, answer: Any, *headers: tuple[str, str]) -> _Reply:
    content_type = ("Content-Type", "application/json; charset=utf-8")
    return _Reply(status, json.dumps(answer).encode(), (content_type, *headers))


def _arguments(content_type: str, body: bytes) -> dict[str, Any]:
    if not body:
        return {}  # slack_sdk says JSON, also where it sends nothing
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return _json_object(body, "invalid_json")
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    raise SlackError("invalid_post_type")


def _json_object(body: bytes, error: str) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        raise SlackError(error) from None
    if not isinstance(value, dict):
        raise SlackError("json_not_object" if error == "invalid_json" else error)
    return value
