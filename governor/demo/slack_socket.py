"""Socket Mode of the local Slack: a websocket that hands out envelopes and waits for their ack."""

import json
import threading
import uuid
from collections.abc import Callable
from typing import Any, Final

from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

ACK_WITHIN_S: Final = 3.0
"""How long Slack waits for an acknowledgement of an envelope."""


class SlackSocket:
    """Listens on loopback from the constructor until `close`; takes those who have a ticket."""

    def __init__(self, is_ticket: Callable[[str], bool]) -> None:
        self._is_ticket = is_ticket
        self._lock = threading.Lock()
        self._open: list[ServerConnection] = []
        self._acked: dict[str, threading.Event] = {}
        self._server: Server = serve(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="slack-socket")
        self._thread.start()

    def send(self, kind: str, payload: Any) -> bool:
        """Send an envelope to one who listens; return whether it was acknowledged in time."""
        envelope = uuid.uuid4().hex
        with self._lock:
            listening = self._open[-1] if self._open else None
            acked = self._acked[envelope] = threading.Event()
        if listening is None:
            return False
        body = {"envelope_id": envelope, "type": kind, "payload": payload}
        try:
            listening.send(json.dumps(body | {"accepts_response_payload": True}))
        except ConnectionClosed:
            return False
        return acked.wait(ACK_WITHIN_S)

    @property
    def listeners(self) -> int:
        """How many listen."""
        with self._lock:
            return len(self._open)

    def drop(self) -> None:
        """Cut all connections, as Slack does when it refreshes them."""
        with self._lock:
            listening = list(self._open)
        for connection in listening:
            connection.close()

    def close(self) -> None:
        """Stop listening."""
        self.drop()
        self._server.shutdown()
        self._thread.join()

    def _serve(self, connection: ServerConnection) -> None:
        request = connection.request
        if request is None or not self._is_ticket(request.path.partition("ticket=")[2]):
            connection.close(1008, "no ticket")
            return
        connection.send(json.dumps({"type": "hello", "num_connections": 1}))
        with self._lock:
            self._open.append(connection)
        try:
            for message in connection:
                self._take(message)
        except ConnectionClosed:
            pass
        finally:
            with self._lock:
                self._open.remove(connection)

    def _take(self, message: str | bytes) -> None:
        try:
            envelope = json.loads(message).get("envelope_id")
        except (ValueError, AttributeError):
            return
        with self._lock:
            acked = self._acked.get(envelope)
        if acked:
            acked.set()
