"""One decision: may a request with these dimensions run now."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from governor.core.directives import Directive
from governor.gate.board import Board, Throttle
from governor.gate.buckets import SECOND_NS, Bucket, Buckets

MILLISECOND_NS: Final = 1_000_000


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gate answers; everything after `decision` is about a throttle only."""

    decision: Literal["allow", "throttle"]
    allowed: bool | None = None
    rate: str | None = None
    reason: str | None = None
    rule: str | None = None
    directive: str | None = None
    until: datetime | None = None
    retry_after_s: float | None = None
    """Where it is not allowed: how long to wait at least, in whole milliseconds, rounded up."""


ALLOW: Final = Decision(decision="allow")


def decide(
    board: Board,
    buckets: Buckets,
    dimensions: Mapping[str, str | None],
    now: datetime,
    now_ns: int,
) -> Decision:
    """Decide, and draw one request from the bucket of each throttle where all let it through.

    Every throttle that holds is asked. One that refuses is named, of several the one to wait for
    longest; where none refuses, the strictest is named.
    """
    holding = board.holding(dimensions, now)
    if not holding:
        return ALLOW
    asked = [_bucket(throttle.directive, dimensions) for throttle in holding]
    waits = [
        _wait_ns(throttle.directive, bucket, buckets, now, now_ns)
        for throttle, bucket in zip(holding, asked, strict=True)
    ]
    longest = max(waits)
    if longest:
        return _answer(holding[waits.index(longest)], longest)
    for bucket in asked:
        buckets.draw(bucket, now_ns)
    return _answer(holding[0], 0)


def _bucket(directive: Directive, dimensions: Mapping[str, str | None]) -> Bucket:
    value = dimensions.get(directive.each) if directive.each else None
    span_ns = directive.rate_span_s * SECOND_NS
    return Bucket(directive.id, value, directive.rate_requests, span_ns)


def _wait_ns(
    directive: Directive, bucket: Bucket, buckets: Buckets, now: datetime, now_ns: int
) -> int:
    """Return how long a throttle refuses, at most until it ends; a rate of 0 refuses all along."""
    wait_ns = buckets.wait_ns(bucket, now_ns) if bucket.requests else None
    if wait_ns == 0:
        return 0
    left_ns = (directive.until - now) // timedelta(microseconds=1) * 1_000
    return left_ns if wait_ns is None else min(wait_ns, left_ns)


def _answer(throttle: Throttle, wait_ns: int) -> Decision:
    directive = throttle.directive
    return Decision(
        decision="throttle",
        allowed=not wait_ns,
        rate=throttle.rate,
        reason=directive.reason,
        rule=directive.rule,
        directive=directive.id,
        until=directive.until,
        retry_after_s=-(-wait_ns // MILLISECOND_NS) / 1_000 if wait_ns else None,
    )
