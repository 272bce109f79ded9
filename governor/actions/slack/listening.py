"""How presses of buttons reach us: Slack's Socket Mode with a watchdog of ours, or HTTP.

slack_sdk's client says that it is connected when it is not; so we look at its last pong ourselves,
and build it anew when in doubt. A press is acknowledged first, within Slack's three seconds, and
done after: in a queue that is bounded, so that a flood is refused and not kept.
"""

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from slack_sdk.errors import SlackClientError
from slack_sdk.signature import SignatureVerifier
from slack_sdk.socket_mode import SocketModeClient
from slack_sdk.socket_mode.client import BaseSocketModeClient
from slack_sdk.socket_mode.request import SocketModeRequest
from slack_sdk.socket_mode.response import SocketModeResponse

from governor.actions.slack.buttons import MAX_PAYLOAD, Press, press_of
from governor.actions.slack.connection import Client
from governor.core.errors import ConfigError

MAX_WAITING: Final = 100
"""Presses that wait to be done; more are dropped, and pressing again is no harm."""
LOOK_EVERY_S: Final = 1.0
PING_EVERY_S: Final = 5.0
DEAF_AFTER_S: Final = 20.0
"""Without a pong for so long a connection is not believed to be one."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
MAX_BODY_BYTES: Final = 1_000_000

_LIBRARY: Final = logging.getLogger("slack_sdk.socket_mode")
_LIBRARY.setLevel(logging.CRITICAL + 1)

_log = structlog.get_logger()


class Waiting:
    """Presses that were acknowledged and are to be done, by `run`."""

    def __init__(self, do: Callable[[Press], None]) -> None:
        self._do = do
        self._queue: queue.Queue[Press] = queue.Queue(MAX_WAITING)

    def put(self, payload: Mapping[str, Any]) -> None:
        """Take up what came; what is no button of ours is left alone."""
        press = press_of(payload)
        if press is None:
            return
        try:
            self._queue.put_nowait(press)
        except queue.Full:
            _log.warning("slack.press_dropped", user=press.user, action=press.action)

    def run(self, stop: threading.Event) -> None:
        """Do one after another, until `stop` is set."""
        while not stop.is_set():
            try:
                press = self._queue.get(timeout=LOOK_EVERY_S)
            except queue.Empty:
                continue
            try:
                self._do(press)
            except Exception:  # noqa: BLE001  # the top of a loop: log, go on
                _log.exception("slack.press_failed", user=press.user, action=press.action)


class SocketMode:
    """Listens by a websocket that we open; `run` keeps it open. `now_s` is a clock in seconds."""

    def __init__(
        self,
        *,
        app_token: str,
        base_url: str,
        timeout_s: float,
        waiting: Waiting,
        now_s: Callable[[], float],
    ) -> None:
        self._token = app_token
        self._web = Client(token=app_token, base_url=base_url, timeout_s=timeout_s)
        self._waiting = waiting
        self._now_s = now_s
        self.trouble: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Listen until `stop` is set; a connection in doubt is replaced."""
        retry_s = FIRST_RETRY_S
        while not stop.is_set():
            client = self._client()
            try:
                client.connect()
                self.trouble, retry_s = None, FIRST_RETRY_S
                _log.info("slack.listening", by="socket mode")
                self._watch(client, stop)
            except (SlackClientError, OSError, ValueError) as error:
                self.trouble = f"Slack's buttons are not heard: {type(error).__name__}"
                _log.warning("slack.deaf", error=type(error).__name__, retry_s=retry_s)
            finally:
                with suppress(Exception):
                    client.close()
            if stop.wait(retry_s):
                return
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _client(self) -> SocketModeClient:
        client = SocketModeClient(
            app_token=self._token,
            logger=_LIBRARY,
            web_client=self._web,
            auto_reconnect_enabled=False,
            ping_interval=PING_EVERY_S,
            concurrency=2,
        )
        client.proxy = None  # it takes one from the environment
        client.socket_mode_request_listeners.append(self._heard)
        return client

    def _watch(self, client: SocketModeClient, stop: threading.Event) -> None:
        """Return when the connection is gone, or has not answered for too long."""
        since_s = self._now_s()
        while not stop.wait(LOOK_EVERY_S):
            session = client.current_session
            if session is None or not client.is_connected():
                _log.info("slack.reconnecting", why="closed")
                return
            heard_s = session.last_ping_pong_time or since_s
            if self._now_s() - max(heard_s, since_s) > DEAF_AFTER_S:
                _log.warning("slack.reconnecting", why="no pong")
                return

    def _heard(self, client: BaseSocketModeClient, request: SocketModeRequest) -> None:
        client.send_socket_mode_response(SocketModeResponse(envelope_id=request.envelope_id))
        if request.type == "interactive":
            self._waiting.put(request.payload)


class Door:
    """Listens by HTTP for what Slack posts; whatever is not signed by it is a 401."""

    def __init__(self, *, host: str, port: int, signing_secret: str, waiting: Waiting) -> None:
        verifier = SignatureVerifier(signing_secret)
        handler = type("Handler", (_Handler,), {"verifier": verifier, "waiting": waiting})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ConfigError(
                f"slack.interactions_host, slack.interactions_port: cannot listen on {host}:{port}:"
                f" {error.strerror}"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,))
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    verifier: SignatureVerifier
    waiting: Waiting
    timeout = 10
    server_version = "governor"
    sys_version = ""

    def do_POST(self) -> None:
        """Take a press that Slack signed."""
        payload = self._payload()
        self.send_response(401 if payload is None else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        if payload is not None:
            self.waiting.put(payload)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Say nothing: the audit has what was done."""

    def _payload(self) -> Mapping[str, Any] | None:
        """Return what was posted; None where it is not signed, or cannot be read."""
        try:
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MAX_BODY_BYTES:
                return None
            raw = self.rfile.read(length)
            headers = {name.lower(): value for name, value in self.headers.items()}
            if not self.verifier.is_valid_request(raw, headers):
                return None
            text = parse_qs(raw.decode(), max_num_fields=10)["payload"][0]
            payload = json.loads(text[:MAX_PAYLOAD])
        except (ValueError, KeyError, TypeError, OSError):
            return None
        return payload if isinstance(payload, dict) else None
