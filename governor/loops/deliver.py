"""The deliver loop: tells one receiver what it has not been told, until it has.

One thread a receiver, so that one that is down holds up no other. What is owed is in the store;
that a try begins is stored before it is made, and what came of it after. A crash in between leaves
a message that may be out already, and the receiver is asked to look before it posts again.
"""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, Protocol, TypeVar

import structlog

from governor import telemetry
from governor.core.decisions import DueMessage
from governor.core.errors import GovernorError, PermanentError, TransientError
from governor.core.notifications import Notice

LOOK_EVERY_S: Final = 0.5
MAX_DUE: Final = 20
"""Messages taken up at a time."""
FIRST_RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 60.0
REFUSED_RETRY_S: Final = 300.0
"""A person must act; we look again this often, since they may have."""
LONGEST_WAIT_S: Final = 3_600.0
"""The most that a receiver may ask us to wait."""

_T = TypeVar("_T")

_log = structlog.get_logger()


class Receiver(Protocol):
    """Someone who is told of alerts; see `actions`."""

    @property
    def name(self) -> str:
        """The receiver's name, the same at every start."""

    def tell(self, notice: Notice, *, reference: str | None, unsure: bool) -> str | None:
        """Show how an alert stands; return the reference to hand in for the same message.

        `reference` is what an earlier call for this message returned; `unsure` that an earlier try
        may have reached the receiver without our knowing. Raise TransientError to be called again
        later, PermanentError where a person must act first.
        """


class Outbox(Protocol):
    """Where owed messages are; see `adapters.duckdb.state`."""

    def due(self, receiver: str, now: datetime, limit: int) -> Sequence[DueMessage]:
        """Return messages of a receiver that are behind."""

    def attempting(self, message: DueMessage) -> None:
        """Record that a try begins."""

    def told(self, message: DueMessage, reference: str | None) -> None:
        """Record that a receiver was told."""

    def not_told(self, message: DueMessage, error: str, next_at: datetime, *, unsure: bool) -> None:
        """Record that a try failed."""


class Ask(Protocol):
    """Runs a call in the thread that owns the store, and returns what it returned."""

    def __call__(self, call: Callable[[], _T], /) -> _T:
        """Wait for the result; raise what the call raised."""


class Deliver:
    """Tells one receiver; `trouble` says why it cannot."""

    def __init__(
        self, receiver: Receiver, outbox: Outbox, *, ask: Ask, now: Callable[[], datetime]
    ) -> None:
        self._receiver = receiver
        self._outbox = outbox
        self._ask = ask
        self._now = now
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
        """Tell a few; return how long to wait before the next look."""
        name = self._receiver.name
        now = self._now()
        due = self._ask(lambda: self._outbox.due(name, now, MAX_DUE))
        for message in due:
            if stop.is_set():
                break
            if wait_s := self._tell(message):
                return wait_s
        return 0.0 if len(due) == MAX_DUE else LOOK_EVERY_S

    def _tell(self, message: DueMessage) -> float:
        """Tell one; return how long the receiver is to be left alone."""
        self._ask(lambda: self._outbox.attempting(message))
        try:
            reference = self._receiver.tell(
                message.notice, reference=message.reference, unsure=message.unsure
            )
        except GovernorError as error:
            return self._failed(message, error)
        self.trouble = None
        self._ask(lambda: self._outbox.told(message, reference))
        telemetry.MESSAGES_TOLD.labels(self._receiver.name, "told").inc()
        _log.info("message.told", **self._named(message))
        return 0.0

    def _failed(self, message: DueMessage, error: GovernorError) -> float:
        refused = isinstance(error, PermanentError)
        asked_s = error.retry_after_s if isinstance(error, TransientError) else None
        if refused:
            retry_s = REFUSED_RETRY_S
        elif asked_s is not None:
            retry_s = min(asked_s, LONGEST_WAIT_S)
        else:
            retry_s = min(FIRST_RETRY_S * 2 ** min(message.attempts, 10), LONGEST_RETRY_S)
        next_at = self._now() + timedelta(seconds=retry_s)
        unsure = message.unsure or not (refused or asked_s is not None)
        self._ask(lambda: self._outbox.not_told(message, str(error), next_at, unsure=unsure))
        self.trouble = f"{self._receiver.name} is not told: {error}"
        telemetry.MESSAGES_TOLD.labels(
            self._receiver.name, "refused" if refused else "failed"
        ).inc()
        (_log.error if refused else _log.warning)(
            "message.not_told", error=str(error), retry_s=retry_s, **self._named(message)
        )
        if refused:
            return 0.0
        return FIRST_RETRY_S if asked_s is None else retry_s

    def _named(self, message: DueMessage) -> dict[str, Any]:
        return {
            "receiver": self._receiver.name,
            "alert": message.notice.alert,
            "rule": message.notice.rule,
            "alert_level": str(message.notice.level),
            "resolved": message.notice.resolved,
            "revision": message.notice.revision,
        }
