"""Totals: what each group of each rule has come to in its periods, in memory.

Usage is summed up once for all rules that read the same dimensions (a mask) and handed out to the
rules it concerns. Which rules those are is looked up once for each combination of values.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from governor.core.periods import BUCKET, Calendar, Period
from governor.core.rules.budget import Budget, Measure
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
_POSITION: Final = {measure: place - len(Measure) for place, measure in enumerate(Measure)}
"""Where the amount of a measure is in `Sums`, from its end."""


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


@dataclass(slots=True, eq=False)
class Total:
    """What one group of a rule has come to, by the start of the period.

    For each period `cells` holds its amount, and that at which it must be judged next: at first the
    lowest threshold, `first`. `measure` and `calendar` say where to look in rows and periods.
    """

    rule: Budget
    group: Key
    measure: int
    calendar: int
    first: int
    cells: dict[datetime, list[int]] = field(default_factory=dict)

    def amount(self, period: Period) -> int:
        """Return the amount of a period; 0 where nothing was used in it."""
        cell = self.cells.get(period.start)
        return cell[0] if cell else 0

    def mark(self, period: Period, crossed: int) -> None:
        """Ask to be judged again when the threshold after the first `crossed` ones is reached."""
        thresholds = self.rule.thresholds
        next_amount = thresholds[crossed].amount if crossed < len(thresholds) else _NEVER
        self.cells.setdefault(period.start, [0, next_amount])[1] = next_amount


_NEVER: Final = 2**200


class Totals:
    """The totals of some rules; `masks` are the dimensions by which usage must be handed in."""

    def __init__(self, rules: Iterable[Budget]) -> None:
        self.rules: Mapping[str, Budget] = {rule.id: rule for rule in rules}
        self._finders: dict[Mask, _Finder] = {}
        for rule in self.rules.values():
            self._finders.setdefault(rule.mask, _Finder(rule.mask)).put(rule)
        self.masks: tuple[Mask, ...] = tuple(self._finders)
        self._concerned: dict[Mask, dict[Key, list[Total]]] = {mask: {} for mask in self.masks}
        self._totals: dict[tuple[str, Key], Total] = {}
        self._calendars: dict[Calendar, int] = {}
        for rule in self.rules.values():
            self._calendars.setdefault(rule.calendar, len(self._calendars))
        self._starts: dict[int, list[datetime]] = {}

    def __iter__(self) -> Iterator[Total]:
        return iter(self._totals.values())

    def __len__(self) -> int:
        return len(self._totals)

    def get(self, rule: str, group: Key) -> Total | None:
        """Return the total of a group, None where it never used anything in a known period."""
        return self._totals.get((rule, group))

    def add(
        self, mask: Mask, rows: Iterable[Sums], calendar: Calendar | None = None
    ) -> list[Total]:
        """Add usage; return the totals that have reached the amount at which they are judged next.

        With a `calendar`, only rules that have it take part. One pass over the combinations of
        values that occur, not over events.
        """
        reached: dict[int, Total] = {}
        concerned = self._concerned[mask]
        only = None if calendar is None else self._calendars[calendar]
        end = 1 + len(mask)
        for row in rows:
            totals = concerned.get(row[1:end])
            if totals is None:
                totals = concerned[row[1:end]] = self._enrol(mask, row[1:end])
            starts = self._starts.get(row[0]) or self._starts_of(row[0])
            for total in totals:
                if only is not None and total.calendar != only:
                    continue
                start = starts[total.calendar]
                cell = total.cells.get(start)
                if cell is None:
                    cell = total.cells[start] = [0, total.first]
                cell[0] += row[total.measure]
                if cell[0] >= cell[1]:
                    reached[id(total)] = total
        return list(reached.values())

    def forget(self, now: datetime) -> None:
        """Drop the amounts of periods that are over, and groups without any left."""
        current = [calendar.period(now).start for calendar in self._calendars]
        self._starts.clear()
        for total in self._totals.values():
            for start in [at for at in total.cells if at < current[total.calendar]]:
                del total.cells[start]
        self._totals = {key: total for key, total in self._totals.items() if total.cells}
        for mask, concerned in self._concerned.items():
            self._concerned[mask] = {
                key: totals
                for key, totals in concerned.items()
                if totals and all(total.cells for total in totals)
            }

    def _starts_of(self, bucket_us: int) -> list[datetime]:
        """Return where the period of each calendar begins that a bucket lies in."""
        at = _EPOCH + timedelta(microseconds=bucket_us)
        starts = [calendar.period(at).start for calendar in self._calendars]
        self._starts[bucket_us] = starts
        return starts

    def _enrol(self, mask: Mask, key: Key) -> list[Total]:
        values = dict(zip(mask, key, strict=True))
        totals = []
        for rule in self._finders[mask].rules_for(values):
            group = tuple(values[dimension] for dimension in rule.per)
            name = (rule.id, group)
            if name not in self._totals:
                self._totals[name] = Total(
                    rule,
                    group,
                    measure=_POSITION[rule.measure],
                    calendar=self._calendars[rule.calendar],
                    first=rule.thresholds[0].amount,
                )
            totals.append(self._totals[name])
        return totals


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

    def __init__(self, mask: Mask) -> None:
        self._mask = mask
        self._named: dict[Mask, dict[Key, list[Budget]]] = defaultdict(lambda: defaultdict(list))
        self._others: list[Budget] = []

    def put(self, rule: Budget) -> None:
        """Take in a rule."""
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
