"""What rules ask of the views: what business events state of a window, and questions in SQL."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import duckdb

from governor.adapters.duckdb.conditions import scope_sql
from governor.core.alerts import Health, Seen
from governor.core.business import BUSINESS_DIMENSIONS
from governor.core.errors import PermanentError
from governor.core.pricing import NANO_PER_USD
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.units import MICRO, Unit
from governor.core.scopes import Key, Scope

FETCHED_ROWS: Final = 20_000
MAX_GROUPS: Final = 100_000
"""Rows that a question may have for an answer."""

_SCALES: Final = {Unit.COST: NANO_PER_USD, Unit.SHARE: MICRO, Unit.COUNT: MICRO, Unit.SPAN: 1}
_HOLDING: Final = """
SELECT * FROM (
    FROM business_events
    SEMI JOIN (
        SELECT DISTINCT source, event_id FROM business_events
        WHERE measure = '{measure}' AND event_time < $2 AND coalesce(until, event_time) >= $1
    ) USING (source, event_id)
    QUALIFY row_number() OVER (
        PARTITION BY source, event_id
        ORDER BY op = 'insert', updated_at DESC, topic, "partition", "offset" DESC
    ) = 1
)
WHERE op <> 'delete' AND measure = '{measure}'{conditions}
"""
"""What holds now of all that was ever said of a window; see the view `business`."""

_STATED: Final = """
WITH holding AS ({holding}), shares AS (
    SELECT *, epoch_us(event_time) AS starts, epoch_us(until) AS ends,
           greatest(least(epoch_us($2), ends), starts) - starts AS until_us,
           least(greatest(epoch_us($1), starts), ends) - starts AS from_us,
           CASE WHEN until IS NOT NULL
                THEN amount::HUGEINT * until_us // (ends - starts)
                   - amount::HUGEINT * from_us // (ends - starts)
                WHEN event_time >= $1 AND event_time < $2 THEN amount ELSE 0 END AS share
    FROM holding
)
SELECT {groups}{total}::HUGEINT AS amount FROM shares{named} GROUP BY ALL HAVING count(*) > 0
"""
_STATED_UNTIL: Final = """
SELECT max(coalesce(until, event_time + INTERVAL 1 MICROSECOND)) FROM business_events
WHERE measure = '{measure}' AND op <> 'delete' AND event_time < $1{conditions}
"""


def streamed(
    connection: duckdb.DuckDBPyConnection, query: str, values: Sequence[Any]
) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of an answer, some thousands in memory at a time."""
    cursor = connection.execute(query, list(values))
    while rows := cursor.fetchmany(FETCHED_ROWS):
        yield from rows


def stated_sql(rule: Ratio) -> str:
    """Return the question for what is told of the denominator of a ratio in [$1, $2).

    What is told of a span is shared out evenly over it. Of all together it is what is stated of
    no customer in particular, where something is, else the sum of what is stated.
    """
    named = [name for name in rule.per if name in BUSINESS_DIMENSIONS]
    total = (
        "sum(share)"
        if named or "customer" in rule.where.dimensions
        else "coalesce(sum(share) FILTER (customer IS NULL), sum(share))"
    )
    return _STATED.format(
        holding=_HOLDING.format(measure=rule.denominator.value, conditions=_conditions(rule.where)),
        groups="".join(f'"{name}", ' for name in named),
        total=total,
        named="".join(
            f'{" AND" if number else " WHERE"} "{name}" IS NOT NULL'
            for number, name in enumerate(named)
        ),
    )


def stated_until(
    connection: duckdb.DuckDBPyConnection, rule: Ratio, at: datetime
) -> datetime | None:
    """Return until when, at most `at`, the denominator of a ratio was told by anybody."""
    query = _STATED_UNTIL.format(measure=rule.denominator.value, conditions=_conditions(rule.where))
    found: datetime | None = connection.execute(query, [at]).to_arrow_table()[0][0].as_py()
    return None if found is None else min(found, at)


def stated(
    connection: duckdb.DuckDBPyConnection, rule: Ratio, start: datetime, end: datetime
) -> dict[Key, int]:
    """Return what the denominator of each group came to in [`start`, `end`), as it was told."""
    rows = connection.execute(stated_sql(rule), [start, end]).fetchall()
    return {row[:-1]: int(row[-1]) for row in rows if row[-1] is not None}


def _conditions(where: Scope) -> str:
    """Return the conditions of a scope on what business events say."""
    known = tuple(c for c in where.conditions if c.dimension in BUSINESS_DIMENSIONS)
    return "".join(f" AND {condition}" for condition in scope_sql(Scope(known)))


def answer(
    connection: duckdb.DuckDBPyConnection, rule: Query, start: datetime, end: datetime
) -> dict[Key, Seen]:
    """Ask the question of a rule; raise PermanentError where it has no answer in time."""
    names, rows = asked(connection, rule.sql, start, end, rule.timeout)
    if len(rows) > MAX_GROUPS:
        raise PermanentError(f"the query of {rule.id} has more than {MAX_GROUPS:,} rows")
    places = [names.index(name) for name in rule.per]
    value = names.index(rule.value)
    found: dict[Key, Seen] = {}
    for row in rows:
        group = tuple(None if row[place] is None else str(row[place]) for place in places)
        if group in found:
            raise PermanentError(f"the query of {rule.id} has two rows for one group")
        found[group] = _number(rule, row[value])
    return found


def _number(rule: Query, value: Any) -> Seen:
    """Return a value in the unit of a rule, rounded towards not firing; NULL is no data."""
    if value is None:
        return Health.NO_DATA
    exact = value if isinstance(value, int | Decimal) else Decimal(repr(float(value)))
    if not Decimal(exact).is_finite():
        return Health.ERROR
    scaled = exact * _SCALES.get(rule.unit_of, 1)
    return int(scaled // 1) if not rule.below else -int(-(-scaled // 1))


def asked(
    connection: duckdb.DuckDBPyConnection,
    sql: str,
    start: datetime,
    end: datetime,
    timeout: timedelta,
) -> tuple[Sequence[str], Sequence[tuple[Any, ...]]]:
    """Ask a question of [`$from`, `$to`); return columns and rows. Raise PermanentError."""
    try:
        with _interrupted(connection, timeout):
            cursor = connection.execute(sql, {"from": start, "to": end})
            names = [column[0] for column in cursor.description or ()]
            return names, cursor.fetchmany(MAX_GROUPS + 1)
    except duckdb.InterruptException as error:
        raise PermanentError(f"the query took longer than {timeout.total_seconds():g} s") from error
    except duckdb.Error as error:
        raise PermanentError(f"the query failed: {str(error).splitlines()[0]}") from error


@contextmanager
def _interrupted(
    connection: duckdb.DuckDBPyConnection, timeout: timedelta
) -> Iterator[Mapping[str, Any]]:
    """Interrupt what a connection does when it takes too long."""
    timer = threading.Timer(timeout.total_seconds(), connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield {}
    finally:
        timer.cancel()
