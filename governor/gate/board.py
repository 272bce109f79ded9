"""The board: the directives that the gate knows, found by the dimensions of a request."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from itertools import product
from math import prod
from sys import intern
from typing import Final

from msgspec.structs import replace

from governor import telemetry
from governor.core.directives import Directive, Effect, WireCondition, unwire
from governor.core.rules.actions import EVERY_ONE
from governor.core.scopes import DIMENSIONS, Scope, mask_of

MAX_DIRECTIVES: Final = 100_000
"""Most directives that are known at once; one more is dropped and counted."""
MAX_KEYS: Final = 64
"""Most places of the index that one directive takes, unless one condition alone has more values."""
MAX_SHARED: Final = 10_000
"""Times and conditions that directives share, before they are forgotten and shared anew."""
FORGET_EVERY: Final = timedelta(minutes=1)

_KNOWN: Final = frozenset(DIMENSIONS)

Mask = tuple[str, ...]
Key = tuple[str | None, ...]


_RANKS: Final = {
    Effect.ALLOW: 0,
    Effect.BLOCK: 1,
    Effect.THROTTLE: 2,
    Effect.DOWNGRADE: 3,
    Effect.RELEASE: 4,
}


class Board:
    """Directives by id, in their newest version; used by one thread.

    The index has a table for each set of dimensions that directives ask to be equal to something,
    so a request is looked up once in each table, however many directives there are. Rules make few
    such sets. Only globs and negations are tried one by one.
    """

    def __init__(self, limit: int = MAX_DIRECTIVES) -> None:
        self._limit = limit
        self._newest: dict[str, Directive] = {}
        self._index: dict[Mask, dict[Key, dict[str, Directive] | Directive]] = {}
        self._rests: dict[str, Scope] = {}
        self._shared: dict[object, object] = {}
        self._forget_at: datetime | None = None

    def __len__(self) -> int:
        return len(self._newest)

    def take(self, records: Iterable[Directive], now: datetime) -> list[Directive]:
        """Take directives in the order of the topic; return those that are new and not known.

        An older version of what is known is ignored.
        """
        records = list(records)
        if self._forget_at is None or now >= self._forget_at or self._is_tight(len(records)):
            self._forget_ended(now)
        return [record for record in records if self._put(record, now)]

    def holding(
        self, dimensions: Mapping[str, str | None], now: datetime, lease_until: datetime | None
    ) -> list[Directive]:
        """Return what holds for such a request at `now`, the strictest first, shadows too."""
        found: list[Directive] = []
        for mask, table in self._index.items():
            there = table.get(tuple([dimensions.get(name) for name in mask]))
            if there is None:
                continue
            found += (
                directive
                for directive in (there.values() if isinstance(there, dict) else (there,))
                if directive.holds_at(now, lease_until) and self._is_meant(directive, dimensions)
            )
        if len(found) > 1:
            found.sort(key=strictness)
        return found

    def _is_meant(self, directive: Directive, dimensions: Mapping[str, str | None]) -> bool:
        """Return whether what the index does not answer holds, too."""
        rest = self._rests.get(directive.id)
        if rest is not None and not rest.holds(dimensions):
            return False
        return directive.percent == EVERY_ONE or is_meant(directive, dimensions)

    def in_force(self, now: datetime, lease_until: datetime | None) -> Iterator[Directive]:
        """Yield every directive that holds at `now`."""
        return (d for d in self._newest.values() if d.holds_at(now, lease_until))

    def _put(self, directive: Directive, now: datetime) -> bool:
        known = self._newest.get(directive.id)
        if known is not None:
            if known.version >= directive.version:
                return False
            self._remove(known)
        if directive.until <= now:
            return False
        named = {*directive.scope, *filter(None, [directive.each, directive.percent_of])}
        if not named <= _KNOWN:
            telemetry.GATE_IGNORED.labels("not_understood").inc()  # of a newer daemon
            return False
        if len(self._newest) >= self._limit:
            telemetry.GATE_IGNORED.labels("full").inc()
            return False
        directive = self._slim(directive)
        self._newest[directive.id] = directive  # a release, too: an older one may still come
        if directive.effect is not Effect.RELEASE:
            self._place(directive)
        return True

    def _slim(self, directive: Directive) -> Directive:
        """Return a directive that shares what many have in common."""
        share = self._shared.setdefault
        if len(self._shared) > MAX_SHARED:
            self._shared.clear()
        return replace(
            directive,
            rule=intern(directive.rule),
            action=intern(directive.action),
            scope={intern(name): share(each, each) for name, each in directive.scope.items()},
            issued_at=share(directive.issued_at, directive.issued_at),
            until=share(directive.until, directive.until),
            models=directive.models or _NONE,
            evidence=directive.evidence or _NONE,
        )

    def _place(self, directive: Directive) -> None:
        mask, keys, rest = _placed(directive.scope)
        if rest is not None:
            self._rests[directive.id] = rest
        table = self._index.setdefault(mask, {})
        for key in keys:
            there = table.get(key)
            if there is None:
                table[key] = directive
            elif isinstance(there, dict):
                there[directive.id] = directive
            else:
                table[key] = {there.id: there, directive.id: directive}

    def _remove(self, directive: Directive) -> None:
        del self._newest[directive.id]
        self._rests.pop(directive.id, None)
        mask, keys, _ = _placed(directive.scope)
        table = self._index.get(mask, {})
        for key in keys:
            there = table.get(key)
            if isinstance(there, dict):
                there.pop(directive.id, None)
                if not there:
                    del table[key]
            elif there is not None and there.id == directive.id:
                del table[key]
        if not table:
            self._index.pop(mask, None)

    def _is_tight(self, coming: int) -> bool:
        return len(self._newest) + coming > self._limit

    def _forget_ended(self, now: datetime) -> None:
        self._forget_at = now + FORGET_EVERY
        for directive in [d for d in self._newest.values() if d.until <= now]:
            self._remove(directive)


def is_meant(directive: Directive, dimensions: Mapping[str, str | None]) -> bool:
    """Return whether a request is of the share of values that a directive is for.

    Which values those are depends on rule and action alone, so that a greater share holds those of
    a smaller one. A request without a value is left alone.
    """
    value = dimensions.get(directive.percent_of or "")
    if value is None:
        return False
    named = f"{directive.rule}\0{directive.action}\0{value}".encode()
    place = int.from_bytes(blake2b(named, digest_size=4).digest()) % EVERY_ONE
    return place < directive.percent


def strictness(directive: Directive) -> tuple[int, float, int, int]:
    """Sort what allows first, then what blocks, throttles by rate and burst, downgrades newest."""
    requests, span_s = directive.rate
    rate = requests / span_s if directive.effect is Effect.THROTTLE else 0.0
    return _RANKS[directive.effect], rate, requests, -directive.version


def _placed(scope: Mapping[str, WireCondition]) -> tuple[Mask, Iterable[Key], Scope | None]:
    """Return where a scope goes in the index: mask, keys, and the conditions left to be tried.

    The condition with the fewest values goes in whatever their number, others while the keys stay
    within MAX_KEYS, so that memory grows with the length of the record and not with its products.
    """
    plain = {name: each.values for name, each in scope.items() if not (each.like or each.not_)}
    names, count = list(plain), 1
    if prod(map(len, plain.values())) > MAX_KEYS:
        names = []
        for name in sorted(plain, key=lambda name: (len(plain[name]), name)):
            if names and count * len(plain[name]) > MAX_KEYS:
                break
            names.append(name)
            count *= len(plain[name])
    mask = _mask(tuple(names))
    keys = product(*(plain[name] for name in mask))
    if len(mask) == len(scope):
        return mask, keys, None
    return mask, keys, unwire({name: each for name, each in scope.items() if name not in mask})


@lru_cache(maxsize=1024)
def _mask(names: tuple[str, ...]) -> Mask:
    return mask_of(names)


_NONE: Final[Mapping[str, str]] = {}
