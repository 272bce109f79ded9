"""The ledger, as evaluation sees it: what is stored of usage, alerts, directives, messages."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from governor.core.alerts import Alert, AlertKey, Transition
from governor.core.decisions import Decisions
from governor.core.directives import Directive
from governor.core.notifications import Notice
from governor.core.totals import Mask, Sums


class Ledger(Protocol):
    """Where decisions are kept; see `adapters.duckdb.state`."""

    decided: int

    def alerts(self, open_or_after: datetime) -> Sequence[Alert]:
        """Return every alert that is open, or whose period ends after a time."""

    def directives(self, now: datetime) -> Sequence[Directive]:
        """Return the newest version of every directive that ends after `now`."""

    def max_version(self) -> int:
        """Return the greatest version of a directive."""

    def history(self, alerts: Sequence[AlertKey]) -> Sequence[tuple[AlertKey, Transition]]:
        """Return the lines of these alerts, in order."""

    def notices(self, messages: Sequence[str]) -> Mapping[str, Notice]:
        """Return what was last to be said in these messages."""

    def totals(self, mask: Mask, start: datetime, end: datetime) -> Sequence[Sums]:
        """Return what is stored between two event times, as if used at the first."""

    def totals_ahead(self, mask: Mask, start: datetime) -> Sequence[Sums]:
        """Return what is stored from an event time on."""

    def newest(self) -> datetime | None:
        """Return the newest event time stored."""

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        """Store decisions in one transaction; its outcome is unknown where this raises."""

    def recall(self) -> None:
        """Learn the outcome of the last commit."""
