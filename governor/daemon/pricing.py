"""The part of the daemon that prices: which prices are in force, and what is told about them."""

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import structlog

from governor import pricebook
from governor.adapters.duckdb.rerating import Rerating, Slice
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.batches import Batch, Stored
from governor.core.decisions import AuditRow
from governor.core.notifications import Notice
from governor.core.pricewatch import ModelName
from governor.core.pricing import Buyer
from governor.core.reckoning import in_force
from governor.core.rerating import Change, Changes
from governor.core.tariffs import Tariffs
from governor.daemon.refusals import PRICES, Refusals
from governor.loops.prices import PriceWatch
from governor.loops.rerate import Order

_log = structlog.get_logger()


class Pricing:
    """Reads the price file and charges by it; all but `load` belongs to the store's thread."""

    def __init__(
        self,
        catalogue: Catalogue,
        book: pricebook.PriceBook,
        tariffs: Tariffs,
        path: Path,
        store: Store,
        state: State,
        *,
        tell: Callable[[Notice], None],
        audit: Callable[[AuditRow], None],
        recount: Callable[[], None],
        now: Callable[[], datetime],
        percent: int,
    ) -> None:
        self._catalogue = catalogue
        self._path = path
        self._store = store
        self._rerating = Rerating(store)
        self._audit = audit
        self._recount = recount
        self._now = now
        self._book = book
        self.tariffs = tariffs
        self.refusals = Refusals(PRICES, state, tell=tell, now=now)
        self.watch = PriceWatch(state, tell=tell, now=now, percent=percent)

    @property
    def seen(self) -> str | None:
        """The digest of the price file that needs no look; None where people wait for one."""
        return None if self.refusals.open else self._book.digest

    def digest(self) -> str:
        """Name the content of the price file."""
        return pricebook.digest(self._path)

    def load(self) -> pricebook.PriceBook:
        """Read and check the price file; raise ConfigError where it is wrong."""
        return pricebook.load(self._path if self._path.exists() else None)

    def begin(self) -> None:
        """Take up what was told; end what a price is known for since. May raise TransientError."""
        self.watch.begin()
        self.watch.repriced(self._has_price)

    def stored(self, batch: Batch, stored: Stored) -> None:  # noqa: ARG002
        """Add what a committed batch came to; cannot fail."""
        self.watch.stored(stored)

    def missed(self, batch: Batch) -> None:  # noqa: ARG002
        """Take up anew. May raise TransientError, and is then called again."""
        self.watch.begin()

    def settle(self) -> None:
        """Tell what has changed enough; may raise TransientError, and is then called again."""
        self.watch.settle()

    def tick(self) -> None:
        """Do what time brings; may raise TransientError, and is then called again."""
        self.watch.settle()
        self.watch.tick()

    def put_in_force(self, book: pricebook.PriceBook, row: AuditRow) -> None:
        """Charge by these prices from now on. May raise TransientError."""
        tariffs = tariffs_of(self._catalogue, book)
        self._store.charge_by(tariffs)
        self.tariffs, self._book = tariffs, book
        self._audit(row)
        self.refusals.tell(None)
        self.watch.repriced(self._has_price)
        _log.info("prices.loaded", prices=len(book.overrides), file=str(self._path))

    def slices(self, starts_at: datetime, ends_at: datetime) -> Sequence[Slice]:
        """Return what must be looked at to price events of a span again."""
        return self._rerating.slices(starts_at, ends_at)

    def rerate(self, part: Slice, run: str | None) -> Changes:
        """Price a slice again; without a `run` nothing is written."""
        return self._rerating.rerate(part, run, self._now())

    def finish(self, order: Order, change: Change, slices: int) -> None:
        """Write down that a run is over, and add up totals anew. May raise TransientError."""
        now = self._now()
        self._rerating.record(
            order.id,
            (order.who, order.via),
            (order.starts_at, order.ends_at),
            (order.asked_at, now),
            change,
            slices,
        )
        span = f"{order.starts_at.isoformat()} to {order.ends_at.isoformat()}"
        outcome = f"{change.events} events changed"
        self._audit(AuditRow(now, order.who, order.via, "prices.rerate", span, outcome, order.id))
        self._recount()
        self.watch.begin()

    def _has_price(self, model: ModelName) -> bool:
        """Tell whether a model has a price now, at the standard tier and for nobody special."""
        cells = self.tariffs.find(model.provider, model.model, None, Buyer()).cells
        return in_force(cells, self._now(), 0) is not None


def tariffs_of(catalogue: Catalogue, book: pricebook.PriceBook) -> Tariffs:
    """Return what usage is charged by."""
    return Tariffs(catalogue, book.overrides, book.providers)
