"""What governor tells of itself: that it is alive, and that somebody cannot be told."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from governor.adapters.duckdb.outbox import Outbox
from governor.adapters.duckdb.state import State
from governor.core.errors import GovernorError
from governor.core.notifications import Notice, heartbeat_notice
from governor.core.routing import LOG, Routing
from governor.daemon.refusals import Edited, Refusals
from governor.loops.deliver import Ask

LOOK_EVERY_S: Final = 1.0

_log = structlog.get_logger()


class Broken:
    """Tells others that a receiver is not told, and has its fallback told in its place."""

    def __init__(
        self,
        receiver: str,
        fallback: Callable[[], str | None],
        state: State,
        outbox: Outbox,
        *,
        ask: Ask,
        tell: Callable[[Notice], None],
        now: Callable[[], datetime],
    ) -> None:
        self._receiver = receiver
        self._fallback = fallback
        self._outbox = outbox
        self._ask = ask
        self._now = now
        self._said: bool | None = None
        edited = Edited(
            message=f"receiver-broken-{receiver}",
            title=f"{receiver} is not told",
            keeps="Alerts wait for it and are told when it answers.",
            right=f"{receiver} is told again",
        )
        self._refusals = Refusals(edited, state, tell=self._addressed(tell), now=now)

    def __call__(self, why: str | None) -> None:
        """Note how the last try went: None for well."""
        if why is None and self._said is False:
            return
        fallback = self._fallback()
        if why is None or not self._said:
            self._ask(lambda: self._refusals.tell(why))
            self._said = why is not None
        if why is not None and fallback:
            moved = self._ask(lambda: self._outbox.hand_over(self._receiver, fallback, self._now()))
            if moved:
                _log.warning("messages.handed_over", to=fallback, messages=moved)

    def _addressed(self, tell: Callable[[Notice], None]) -> Callable[[Notice], None]:
        def told(notice: Notice) -> None:
            fallback = self._fallback()
            to = (LOG, fallback) if fallback else None
            tell(replace(notice, to=to))

        return told


class Heart:
    """Tells those who want to know that governor does its work; what is silent is not well."""

    def __init__(
        self,
        state: State,
        routing: Callable[[], Routing],
        troubles: Callable[[], Sequence[str]],
        *,
        ask: Ask,
        tell: Callable[[Notice], None],
        now: Callable[[], datetime],
    ) -> None:
        self._state = state
        self._routing = routing
        self._troubles = troubles
        self._ask = ask
        self._tell = tell
        self._now = now

    def run(self, stop: threading.Event) -> None:
        """Beat until `stop` is set."""
        while not stop.wait(LOOK_EVERY_S):
            if self._routing().heartbeat is None or self._troubles():
                continue
            try:
                self._ask(self.beat)
            except GovernorError as error:
                _log.warning("heartbeat.failed", detail=str(error))

    def beat(self) -> None:
        """Tell it, where it is time to; runs in the thread that owns the store."""
        wanted, now = self._routing().heartbeat, self._now()
        if wanted is None:
            return
        last = self._state.notices(["heartbeat"]).get("heartbeat")
        if last is not None and now - last.at < wanted.every:
            return
        open_ = sum(alert.is_open for alert in self._state.alerts(now))
        summary = f"Usage is counted and rules are judged at {now:%Y-%m-%d %H:%M} UTC; {open_:,}"
        revision = last.revision + 1 if last else 1
        said = f"{summary} alerts are open or pending."
        self._tell(heartbeat_notice(said, wanted.every, revision, wanted.to, now))
