"""The query: a number for each group by a question in SQL to the documented views."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar

from governor.core.periods import ALWAYS, Period
from governor.core.rules.shared import Rule
from governor.core.rules.units import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Rule):
    """A checked query: `sql` asks for the columns of `per` and the column `value`, in `unit_of`.

    It reads what lies in [`$from`, `$to`), a `window` that ends when it is asked, and is given up
    after `timeout`. With `below` it fires where the number is small, as a ratio does.
    """

    kind: ClassVar[str] = "query"

    sql: str
    value: str
    unit_of: Unit
    window: timedelta
    timeout: timedelta = timedelta(seconds=5)
    below: bool = False
    every: timedelta = timedelta(minutes=5)

    @property
    def unit(self) -> Unit:
        """What its number is in."""
        return self.unit_of

    @property
    def meaning(self) -> str:
        """What is asked."""
        parts = [self.sql, self.value, self.unit_of, str(self.window), self.below, self.per]
        return json.dumps([self.kind, *parts])

    def period(self, at: datetime) -> Period:  # noqa: ARG002  # the same at any time
        """Return the period of all time."""
        return ALWAYS

    def text(self, amount: int) -> str:
        """Write a number for people."""
        return Rule.text(self, -amount if self.below else amount)
