"""The ledger of a rehearsal: what is decided stands in memory, and usage is handed in once."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Protocol

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


class Heard(Protocol):
    """Is handed each notice."""

    def __call__(self, notice: Notice, *, first: bool) -> None:
        """Hear a notice, the first of its message or not."""


class Facts(Protocol):
    """What rules ask that are judged from time to time; see `loops.evaluate.ledger`."""

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when the denominator of a ratio was told."""

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window."""

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule."""

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison | None:
        """Compare what a group of a rule used in two spans."""


class Notebook(Facts, Protocol):
    """Facts that are written down as a test goes on; see `adapters.duckdb.scratch`."""

    def use(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in usage: columns of the table `events`."""

    def tell(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in business events: columns of the table `business_events`."""

    def close(self) -> None:
        """Throw it away."""


class Before(Protocol):
    """What was used before a rehearsal begins; see `loops.evaluate.ledger`."""

    def totals(self, mask: Mask, start: datetime, end: datetime) -> Sequence[Sums]:
        """Return what was used between two times, as if used at the first."""

    def sums_since(self, mask: Mask, start: datetime, cell: timedelta) -> Iterable[Sums]:
        """Return what was used from a time on, by cells of that length."""

    def seen(self, mask: Mask, start: datetime) -> Iterable[Sighting]:
        """Return when each combination of values was last seen, from a time on."""

    def histories(self, wanted: Wanted) -> Blocks:
        """Return what groups used by cell."""

    def exemptions(self, rule: str) -> Sequence[Exemption]:
        """Return what a rule is not to learn from."""


class Memory:
    """Keeps nothing but what was last to be said in each message; see `loops.evaluate.ledger`.

    `facts` answer what rules ask; None where no rule asks. `before` is what was used before all
    that is handed in; None for nothing.
    """

    def __init__(self, heard: Heard, facts: Facts | None, before: Before | None) -> None:
        self.decided = 0
        self._facts = facts
        self._before = before
        self._heard = heard
        self._last: dict[str, Notice] = {}
        self._told: dict[str, dict[str, None]] = {}

    def forget(self) -> None:
        """Forget what was said."""
        self._last.clear()
        self._told.clear()

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
        """Return what was used before the rehearsal began."""
        return self._before.totals(mask, start, end) if self._before else ()

    def sums_since(self, mask: Mask, start: datetime, cell: timedelta) -> Iterable[Sums]:
        """Return what was used before the rehearsal began."""
        return self._before.sums_since(mask, start, cell) if self._before else ()

    def seen(self, mask: Mask, start: datetime) -> Iterable[Sighting]:
        """Return who was seen before the rehearsal began."""
        return self._before.seen(mask, start) if self._before else ()

    def histories(self, wanted: Wanted) -> Blocks:
        """Return what groups used before the rehearsal began."""
        return self._before.histories(wanted) if self._before else ()

    def exemptions(self, rule: str) -> Sequence[Exemption]:
        """Return what a rule is not to learn from."""
        return self._before.exemptions(rule) if self._before else ()

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison | None:
        """Compare what a group of a rule used in two spans."""
        return self._facts.comparison(rule, group, spans) if self._facts else None

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when the denominator of a ratio was told."""
        return self._facts.stated_until(rule, at) if self._facts else None

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window."""
        return self._facts.stated(rule, start, end) if self._facts else {}

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule."""
        return self._facts.answer(rule, start, end) if self._facts else {}

    def totals_ahead(self, mask: Mask, start: datetime) -> Sequence[Sums]:
        """Return none."""
        return ()

    def acks(self, now: datetime) -> Sequence[Ack]:
        """Return none."""
        return ()

    def silences(self, now: datetime) -> Sequence[Silence]:
        """Return none."""
        return ()

    def raises(self, now: datetime) -> Sequence[Raise]:
        """Return none."""
        return ()

    def newest(self) -> datetime | None:
        """Return None."""
        return None

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        """Hand on what would be told, and to whom; who was told before is told of a change."""
        self.decided = number
        for notice in decisions.notices:
            told = self._told.setdefault(notice.message, {})
            fresh = receivers if notice.to is None else notice.to
            told.update(dict.fromkeys(fresh))
            if told:
                first = notice.message not in self._last
                self._last[notice.message] = notice
                self._heard(replace(notice, to=tuple(told)), first=first)

    def recall(self) -> None:
        """Do nothing: every commit is made."""
