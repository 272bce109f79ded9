"""What reports tell, out of the store: from rollups where those know it, else from the events."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import duckdb

from governor.adapters.duckdb import asking, histories
from governor.adapters.duckdb.conditions import is_sql, scope_sql
from governor.adapters.duckdb.store import Store
from governor.core.drivers import Drivers, drivers
from governor.core.errors import PermanentError, TransientError
from governor.core.periods import Calendar, Every, Period, whole_hours
from governor.core.reports import (
    BY,
    EXPLAINED,
    MAX_LISTED,
    MAX_VALUES,
    Acted,
    Amount,
    Economics,
    Named,
    ReportSpec,
    Unknown,
    movers,
)
from governor.core.rollups import ROLLUP_DIMENSIONS
from governor.core.rules.ratio import Against, Ratio
from governor.core.rules.units import Measure
from governor.core.scopes import Scope

MAX_SHOWBACK: Final = 200_000
"""Rows of a showback."""
_MICROSECOND: Final = timedelta(microseconds=1)
_EVENTS: Final = "(FROM events UNION ALL FROM late_events)"
_ROLLUPS: Final = "(FROM rollup_minute UNION ALL BY NAME FROM rollup_hour)"
_EVENTS_SHAPED: Final = """
(SELECT *, 1 AS events, (cost_nano IS NULL)::INTEGER AS unpriced_events,
        CASE WHEN cost_nano IS NULL THEN cap_nano ELSE 0 END AS unpriced_nano,
        CASE WHEN cost_nano IS NULL THEN coalesce(input_tokens, 0) + coalesce(output_tokens, 0)
             ELSE 0 END AS unpriced_tokens
 FROM (FROM events UNION ALL FROM late_events))
"""
_AMOUNTS: Final = """
       coalesce(sum(cost_nano) FILTER (now), 0)::HUGEINT AS cost,
       coalesce(sum(cost_nano) FILTER (NOT now), 0)::HUGEINT AS before,
       coalesce(sum(requests) FILTER (now), 0)::BIGINT AS requests,
       coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)) FILTER (now), 0)::BIGINT
           AS tokens
"""
_BY: Final = """
WITH spans AS (
    SELECT *, {time} >= $3 AS now FROM {rows}
    WHERE (({time} >= $1 AND {time} < $2) OR ({time} >= $3 AND {time} < $4)){where}
)
SELECT {dimension} AS value, {amounts} FROM spans GROUP BY ALL
"""
_TOTAL: Final = """
SELECT coalesce(sum(cost_nano), 0)::HUGEINT AS cost,
       coalesce(sum(unpriced_events), 0)::BIGINT AS events,
       coalesce(sum(unpriced_tokens), 0)::BIGINT AS tokens,
       coalesce(sum(unpriced_nano), 0)::HUGEINT AS capped
FROM {rows} WHERE {time} >= $1 AND {time} < $2{where}
"""
_DAYS: Final = """
SELECT start, sum(cost_nano)::HUGEINT AS cost
FROM (SELECT {time} AS at, cost_nano FROM {rows} WHERE {time} >= $2 AND {time} < $3{where}) e
ASOF JOIN (SELECT unnest($1::TIMESTAMPTZ[]) AS start) d ON e.at >= d.start
WHERE cost_nano IS NOT NULL GROUP BY start
"""
_USERS: Final = """
SELECT count(*)::BIGINT AS users FROM (
    SELECT DISTINCT customer, "user" FROM {rows}
    WHERE event_time >= $1 AND event_time < $2 AND "user" IS NOT NULL{where}
)
"""
_ACTED: Final = """
SELECT rule, mode, list_sort(flatten(list(actions))) AS actions,
       count(DISTINCT (alert_id, episode))::BIGINT AS times
FROM alert_lines
WHERE happened_at >= $1 AND happened_at < $2 AND len(actions) > 0 AND mode IN ('shadow', 'enforce')
GROUP BY ALL ORDER BY times DESC, rule LIMIT $3
"""
_ILL: Final = """
SELECT rule, health, count(*)::BIGINT AS many FROM alerts
WHERE phase <> 'resolved' AND health <> 'ok' GROUP BY ALL ORDER BY ALL LIMIT $1
"""


_SHOWBACK: Final = """
SELECT {by} AS name, (({time}) AT TIME ZONE $3)::DATE AS day, feature, model,
       sum(requests)::BIGINT AS requests,
       sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::BIGINT AS tokens,
       coalesce(sum(cost_nano), 0)::HUGEINT AS cost_nano,
       sum(unpriced_events)::BIGINT AS unpriced_events
