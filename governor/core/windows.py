"""Windows: what groups used over a span that moves with time, and who was seen in it.

Time is cut into cells, so a window moves by a cell at a time. A late event lands in its own cell;
what is older than the oldest cell counts no more.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import numpy as np
import numpy.typing as npt

from governor.core.scopes import Key

FEW_ROWS: Final = 64
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Spending:
    """What each group used, cell by cell; 8 bytes for each cell and group.

    `cells` of the length `cell` are kept, the newest and those before it.
    """

    def __init__(self, cell: timedelta, cells: int) -> None:
        self.cell = cell
        self._cell_us = cell // _MICROSECOND
        self._cells = cells
        self._newest = 0
        self._rows: dict[Key, int] = {}
        self._amounts: npt.NDArray[np.int64] = np.zeros((FEW_ROWS, cells), np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, group: Key) -> bool:
        return group in self._rows

    @property
    def groups(self) -> Iterator[Key]:
        """All that used something lately."""
        return iter(self._rows)

    def add(self, group: Key, at_us: int, amount: int) -> None:
        """Add what a group used at a time, in microseconds since 1970."""
        number = at_us // self._cell_us
        if number > self._newest:
            self._advance(number)
        elif number <= self._newest - self._cells:
            return
        row = self._row(group)  # may make room in another array
        self._amounts[row, number % self._cells] += amount

    def sums(self, start: datetime, end: datetime) -> dict[Key, int]:
        """Return what groups used in the cells of [`start`, `end`), groups with nothing left out.

        Both are at the bounds of cells; what came later than `end` does not count.
        """
        first = (start - _EPOCH) // self.cell
        last = -((_EPOCH - end) // self.cell)
        first = max(first, self._newest - self._cells + 1)
        places = [number % self._cells for number in range(first, min(last, self._newest + 1))]
        if not places or not self._rows:
            return {}
        found = self._amounts[: len(self._rows), places].sum(axis=1)
        return {group: int(found[row]) for group, row in self._rows.items() if found[row]}

    def blocks(self, end: datetime, width: int, many: int) -> npt.NDArray[np.int64]:
        """Return what groups used in blocks of `width` cells, the last of which ends at `end`.

        An array of (groups, many), the newest block last, in the order of `groups`.
        """
        last = (end - _EPOCH) // self.cell - 1
        numbers = np.arange(last - width * many + 1, last + 1)
        held = (numbers > self._newest - self._cells) & (numbers <= self._newest)
        found = self._amounts[: len(self._rows)][:, numbers % self._cells] * held
        return np.asarray(found.reshape(len(self._rows), many, width).sum(axis=2))

    def forget(self) -> None:
        """Drop groups that used nothing in any cell."""
        used: npt.NDArray[np.bool_] = np.any(self._amounts[: len(self._rows)] != 0, axis=1)
        if used.all():
            return
        kept = [group for group, row in self._rows.items() if used[row]]
        self._amounts = np.vstack(
            [self._amounts[: len(self._rows)][used], np.zeros((FEW_ROWS, self._cells), np.int64)]
        )
        self._rows = {group: row for row, group in enumerate(kept)}

    def _advance(self, number: int) -> None:
        """Let `number` be the newest cell; those that fall out are used anew, from nothing."""
        passed = min(number - self._newest, self._cells)
        fresh = [new % self._cells for new in range(number - passed + 1, number + 1)]
        self._amounts[:, fresh] = 0
        self._newest = number

    def _row(self, group: Key) -> int:
        row = self._rows.get(group)
        if row is None:
            row = self._rows[group] = len(self._rows)
            if row == len(self._amounts):
                self._amounts = np.vstack([self._amounts, np.zeros_like(self._amounts)])
        return row


class Sightings:
    """How many members of each group were seen, exactly: each is kept with when it was last.

    A window that ends now holds those who were last seen in it.
    """

    def __init__(self, cell: timedelta) -> None:
        self.cell = cell
        self._cell_us = cell // _MICROSECOND
        self._last: dict[Key, dict[str, int]] = defaultdict(dict)
        self._seen: dict[Key, dict[int, int]] = defaultdict(lambda: defaultdict(int))

    def add(self, group: Key, member: str, at_us: int) -> None:
        """Note that a member of a group was seen."""
        number = at_us // self._cell_us
        members, seen = self._last[group], self._seen[group]
        before = members.get(member, -1)
        if number <= before:
            return
        members[member] = number
        seen[number] += 1
        if before >= 0:
            seen[before] -= 1

    def counts(self, start: datetime) -> dict[Key, int]:
        """Return how many members of each group were seen since `start`, the bound of a cell."""
        first = (start - _EPOCH) // self.cell
        return {
            group: sum(many for number, many in seen.items() if number >= first)
            for group, seen in self._seen.items()
        }

    def forget(self, start: datetime) -> None:
        """Drop who was not seen since `start`."""
        first = (start - _EPOCH) // self.cell
        for group, members in list(self._last.items()):
            kept = {member: number for member, number in members.items() if number >= first}
            if kept:
                self._last[group] = kept
                self._seen[group] = defaultdict(
                    int, {n: many for n, many in self._seen[group].items() if n >= first}
                )
            else:
                del self._last[group], self._seen[group]
