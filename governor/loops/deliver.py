"""The deliver loop: tells one receiver what it has not been told, until it has.

One thread a receiver, so that one that is down holds up no other. What is owed is in the store and
`core.bulletins` says what of it is told when; that a try begins is stored before it is made, and
what came of it after. A crash in between leaves a message that may be out already, and the receiver
is asked to look before it posts again.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import structlog

from governor import telemetry
from governor.core.bulletins import Bulletin, Owed, Step, Thread, plan
from governor.core.errors import GovernorError, PermanentError, TransientError
from governor.core.routing import APART, Grouping

LOOK_EVERY_S: Final = 0.5
MAX_DUE: Final = 20
"""Bulletins taken up at a time."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
REFUSED_RETRY_S: Final = 60.0
"""A person must act; we look again this often, since they may have."""
BROKEN_AFTER: Final = timedelta(minutes=5)
"""A receiver that fails for so long is broken; one that refuses is at once."""
LONGEST_WAIT_S: Final = 3_600.0
"""The most that a receiver may ask us to wait."""

_T = TypeVar("_T")

_log = structlog.get_logger()


class Receiver(Protocol):
    """Someone who is told of alerts; see `actions`."""

    @property
    def name(self) -> str:
        """The receiver's name, the same at every start."""

    @property
    def apart(self) -> bool:
        """Whether it is told of each alert by itself and at once: it groups, or needs no rest."""

    def tell(self, bulletin: Bulletin) -> str | None:
        """Show how a thread stands; return the reference to hand in with the next of the thread.

        Raise TransientError to be called again later, PermanentError where a person must act first.
        """


class Outbox(Protocol):
    """Where it is kept what is owed; see `adapters.duckdb.outbox`."""

    def owed(
        self, receiver: str, now: datetime, *, apart: bool
    ) -> tuple[Sequence[Owed], Sequence[Thread], int]:
        """Return what a receiver is behind with, its threads, and how many groups began lately."""

    def begin(self, receiver: str, step: Step, now: datetime, *, apart: bool) -> Bulletin:
        """Record that a try begins; return what is to be told."""

    def told(self, receiver: str, bulletin: Bulletin, reference: str | None, now: datetime) -> None:
        """Record that a receiver was told."""

    def not_told(
        self, receiver: str, bulletin: Bulletin, error: str, next_at: datetime, *, unsure: bool
    ) -> None:
        """Record that a try failed."""


class Ask(Protocol):
    """Runs a call in the thread that owns the store, and returns what it returned."""

    def __call__(self, call: Callable[[], _T], /) -> _T:
        """Wait for the result; raise what the call raised."""


class Deliver:
    """Tells one receiver; `trouble` says why it cannot.

    `broken` is handed why it has not been told for long or not at all, at each try, and None when
    it is told.
    """

    def __init__(
        self,
        receiver: Receiver,
        outbox: Outbox,
        *,
        ask: Ask,
        now: Callable[[], datetime],
        grouping: Callable[[], Grouping],
        broken: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._receiver = receiver
        self._outbox = outbox
        self._ask = ask
        self._now = now
        self._grouping = grouping
        self._broken = broken
        self._failing_since: datetime | None = None
        self.trouble: str | None = None

    @property
    def name(self) -> str:
        """The receiver's name."""
        return self._receiver.name

    def run(self, stop: threading.Event) -> None:
        """Tell what is due, until `stop` is set."""
        while not stop.is_set():
            wait_s = LOOK_EVERY_S
            try:
                wait_s = self._tell_due(stop)
            except TransientError:
                pass  # the store is not ready, or the daemon is stopping
            except Exception:  # noqa: BLE001  # the top of a loop: log, count, go on
                _log.exception("deliver.failed", receiver=self._receiver.name)
                wait_s = LONGEST_RETRY_S
            stop.wait(wait_s)

    def _tell_due(self, stop: threading.Event) -> float:
        """Tell what is due; return how long to wait before the next look."""
        name, apart = self._receiver.name, self._receiver.apart
        now = self._now()
        owed, threads, begun = self._ask(lambda: self._outbox.owed(name, now, apart=apart))
        found = plan(owed, threads, APART if apart else self._grouping(), now, begun=begun)
        for step in found.steps[:MAX_DUE]:
            if stop.is_set():
                break
            if wait_s := self._tell(step):
                return wait_s
        if len(found.steps) > MAX_DUE:
            return 0.0
        until_s = LOOK_EVERY_S
        if found.wakes_at is not None:
            until_s = (found.wakes_at - self._now()).total_seconds()
        return min(LOOK_EVERY_S, max(0.0, until_s))

    def _tell(self, step: Step) -> float:
        """Tell of one thread; return how long the receiver is to be left alone."""
        name, apart, now = self._receiver.name, self._receiver.apart, self._now()
        bulletin = self._ask(lambda: self._outbox.begin(name, step, now, apart=apart))
        try:
            reference = self._receiver.tell(bulletin)
        except GovernorError as error:
            return self._failed(bulletin, error)
        self.trouble, self._failing_since = None, None
        self._broken(None)
        self._ask(lambda: self._outbox.told(name, bulletin, reference, self._now()))
        telemetry.MESSAGES_TOLD.labels(name, "told").inc()
        _log.info("message.told", **self._named(bulletin))
        return 0.0

    def _failed(self, bulletin: Bulletin, error: GovernorError) -> float:
        name = self._receiver.name
        refused = isinstance(error, PermanentError)
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        if refused:
            retry_s = REFUSED_RETRY_S
        elif asked_s is not None:
            retry_s = min(asked_s, LONGEST_WAIT_S)
        else:
            retry_s = min(FIRST_RETRY_S * 2 ** min(bulletin.attempts, 10), LONGEST_RETRY_S)
        next_at = self._now() + timedelta(seconds=retry_s)
        unsure = bulletin.unsure or not (refused or asked_s is not None)
        self._ask(lambda: self._outbox.not_told(name, bulletin, str(error), next_at, unsure=unsure))
        self.trouble = f"{name} is not told: {error}"
        self._failing_since = self._failing_since or self._now()
        if refused or self._now() - self._failing_since >= BROKEN_AFTER:
            self._broken(str(error))
        telemetry.MESSAGES_TOLD.labels(name, "refused" if refused else "failed").inc()
        (_log.error if refused else _log.warning)(
            "message.not_told", error=str(error), retry_s=retry_s, **self._named(bulletin)
        )
        if refused:
            return 0.0
        return FIRST_RETRY_S if asked_s is None else retry_s

    def _named(self, bulletin: Bulletin) -> dict[str, Any]:
        named = [news.notice for news in bulletin.news] or bulletin.notices
        first = named[0]
        return {
            "receiver": self._receiver.name,
            "thread": bulletin.thread,
            "alert": first.alert,
            "rule": first.rule,
            "alert_level": str(bulletin.level),
            "resolved": first.resolved,
            "revision": first.revision,
            "open": bulletin.open,
            "over": bulletin.over,
            "changes": len(bulletin.news) + bulletin.more_news,
        }
