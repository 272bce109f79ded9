"""What gauges share: what they read, what they take in, and whose usage it is.

Which group a combination of values belongs to is looked up once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pyarrow as pa

from governor.core.alerts import Health, Seen
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure
from governor.core.scopes import Key
from governor.core.totals import Mask

Sighting = tuple[Any, ...]
"""`(*values, last_us)`: values in the order of a mask, and the newest event time of them."""

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)
FROM_END: Final = {measure: place - len(Measure) for place, measure in enumerate(Measure)}
"""Where the amount of a measure stands in `totals.Sums`, counted from the end."""


@dataclass(frozen=True, slots=True)
class Readings:
    """What was found of each group; `otherwise` of all others, None where those are gone."""

    groups: Mapping[Key, Seen]
    otherwise: Seen | None

    @property
    def quiet(self) -> bool:
        """Whether nothing was found that anybody could be told of."""
        return not self.groups and not isinstance(self.otherwise, Health) and not self.otherwise


@dataclass(frozen=True, slots=True)
class Told:
    """What business events state of a window: the amount of each group.

    All of it is known until `fresh_to`; None where nothing was ever told.
    """

    fresh_to: datetime | None = None
    groups: Mapping[Key, int] = field(default_factory=dict)


def sightings(counted: pa.Table, mask: Mask) -> list[Sighting]:
    """Return when each combination of values of a mask was last seen in counted events."""
    grouped = counted.select(["event_time", *mask]).group_by(list(mask), use_threads=False)
    found = grouped.aggregate([("event_time", "max")])
    micros = found["event_time_max"].cast(pa.int64())
    return list(zip(*(found[name].to_pylist() for name in mask), micros.to_pylist(), strict=True))


class Groups:
    """Which group of a rule a combination of values belongs to, if any."""

    def __init__(self, rule: Rule, mask: Mask) -> None:
        self._rule = rule
        self._mask = mask
        self._known: dict[Key, Key | None] = {}

    def of(self, values: Key) -> Key | None:
        """Look it up."""
        if values in self._known:
            return self._known[values]
        named = dict(zip(self._mask, values, strict=True))
        holds = self._rule.where.holds(named)
        group = tuple(named[name] for name in self._rule.per) if holds else None
        self._known[values] = group
        return group

    def forget(self) -> None:
        """Forget what was looked up."""
        self._known.clear()
