"""Follows the topic of directives from a thread of its own, whatever becomes of Kafka."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from governor import telemetry
from governor.core.directives import Directive, Heartbeat
from governor.core.errors import GovernorError

POLL_MS: Final = 500
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 10.0

_log = structlog.get_logger()


class Reader(Protocol):
    """Where directives come from; after an error it begins again from the beginning."""

    @property
    def caught_up(self) -> bool:
        """Whether the end that stood when it connected has been reached."""
        ...

    @property
    def unreadable(self) -> int:
        """How many records were passed over."""
        ...

    def poll(self, timeout_ms: int) -> list[Directive | Heartbeat]:
        """Wait for records and return them."""
        ...

    def close(self) -> None:
        """Let go of the connection."""
        ...


@dataclass(frozen=True, slots=True)
class News:
    """What one look at the topic has brought."""

    records: tuple[Directive | Heartbeat, ...] = ()
    caught_up: bool = False
    trouble: str | None = None


class Follower:
    """Tells `tell` what the topic says; a failure is told, too, and then it tries again."""

    def __init__(self, reader: Reader, tell: Callable[[News], None]) -> None:
        self._reader = reader
        self._tell = tell
        self._unreadable = 0

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set; never raises."""
        pauses = self._pauses()
        while not stop.is_set():
            try:
                self._look()
                pauses = self._pauses()
            except GovernorError as error:
                _log.warning("directives.failed", error=str(error))
                self._wait(stop, next(pauses), str(error))
            except Exception as error:  # noqa: BLE001  # the top of a loop: log, count, go on
                _log.exception("directives.failed")
                self._wait(stop, next(pauses), repr(error))
        self._reader.close()

    def _look(self) -> None:
        records = self._reader.poll(POLL_MS)
        telemetry.GATE_IGNORED.labels("unreadable").inc(self._reader.unreadable - self._unreadable)
        self._unreadable = self._reader.unreadable
        self._tell(News(tuple(records), self._reader.caught_up))

    def _wait(self, stop: threading.Event, pause_s: float, trouble: str) -> None:
        telemetry.GATE_KAFKA_ERRORS.inc()
        self._tell(News(trouble=trouble))
        stop.wait(pause_s)

    @staticmethod
    def _pauses() -> Iterator[float]:
        pause_s = FIRST_PAUSE_S
        while True:
            yield pause_s
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
