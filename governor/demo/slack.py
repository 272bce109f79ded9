"""A local Slack: Web API and incoming webhook over HTTP, strict as Slack, with faults to order.

For `governor demo` and tests. It listens on loopback only and knows `auth.test`,
`chat.postMessage`, `chat.update`, `conversations.history` and `conversations.replies`; any other
method is refused.
"""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from types import ModuleType, TracebackType
from typing import Any, Final, Self

from governor.demo.slack_http import (
    RETRY_AFTER,
    Reply,
    Server,
    arguments_of,
    json_object,
    json_reply,
    refusal,
)
from governor.demo.slack_limits import SlackError
from governor.demo.slack_page import page
from governor.demo.slack_presses import post_signed, pressed
from governor.demo.slack_workspace import File, Message, Workspace

CHANNEL: Final = "C0GOVERNOR"
TOKEN: Final = "xoxb-stand-in"  # noqa: S105  # of a Slack that is not there
WEBHOOK: Final = "/services/T0GOVERNOR/B0GOVERNOR/stand-in"
APP_TOKEN: Final = "xapp-stand-in"  # noqa: S105  # likewise
SIGNING_SECRET: Final = "stand-in"  # noqa: S105  # likewise
SCOPES: Final = ("chat:write", "channels:history", "channels:read", "files:write")
MAX_CALLS: Final = 10_000
"""Calls that are kept; the oldest go."""


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
        self._tickets: set[str] = set()
        self._socket: Any = None
        self._server: Server | None = None
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

    @property
    def scopes(self) -> frozenset[str]:
        """What the token may do."""
        return self._workspace.scopes

    @property
    def whispers(self) -> tuple[tuple[str, str, str], ...]:
        """Channel, user and text of messages that one user alone saw, oldest first."""
        return tuple(self._workspace.whispers)

    def page(self) -> str:
        """Return what stands in the channels as a page, as a browser gets it at any address."""
        return page(self.messages, self.replies)

    @property
    def files(self) -> tuple[File, ...]:
        """The files that were shared, oldest first."""
        return self._workspace.files()

    @property
    def listeners(self) -> int:
        """How many listen by Socket Mode."""
        return self._socket.listeners if self._socket else 0

    def press(self, message: Message, action: str, *, user: str, door: str | None = None) -> bool:
        """Press a button of a message as a user does; return whether that was taken up in time.

        `action` is how its `action_id` begins. It goes by Socket Mode, or by HTTP to a `door`.
        """
        payload = pressed(message, action, user, CHANNEL)
        if door is not None:
            return post_signed(door, payload, SIGNING_SECRET) == 200  # noqa: PLR2004
        return bool(self._socket and self._socket.send("interactive", payload))

    def drop_listeners(self) -> None:
        """Cut the connections of Socket Mode."""
        if self._socket:
            self._socket.drop()

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
        if self._socket:
            self._socket.close()
            self._socket = None

    def _listen(self) -> None:
        self._server = Server(("127.0.0.1", self.port), self._answer, self.page)
        self.port = self._server.server_address[1]

    def _stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def _answer(self, path: str, headers: Mapping[str, str], body: bytes) -> Reply | None:
        """Return the answer to a request; None where the connection is cut."""
        is_hook = path.startswith("/services/")
        method = "webhook" if is_hook else path.removeprefix("/api/")
        arguments: dict[str, Any] = {}
        plan = self._planned(method)
        reply = _early(plan, is_hook=is_hook) if plan else None
        outcome = "ok"
        if reply is None and (plan is None or plan.fault is not Fault.DROPPED):
            is_file = path.startswith("/upload/")
            serve = self._upload if is_file else self._webhook if is_hook else self._web_api
            try:
                reply = serve(path, headers, body, arguments)
            except SlackError as error:
                outcome = error.error
                reply = refusal(error, is_hook=is_hook)
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
    ) -> Reply:
        arguments |= arguments_of(headers.get("Content-Type") or "", body)
        told = headers.get("Authorization") or ""
        token = str(arguments.pop("token", "")) or told.removeprefix("Bearer ")
        method = path.removeprefix("/api/")
        if method == "apps.connections.open":
            return json_reply(200, self._open_socket(token))
        if method == "files.getUploadURLExternal":
            done = self._workspace.do(method, token, arguments)
            place = f"http://127.0.0.1:{self.port}/upload/{done['file_id']}"
            return json_reply(200, done | {"upload_url": place})
        return json_reply(200, self._workspace.do(method, token, arguments), *self._granted(method))

    def _granted(self, method: str) -> list[tuple[str, str]]:
        """Return the header by which auth.test says what a token may do."""
        scopes = ",".join(sorted(self._workspace.scopes))
        return [("x-oauth-scopes", scopes)] if method == "auth.test" else []

    def _open_socket(self, token: str) -> dict[str, Any]:
        if token != APP_TOKEN:
            raise SlackError("invalid_auth")
        ticket = uuid.uuid4().hex
        with self._lock:
            if self._socket is None:
                self._socket = slack_socket().SlackSocket(self._tickets.__contains__)
            self._tickets.add(ticket)
        return {"ok": True, "url": f"ws://127.0.0.1:{self._socket.port}/link/?ticket={ticket}"}

    def _upload(
        self, path: str, _: Mapping[str, str], body: bytes, arguments: dict[str, Any]
    ) -> Reply:
        arguments["bytes"] = len(body)
        self._workspace.upload(path.removeprefix("/upload/"), body)
        return Reply(200, f"OK - {len(body)}".encode())

    def _webhook(
        self, path: str, _: Mapping[str, str], body: bytes, arguments: dict[str, Any]
    ) -> Reply:
        if path != WEBHOOK:
            raise SlackError("no_service")
        arguments |= json_object(body, "invalid_payload")
        self._workspace.hook(arguments)
        return Reply(200, b"ok")

    def _spoilt(self, plan: _Plan, reply: Reply | None) -> Reply | None:
        """Return what the caller gets of the answer to a call that was done."""
        if plan.fault is Fault.REPLY_LOST:
            return None
        if plan.fault is Fault.GARBLED:
            return Reply(200, b"<html>\xff\xfe it works")
        if plan.fault is Fault.SLOW:
            self._closing.wait(plan.delay_s)
        return reply


def slack_socket() -> ModuleType:
    """Return the module of Socket Mode, whose library only those need who use it."""
    return import_module("governor.demo.slack_socket")


def _early(plan: _Plan, *, is_hook: bool) -> Reply | None:
    """Return the answer of a fault that comes before the call is looked at."""
    if plan.fault is Fault.RATE_LIMITED:
        wait = (RETRY_AFTER, str(plan.retry_after_s))
        return json_reply(429, {"ok": False, "error": "ratelimited"}, wait)
    if plan.fault is Fault.SERVER_ERROR:
        return Reply(plan.status, b"<html>upstream connect error</html>")
    if plan.fault is Fault.REFUSED:
        return refusal(SlackError(plan.error), is_hook=is_hook)
    return None
