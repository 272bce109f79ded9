"""The ledger, as evaluation sees it: what is stored of usage, alerts, directives, messages."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Seen, Transition
from governor.core.decisions import Decisions
from governor.core.directives import Directive
from governor.core.gauges.history import Blocks, Exemption, Wanted
from governor.core.gauges.shared import Sighting
from governor.core.notifications import Notice
from governor.core.raises import Raise
from governor.core.routing import Silence
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.scopes import Key
from governor.core.stories import Comparison, Spans
from governor.core.totals import Mask, Sums


class Sources(Protocol):
    """What gauges are made of; see `adapters.duckdb.past`."""

    def sums_since(self, mask: Mask, start: datetime, cell: timedelta) -> Iterable[Sums]:
        """Return what is stored from an event time on, by cells of that length."""

    def seen(self, mask: Mask, start: datetime) -> Iterable[Sighting]:
        """Return when each combination of values was last seen, from an event time on."""

    def histories(self, wanted: Wanted) -> Blocks:
        """Return what groups used by cell."""

    def exemptions(self, rule: str) -> Sequence[Exemption]:
        """Return what a rule is not to learn from."""

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison | None:
        """Compare what a group of a rule used in two spans; None where that is not known."""

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when, at most `at`, the denominator of a ratio was told by anybody."""

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window, as it was told."""

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule; raise PermanentError where it has no answer in time."""


class Ledger(Sources, Protocol):
    """Where decisions are kept; see `adapters.duckdb.state`."""

    decided: int

    def alerts(self, open_or_after: datetime) -> Sequence[Alert]:
        """Return every alert that is open, or whose period ends after a time."""

    def directives(self, now: datetime) -> Sequence[Directive]:
        """Return the newest version of each directive that ends later or whose alert lasts."""

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

    def acks(self, now: datetime) -> Sequence[Ack]:
        """Return the newest acknowledgement of each alert that has one which ends after `now`."""

    def silences(self, now: datetime) -> Sequence[Silence]:
        """Return the silences that people ordered and that end after `now`."""

    def raises(self, now: datetime) -> Sequence[Raise]:
        """Return the raises of budgets that end after `now`."""

    def newest(self) -> datetime | None:
        """Return the newest event time stored."""

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        """Store decisions in one transaction; its outcome is unknown where this raises."""

    def recall(self) -> None:
        """Learn the outcome of the last commit."""
