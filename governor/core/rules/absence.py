"""The absence: nothing came from a group for too long."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from governor.core.periods import ALWAYS, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import Unit
from governor.core.scopes import Key


@dataclass(frozen=True, slots=True, kw_only=True)
class Absence(Rule):
    """A checked absence. Its number is the seconds since the newest event of a group.

    `known` are groups that are looked for whether they were ever seen or not; others are looked
    for from their first event on. One not seen for `forget_after` is forgotten, a known one never.
    """

    kind: ClassVar[str] = "absence"

    known: tuple[Key, ...] = ()
    forget_after: timedelta = timedelta(days=7)

    @property
    def unit(self) -> Unit:
        """Seconds."""
        return Unit.SPAN

    @property
    def meaning(self) -> str:
        """What is looked for."""
        return json.dumps([self.kind, *self.scope_meaning()])

    def period(self, at: datetime) -> Period:  # noqa: ARG002  # the same at any time
        """Return the period of all time."""
        return ALWAYS
