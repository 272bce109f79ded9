"""What a store knew up to a time: what rules ask, with nothing that came later."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import duckdb

from governor.adapters.duckdb import asking, histories, queries
from governor.core.alerts import Seen
from governor.core.gauges.history import Block, Exemption, Wanted
from governor.core.gauges.shared import Sighting
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.scopes import Key
from governor.core.stories import Comparison, Spans
from governor.core.totals import Mask, Sums

_MICROSECOND = timedelta(microseconds=1)


class Past:
    """Answers as the ledger of evaluation does; usage from `until` on is left out.

    What business events state is what holds today: corrections are not taken back.
    """

    def __init__(self, connection: duckdb.DuckDBPyConnection, until: datetime) -> None:
        self._connection = connection
        self._until = until

    def totals(self, mask: Mask, start: datetime, end: datetime) -> Sequence[Sums]:
        """Return what was used between two times, as if at the first."""
        if start >= self._until:
            return ()
        bounds = [start, min(end, self._until)]
        return self._connection.execute(queries.stored_sums(mask), bounds).fetchall()

    def sums_since(self, mask: Mask, start: datetime, cell: timedelta) -> Iterator[Sums]:
        """Yield what was used from a time on, by cells of that length."""
        query = queries.sums_since(mask, cell // _MICROSECOND, until=True)
        return asking.streamed(self._connection, query, [start, self._until])

    def seen(self, mask: Mask, start: datetime) -> Iterator[Sighting]:
        """Yield when each combination of values was last seen, from a time on."""
        query = queries.seen_since(mask, until=True)
        return asking.streamed(self._connection, query, [start, self._until])

    def histories(self, wanted: Wanted) -> Iterator[Block]:
        """Yield what groups used by cell."""
        return histories.histories(self._connection, wanted, self._until)

    def exemptions(self, rule: str) -> Sequence[Exemption]:
        """Return what a rule is not to learn from, as it is known today."""
        return histories.exemptions(self._connection, rule)

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison:
        """Compare what a group of a rule used in two spans."""
        return histories.compared(self._connection, rule, group, spans)

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when the denominator of a ratio was told."""
        return asking.stated_until(self._connection, rule, at)

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window."""
        return asking.stated(self._connection, rule, start, end)

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule."""
        return asking.answer(self._connection, rule, start, end)
