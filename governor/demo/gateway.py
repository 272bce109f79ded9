"""The company's gateway: asks the gate before each request, obeys, and reports what ran."""

import http.client
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self

import msgspec

from governor.core.scopes import DIMENSIONS
from governor.demo.company import FREE, Company, Message
from governor.demo.evening import Evening

TIMEOUT_S: Final = 2.0
_HEADERS: Final = {"Content-Type": "application/json"}


class Verdict(msgspec.Struct, frozen=True):
    """What the gate answers; `allowed` is None where no throttle holds."""

    decision: str
    allowed: bool | None = None
    rate: str = ""
    reason: str = ""
    until: datetime | None = None
    retry_after_s: float = 0.0


class Traffic:
    """What became of requests, by tier, and when the free tier was slowed and freed."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.refused_of_user: Counter[str] = Counter()
        """Of the free tier alone."""
        self.unanswered = 0
        self.slowed: tuple[datetime, Verdict] | None = None
        """The first time a throttle held, and what the gate said."""
        self.refusal: tuple[str, Verdict] | None = None
        """The first user who was refused."""
        self.throttle: Verdict | None = None
        """The throttle of the free tier that holds now."""
        self.freed: datetime | None = None
        self.slowed_again: datetime | None = None

    def refused_of(self, customer: str) -> int:
        """Return how many requests of a free customer were refused."""
        return sum(n for user, n in self.refused_of_user.items() if user.startswith(f"{customer}/"))

    def enter(self, event: Mapping[str, Any], verdict: Verdict | None, now: datetime) -> bool:
        """Enter a verdict (None where the gate did not answer); return whether it may run."""
        tier = event["tier"]
        self.asked[tier] += 1
        if verdict is None:
            self.unanswered += 1
            return True
        if tier == FREE:
            self._follow(verdict, now)
        if verdict.allowed is not False:
            return True
        self.refused[tier] += 1
        if tier == FREE:
            self.refused_of_user[event["user"]] += 1
        self.refusal = self.refusal or (event["user"], verdict)
        return False

    def _follow(self, verdict: Verdict, now: datetime) -> None:
        throttled = verdict.allowed is not None
        self.throttle = verdict if throttled else None
        if throttled and self.slowed is None:
            self.slowed = (now, verdict)
        elif throttled and self.freed is not None:
            self.slowed_again = self.slowed_again or now
        elif not throttled and self.slowed is not None:
            self.freed = self.freed or now


class Gateway:
    """Handles requests one after another over one connection; `send` takes what must be sent."""

    def __init__(
        self,
        port: int,
        evening: Evening,
        company: Company,
        traffic: Traffic,
        send: Callable[[Message], None],
    ) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
        self._evening = evening
        self._company = company
        self._traffic = traffic
        self._send = send

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def handle(self, event: dict[str, Any]) -> None:
        """Ask whether a request may run; if so, run it and send its records."""
        verdict = self._ask(event)
        now = self._evening.now()
        if self._traffic.enter(event, verdict, now):
            for message in self._company.records(event, now):
                self._send(message)

    def _ask(self, event: Mapping[str, Any]) -> Verdict | None:
        """Return what the gate says, or None where it does not answer: then a request runs."""
        asked = {name: event[name] for name in DIMENSIONS if name in event}
        try:
            self._connection.request("POST", "/v1/decide", msgspec.json.encode(asked), _HEADERS)
            answer = self._connection.getresponse()
            body = answer.read()
            if answer.status != http.client.OK:
                return None
            return msgspec.json.decode(body, type=Verdict)
        except (OSError, http.client.HTTPException, msgspec.DecodeError):
            self._connection.close()  # the next request connects anew
            return None
