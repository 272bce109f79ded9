"""One decision: may a request with these dimensions run now, and on which model."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Final, Literal

from msgspec import Struct

from governor.core.directives import Directive, Effect, rate_text
from governor.gate.board import Board
from governor.gate.buckets import SECOND_NS, Bucket, Buckets

MILLISECOND_NS: Final = 1_000_000

Dimensions = Mapping[str, str | None]


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the gate answers; everything after `decision` is about a directive only.

    `allowed` is whether the request may run, `model` which one to use instead of the one it asks
    for. `until` is when the reason ends. `shadow` are rules in shadow mode that would have refused
    or downgraded it.
    """

    decision: Literal["allow", "throttle", "downgrade", "block"]
    allowed: bool | None = None
    rate: str | None = None
    model: str | None = None
    reason: str | None = None
    rule: str | None = None
    directive: str | None = None
    until: datetime | None = None
    retry_after_s: float | None = None
    """Where it is not allowed: how long to wait at least, in whole milliseconds, rounded up."""
    shadow: tuple[str, ...] = ()

    @property
    def refuses(self) -> bool:
        """Whether the request may not run."""
        return self.allowed is False


ALLOW: Final = Decision(decision="allow")


class Found(Struct, frozen=True):
    """What holds for a request: what decides alone, else throttles to be asked, and a model.

    `decided` allows or blocks whatever else holds. `downgrade` says to use `model` instead.
    """

    decided: Directive | None
    throttles: Sequence[Directive]
    downgrade: Directive | None
    model: str | None

    def decision(self, waits_ns: Sequence[int], now: datetime) -> Decision:
        """Decide, where each throttle lets the request through after so long; 0 is now."""
        if self.decided is not None:
            return _alone(self.decided, now)
        if self.throttles:
            longest = max(waits_ns)
            named = self.throttles[waits_ns.index(longest) if longest else 0]
            return _throttled(named, longest, self.model)
        return _downgraded(self.downgrade, self.model) if self.downgrade else ALLOW


NOTHING: Final = Found(None, (), None, None)


def found_in(holding: Sequence[Directive], dimensions: Dimensions) -> Found:
    """Return what holds of directives that are sorted, the strictest first."""
    if not holding:
        return NOTHING
    if holding[0].effect in {Effect.ALLOW, Effect.BLOCK}:
        return Found(holding[0], (), None, None)
    throttles = [each for each in holding if each.effect is Effect.THROTTLE]
    wanted = dimensions.get("model")
    for each in holding[len(throttles) :] if wanted else ():
        model = _instead(each, wanted or "")
        if model is not None:
            return Found(None, throttles, each, model)
    return Found(None, throttles, None, None)


def look(
    board: Board, dimensions: Dimensions, now: datetime, lease_until: datetime | None
) -> tuple[Found, Found]:
    """Return what holds for a request, and what would if rules in shadow mode enforced."""
    holding = board.holding(dimensions, now, lease_until)
    if not holding:
        return NOTHING, NOTHING
    shadows = [each for each in holding if each.shadow]
    if not shadows:
        return found_in(holding, dimensions), NOTHING
    real = [each for each in holding if not each.shadow]
    return found_in(real, dimensions), found_in(shadows, dimensions)


def drawn(
    throttles: Sequence[Directive],
    buckets: Buckets,
    dimensions: Dimensions,
    now: datetime,
    now_ns: int,
) -> list[int]:
    """Return how long each throttle makes a request wait; where none does, draw it from all."""
    asked = [bucket_of(throttle, dimensions) for throttle in throttles]
    waits = [
        _wait_ns(throttle, bucket, buckets, now, now_ns)
        for throttle, bucket in zip(throttles, asked, strict=True)
    ]
    if not any(waits):
        for bucket in asked:
            buckets.draw(bucket, now_ns)
    return waits


def bucket_of(directive: Directive, dimensions: Dimensions) -> Bucket:
    """Return the bucket of a throttle that a request draws from."""
    value = dimensions.get(directive.each) if directive.each else None
    requests, span_s = directive.rate
    return Bucket(directive.id, value, requests, span_s * SECOND_NS)


def left_ns(directive: Directive, now: datetime) -> int:
    """Return how long a directive goes on, in nanoseconds."""
    return (directive.until - now) // timedelta(microseconds=1) * 1_000


def _wait_ns(
    directive: Directive, bucket: Bucket, buckets: Buckets, now: datetime, now_ns: int
) -> int:
    """Return how long a throttle refuses, at most until it ends; a rate of 0 refuses all along."""
    wait_ns = buckets.wait_ns(bucket, now_ns) if bucket.requests else None
    if wait_ns == 0:
        return 0
    left = left_ns(directive, now)
    return left if wait_ns is None else min(wait_ns, left)


def _instead(directive: Directive, model: str) -> str | None:
    """Return the model to use instead of another; None where that may stay."""
    found = directive.models.get(model)
    if found is None:
        globs = (new for old, new in directive.models.items() if fnmatchcase(model, old))
        found = next(globs, None)
    return None if found == model else found


def _alone(directive: Directive, now: datetime) -> Decision:
    """Return what a directive decides whatever others say: all is allowed, or blocked."""
    blocks = directive.effect is Effect.BLOCK
    wait_ns = left_ns(directive, now) if blocks else 0
    return Decision(
        decision="block" if blocks else "allow",
        allowed=not blocks,
        reason=directive.reason,
        rule=directive.rule,
        directive=directive.id,
        until=directive.until,
        retry_after_s=_rounded_s(wait_ns) if blocks else None,
    )


def _throttled(directive: Directive, wait_ns: int, model: str | None) -> Decision:
    return Decision(
        decision="throttle",
        allowed=not wait_ns,
        rate=rate_text(*directive.rate),
        model=model if not wait_ns else None,
        reason=directive.reason,
        rule=directive.rule,
        directive=directive.id,
        until=directive.until,
        retry_after_s=_rounded_s(wait_ns) if wait_ns else None,
    )


def _downgraded(directive: Directive, model: str | None) -> Decision:
    return Decision(
        decision="downgrade",
        allowed=True,
        model=model,
        reason=directive.reason,
        rule=directive.rule,
        directive=directive.id,
        until=directive.until,
    )


def _rounded_s(wait_ns: int) -> float:
    return -(-wait_ns // MILLISECOND_NS) / 1_000
