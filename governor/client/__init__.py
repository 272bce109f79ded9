"""A small client of the gate, for applications that ask by themselves; it needs nothing but Python.

    from governor.client import Client

    gate = Client("http://127.0.0.1:9465")
    decision = gate.decide(customer="acme", tier="free", feature="chat", model="gpt-4o")
    if not decision.allowed:
        raise TooManyRequests(decision.reason, retry_after=decision.retry_after_s)
    model = decision.model or "gpt-4o"

What was allowed without a rate is remembered for a second, and what was refused for as long as it
is to wait, a second at most; so asking before each request costs one call a second and caller.
"""

import http.client
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

TIMEOUT_S: Final = 0.2
REMEMBER_S: Final = 1.0
MAX_REMEMBERED: Final = 10_000
MAX_IDLE: Final = 16
"""Most connections that are kept for the next question."""

Fail = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the gate says of a request; see `docs/reference/gate.md`.

    `answered` is false where the gate did not answer, and the client's own `fail` decided.
    """

    decision: str
    allowed: bool = True
    rate: str | None = None
    model: str | None = None
    reason: str | None = None
    rule: str | None = None
    directive: str | None = None
    until: datetime | None = None
    retry_after_s: float | None = None
    shadow: tuple[str, ...] = ()
    answered: bool = True

    @classmethod
    def read(cls, said: Mapping[str, Any]) -> "Decision":
        """Return what an answer of the gate means; what a newer gate says more is left out."""
        known = {name: said[name] for name in cls.__slots__ if said.get(name) is not None}
        until = known.get("until")
        if isinstance(until, str):
            known["until"] = datetime.fromisoformat(until)
        return cls(**known | {"shadow": tuple(known.get("shadow", ()))})


class Client:
    """Asks one gate over connections that it keeps; safe to be used by several threads.

    Where the gate does not answer within `timeout_s`, requests may run (`fail="open"`) or not.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        fail: Fail = "open",
        timeout_s: float = TIMEOUT_S,
        remember_s: float = REMEMBER_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        place = urlsplit(url)
        if place.scheme not in {"http", "https"} or not place.hostname:
            raise ValueError(f"{url!r} must be such as http://127.0.0.1:9465")
        self._secure = place.scheme == "https"
        self._host, self._port = place.hostname, place.port
        self._headers = {"Content-Type": "application/json"}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._fail = fail
        self._timeout_s = timeout_s
        self._remember_s = remember_s
        self._monotonic = monotonic
        self._remembered: OrderedDict[tuple[tuple[str, str], ...], tuple[float, Decision]]
        self._remembered = OrderedDict()
        self._lock = threading.Lock()
        self._idle: list[http.client.HTTPConnection] = []

    def decide(self, **dimensions: str | None) -> Decision:
        """Return whether a request with these dimensions may run, and on which model.

        It never raises where the gate does not answer; a dimension that is none is a ValueError.
        """
        asked = {name: value for name, value in dimensions.items() if value is not None}
        key = tuple(sorted(asked.items()))
        known = self._recalled(key)
        if known is not None:
            return known
        decision = self._asked(asked)
        self._remember(key, decision)
        return decision

    def close(self) -> None:
        """Close the connections that are kept; the client can be used again."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _recalled(self, key: tuple[tuple[str, str], ...]) -> Decision | None:
        with self._lock:
            found = self._remembered.get(key)
            if found is not None and self._monotonic() < found[0]:
                return found[1]
            return None

    def _remember(self, key: tuple[tuple[str, str], ...], decision: Decision) -> None:
        """Remember what asking again would not change: not what draws from a rate."""
        span_s = self._remember_s
        if decision.rate is not None and decision.allowed:
            return
        if decision.retry_after_s is not None:
            span_s = min(span_s, decision.retry_after_s)
        with self._lock:
            self._remembered[key] = (self._monotonic() + span_s, decision)
            self._remembered.move_to_end(key)
            if len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)

    def _asked(self, dimensions: Mapping[str, str]) -> Decision:
        body = json.dumps(dimensions).encode()
        while True:  # a connection that was kept may be closed by now: then the next, or a new one
            with self._lock:
                kept = self._idle.pop() if self._idle else None
            connection = kept or self._connected()
            try:
                return self._answer(connection, body)
            except (OSError, http.client.HTTPException):
                connection.close()
                if kept is None:
                    break
        allowed = self._fail == "open"
        return Decision(
            "allow" if allowed else "block",
            allowed=allowed,
            reason="the gate does not answer",
            answered=False,
        )

    def _answer(self, connection: http.client.HTTPConnection, body: bytes) -> Decision:
        connection.request("POST", "/v1/decide", body, self._headers)
        answer = connection.getresponse()
        said = json.loads(answer.read() or b"{}")
        with self._lock:
            full = len(self._idle) >= MAX_IDLE or answer.will_close
            if not full:
                self._idle.append(connection)
        if full:
            connection.close()
        if answer.status == http.HTTPStatus.BAD_REQUEST:
            raise ValueError(said["error"])
        if answer.status != http.HTTPStatus.OK:
            raise http.client.HTTPException(f"the gate answered {answer.status}")
        return Decision.read(said)

    def _connected(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout_s)
