"""The lease: the daemon's time as the gate keeps it, by clocks that nobody can set.

Ends of directives and of the lease are times of the daemon's day. The gate does not compare them
with its own, which may be wrong or be set, but goes on from what the last heartbeat said by its
steady clock. How long a heartbeat was under way is told by the sender's steady clock: the quickest
of the last ones is taken to have been at once.
"""

from collections import deque
from datetime import datetime, timedelta
from typing import Final

from governor.core.directives import Heartbeat

REMEMBERED: Final = 10
"""Heartbeats whose ways are compared; few, since steady clocks drift apart over days."""
MILLISECOND_NS: Final = 1_000_000
_MICROSECOND: Final = timedelta(microseconds=1)


class Lease:
    """What the last sign of the daemon allows; used by one thread."""

    def __init__(self) -> None:
        self.beat: Heartbeat | None = None
        self._sent_ns = 0
        self._sender: str | None = None
        self._ways: deque[int] = deque(maxlen=REMEMBERED)

    def take(self, beat: Heartbeat, wall: datetime, now_ns: int, *, live: bool) -> None:
        """Take a heartbeat; one that is not `live` was read from the past of the topic.

        How old one from the past of a sender that we do not know is, and one that tells no steady
        time, is told by the wall clocks.
        """
        if self.beat is not None and beat.version < self.beat.version:
            return
        if beat.sender and (live or beat.sender == self._sender):
            age_ns = self._under_way(beat, now_ns)
        else:
            age_ns = max(0, (wall - beat.sent_at) // _MICROSECOND * 1_000)
        self.beat, self._sent_ns = beat, now_ns - age_ns

    def now(self, wall: datetime, now_ns: int) -> datetime:
        """Return the daemon's time; before any heartbeat it is taken to be ours."""
        if self.beat is None:
            return wall
        return self.beat.sent_at + (now_ns - self._sent_ns) // 1_000 * _MICROSECOND

    @property
    def until(self) -> datetime | None:
        """Until when, by the daemon's time, `open` directives are obeyed."""
        return self.beat.lease_until if self.beat else None

    def age_s(self, now_ns: int) -> float:
        """Return how long ago the last heartbeat was sent; not asked before there is one."""
        return (now_ns - self._sent_ns) / 1e9

    def _under_way(self, beat: Heartbeat, now_ns: int) -> int:
        way = now_ns - beat.steady_ms * MILLISECOND_NS
        if beat.sender != self._sender:
            self._sender = beat.sender
            self._ways.clear()
        self._ways.append(way)
        return way - min(self._ways)
