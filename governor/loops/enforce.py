"""The enforce loop: stored directives to the compacted topic, and the heartbeat of their leases.

1. Read the topic to its end: what stands there, and the greatest version given out.
2. Let the evaluate loop take that up; it returns what the topic lacks.
3. Publish what is stored and not acknowledged; then, while evaluation is alive, the heartbeat.
A crash at any point leaves directives that step 2 of the next start finds missing, and publishes.
"""

import queue
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

import structlog

from governor import telemetry
from governor.core.directives import Directive, Heartbeat, newest_by_key
from governor.core.errors import TransientError

LOOK_EVERY_S: Final = 0.05
IDLE_S: Final = 0.5
RETRY_S: Final = 1.0
LONGEST_RETRY_S: Final = 10.0
HEARTBEATS_A_LEASE: Final = 3
READ_TIMEOUT_S: Final = 30.0
BURIED_AFTER: Final = timedelta(hours=1)
"""How long after its end a directive stays on the topic."""

_log = structlog.get_logger()


class Reader(Protocol):
    """Reads the topic of directives; see `adapters.kafka.directives`."""

    def catch_up(self, timeout_s: float) -> Sequence[Directive | Heartbeat]:
        """Return everything up to the end that stood at the call."""

    def close(self) -> None:
        """Let go."""


class Publisher(Protocol):
    """Writes the topic of directives; see `adapters.kafka.directives`."""

    def publish(self, records: Sequence[Directive | Heartbeat]) -> None:
        """Return once all are acknowledged; raise TransientError to be handed them again."""

    def bury(self, directives: Sequence[Directive]) -> None:
        """Leave tombstones, so that compaction drops them."""

    def close(self) -> None:
        """Let go."""


class Enforce:
    """Publishes directives, those that come by `issued` and those that the topic lacks."""

    def __init__(
        self,
        *,
        issued: "queue.SimpleQueue[Sequence[Directive]]",
        reader: Callable[[], Reader],
        publisher: Callable[[], Publisher],
        adopt: Callable[[Sequence[Directive], int], Sequence[Directive]],
        wanted: Callable[[], bool],
        alive: Callable[[timedelta], bool],
        give_up: Callable[[Exception], None],
        now: Callable[[], datetime],
        lease: timedelta,
        published: Callable[[Sequence[Directive]], None] = lambda _: None,
    ) -> None:
        self._open_reader = reader
        self._open_publisher = publisher
        self._adopt = adopt
        self._wanted = wanted
        self._alive = alive
        self._give_up = give_up
        self._now = now
        self._lease = lease
        self._published = published
        self._sender = secrets.token_hex(4)
        self._issued = issued
        self._unsent: dict[str, Directive] = {}
        self._standing: dict[str, Directive] = {}
        self._version = 0
        self.trouble: str | None = None

    def run(self, stop: threading.Event) -> None:
        """Publish until `stop` is set; begin anew after every passing error.

        Nothing is asked of the topic before a rule enforces or a directive stands.
        """
        retry_s = RETRY_S
        while not (stop.is_set() or self._wanted()):
            stop.wait(IDLE_S)
        while not stop.is_set():
            try:
                self._take_up()
                retry_s = RETRY_S
                self._publish_until(stop)
            except TransientError as error:
                self.trouble = f"directives are not published: {error}"
                telemetry.KAFKA_ERRORS.labels("enforce").inc()
                _log.warning("directives.waiting", error=str(error), retry_s=retry_s)
            except Exception as error:  # noqa: BLE001  # for the thread that can stop the process
                self._give_up(error)
                return
            stop.wait(retry_s)
            retry_s = min(2 * retry_s, LONGEST_RETRY_S)

    def _take_up(self) -> None:
        reader = self._open_reader()
        try:
            records = reader.catch_up(READ_TIMEOUT_S)
        finally:
            reader.close()
        directives = [record for record in records if isinstance(record, Directive)]
        versions = [record.version for record in records]
        self._version = max([self._version, *versions])
        self._standing = newest_by_key(directives)
        for directive in self._adopt(list(self._standing.values()), self._version):
            self._owe(directive)

    def _publish_until(self, stop: threading.Event) -> None:
        publisher = self._open_publisher()
        beat_every_s = self._lease.total_seconds() / HEARTBEATS_A_LEASE
        beat_at = time.monotonic()
        try:
            while not stop.is_set():
                self._publish_owed(publisher)
                if time.monotonic() >= beat_at and self._alive(self._lease):
                    self._beat(publisher)
                    beat_at = time.monotonic() + beat_every_s
                self.trouble = None
                self._receive(LOOK_EVERY_S)
        finally:
            publisher.close()

    def _publish_owed(self, publisher: Publisher) -> None:
        self._receive(0)
        owed = sorted(self._unsent.values(), key=lambda directive: directive.version)
        telemetry.DIRECTIVES_WAITING.set(len(owed))
        if not owed:
            return
        publisher.publish(owed)
        telemetry.DIRECTIVES_PUBLISHED.inc(len(owed))
        telemetry.DIRECTIVES_WAITING.set(0)
        self._unsent.clear()
        self._published(owed)
        for directive in owed:
            self._standing[directive.id] = directive
            self._version = max(self._version, directive.version)
            _log.info(
                "directive.published",
                directive=directive.id,
                version=directive.version,
                effect=directive.effect.value,
                rule=directive.rule,
                until=directive.until.isoformat(),
            )

    def _beat(self, publisher: Publisher) -> None:
        now = self._now()
        publisher.publish(
            [
                Heartbeat(
                    version=self._version,
                    sent_at=now,
                    lease_until=now + self._lease,
                    sender=self._sender,
                    steady_ms=time.monotonic_ns() // 1_000_000,
                )
            ]
        )
        over = [d for d in self._standing.values() if d.until + BURIED_AFTER < now]
        if over:
            publisher.bury(over)
            for directive in over:
                del self._standing[directive.id]

    def _receive(self, wait_s: float) -> None:
        try:
            for directive in self._issued.get(timeout=wait_s) if wait_s else self._taken():
                self._owe(directive)
        except queue.Empty:
            return

    def _taken(self) -> list[Directive]:
        taken: list[Directive] = []
        while not self._issued.empty():
            taken += self._issued.get_nowait()
        return taken

    def _owe(self, directive: Directive) -> None:
        before = self._unsent.get(directive.id)
        if before is None or before.version < directive.version:
            self._unsent[directive.id] = directive
