"""Token buckets: how many requests a throttle lets through, exactly, in integers of nanoseconds."""

from collections import OrderedDict
from typing import Final, NamedTuple

from governor import telemetry

MAX_BUCKETS: Final = 100_000
"""Most buckets at once; beyond it the one not asked for longest is forgotten."""

SECOND_NS: Final = 1_000_000_000


class Bucket(NamedTuple):
    """Which bucket: a directive, its rate, and one value of its `each`.

    The rate is part of it, so a directive that is issued with another rate begins with full ones.
    """

    directive: str
    value: str | None
    requests: int
    """How many in a span, at least 1; the size of the burst, too."""
    span_ns: int


class Buckets:
    """The state of every bucket that is not full; used by one thread.

    This is the generic cell rate algorithm (ITU-T I.371): a bucket is the time at which it would
    be full again if nobody drew from it. Times are counted in fractions 1/requests of a
    nanosecond, in which both the time of one request and the span are whole numbers.

    A bucket that is not known is full; so is one that was forgotten for want of room, which lets
    at most one burst too many through; those that were not full are counted.
    """

    def __init__(self, limit: int = MAX_BUCKETS) -> None:
        self._limit = limit
        self._full_at: OrderedDict[Bucket, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait_ns(self, bucket: Bucket, now_ns: int) -> int:
        """Return how long until a request may be drawn; 0 where it may be now."""
        full_at = self._full_at.get(bucket)
        if full_at is None:
            return 0
        self._full_at.move_to_end(bucket)
        early = full_at - (bucket.requests - 1) * bucket.span_ns - now_ns * bucket.requests
        return max(0, -(-early // bucket.requests))

    def draw(self, bucket: Bucket, now_ns: int) -> None:
        """Take one request out; the caller has seen that `wait_ns` is 0."""
        now = now_ns * bucket.requests
        full_at = max(now, self._full_at.get(bucket, now))
        self._full_at[bucket] = full_at + bucket.span_ns
        self._full_at.move_to_end(bucket)
        if len(self._full_at) > self._limit:
            oldest, full_at = self._full_at.popitem(last=False)
            if full_at > now_ns * oldest.requests:
                telemetry.GATE_BUCKETS_FORGOTTEN.inc()
