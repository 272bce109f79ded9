"""The ledger of a rehearsal: what is decided stands in memory, and usage is handed in once."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from governor.core.alerts import Alert, AlertKey, Transition
from governor.core.decisions import Decisions
from governor.core.directives import Directive
from governor.core.notifications import Notice
from governor.core.totals import Mask, Sums


class Heard(Protocol):
    """Is handed each notice."""

    def __call__(self, notice: Notice, *, first: bool) -> None:
        """Hear a notice, the first of its message or not."""


class Memory:
    """Keeps nothing but what was last to be said in each message; see `loops.evaluate.ledger`."""

    def __init__(self, heard: Heard) -> None:
        self.decided = 0
        self._heard = heard
        self._last: dict[str, Notice] = {}

    def forget(self) -> None:
        """Forget what was said."""
        self._last.clear()

    def alerts(self, open_or_after: datetime) -> Sequence[Alert]:
        """Return none: a rehearsal begins with nothing."""
        return ()

    def directives(self, now: datetime) -> Sequence[Directive]:
        """Return none."""
        return ()

    def max_version(self) -> int:
        """Return 0."""
        return 0

    def history(self, alerts: Sequence[AlertKey]) -> Sequence[tuple[AlertKey, Transition]]:
        """Return none."""
        return ()

    def notices(self, messages: Sequence[str]) -> Mapping[str, Notice]:
        """Return what was last to be said in these messages."""
        return {name: self._last[name] for name in messages if name in self._last}

    def totals(self, mask: Mask, start: datetime, end: datetime) -> Sequence[Sums]:
        """Return none: a rehearsal begins before all usage."""
        return ()

    def totals_ahead(self, mask: Mask, start: datetime) -> Sequence[Sums]:
        """Return none."""
        return ()

    def newest(self) -> datetime | None:
        """Return None."""
        return None

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        """Hand on what would be told."""
        self.decided = number
        for notice in decisions.notices:
            first = notice.message not in self._last
            self._last[notice.message] = notice
            self._heard(notice, first=first)

    def recall(self) -> None:
        """Do nothing: every commit is made."""
