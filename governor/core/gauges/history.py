"""History: what groups used before, as a gauge takes it up when it begins."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from governor.core.rules.units import Measure
from governor.core.scopes import Key, Scope

Ints = npt.NDArray[np.integer]

MAX_GROUPS: Final = 200_000
"""Groups of a rule whose past is kept in memory; others are left out."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which history: usage in `where`, by the values of `per`, in cells of a length.

    `only` are values of `per` dimensions that it must have. Of more groups than `most`, those that
    used most of the first measure are wanted.
    """

    where: Scope
    per: tuple[str, ...]
    start: datetime
    cell: timedelta
    measures: tuple[Measure, ...]
    only: Mapping[str, str | None] | None = None
    most: int = MAX_GROUPS


class Block(NamedTuple):
    """The history of some groups, in no order; what is about one cell may be in several places.

    `rows` are places in `keys`, `cells` numbers of cells since 1970, `amounts` what was used in
    each, by measure.
    """

    keys: Sequence[Key]
    rows: Ints
    cells: Ints
    amounts: Mapping[Measure, Ints]


Blocks = Iterable[Block]
"""Every group is in one block only."""


@dataclass(frozen=True, slots=True)
class Exemption:
    """A span in which a group is not to be learned from, since it was planned or is forgiven.

    `group` is None for all. Of a `planned` one nobody is told either.
    """

    rule: str
    group: Key | None
    start: datetime
    end: datetime
    planned: bool
    reason: str = ""
    who: str = ""

    def concerns(self, group: Key) -> bool:
        """Return whether it is about a group."""
        return self.group is None or self.group == group
