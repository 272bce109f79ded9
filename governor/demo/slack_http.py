"""HTTP of the local Slack: requests in, answers out, in the forms that Slack has for them."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qsl

from governor.demo.slack_limits import SlackError

MAX_BODY_BYTES: Final = 5_000_000
RETRY_AFTER: Final = "Retry-After"


@dataclass(frozen=True, slots=True)
class Reply:
    """What is answered."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = (("Content-Type", "text/html"),)


class Server(ThreadingHTTPServer):
    """Hands each request to `answer`, on threads of its own, until stopped."""

    daemon_threads = True

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str, Mapping[str, str], bytes], Reply | None],
        page: Callable[[], str],
    ) -> None:
        super().__init__(address, _Handler)
        self.answer = answer
        self.page = page
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
    server: Server
    timeout = 30

    def do_GET(self) -> None:
        """Show what stands in the channels."""
        body = self.server.page().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

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


def refusal(error: SlackError, *, is_hook: bool) -> Reply:
    """Say no: the Web API by 200 and JSON, a webhook by its status and a bare word."""
    limited = error.error == "ratelimited"
    wait = ((RETRY_AFTER, "1"),) if limited else ()
    if is_hook:
        status = 429 if limited else {"no_service": 404}.get(error.error, 400)
        return Reply(status, error.error.encode(), wait)
    answer = {"ok": False, "error": error.error} | error.more
    if error.detail:
        answer["response_metadata"] = {"messages": [error.detail]}
    return json_reply(429 if limited else 200, answer, *wait)


def json_reply(status: int, answer: Any, *headers: tuple[str, str]) -> Reply:
    """Return an answer of the Web API."""
    content_type = ("Content-Type", "application/json; charset=utf-8")
    return Reply(status, json.dumps(answer).encode(), (content_type, *headers))


def arguments_of(content_type: str, body: bytes) -> dict[str, Any]:
    """Return what a call was given; SlackError where that cannot be read."""
    if not body:
        return {}  # slack_sdk says JSON, also where it sends nothing
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json":
        return json_object(body, "invalid_json")
    if kind == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    raise SlackError("invalid_post_type")


def json_object(body: bytes, error: str) -> dict[str, Any]:
    """Return the object that a body is; SlackError where it is none."""
    try:
        value = json.loads(body)
    except ValueError:
        raise SlackError(error) from None
    if not isinstance(value, dict):
        raise SlackError("json_not_object" if error == "invalid_json" else error)
    return value
