"""The gauge of a mix drift: what each class of a group used, window by window."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from governor.core import mix
from governor.core.alerts import Health, Seen
from governor.core.gauges.history import MAX_GROUPS, Blocks, Wanted
from governor.core.gauges.shared import FROM_END, MICROSECOND, Groups, Readings, Sighting
from governor.core.mix import Floats, Shares
from governor.core.rules.mix_drift import UNLISTED, MixDrift
from governor.core.rules.units import MICRO, Measure
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums
from governor.core.windows import Spending

MAX_CLASSES: Final = 200
"""Classes of a group that are compared, those with the most requests."""


@dataclass(frozen=True, slots=True)
class Moved:
    """The class of a group that moved most in [`start`, `end`): its shares, in millionths.

    `fresh` says that it was never seen in the windows before.
    """

    name: str
    share: int
    usual: int
    fresh: bool
    start: datetime
    end: datetime


class MixGauge:
    """The classes of all groups of a rule."""

    def __init__(self, rule: MixDrift) -> None:
        self.rule = rule
        self.mask: Mask | None = rule.mask
        self.seen_mask: Mask | None = None
        self._groups = Groups(rule, rule.mask)
        self._width = rule.window // rule.cell
        cells = self._width * (rule.windows + 1) + self._width
        self._requests = Spending(rule.cell, cells)
        self._cost = Spending(rule.cell, cells)
        self._by = rule.mask.index(rule.by)
        self._classes: dict[str | None, str] = {}
        self._moved: dict[Key, Moved] = {}

    def wanted(self, now: datetime) -> Wanted:
        """Return the history that it begins with."""
        rule = self.rule
        start = rule.end(now) - rule.window * (rule.windows + 1) - rule.settle
        measures = (Measure.REQUESTS, Measure.COST)
        return Wanted(rule.where, (*rule.per, rule.by), start, rule.cell, measures)

    def take(self, blocks: Blocks) -> None:
        """Begin with a history."""
        cell_us = self.rule.cell // MICROSECOND
        for block in blocks:
            names = [(*key[:-1], self._class_of(key[-1])) for key in block.keys]
            amounts = (block.amounts[Measure.REQUESTS], block.amounts[Measure.COST])
            columns = (block.rows, block.cells, *amounts)
            for row, cell, requests, cost in zip(
                *(column.tolist() for column in columns), strict=True
            ):
                self._put(names[row], cell * cell_us, requests, cost)

    def add(self, rows: Iterable[Sums]) -> None:
        """Take in usage."""
        requests, cost = FROM_END[Measure.REQUESTS], FROM_END[Measure.COST]
        for row in rows:
            group = self._groups.of(row[1:-3])
            if group is not None:
                name = self._class_of(row[1 + self._by])
                self._put((*group, name), row[0], row[requests], row[cost])

    def see(self, rows: Iterable[Sighting]) -> None:
        """Take in nothing."""

    def _put(self, key: Key, at_us: int, requests: int, cost: int) -> None:
        if key not in self._requests and len(self._requests) >= MAX_GROUPS:
            return
        self._requests.add(key, at_us, requests)
        self._cost.add(key, at_us, cost)

    def _class_of(self, value: str | None) -> str:
        found = self._classes.get(value)
        if found is None:
            found = self._classes[value] = self.rule.class_of(value)
        return found

    def read(self, at: datetime) -> Readings:
        """Return by how much the share of each group's class moved that moved most."""
        rule = self.rule
        end = rule.end(at)
        many = rule.windows + 1
        requests = self._requests.blocks(end, self._width, many)
        costs = self._cost.blocks(end, self._width, many)
        rows: dict[Key, list[tuple[str, int]]] = {}
        for row, key in enumerate(self._requests.groups):
            rows.setdefault(key[:-1], []).append((str(key[-1]), row))
        paid_of = dict(zip(self._cost.groups, costs, strict=True))
        nothing = np.zeros(many, np.int64)
        self._moved.clear()
        found: dict[Key, Seen] = {}
        for group, classes in rows.items():
            places = [row for _, row in classes]
            if requests[places, -1].sum() < rule.min_requests:
                found[group] = Health.GUARDED
                continue
            kept = sorted(classes, key=lambda each: -requests[each[1]].sum())[:MAX_CLASSES]
            names = [name for name, _ in kept]
            used = np.array([requests[row] for _, row in kept], np.float64)
            paid = np.array([paid_of.get((*group, name), nothing) for name in names], np.float64)
            found[group] = self._judged(group, names, used, paid, end)
        return Readings(found, Health.GUARDED)

    def _judged(
        self, group: Key, names: list[str], used: Floats, paid: Floats, end: datetime
    ) -> Seen:
        rule = self.rule
        target: Floats | None = None
        if rule.target:
            missing = [name for name in rule.target if name not in names]
            names = [*names, *missing]
            used, paid = (
                np.vstack([held, np.zeros((len(missing), held.shape[1]))]) for held in (used, paid)
            )
            target = np.array([rule.target.get(name, 0) / MICRO for name in names])
        shares = self._shares(used, paid, target)
        if not shares.enough:
            return Health.GUARDED
        moved = np.abs(shares.moved)
        if not rule.tells_unlisted and UNLISTED in names:
            moved[names.index(UNLISTED)] = 0.0
        most = int(np.argmax(moved))
        if not moved[most]:
            return 0
        self._moved[group] = Moved(
            name=names[most],
            share=int(shares.share[most] * MICRO),
            usual=int(shares.usual[most] * MICRO),
            fresh=not used[most, :-1].any(),
            start=end - rule.window,
            end=end,
        )
        return int(moved[most] * MICRO)

    def _shares(self, used: Floats, paid: Floats, target: Floats | None) -> Shares:
        if self.rule.measure is Measure.COST:
            return mix.of_cost(paid[:, -1], paid[:, :-1].T, float(used[:, -1].sum()), target)
        return mix.of_requests(used[:, -1], used[:, :-1].T, target)

    def moved(self, group: Key) -> Moved | None:
        """Return what moved of a group when it was last read."""
        return self._moved.get(group)

    def shares(self, group: Key, at: datetime) -> tuple[list[datetime], dict[str, list[int]]]:
        """Return the ends of all windows with usage, and the share of each class in each."""
        rule = self.rule
        many = rule.windows + 1
        held = self._cost if rule.measure is Measure.COST else self._requests
        used = held.blocks(rule.end(at), self._width, many)
        rows = {str(key[-1]): row for row, key in enumerate(held.groups) if key[:-1] == group}
        totals = used[list(rows.values())].sum(axis=0)
        filled = [place for place in range(many) if totals[place]]
        ends = [rule.end(at) - rule.window * (many - 1 - place) for place in filled]
        shares = {
            name: [int(used[row, place]) * MICRO // int(totals[place]) for place in filled]
            for name, row in rows.items()
        }
        return ends, shares

    def forget(self, now: datetime) -> None:
        """Drop what no window will ask for."""
        del now
        self._requests.forget()
        self._cost.forget()
        self._groups.forget()
        self._classes.clear()
