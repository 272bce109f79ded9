"""The rhythm of the demo's load: a day from calm to busy to calm, in the seconds up to midnight."""

import math
from datetime import datetime
from typing import Final, NamedTuple

USUAL_PER_S: Final = 200
"""Requests of ordinary customers, in the mean."""
CALM: Final = 0.5
"""The load at night; at noon it is as far above the mean."""
STRANGERS: Final = 640
"""Requests of strangers by `CAP_AT`: with some 0.16 USD each they alone spend 100 USD."""
LEAK_AT: Final = 0.15
CAP_AT: Final = 0.5
"""When the key is posted and the cap is due to be reached, as shares of the time to midnight."""
WEARY: Final = 0.25
"""What share of the strangers is left after midnight."""
MAX_USUAL_DUE: Final = 150
"""Beyond it, on a machine too slow for the load, usual requests of a call are left out."""


class Due(NamedTuple):
    """How many requests to make now."""

    usual: int
    strangers: int


class Rhythm:
    """Says how many requests are due; the same day again and again after midnight."""

    def __init__(self, opened: datetime, midnight: datetime) -> None:
        self._opened = self._seen = opened
        self._day_s = (midnight - opened).total_seconds()
        self._usual = self._strangers = 0.0

    def due(self, now: datetime) -> Due:
        """Return what is due since the last call."""
        passed_s = (now - self._seen).total_seconds()
        self._seen = now
        days = (now - self._opened).total_seconds() / self._day_s
        self._usual += passed_s * usual_per_s(days)
        self._strangers += passed_s * strangers_per_s(days, self._day_s)
        due = Due(int(self._usual), int(self._strangers))
        self._usual -= due.usual
        self._strangers -= due.strangers
        return Due(min(due.usual, MAX_USUAL_DUE), due.strangers)


def usual_per_s(days: float) -> float:
    """Return the rate at a time: calm at midnights, where `days` is whole, busy in between."""
    return USUAL_PER_S * (1 - (1 - CALM) * math.cos(2 * math.pi * days))


def strangers_per_s(days: float, day_s: float) -> float:
    """Return the rate of the strangers with the leaked key, for a first day of `day_s` seconds."""
    if days < LEAK_AT:
        return 0.0
    rate = STRANGERS / ((CAP_AT - LEAK_AT) * day_s)
    return rate if days < 1 else WEARY * rate
