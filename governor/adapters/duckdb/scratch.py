"""A store in memory, for tests of rules: the same views, and the same questions to them."""

from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import duckdb
import pyarrow as pa

from governor.adapters.duckdb import asking, histories
from governor.adapters.duckdb.file import registered, schema
from governor.core.alerts import Seen
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.scopes import Key
from governor.core.stories import Comparison, Spans

_LATEST: Final = datetime(9999, 1, 1, tzinfo=UTC)


class Scratch:
    """Usage and business events of a test."""

    def __init__(self) -> None:
        self._connection = duckdb.connect(":memory:", config={"threads": "1"})
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute(schema())
        self._events = 0
        self._stated: dict[tuple[str, datetime, datetime | None], Any] = {}

    def close(self) -> None:
        """Let go of the memory."""
        self._connection.close()

    def use(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in usage: columns of the table `events`, `event_time` among them."""
        self._put("events", rows)

    def tell(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take in business events: columns of the table `business_events`."""
        self._put("business_events", rows)
        self._stated.clear()

    def _put(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        numbered = [
            {**row, "event_id": f"test-{number}", "source": "test"}
            for number, row in enumerate(rows, self._events)
        ]
        self._events += len(numbered)
        if numbered:
            with registered(self._connection, fresh=pa.Table.from_pylist(numbered)):
                self._connection.execute(f"INSERT INTO {table} BY NAME FROM fresh")

    def stated_until(self, rule: Ratio, at: datetime) -> datetime | None:
        """Return until when the denominator of a ratio was told."""
        known: datetime | None = self._once(
            (rule.id, _LATEST, None), lambda: asking.stated_until(self._connection, rule, _LATEST)
        )
        return None if known is None else min(known, at)

    def stated(self, rule: Ratio, start: datetime, end: datetime) -> Mapping[Key, int]:
        """Return what the denominator of each group came to in a window."""
        found: Mapping[Key, int] = self._once(
            (rule.id, start, end), lambda: asking.stated(self._connection, rule, start, end)
        )
        return found

    def _once(self, name: tuple[str, datetime, datetime | None], ask: Callable[[], Any]) -> Any:
        """Ask once between two statements: tests ask the same again and again."""
        if name not in self._stated:
            self._stated[name] = ask()
        return self._stated[name]

    def answer(self, rule: Query, start: datetime, end: datetime) -> Mapping[Key, Seen]:
        """Ask the question of a rule."""
        return asking.answer(self._connection, rule, start, end)

    def comparison(self, rule: Rule, group: Key, spans: Spans) -> Comparison:
        """Compare what a group of a rule used in two spans."""
        return histories.compared(self._connection, rule, group, spans)
