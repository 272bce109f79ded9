"""The rerate loop: one order at a time to price stored events again, slice by slice.

1. Ask for the slices of the span.
2. Price each again, between two batches of ingest; each is a transaction of its own.
3. Write down that the run is over, and let the totals of the rules be added up anew.
A crash leaves the slices that were done; the same order again finds the rest, and changes no slice
twice. Periods that are over fire nothing, whatever they come to.
"""

import queue
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

import structlog

from governor.core.errors import ConfigError, GovernorError, TransientError
from governor.core.rerating import Change, Group, together, total

IDLE_S: Final = 0.2
RETRY_S: Final = 1.0
MAX_KEPT: Final = 20
"""Runs whose outcome can be asked for; the store keeps all."""

_log = structlog.get_logger()
SliceT = TypeVar("SliceT")


class Reprice(Protocol[SliceT]):
    """Prices stored events again; see `adapters.duckdb.rerating`."""

    def slices(self, starts_at: datetime, ends_at: datetime) -> Sequence[SliceT]:
        """Return what must be looked at."""

    def rerate(self, part: SliceT, run: str | None) -> Mapping[Group, Change]:
        """Price a slice; without a `run` nothing is written."""

    def finish(self, order: "Order", change: Change, slices: int) -> None:
        """Write down that a run is over, and add up anew what depends on costs."""


@dataclass(frozen=True, slots=True)
class Order:
    """What somebody asked for."""

    id: str
    who: str
    via: str
    starts_at: datetime
    ends_at: datetime
    dry_run: bool
    asked_at: datetime


@dataclass(slots=True)
class Progress:
    """How far an order is; `error` says why it ended early."""

    order: Order
    slices: int = 0
    done: int = 0
    changes: dict[Group, Change] = field(default_factory=dict)
    over: bool = False
    error: str | None = None


class Rerate(Generic[SliceT]):
    """Carries out orders in a thread of its own; `ask` has calls done by the store's thread."""

    def __init__(
        self,
        reprice: Reprice[SliceT],
        *,
        ask: Callable[[Callable[[], Any]], Any],
        now: Callable[[], datetime],
    ) -> None:
        self._reprice = reprice
        self._ask = ask
        self._now = now
        self._orders: queue.SimpleQueue[Progress] = queue.SimpleQueue()
        self._known: dict[str, Progress] = {}
        self._lock = threading.Lock()

    def order(
        self, starts_at: datetime, ends_at: datetime, *, dry_run: bool, who: str, via: str
    ) -> Progress:
        """Take an order, to be carried out next; raise TransientError while another one is."""
        if starts_at >= ends_at:
            raise ConfigError("the span to price again ends before it begins")
        with self._lock:
            if any(not progress.over for progress in self._known.values()):
                raise TransientError("events are being priced again already; try again later")
            name = uuid.uuid4().hex[:12]
            order = Order(name, who, via, starts_at, ends_at, dry_run, self._now())
            progress = self._known[name] = Progress(order)
            for old in list(self._known)[:-MAX_KEPT]:
                del self._known[old]
        self._orders.put(progress)
        return progress

    def progress(self, name: str) -> Progress | None:
        """Return how far an order is, None where it is not known."""
        return self._known.get(name)

    def run(self, stop: threading.Event) -> None:
        """Carry out orders until `stop` is set."""
        while not stop.is_set():
            try:
                progress = self._orders.get(timeout=IDLE_S)
            except queue.Empty:
                continue
            self.carry_out(progress, stop)

    def carry_out(
        self, progress: Progress, stop: threading.Event, said: Callable[[], None] = lambda: None
    ) -> None:
        """Carry out one order, or until `stop` is set; `said` is called after each slice."""
        order = progress.order
        _log.info("rerate.started", run=order.id, dry_run=order.dry_run)
        try:
            slices = self._ask(lambda: self._reprice.slices(order.starts_at, order.ends_at))
            progress.slices = len(slices)
            for part in slices:
                self._do(stop, progress, part)
                progress.done += 1
                said()
            if not order.dry_run:
                change = total(progress.changes)
                self._ask(lambda: self._reprice.finish(order, change, len(slices)))
        except Exception as error:  # noqa: BLE001  # the top of a loop: it is said and logged
            progress.error = str(error) if isinstance(error, GovernorError) else repr(error)
            _log.warning("rerate.failed", run=order.id, error=progress.error)
        progress.over = True
        _log.info(
            "rerate.ended",
            run=order.id,
            dry_run=order.dry_run,
            slices=progress.done,
            events=total(progress.changes).events,
        )

    def _do(self, stop: threading.Event, progress: Progress, part: SliceT) -> None:
        run = None if progress.order.dry_run else progress.order.id
        while True:
            if stop.is_set():
                raise TransientError("governor is stopping; give the order again")
            try:
                found = self._ask(lambda: self._reprice.rerate(part, run))
            except TransientError as error:
                _log.warning("rerate.waiting", error=str(error))
                stop.wait(RETRY_S)
            else:
                progress.changes = together([progress.changes, found])
                return