FROM {rows} WHERE {time} >= $1 AND {time} < $2{where}
GROUP BY ALL ORDER BY ALL LIMIT {most}
"""


class Reporting:
    """Answers for reports, in any thread, by cursors of its own: ingest goes on meanwhile.

    `ask` runs a call in the thread that owns the store.
    """

    def __init__(self, store: Store, ask: Callable[[Callable[[], Any]], Any]) -> None:
        self._store = store
        self._ask = ask

    def amounts(
        self, spec: ReportSpec, period: Period, compared: Period
    ) -> tuple[Amount, dict[str, tuple[Named, ...]], dict[str, Amount], dict[str, int]]:
        """Return the whole, the greatest values by dimension, their rest, and what has no name."""
        by: dict[str, tuple[Named, ...]] = {}
        others: dict[str, Amount] = {}
        nameless: dict[str, int] = {}
        whole = Amount(0, 0)
        for dimension in BY:
            found = self._by(spec, dimension, period, compared)
            named = [Named(dimension, row["value"], _amount(row)) for row in found]
            named.sort(key=lambda each: (-each.amount.cost, -each.amount.before, str(each.value)))
            nameless[dimension] = sum(n.amount.cost for n in named if n.value is None)
            if any(each.value is not None for each in named):
                by[dimension] = tuple(named[:MAX_VALUES])
                others[dimension] = _added(each.amount for each in named[MAX_VALUES:])
            whole = _added(each.amount for each in named)
        return whole, by, others, nameless

    def explained(
        self, spec: ReportSpec, by: Mapping[str, Sequence[Named]], period: Period, compared: Period
    ) -> tuple[Drivers, tuple[Named, ...]]:
        """Return what drove the cost of two periods apart, and what moved most, with the same."""
        found = movers(each for named in by.values() for each in named)
        asked = [is_sql(each.dimension, each.value) for each in found[:EXPLAINED]]
        conditions = ["cost_nano IS NOT NULL", *scope_sql(spec.where)]
        spans = (compared.start, compared.end), (period.start, period.end)
        with self._cursor() as cursor:
            uses = histories.used_between(cursor, conditions, *spans, groups=asked)
        whole, *each_of = [drivers(before, after, Decimal(1)) for before, after in uses]
        told = [replace(each, drivers=why) for each, why in zip(found, each_of, strict=False)]
        return whole, (*told, *found[EXPLAINED:])

    def month_to_date(self, spec: ReportSpec, period: Period) -> int:
        """Return what the month came to that the end of a period is in."""
        month = Calendar(Every.MONTH, spec.zone).period(period.end - _MICROSECOND)
        return int(self._total(spec, month.start, period.end)["cost"])

    def days(self, spec: ReportSpec, period: Period) -> tuple[tuple[datetime, int], ...]:
        """Return when the last local days began, and what each cost."""
        days = spec.days(period)
        rows, time = _source(spec, set())
        query = _DAYS.format(rows=rows, time=time, where=_where(spec.where))
        starts = [day.start for day in days]
        found = {
            row["start"]: int(row["cost"])
            for row in self._rows(query, [starts, days[0].start, days[-1].end])
        }
        return tuple((start, found.get(start, 0)) for start in starts)

    def unknown(self, spec: ReportSpec, period: Period, nameless: dict[str, int]) -> Unknown:
        """Return what has no price, and nobody who is named for it."""
        row = self._total(spec, period.start, period.end)
        return Unknown(row["events"], row["tokens"], int(row["capped"]), nameless)

    def economics(self, spec: ReportSpec, period: Period, cost: int) -> Economics:
        """Return what a period cost against what it brought."""
        bounds = [period.start, period.end]
        (row,) = self._rows(_USERS.format(rows=_EVENTS, where=_where(spec.where)), bounds)
        rule = Ratio(
            id=spec.name,
            owner="",
            summary="",
            limit_text="",
            thresholds=(),
            where=spec.where,
            numerator=Measure.COST,
            denominator=Against.REVENUE,
            min_denominator=0,
        )
        with self._cursor() as cursor:
            revenue = asking.stated(cursor, rule, *bounds).get(())
        return Economics(revenue, row["users"], cost)

    def showback(self, spec: ReportSpec, by: str, period: Period) -> list[dict[str, Any]]:
        """Return what each value of a dimension used, by local day, feature and model.

        Raise PermanentError where that is too much for one answer.
        """
        rows, time = _source(spec, {by})
        query = _SHOWBACK.format(
            by=f'"{by}"', rows=rows, time=time, where=_where(spec.where), most=MAX_SHOWBACK + 1
        )
        found = self._rows(query, [period.start, period.end, spec.zone])
        if len(found) > MAX_SHOWBACK:
            raise PermanentError(
                f"a showback by {by} has more than {MAX_SHOWBACK:,} rows; name one {by} of it"
            )
        return [row | {"cost_nano": int(row["cost_nano"])} for row in found]

    def acted(self, period: Period) -> tuple[tuple[Acted, ...], tuple[Acted, ...]]:
        """Return what rules did in a period, and what those in shadow would have done."""
        rows = self._rows(_ACTED, [period.start, period.end, 2 * MAX_LISTED])
        found = [
            (
                row["mode"],
                Acted(row["rule"], ", ".join(dict.fromkeys(row["actions"])), row["times"]),
            )
            for row in rows
        ]
        done = tuple(acted for mode, acted in found if mode == "enforce")
        return done, tuple(acted for mode, acted in found if mode == "shadow")

    def troubles(self) -> tuple[str, ...]:
        """Return which rules have no number of something, in plain lines."""
        rows = self._rows(_ILL, [MAX_LISTED])
        return tuple(f"{r['rule']}: {r['health']} for {r['many']:,} groups" for r in rows)

    def _by(
        self, spec: ReportSpec, dimension: str, period: Period, compared: Period
    ) -> list[dict[str, Any]]:
        rows, time = _source(spec, {dimension})
        query = _BY.format(
            dimension=f'"{dimension}"',
            rows=rows,
            time=time,
            where=_where(spec.where),
            amounts=_AMOUNTS,
        )
        return self._rows(query, [compared.start, compared.end, period.start, period.end])

    def _total(self, spec: ReportSpec, start: datetime, end: datetime) -> dict[str, Any]:
        rows, time = _source(spec, set())
        query = _TOTAL.format(rows=rows, time=time, where=_where(spec.where))
        return self._rows(query, [start, end])[0]

    def _rows(self, query: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self._cursor() as cursor:
            found: list[dict[str, Any]] = (
                cursor.execute(query, list(values)).to_arrow_table().to_pylist()
            )
        return found

    @contextmanager
    def _cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """Hand out a cursor; what goes wrong with it is told, and breaks nothing else."""
        try:
            made = self._ask(lambda: self._store.database.connection.cursor())  # noqa: PLW0108
            with made as cursor:
                cursor.execute("SET TimeZone = 'UTC'")
                yield cursor
        except duckdb.Error as error:
            first_line = str(error).strip().splitlines()[0]
            raise TransientError(f"the report could not be made: {first_line}") from error


def _source(spec: ReportSpec, asked: set[str]) -> tuple[str, str]:
    """Return where amounts come from, and its column of time."""
    known = {*asked, *spec.where.dimensions} <= set(ROLLUP_DIMENSIONS)
    rolled = known and whole_hours(spec.zone)
    return (_ROLLUPS, "bucket") if rolled else (_EVENTS_SHAPED, "event_time")


def _where(scope: Scope) -> str:
    return "".join(f" AND {condition}" for condition in scope_sql(scope))


def _amount(row: Mapping[str, Any]) -> Amount:
    return Amount(int(row["cost"]), int(row["before"]), row["requests"], row["tokens"])


def _added(amounts: Any) -> Amount:
    listed = list(amounts)
    return Amount(
        sum(each.cost for each in listed),
        sum(each.before for each in listed),
        sum(each.requests for each in listed),
        sum(each.tokens for each in listed),
    )
