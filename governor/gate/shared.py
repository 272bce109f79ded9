"""Shared rates: throttles of several gates counted together, in Redis.

By the library `limits`: in any span of the rate no more requests than it says are let through by
all gates together (a moving window), where the rates of one gate alone are token buckets. Redis
that does not answer in time is left alone for a while; each gate then counts for itself.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

import structlog

from governor import telemetry
from governor.core.directives import Directive
from governor.core.errors import ConfigError
from governor.gate.buckets import SECOND_NS
from governor.gate.decide import Dimensions, bucket_of, left_ns

TIMEOUT_S: Final = 0.25
AGAIN_AFTER_NS: Final = SECOND_NS
"""How long Redis is left alone after it failed."""
PREFIX: Final = "governor"

_log = structlog.get_logger()


class SharedRates:
    """Draws requests from rates in Redis; all in one event loop."""

    def __init__(self, url: str, wall_s: Callable[[], float]) -> None:
        self._items, storage, moving = _library()
        try:
            self._storage = storage(
                f"async+{url}",
                implementation="redispy",
                key_prefix=PREFIX,
                socket_timeout=TIMEOUT_S,
                socket_connect_timeout=TIMEOUT_S,
            )
        except Exception as error:  # the library raises what it likes for a wrong address
            raise ConfigError("gate.redis_url: must be such as redis://127.0.0.1:6379/0") from error
        self._limiter: Any = moving(self._storage)
        self._wall_s = wall_s
        self._left_alone_until_ns = 0
        self.trouble: str | None = None

    async def waits(
        self, throttles: Sequence[Directive], dimensions: Dimensions, now: datetime, now_ns: int
    ) -> list[int] | None:
        """Return how long each makes a request wait; drawn from all where none does.

        None where Redis does not answer.
        """
        if now_ns < self._left_alone_until_ns:
            return None
        try:
            waits = [await self._wait(each, dimensions, now) for each in throttles]
            if not any(waits):
                for each in throttles:
                    await self._limiter.hit(*self._named(each, dimensions))
        except Exception as error:  # noqa: BLE001  # whatever is wrong with Redis, we go on
            self._left_alone_until_ns = now_ns + AGAIN_AFTER_NS
            telemetry.GATE_SHARED_ERRORS.inc()
            if self.trouble is None:
                _log.warning("shared_rates.failed", error=str(error))
            self.trouble = (
                f"Redis: {str(error) or type(error).__name__}; each gate counts for itself"
            )
            return None
        self.trouble = None
        return waits

    async def _wait(self, throttle: Directive, dimensions: Dimensions, now: datetime) -> int:
        left = left_ns(throttle, now)
        requests, _ = throttle.rate
        if not requests:
            return left
        named = self._named(throttle, dimensions)
        if await self._limiter.test(*named):
            return 0
        reset_s, _ = await self._limiter.get_window_stats(*named)
        return max(1, min(left, int((reset_s - self._wall_s()) * SECOND_NS)))

    def _named(self, throttle: Directive, dimensions: Dimensions) -> tuple[Any, ...]:
        bucket = bucket_of(throttle, dimensions)
        rate = self._items(bucket.requests, bucket.span_ns // SECOND_NS)
        return rate, bucket.directive, bucket.value or ""


def _library() -> tuple[Any, Any, Any]:
    try:
        from limits import RateLimitItemPerSecond  # noqa: PLC0415  # an extra: few gates share
        from limits.aio.strategies import MovingWindowRateLimiter  # noqa: PLC0415
        from limits.storage import storage_from_string  # noqa: PLC0415
    except ImportError:
        raise ConfigError(
            "gate.redis_url: shared rates need the extra `redis`: pip install 'governor[redis]'"
        ) from None
    return RateLimitItemPerSecond, storage_from_string, MovingWindowRateLimiter
