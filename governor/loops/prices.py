"""The price watch: tells of models without a price, and of costs that senders reckon otherwise.

It runs in the thread that owns the store. A message is opened when a model is first seen without a
price, edited when its amount has doubled, by a dollar at least, and ends when a price is known.
Costs are compared by UTC day; a message ends when on a later day both agree.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final, Protocol

import structlog

from governor import telemetry
from governor.core.batches import Stored
from governor.core.notifications import Notice
from governor.core.pricewatch import (
    DISAGREES,
    LEAST_NANO,
    MAX_OPEN,
    OTHERS,
    UNPRICED,
    Compared,
    ModelName,
    Unpriced,
    compared_of,
    disagreement_notice,
    ended,
    grown,
    has_grown,
    model_of,
    unpriced_notice,
    unpriced_of,
)

DAYS_COMPARED: Final = 2
"""Reported costs of today and yesterday are compared; what comes later is for reports."""

_REST: Final = ModelName(OTHERS, "")

_log = structlog.get_logger()


class Ledger(Protocol):
    """What is stored; see `adapters.duckdb.state`."""

    def open_notices(self, kind: str) -> Sequence[Notice]:
        """Return how messages stand that begin like this and have not ended."""

    def unpriced(self, since: datetime) -> Mapping[ModelName, Unpriced]:
        """Return usage without a price from the hour of a time on, by model."""

    def compared(self, since: date) -> Mapping[tuple[date, ModelName], Compared]:
        """Return reported costs and ours from a UTC day on, by day and model."""


class PriceWatch:
    """Watches what batches come to; `tell` stores a notice."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        tell: Callable[[Notice], None],
        now: Callable[[], datetime],
        percent: int,
    ) -> None:
        self._ledger = ledger
        self._tell = tell
        self._now = now
        self._percent = percent
        self._open: dict[tuple[str, ModelName], Notice] = {}
        self._told: dict[tuple[str, ModelName], int] = {}
        self._unpriced: dict[ModelName, Unpriced] = {}
        self._compared: dict[tuple[date, ModelName], Compared] = {}
        self._touched: dict[ModelName, None] = {}
        self._days: dict[tuple[date, ModelName], None] = {}

    def begin(self) -> None:
        """Take up what is stored; may raise TransientError, and is then called again."""
        found = {
            (kind, model_of(notice)): notice
            for kind in (UNPRICED, DISAGREES)
            for notice in self._ledger.open_notices(kind)
        }
        opened = [notice.fired_at for (kind, _), notice in found.items() if kind == UNPRICED]
        stored = self._ledger.unpriced(min(opened)) if opened else {}
        known = {model for kind, model in found if kind == UNPRICED}
        self._compared = dict(self._ledger.compared(self._first_day()))
        self._unpriced = {model: amount for model, amount in stored.items() if model in known}
        self._open = found
        self._told = {key: self._amount(*key) for key in found}

    def stored(self, stored: Stored) -> None:
        """Add what a committed batch came to; cannot fail."""
        for model, amount in unpriced_of(stored.deltas).items():
            self._unpriced[model] = self._unpriced.get(model, Unpriced()).plus(amount)
            self._touched[model] = None
        first = self._first_day()
        for (day, model), compared in compared_of(stored.deltas).items():
            if day >= first:
                key = (day, model)
                self._compared[key] = self._compared.get(key, Compared()).plus(compared)
                self._days[key] = None

    def settle(self) -> None:
        """Tell what has changed enough; may raise TransientError, and is then called again."""
        self._put_together()
        for model in list(self._touched):
            self._settle_unpriced(model)
            del self._touched[model]
        for day, model in list(self._days):
            self._settle_compared(day, model)
            del self._days[day, model]

    def repriced(self, priced: Callable[[ModelName], bool]) -> None:
        """End what was told of models that have a price now. May raise TransientError."""
        self.settle()
        for kind, model in [key for key in self._open if key[0] == UNPRICED]:
            if model == _REST or priced(model):
                why = "a price is known now; what was stored before: governor prices rerate"
                self._end((kind, model), why)
                self._unpriced.pop(model, None)

    def tick(self) -> None:
        """Forget days that are over."""
        first = self._first_day()
        self._compared = {key: found for key, found in self._compared.items() if key[0] >= first}

    def _put_together(self) -> None:
        """Count models that come after too many others as one."""
        named = {model for kind, model in self._open if kind == UNPRICED and model != _REST}
        for model in list(self._touched):
            if model in named or model == _REST:
                continue
            if len(named) < MAX_OPEN:
                named.add(model)
                continue
            found = self._unpriced.pop(model)
            self._unpriced[_REST] = self._unpriced.get(_REST, Unpriced()).plus(found)
            self._touched[_REST] = None
            del self._touched[model]

    def _settle_unpriced(self, model: ModelName) -> None:
        key = (UNPRICED, model)
        found = self._unpriced[model]
        if key not in self._open or has_grown(found.nano, self._told[key]):
            since = self._open[key].fired_at if key in self._open else self._now()
            _log.warning(
                "model.unpriced",
                provider=model.provider,
                model=model.model,
                events=found.events,
                tokens=found.tokens,
            )
            self._say(key, unpriced_notice(model, found, since, self._now()), found.nano)

    def _settle_compared(self, day: date, model: ModelName) -> None:
        key = (DISAGREES, model)
        found = self._compared.get((day, model), Compared())
        before = self._open.get(key)
        gap = abs(found.ours - found.reported)
        if found.disagrees(self._percent):
            if before is None or has_grown(gap, self._told[key]):
                since = before.fired_at if before else self._now()
                notice = disagreement_notice(model, day, found, since, self._now())
                self._say(key, notice, gap)
        elif before is not None and _is_evidence(found) and day > before.at.date():
            self._end(key, f"on {day} both agree")

    def _say(self, key: tuple[str, ModelName], notice: Notice, amount: int) -> None:
        before = self._open.get(key)
        said = grown(before, notice) if before else notice
        self._tell(said)
        self._open[key] = said
        self._told[key] = amount
        self._count()

    def _end(self, key: tuple[str, ModelName], why: str) -> None:
        self._tell(ended(self._open[key], why, self._now()))
        del self._open[key], self._told[key]
        self._count()

    def _count(self) -> None:
        telemetry.UNPRICED_MODELS.set(sum(kind == UNPRICED for kind, _ in self._open))

    def _amount(self, kind: str, model: ModelName) -> int:
        if kind == UNPRICED:
            return self._unpriced.get(model, Unpriced()).nano
        gaps = [abs(c.ours - c.reported) for (_, m), c in self._compared.items() if m == model]
        return max(gaps, default=0)

    def _first_day(self) -> date:
        return (self._now() - timedelta(days=DAYS_COMPARED - 1)).astimezone(UTC).date()


def _is_evidence(found: Compared) -> bool:
    return min(found.reported, found.ours) >= LEAST_NANO
