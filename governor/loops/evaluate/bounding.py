"""Bounding: within what new directives may begin, as far as that is read from the store."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from governor.core.batches import Batch
from governor.core.gauges.shared import EPOCH
from governor.core.radius import Bounds
from governor.core.reach import WATCHED_FOR, Reach, reach_mask
from governor.core.rules.shared import Rule
from governor.loops.evaluate.ledger import Sources

LOOK_EVERY: Final = timedelta(minutes=10)
"""How old what is known of whom a rule reaches may be."""


class Bounding:
    """Knows how late usage is, how new what caused a directive is, and whom rules reach.

    Usage is late where not all is stored that was in Kafka `stale_after` ago.
    """

    def __init__(
        self,
        sources: Sources,
        now: Callable[[], datetime],
        complete: Callable[[], datetime | None],
        stale_after: timedelta,
    ) -> None:
        self._sources = sources
        self._now = now
        self._complete = complete
        self._stale_after = stale_after
        self._reached: dict[tuple[str, str, str], tuple[datetime, Reach]] = {}
        self._caused_at: datetime | None = None

    @property
    def stale(self) -> bool:
        """Whether usage is known too late to begin anything."""
        complete = self._complete()
        return complete is None or self._now() - complete > self._stale_after

    def saw(self, batch: Batch) -> None:
        """Note how new the newest event of a batch is."""
        newest = max((span.watermark_us for span in batch.spans), default=0)
        if newest > 0:
            self._caused_at = min(batch.now, EPOCH + timedelta(microseconds=newest))

    def bounds(self) -> Bounds:
        """Return the bounds of now."""
        return Bounds(self._reach, stale=self.stale, caused_at=self._caused_at)

    def _reach(self, rule: Rule, of: str) -> Reach:
        now, name = self._now(), (rule.id, rule.meaning, of)
        known = self._reached.get(name)
        if known is None or now - known[0] >= LOOK_EVERY:
            seen = self._sources.seen(reach_mask(rule, of), now - WATCHED_FOR)
            known = self._reached[name] = (now, Reach(rule, of, seen))
        return known[1]
