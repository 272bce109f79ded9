"""The book: what the groups of one rule have come to, a row a group, in little memory."""

from array import array
from collections.abc import Mapping, MutableSequence, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from governor.core.periods import Period
from governor.core.rules.budget import Budget
from governor.core.rules.units import Measure
from governor.core.scopes import Key

_POSITION: Final = {measure: place - len(Measure) for place, measure in enumerate(Measure)}
"""Where the amount of a measure is in `Sums`, from its end."""


class Cells:
    """What the groups of a rule came to in one period: an amount each, and the next mark.

    The mark is the amount at which a group must be judged next; 0 where it used nothing, and
    `NEVER` where its last threshold is reached.
    """

    __slots__ = ("amounts", "marks")

    def __init__(self, rows: int) -> None:
        self.amounts: MutableSequence[int] = array("q", bytes(8 * rows))
        self.marks: MutableSequence[int] = array("q", bytes(8 * rows))

    def put(self, row: int, amount: int, mark: int) -> None:
        """Set amount and mark of a group; beyond 64 bits a list has room."""
        try:
            self.amounts[row] = amount
            self.marks[row] = mark
        except OverflowError:
            self.amounts, self.marks = list(self.amounts), list(self.marks)
            self.amounts[row], self.marks[row] = amount, mark

    def only(self, rows: Sequence[int]) -> None:
        """Keep some groups, in this order."""
        amounts = [self.amounts[row] for row in rows]
        marks = [self.marks[row] for row in rows]
        wide = isinstance(self.amounts, list)
        self.amounts = amounts if wide else array("q", amounts)
        self.marks = marks if wide else array("q", marks)


class Book:
    """The groups of one rule, each a row, and their cells by the start of the period.

    `measure` and `calendar` say where to look in rows and periods; `first` is the lowest threshold.
    `carried` is what of the period before groups may use first, already taken off their amounts.
    A group takes about 250 bytes, its name included.
    """

    __slots__ = ("calendar", "carried", "first", "groups", "measure", "periods", "rows", "rule")

    def __init__(self, rule: Budget, calendar: int) -> None:
        self.rule = rule
        self.measure = _POSITION[rule.measure]
        self.calendar = calendar
        self.first = rule.thresholds[0].near
        self.rows: dict[Key, int] = {}
        self.groups: list[Key] = []
        self.periods: dict[datetime, Cells] = {}
        self.carried: dict[Key, int] = {}

    def row(self, group: Key) -> int:
        """Return the row of a group, a new one where it has none."""
        row = self.rows.get(group)
        if row is None:
            row = self.rows[group] = len(self.groups)
            self.groups.append(group)
            for cells in self.periods.values():
                cells.amounts.append(0)
                cells.marks.append(0)
        return row

    def cells(self, start: datetime) -> Cells:
        """Return the cells of a period, which have a row for every group."""
        found = self.periods.get(start)
        if found is None:
            found = self.periods[start] = Cells(len(self.groups))
        return found

    def carry(self, start: datetime, left: Mapping[Key, int]) -> None:
        """Let groups use what is left of the period before the one that starts then."""
        self.carried = {group: amount for group, amount in left.items() if amount}
        for group, amount in self.carried.items():
            row, cells = self.row(group), self.cells(start)
            cells.put(row, cells.amounts[row] - amount, cells.marks[row] or self.first)

    def used(self, period: Period) -> dict[Key, int]:
        """Return what each group used in a period, of which `carried` is true."""
        cells = self.periods.get(period.start)
        if cells is None:
            return {}
        return {
            group: cells.amounts[row] + self.carried.get(group, 0)
            for group, row in self.rows.items()
            if cells.marks[row]
        }

    def renew(self, rule: Budget) -> None:
        """Let other amounts of the same rule be in force; all groups are to be judged by them."""
        self.rule = rule
        self.first = rule.thresholds[0].near

    def forget(self, start: datetime) -> None:
        """Drop the periods before the one that starts then, and groups without any left."""
        self.periods = {at: cells for at, cells in self.periods.items() if at >= start}
        used = bytearray(len(self.groups))
        for cells in self.periods.values():
            for row, mark in enumerate(cells.marks):
                if mark:
                    used[row] = 1
        if all(used):
            return
        kept = [row for row, is_used in enumerate(used) if is_used]
        for cells in self.periods.values():
            cells.only(kept)
        self.groups = [self.groups[row] for row in kept]
        self.rows = {group: row for row, group in enumerate(self.groups)}


@dataclass(frozen=True, slots=True)
class Total:
    """What one group of a rule has come to; a row of a book, until periods are forgotten."""

    book: Book
    row: int

    @property
    def rule(self) -> Budget:
        """The rule."""
        return self.book.rule

    @property
    def group(self) -> Key:
        """The values of the rule's `per` dimensions."""
        return self.book.groups[self.row]

    def amount(self, period: Period) -> int:
        """Return the amount of a period; 0 where nothing was used in it."""
        cells = self.book.periods.get(period.start)
        return cells.amounts[self.row] if cells else 0

    def mark(self, period: Period, crossed: int) -> None:
        """Ask to be judged again when the threshold after the first `crossed` ones is reached."""
        thresholds = self.rule.thresholds
        cells = self.book.cells(period.start)
        amount, following = cells.amounts[self.row], NEVER
        if crossed < len(thresholds):
            after = thresholds[crossed]
            following = after.near if amount < after.near else after.amount
        cells.put(self.row, amount, following)


WIDE: Final = 2**63 - 1
NEVER: Final = -1
"""The mark of a group that need not be judged again in its period."""
