"""The board: the directives that the gate knows, found by the dimensions of a request."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import product
from typing import Final

from governor import telemetry
from governor.core.directives import Directive, Effect, Heartbeat, unwire
from governor.core.scopes import DIMENSIONS, Condition, Scope, mask_of

MAX_DIRECTIVES: Final = 100_000
"""Most directives that are known at once; one more is dropped and counted."""
MAX_KEYS: Final = 64
"""Most places of the index that one directive takes, unless one condition alone has more values."""
FORGET_EVERY: Final = timedelta(minutes=1)

_KNOWN: Final = frozenset(DIMENSIONS)
_SPANS: Final = {86_400: "day", 3_600: "h", 60: "min", 1: "s"}

Mask = tuple[str, ...]
Key = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Throttle:
    """A directive that throttles, made ready for decisions."""

    directive: Directive
    rest: Scope
    """The conditions that the index does not answer."""
    rate: str
    """Such as `2/min`."""
    strictness: tuple[Fraction, int, str]
    """Sorts the strictest first: lowest rate, then smallest burst."""


class Board:
    """Directives by id, in their newest version; used by one thread.

    The index has a table for each set of dimensions that directives ask to be equal to something,
    so a request is looked up once in each table, however many directives there are. Rules make few
    such sets. Only globs and negations are tried one by one.
    """

    def __init__(self, limit: int = MAX_DIRECTIVES) -> None:
        self._limit = limit
        self._newest: dict[str, Directive] = {}
        self._index: dict[Mask, dict[Key, dict[str, Throttle]]] = {}
        self._forget_at: datetime | None = None
        self.lease: Heartbeat | None = None
        """The last sign of the daemon."""

    def __len__(self) -> int:
        return len(self._newest)

    def take(self, records: Sequence[Directive | Heartbeat], now: datetime) -> None:
        """Take records in the order of the topic; an older version of what is known is ignored."""
        if self._forget_at is None or now >= self._forget_at or self._is_tight(len(records)):
            self._forget_ended(now)
        for record in records:
            if isinstance(record, Heartbeat):
                self._renew(record)
            else:
                self._put(record, now)

    def holding(self, dimensions: Mapping[str, str | None], now: datetime) -> list[Throttle]:
        """Return the throttles that hold for such a request at `now`, the strictest first."""
        lease_until = self._lease_until
        found = [
            throttle
            for mask, table in self._index.items()
            for throttle in table.get(tuple([dimensions.get(name) for name in mask]), {}).values()
            if throttle.directive.holds_at(now, lease_until) and throttle.rest.holds(dimensions)
        ]
        if len(found) > 1:
            found.sort(key=_strictness)
        return found

    def in_force(self, now: datetime) -> Iterator[Directive]:
        """Yield every directive that holds at `now`."""
        lease_until = self._lease_until
        return (d for d in self._newest.values() if d.holds_at(now, lease_until))

    def lease_is_fresh(self, now: datetime) -> bool:
        """Return whether `open` directives are obeyed at `now`."""
        return self._lease_until is not None and now < self._lease_until

    @property
    def _lease_until(self) -> datetime | None:
        return self.lease.lease_until if self.lease else None

    def _renew(self, heartbeat: Heartbeat) -> None:
        if self.lease is None or heartbeat.version >= self.lease.version:
            self.lease = heartbeat

    def _put(self, directive: Directive, now: datetime) -> None:
        known = self._newest.get(directive.id)
        if known is not None:
            if known.version >= directive.version:
                return
            self._remove(known)
        if directive.until <= now:
            return
        if not {*directive.scope, *filter(None, [directive.each])} <= _KNOWN:
            telemetry.GATE_IGNORED.labels("not_understood").inc()  # of a newer daemon
        elif len(self._newest) >= self._limit:
            telemetry.GATE_IGNORED.labels("full").inc()
        else:
            self._newest[directive.id] = directive  # a release, too: an older one may still come
            if directive.effect is Effect.THROTTLE:
                self._index_throttle(directive)

    def _index_throttle(self, directive: Directive) -> None:
        mask, keys, rest = _placed(unwire(directive.scope))
        throttle = Throttle(
            directive=directive,
            rest=rest,
            rate=rate_text(directive.rate_requests, directive.rate_span_s),
            strictness=(
                Fraction(directive.rate_requests, directive.rate_span_s),
                directive.rate_requests,
                directive.id,
            ),
        )
        table = self._index.setdefault(mask, {})
        for key in keys:
            table.setdefault(key, {})[directive.id] = throttle

    def _remove(self, directive: Directive) -> None:
        del self._newest[directive.id]
        mask, keys, _ = _placed(unwire(directive.scope))
        table = self._index.get(mask, {})
        for key in keys:
            if directive.id in (there := table.get(key, {})):
                del there[directive.id]
                if not there:
                    del table[key]
        if not table:
            self._index.pop(mask, None)

    def _is_tight(self, coming: int) -> bool:
        return len(self._newest) + coming > self._limit

    def _forget_ended(self, now: datetime) -> None:
        self._forget_at = now + FORGET_EVERY
        for directive in [d for d in self._newest.values() if d.until <= now]:
            self._remove(directive)


def rate_text(requests: int, span_s: int) -> str:
    """Return a rate as rules write it: `2/min`; a span without a name of its own in seconds."""
    return f"{requests}/{_SPANS.get(span_s, f'{span_s}s')}"


def _strictness(throttle: Throttle) -> tuple[Fraction, int, str]:
    return throttle.strictness


def _placed(scope: Scope) -> tuple[Mask, list[Key], Scope]:
    """Return where a scope goes in the index: mask, keys, and the conditions left to be tried.

    The condition with the fewest values goes in whatever their number, others while the keys stay
    within MAX_KEYS, so that memory grows with the length of the record and not with its products.
    """
    plain = [c for c in scope.conditions if not c.negated and not c.patterns]
    chosen: dict[str, Condition] = {}
    count = 1
    for condition in sorted(plain, key=lambda c: (len(c.values), c.dimension)):
        if chosen and count * len(condition.values) > MAX_KEYS:
            break
        chosen[condition.dimension] = condition
        count *= len(condition.values)
    mask = mask_of(tuple(chosen))
    keys: list[Key] = list(product(*(sorted(chosen[dimension].values) for dimension in mask)))
    rest = tuple(c for c in scope.conditions if c.dimension not in mask)
    return mask, keys, Scope(rest)
