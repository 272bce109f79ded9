"""The board: the directives that the gate knows, found by the dimensions of a request."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from itertools import product
from typing import Final

from governor import telemetry
from governor.core.directives import Directive, Effect, unwire
from governor.core.rules.actions import EVERY_ONE
from governor.core.scopes import DIMENSIONS, Condition, Scope, mask_of

MAX_DIRECTIVES: Final = 100_000
"""Most directives that are known at once; one more is dropped and counted."""
MAX_KEYS: Final = 64
"""Most places of the index that one directive takes, unless one condition alone has more values."""
FORGET_EVERY: Final = timedelta(minutes=1)

_KNOWN: Final = frozenset(DIMENSIONS)

Mask = tuple[str, ...]
Key = tuple[str | None, ...]


class Entry:
    """A directive, made ready for decisions: `rest` are conditions that the index does not answer.

    `strictness` sorts: what allows, then what blocks, then throttles by rate and burst, then
    downgrades, the newest first.
    """

    __slots__ = ("directive", "rest", "strictness")

    def __init__(self, directive: Directive, rest: Scope | None) -> None:
        requests, span_s = directive.rate
        self.directive = directive
        self.rest = rest
        self.strictness = (
            _RANKS[directive.effect],
            requests / span_s if directive.effect is Effect.THROTTLE else 0.0,
            requests,
            -directive.version,
        )


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
        self._index: dict[Mask, dict[Key, dict[str, Entry] | Entry]] = {}
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
        found: list[Entry] = []
        for mask, table in self._index.items():
            there = table.get(tuple([dimensions.get(name) for name in mask]))
            if there is None:
                continue
            for entry in (there,) if isinstance(there, Entry) else there.values():
                directive = entry.directive
                if (
                    directive.holds_at(now, lease_until)
                    and (entry.rest is None or entry.rest.holds(dimensions))
                    and (directive.percent == EVERY_ONE or is_meant(directive, dimensions))
                ):
                    found.append(entry)
        if len(found) > 1:
            found.sort(key=_strictness)
        return [entry.directive for entry in found]

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
        self._newest[directive.id] = directive  # a release, too: an older one may still come
        if directive.effect is not Effect.RELEASE:
            self._place(directive)
        return True

    def _place(self, directive: Directive) -> None:
        mask, keys, rest = _placed(unwire(directive.scope))
        entry = Entry(directive, rest if rest.conditions else None)
        table = self._index.setdefault(mask, {})
        for key in keys:
            there = table.get(key)
            if there is None:
                table[key] = entry
            elif isinstance(there, Entry):
                table[key] = {there.directive.id: there, directive.id: entry}
            else:
                there[directive.id] = entry

    def _remove(self, directive: Directive) -> None:
        del self._newest[directive.id]
        mask, keys, _ = _placed(unwire(directive.scope))
        table = self._index.get(mask, {})
        for key in keys:
            there = table.get(key)
            if isinstance(there, dict):
                there.pop(directive.id, None)
                if not there:
                    del table[key]
            elif there is not None and there.directive.id == directive.id:
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


def _strictness(entry: Entry) -> tuple[int, float, int, int]:
    return entry.strictness


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
