"""Delays: how long what happens takes to be known, as shares of the last minutes."""

from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
SPAN: Final = timedelta(minutes=5)
"""For how long a delay counts at least, and at most twice that."""
MAX_DELAY_S: Final = 3_600.0
"""What took longer is late, and told elsewhere; it would hide what is usual."""
_STEPS: Final = 20
"""Bins for each factor of ten: a share is exact to 12 %."""
_EDGES: Final = np.logspace(-3, np.log10(MAX_DELAY_S), 1 + round(6.6 * _STEPS))


def ages_s(counted: pa.Table, now: datetime) -> npt.NDArray[np.float64]:
    """Return how old counted events are, in seconds."""
    micros: npt.NDArray[np.int64] = counted["event_time"].cast(pa.int64()).to_numpy()
    found: npt.NDArray[np.float64] = ((now - EPOCH) // timedelta(microseconds=1) - micros) / 1e6
    return found


class Delays:
    """Counts delays in bins that grow with them; used by one thread."""

    def __init__(self) -> None:
        self._now = np.zeros(len(_EDGES) + 1, dtype=np.int64)
        self._before = np.zeros_like(self._now)
        self._turns_at: datetime | None = None

    def add(self, seconds: npt.NDArray[np.float64] | list[float], now: datetime) -> None:
        """Count delays in seconds; those longer than MAX_DELAY_S are left out."""
        self._turn(now)
        found = np.asarray(seconds, dtype=np.float64)
        found = np.maximum(found[found <= MAX_DELAY_S], 0.0)
        bins = np.searchsorted(_EDGES, found)
        self._now += np.bincount(bins, minlength=len(self._now))

    def quantile(self, part: float, now: datetime) -> float | None:
        """Return the delay in seconds that such a part of the last minutes did not exceed."""
        self._turn(now)
        counts = np.cumsum(self._now + self._before)
        if not counts[-1]:
            return None
        place = int(np.searchsorted(counts, part * counts[-1]))
        return float(_EDGES[min(place, len(_EDGES) - 1)])

    def _turn(self, now: datetime) -> None:
        if self._turns_at is None:
            self._turns_at = now + SPAN
        if now < self._turns_at:
            return
        gone = now >= self._turns_at + SPAN
        self._before = np.zeros_like(self._now) if gone else self._now
        self._now = np.zeros_like(self._now)
        self._turns_at = now + SPAN
