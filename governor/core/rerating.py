"""What pricing again changed: by day, model and customer, before and after, in nano-dollars."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

CHANGED_COLUMNS: Final = (*("price_id", "cost_nano", "cap_nano", "list_nano", "tier_unpriced"),)
"""What an event is priced by, and what of it pricing again may change."""


class Group(NamedTuple):
    """Events that are shown together."""

    day: date
    provider: str
    model: str
    customer: str | None


@dataclass(frozen=True, slots=True)
class Change:
    """What became of the events of a group that are priced otherwise now.

    Costs are sums of those that are known; `unpriced_*` count those that are not.
    """

    events: int = 0
    unpriced_before: int = 0
    unpriced_after: int = 0
    before_nano: int = 0
    after_nano: int = 0
    cap_before_nano: int = 0
    cap_after_nano: int = 0

    def plus(self, other: "Change") -> "Change":
        """Return both together."""
        names = [part.name for part in fields(self)]
        return Change(**{name: getattr(self, name) + getattr(other, name) for name in names})


Changes = Mapping[Group, Change]


def differs(stored: pa.Table, anew: pa.Table) -> pa.Array:
    """Return which rows are priced otherwise; unknown is a value like others."""
    marks = [_differs(stored[name], anew[name]) for name in CHANGED_COLUMNS]
    found = marks[0]
    for mark in marks[1:]:
        found = pc.or_(found, mark)
    return found.combine_chunks()


def _differs(one: pa.ChunkedArray, other: pa.ChunkedArray) -> pa.ChunkedArray:
    unequal = pc.not_equal(one, other).fill_null(fill_value=False)
    return pc.or_(unequal, pc.not_equal(one.is_valid(), other.is_valid()))


def changes_of(changed: pa.Table) -> dict[Group, Change]:
    """Sum up changed rows: `event_time`, names, and each column as `old_` and `new_`."""
    day = pc.cast(pc.floor_temporal(changed["event_time"], unit="day"), pa.date32())
    wide = changed.append_column("day", day)
    for side in ("old", "new"):
        unknown = pc.cast(wide[f"{side}_cost_nano"].is_null(), pa.int64())
        wide = wide.append_column(f"{side}_unknown", unknown)
    summed = [
        *("old_unknown", "new_unknown", "old_cost_nano", "new_cost_nano"),
        *("old_cap_nano", "new_cap_nano"),
    ]
    keys = list(Group._fields)
    grouped = wide.group_by(keys).aggregate(
        [*((name, "sum") for name in summed), ([], "count_all")]
    )
    return {
        Group(*(row[key] for key in keys)): Change(
            row["count_all"], *(row[f"{name}_sum"] or 0 for name in summed)
        )
        for row in grouped.to_pylist()
    }


def together(parts: Iterable[Changes]) -> dict[Group, Change]:
    """Return several changes as one."""
    whole: dict[Group, Change] = {}
    for part in parts:
        for group, change in part.items():
            whole[group] = whole.get(group, Change()).plus(change)
    return whole


def total(changes: Changes) -> Change:
    """Return all groups as one."""
    whole = Change()
    for change in changes.values():
        whole = whole.plus(change)
    return whole
