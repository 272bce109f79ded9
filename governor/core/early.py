"""Early: what a group will have spent before an action against it bites, at the pace it spends."""

from collections import deque
from collections.abc import Callable, Collection, Iterator
from datetime import datetime, timedelta
from typing import Final

from governor.core.rules.shared import Rule
from governor.core.scopes import Key

PACE_OVER: Final = timedelta(minutes=5)
"""Over how long the pace is taken at most."""
PACE_AT_LEAST: Final = timedelta(seconds=5)
"""Over how long it is taken at least; before that there is none."""
SAMPLE_EVERY: Final = timedelta(seconds=1)

Lead = Callable[[Rule, Key, int, datetime], int]
"""Returns how much is added to an amount of a group for thresholds that act early."""


def no_lead(rule: Rule, group: Key, amount: int, now: datetime) -> int:  # noqa: ARG001  # a Lead
    """Add nothing."""
    return 0


class Early:
    """Keeps how fast groups spend that are near a threshold which acts early.

    `lag_s` returns how many seconds usage goes on before an action bites. The first look at a group
    gives nothing; it is used by one thread.
    """

    def __init__(self, lag_s: Callable[[], float]) -> None:
        self._lag_s = lag_s
        self._paces: dict[tuple[str, Key], deque[tuple[datetime, int]]] = {}

    def __iter__(self) -> Iterator[tuple[str, Key]]:
        """Iterate over rule and group of what is near and is to be judged again soon."""
        return iter(list(self._paces))

    def lead(self, rule: Rule, group: Key, amount: int, now: datetime) -> int:
        """Return what will be spent until an action bites; 0 far from such a threshold."""
        near = any(t.near <= amount < t.amount for t in rule.thresholds if t.early)
        if not near:
            self._paces.pop((rule.id, group), None)
            return 0
        pace = self._paces.setdefault((rule.id, group), deque())
        if not pace or now - pace[-1][0] >= SAMPLE_EVERY:
            pace.append((now, amount))
        while len(pace) > 1 and now - pace[0][0] > PACE_OVER:
            pace.popleft()
        since, spent = now - pace[0][0], amount - pace[0][1]
        if since < PACE_AT_LEAST or spent <= 0:
            return 0
        lag = timedelta(seconds=self._lag_s())
        return spent * (lag // _MICROSECOND) // (since // _MICROSECOND)

    def keep(self, rules: Collection[str]) -> None:
        """Forget what is of other rules."""
        self._paces = {name: pace for name, pace in self._paces.items() if name[0] in rules}


_MICROSECOND: Final = timedelta(microseconds=1)
