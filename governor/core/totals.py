"""Totals: what each group of each rule has come to in its periods, in memory.

Usage is summed up once for all rules that read the same dimensions (a mask) and handed out to the
rules it concerns. Which rules those are is looked up once for each combination of values.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from governor.core.books import NEVER, WIDE, Book, Total
from governor.core.periods import BUCKET, Calendar, Period
from governor.core.rules.budget import Budget
from governor.core.scopes import DIMENSIONS, Key

MAX_INDEXED_COMBINATIONS: Final = 10_000
"""A rule whose `where` names more combinations of values is looked at one by one."""

Mask = tuple[str, ...]
Sums = tuple[Any, ...]
"""What one combination of values of a mask came to in one quarter of an hour.

`(bucket_us, *values, cost, requests, tokens)`: the start in microseconds since 1970, the values in
the order of the mask, then integer amounts in the order of `Measure`: nano-dollars (unpriced usage
by its stand-in), requests, tokens. Plain tuples, as the database hands them over too.
"""

SUMMED_COLUMNS: Final = (
    "event_time",
    *DIMENSIONS,
    "cap_nano",
    "requests",
    "input_tokens",
    "output_tokens",
)
"""What of a counted event totals may read."""

BUCKET_US: Final = BUCKET // timedelta(microseconds=1)
"""The length of a bucket of `Sums`, in microseconds."""
_BUCKET: Final = "bucket_us"
_OVERFLOW: Final = 2**63
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def summable(events: pa.Table) -> pa.Table:
    """Return counted events with what `sums` adds up, made once for all masks.

    Where the sum of the costs could overflow they are in two halves of 32 bits, else in `low`.
    """
    cost = events["cap_nano"]
    small = (pc.max(cost).as_py() or 0) * events.num_rows < _OVERFLOW
    tokens = (pc.coalesce(events[name], 0) for name in ("input_tokens", "output_tokens"))
    return (
        events.append_column(_BUCKET, pc.multiply(pc.divide(_micros(events), BUCKET_US), BUCKET_US))
        .append_column("high", pc.multiply(cost, 0) if small else pc.shift_right(cost, 32))
        .append_column("low", cost if small else pc.bit_wise_and(cost, 0xFFFF_FFFF))
        .append_column("tokens", pc.add(*tokens))
    )


def sums(events: pa.Table, mask: Mask) -> list[Sums]:
    """Return what events come to, by quarter of an hour and the values of the mask.

    `events` are counted events, or what `summable` made of them.
    """
    added = events if _BUCKET in events.column_names else summable(events)
    totalled = ("high", "low", "requests", "tokens")
    grouped = added.group_by([_BUCKET, *mask], use_threads=False).aggregate(
        [(name, "sum") for name in totalled]
    )
    high, costs, requests, tokens = (grouped[f"{name}_sum"].to_pylist() for name in totalled)
    if any(high):
        costs = [(above << 32) + below for above, below in zip(high, costs, strict=True)]
    keys = (grouped[name].to_pylist() for name in (_BUCKET, *mask))
    return list(zip(*keys, costs, requests, tokens, strict=True))


def _micros(events: pa.Table) -> pa.ChunkedArray:
    return events["event_time"].cast(pa.int64())


class _Alone(NamedTuple):
    """The only rule of a mask, all of whose conditions name one value.

    Its group stands in a combination of values at `picks`; `fixed` are the places and values that
    its conditions ask for.
    """

    book: Book
    fixed: tuple[tuple[int, str], ...]
    picks: tuple[int, ...]

    def find(self, key: Key) -> tuple[tuple[Book, int], ...]:
        """Return the row of a combination of values, if it concerns the rule."""
        for place, value in self.fixed:
            if key[place] != value:
                return ()
        group = tuple([key[place] for place in self.picks])
        return ((self.book, self.book.row(group)),)


class Totals:
    """The totals of some rules; `masks` are the dimensions by which usage must be handed in."""

    def __init__(self, rules: Iterable[Budget]) -> None:
        self.rules: Mapping[str, Budget] = {rule.id: rule for rule in rules}
        self._calendars: dict[Calendar, int] = {}
        by_mask: dict[Mask, list[Budget]] = {}
        for rule in self.rules.values():
            self._calendars.setdefault(rule.calendar, len(self._calendars))
            by_mask.setdefault(rule.mask, []).append(rule)
        self._books = {
            rule.id: Book(rule, self._calendars[rule.calendar]) for rule in self.rules.values()
        }
        self.masks: tuple[Mask, ...] = tuple(by_mask)
        self._finders = {mask: _Finder(mask, some) for mask, some in by_mask.items()}
        self._alone = {
            mask: alone
            for mask, some in by_mask.items()
            if (alone := _alone(mask, some, self._books)) is not None
        }
        self._concerned: dict[Mask, dict[Key, tuple[tuple[Book, int], ...]]] = {}
        self._starts: dict[int, list[datetime]] = {}
        self._forget_concerned()

    def __iter__(self) -> Iterator[Total]:
        for book in self._books.values():
            for row in range(len(book.groups)):
                yield Total(book, row)

    def __len__(self) -> int:
        return sum(len(book.groups) for book in self._books.values())

    def get(self, rule: str, group: Key) -> Total | None:
        """Return the total of a group, None where it never used anything in a known period."""
        book = self._books.get(rule)
        row = None if book is None else book.rows.get(group)
        return None if book is None or row is None else Total(book, row)

    def add(
        self, mask: Mask, rows: Iterable[Sums], calendar: Calendar | None = None
    ) -> list[Total]:
        """Add usage; return the totals that have reached the amount at which they are judged next.

        With a `calendar`, only rules that have it take part. One pass over the combinations of
        values that occur, not over events.
        """
        reached: dict[Total, None] = {}
        concerned, alone = self._concerned[mask], self._alone.get(mask)
        only = None if calendar is None else self._calendars[calendar]
        end = 1 + len(mask)
        for row in rows:
            key = row[1:end]
            found = concerned.get(key) if alone is None else alone.find(key)
            if found is None:
                found = self._enrol(mask, key)
            starts = self._starts.get(row[0]) or self._starts_of(row[0])
            for book, place in found:
                if only is not None and book.calendar != only:
                    continue
                start = starts[book.calendar]
                cells = book.periods.get(start) or book.cells(start)
                mark = cells.marks[place]
                amount = cells.amounts[place] + row[book.measure]
                if not mark or amount > WIDE:
                    mark = mark or book.first
                    cells.put(place, amount, mark)
                else:
                    cells.amounts[place] = amount
                if NEVER < mark <= amount:
                    reached[Total(book, place)] = None
        return list(reached)

    def carry(self, rule: Budget, now: datetime, used: Mapping[Key, int]) -> None:
        """Let groups use what they left of the period before, in which they used so much."""
        period = rule.calendar.period(now)
        before = rule.of(period.start - _MICROSECOND)
        self._books[rule.id].carry(
            period.start, {group: before.left(amount) for group, amount in used.items()}
        )

    def renew(self, rules: Iterable[Budget], now: datetime) -> None:
        """Let periods begin: dated amounts come into force, what was left is carried over."""
        for rule in rules:
            book = self._books[rule.id]
            period = rule.calendar.period(now)
            before = rule.calendar.period(period.start - _MICROSECOND)
            fresh = before.start in book.periods and rule.carries
            used = book.used(before) if fresh else {}
            book.renew(rule.of(now))
            if fresh:
                self.carry(rule, now, used)
        self.rules = {name: book.rule for name, book in self._books.items()}

    def used(self, rule: str, period: Period) -> Mapping[Key, int]:
        """Return what the groups of a rule used in a period."""
        return self._books[rule].used(period)

    def forget(self, now: datetime) -> None:
        """Drop the amounts of periods that are over, and groups without any left.

        Totals that were handed out before are of no use after it.
        """
        current = [calendar.period(now).start for calendar in self._calendars]
        self._starts.clear()
        for book in self._books.values():
            book.forget(current[book.calendar])
        self._forget_concerned()

    def _forget_concerned(self) -> None:
        self._concerned = {mask: {} for mask in self.masks}

    def _starts_of(self, bucket_us: int) -> list[datetime]:
        """Return where the period of each calendar begins that a bucket lies in."""
        at = _EPOCH + timedelta(microseconds=bucket_us)
        starts = [calendar.period(at).start for calendar in self._calendars]
        self._starts[bucket_us] = starts
        return starts

    def _enrol(self, mask: Mask, key: Key) -> tuple[tuple[Book, int], ...]:
        """Look up once which rules a combination of values concerns, and its rows there."""
        values = dict(zip(mask, key, strict=True))
        found = []
        for rule in self._finders[mask].rules_for(values):
            book = self._books[rule.id]
            found.append((book, book.row(tuple(values[name] for name in rule.per))))
        self._concerned[mask][key] = tuple(found)
        return self._concerned[mask][key]


def _alone(mask: Mask, rules: Sequence[Budget], books: Mapping[str, Book]) -> _Alone | None:
    """Return how the rule of a mask is found without a look-up; None where that needs one."""
    (rule, *others) = rules
    conditions = rule.where.conditions
    plain = all(len(c.values) == 1 and not (c.patterns or c.negated) for c in conditions)
    if others or not plain:
        return None
    return _Alone(
        books[rule.id],
        tuple((mask.index(c.dimension), next(iter(c.values))) for c in conditions),
        tuple(mask.index(name) for name in rule.per),
    )


def differences(held: Totals, stored: Totals, now: datetime) -> list[str]:
    """Return a line for each amount of a present period that differs; the rules are the same."""
    names = dict.fromkeys((each.rule.id, each.group) for both in (held, stored) for each in both)
    periods = {name: rule.calendar.period(now) for name, rule in stored.rules.items()}
    lines = []
    for name, group in names:
        found = (totals.get(name, group) for totals in (held, stored))
        one, other = (total.amount(periods[name]) if total else 0 for total in found)
        if one != other:
            lines.append(f"{name} {group}: {one} held, {other} stored")
    return lines


class _Finder:
    """Finds the rules of one mask that a combination of values concerns.

    Rules that name their values are found by a look-up for each set of dimensions they name; the
    rest (globs, negations) are asked one by one.
    """

    def __init__(self, mask: Mask, rules: Iterable[Budget]) -> None:
        self._mask = mask
        self._named: dict[Mask, dict[Key, list[Budget]]] = defaultdict(lambda: defaultdict(list))
        self._others: list[Budget] = []
        for rule in rules:
            self._put(rule)

    def _put(self, rule: Budget) -> None:
        conditions = sorted(rule.where.conditions, key=lambda c: c.dimension)
        combinations = 1
        for condition in conditions:
            combinations *= len(condition.values)
        plain = not any(condition.negated or condition.patterns for condition in conditions)
        if not plain or combinations > MAX_INDEXED_COMBINATIONS:
            self._others.append(rule)
            return
        named = self._named[tuple(condition.dimension for condition in conditions)]
        for values in product(*(condition.values for condition in conditions)):
            named[values].append(rule)

    def rules_for(self, values: Mapping[str, str | None]) -> Sequence[Budget]:
        """Return the rules whose `where` holds."""
        found = [rule for rule in self._others if rule.where.holds(values)]
        for dimensions, named in self._named.items():
            key = tuple(values[dimension] for dimension in dimensions)
            found += named.get(key, ())
        return found
