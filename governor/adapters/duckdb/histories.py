"""What gauges begin with, and what explains an alert: usage by group and cell, and two spans."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa

from governor.adapters.duckdb.conditions import is_sql, scope_sql
from governor.adapters.duckdb.file import registered
from governor.core.drivers import Use
from governor.core.gauges.history import Block, Exemption, Wanted
from governor.core.pricing import Rates
from governor.core.rollups import ROLLUP_DIMENSIONS
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure
from governor.core.scopes import Key
from governor.core.stories import Comparison, Contributor, Spans

GROUPS_AT_ONCE: Final = 10_000
CONTRIBUTING: Final = ("customer", "feature", "model", "api_key", "user")
"""Dimensions whose values are asked for what they contributed."""
MAX_CONTRIBUTORS: Final = 20

_HOUR: Final = timedelta(hours=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_EVENTS: Final = "(FROM events UNION ALL FROM late_events)"
_ROLLUPS: Final = "(FROM rollup_minute UNION ALL BY NAME FROM rollup_hour)"
_TOKENS: Final = "coalesce(input_tokens, 0) + coalesce(output_tokens, 0)"
_GROUPS: Final = """
SELECT {columns} FROM {rows} GROUP BY {columns}{order} LIMIT {most}
"""
_HISTORY: Final = """
SELECT g.place, (epoch_us(r.{time}) // {cell})::INTEGER AS cell, {amounts}
FROM (FROM {rows} WHERE {where}) r JOIN groups g ON true{same}
"""
_SPANS: Final = "SELECT *, event_time >= $2 AS after FROM {rows} WHERE {conditions}"
_USED: Final = """
SELECT after, coalesce(model, '') AS model, price_id, sum(requests)::BIGINT AS requests,
       sum(cap_nano)::HUGEINT AS cost, {parts}
FROM ({rows}) GROUP BY ALL
"""
_RATES: Final = """
SELECT price_id, tier, {parts} FROM prices
WHERE price_id IN (SELECT unnest($1::BIGINT[]))
"""
_CONTRIBUTED: Final = """
SELECT {columns}, {which}, ({more})::HUGEINT AS more
FROM ({rows}) GROUP BY GROUPING SETS ({sets}) HAVING more > 0 ORDER BY more DESC LIMIT {most}
"""
_AMOUNTS: Final = {
    Measure.COST: "cap_nano",
    Measure.REQUESTS: "requests",
    Measure.TOKENS: _TOKENS,
}
_PARTS: Final = {
    "input": "greatest(coalesce(input_tokens, 0) - coalesce(cache_read_tokens, 0)"
    " - coalesce(cache_write_5m_tokens, 0) - coalesce(cache_write_1h_tokens, 0)"
    " - coalesce(input_audio_tokens, 0), 0)",
    "cache_read": "coalesce(cache_read_tokens, 0)",
    "cache_write_5m": "coalesce(cache_write_5m_tokens, 0)",
    "cache_write_1h": "coalesce(cache_write_1h_tokens, 0)",
    "input_audio": "coalesce(input_audio_tokens, 0)",
    "output": "greatest(coalesce(output_tokens, 0) - coalesce(reasoning_tokens, 0)"
    " - coalesce(output_audio_tokens, 0), 0)",
    "reasoning": "coalesce(reasoning_tokens, 0)",
    "output_audio": "coalesce(output_audio_tokens, 0)",
    "request": "requests",
    "web_search": "coalesce(web_searches, 0)",
    "image": "coalesce(output_images, 0)",
    "compute": "coalesce(compute_ms, 0)",
}
"""What each rate of a price is multiplied by; see `queries.PRICE`."""


class _Charged(NamedTuple):
    """A stored price: its service tier, and the rate of every part."""

    tier: str | None
    rates: Rates


def histories(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, until: datetime | None = None
) -> Iterator[Block]:
    """Yield what groups used by cell; from rollups, where those know all that is asked."""
    asked = {*wanted.where.dimensions, *wanted.per}
    whole = until is None or not until.timestamp() % _HOUR.total_seconds()
    rolled = asked <= set(ROLLUP_DIMENSIONS) and not wanted.cell % _HOUR and whole
    time, rows = ("bucket", _ROLLUPS) if rolled else ("event_time", _EVENTS)
    conditions = [f"{time} >= $1", *([f"{time} < $2"] if until else []), *scope_sql(wanted.where)]
    conditions += [is_sql(name, value) for name, value in (wanted.only or {}).items()]
    where = " AND ".join(conditions)
    times = [wanted.start, *([until] if until else [])]
    keys = _groups(connection, wanted, f"{rows} WHERE {where}", times)
    cell = wanted.cell // _MICROSECOND
    amounts = ", ".join(f"({_AMOUNTS[m]})::BIGINT AS {m}" for m in wanted.measures)
    for first in range(0, len(keys), GROUPS_AT_ONCE):
        some = keys[first : first + GROUPS_AT_ONCE]
        group = pa.table(
            {
                **{name: pa.array([key[n] for key in some]) for n, name in enumerate(wanted.per)},
                "place": pa.array(range(len(some)), pa.int32()),
            }
        )
        same = "".join(f' AND g."{n}" IS NOT DISTINCT FROM r."{n}"' for n in wanted.per)
        query = _HISTORY.format(
            time=time, cell=cell, amounts=amounts, rows=rows, where=where, same=same
        )
        with registered(connection, groups=group):
            table = connection.execute(query, times).to_arrow_table()
        place, at, *used = (column.to_numpy() for column in table.columns)
        yield Block(some, place, at, dict(zip(wanted.measures, used, strict=True)))


def _groups(
    connection: duckdb.DuckDBPyConnection, wanted: Wanted, rows: str, times: list[datetime]
) -> list[Key]:
    """Return the groups that are wanted; which used most is asked only where there are too many."""
    columns = ", ".join(f'"{name}"' for name in wanted.per) or "1"

    def ask(order: str) -> list[Key]:
        query = _GROUPS.format(columns=columns, rows=rows, order=order, most=wanted.most + 1)
        return connection.execute(query, times).fetchall()

    found = ask("")
    if len(found) > wanted.most:
        found = ask(f" ORDER BY sum({_AMOUNTS[wanted.measures[0]]}) DESC NULLS LAST")
    return found[: wanted.most] if wanted.per else [() for _ in found]


def exemptions(connection: duckdb.DuckDBPyConnection, rule: str) -> list[Exemption]:
    """Return what a rule is not to learn from, or not to tell of."""
    rows = connection.execute(
        'SELECT "group", starts_at, ends_at, planned, reason, who FROM exemptions'
        " WHERE rule = $1 ORDER BY made_at",
        [rule],
    ).to_arrow_table()
    return [exemption_of(rule, row) for row in rows.to_pylist()]


def exemption_of(rule: str, row: Mapping[str, Any]) -> Exemption:
    """Return a row of the table `exemptions`."""
    return Exemption(
        rule=rule,
        group=None if row["group"] is None else tuple(row["group"]),
        start=row["starts_at"],
        end=row["ends_at"],
        planned=row["planned"],
        reason=row["reason"],
        who=row["who"],
    )


def compared(
    connection: duckdb.DuckDBPyConnection, rule: Rule, group: Key, spans: Spans
) -> Comparison:
    """Compare what a group of a rule used in two spans, by model and by who used it."""
    chosen = dict(zip(rule.per, group, strict=True))
    conditions = [
        "event_time >= $1",
        "event_time < $3",
        *scope_sql(rule.where),
        *(is_sql(name, value) for name, value in chosen.items()),
    ]
    if spans.same_hours:
        day = timedelta(days=1) // _MICROSECOND
        width = min((spans.end - spans.start) // _MICROSECOND, day)
        conditions.append(f"(epoch_us(event_time) - epoch_us($1)) % {day} < {width}")
    rows = _SPANS.format(rows=_EVENTS, conditions=" AND ".join(conditions))
    times = [spans.since, spans.start, spans.end]
    parts = ", ".join(f"sum({part})::HUGEINT AS {name}" for name, part in _PARTS.items())
    query = _USED.format(parts=parts, rows=rows)
    found: list[dict[str, Any]] = connection.execute(query, times).to_arrow_table().to_pylist()
    rates = _rates(connection, [row["price_id"] for row in found])
    usual = _usual_prices(found, rates)
    asked = [name for name in CONTRIBUTING if name not in rule.per]
    return Comparison(
        before=_uses([row for row in found if not row["after"]], usual, rates),
        after=_uses([row for row in found if row["after"]], usual, rates),
        contributors=_contributors(connection, rows, times, asked, spans),
    )


def used_between(
    connection: duckdb.DuckDBPyConnection,
    conditions: Sequence[str],
    before: tuple[datetime, datetime],
    after: tuple[datetime, datetime],
    groups: Sequence[str] = (),
) -> list[tuple[dict[str, Use], dict[str, Use]]]:
    """Return usage by model of two spans that need not touch, of all and then of each group.

    `conditions` say of whom all is, each of `groups` is one more condition. It is one scan.
    """
    spans = "((event_time >= $1 AND event_time < $3) OR (event_time >= $2 AND event_time < $4))"
    rows = _SPANS.format(rows=_EVENTS, conditions=" AND ".join([spans, *conditions]))
    parts = ", ".join(f"sum({part})::HUGEINT AS {name}" for name, part in _PARTS.items())
    flags = "".join(f", coalesce({group}, false) AS g{n}" for n, group in enumerate(groups))
    query = _USED.format(parts=parts + flags, rows=rows)
    times = [before[0], after[0], before[1], after[1]]
    found: list[dict[str, Any]] = connection.execute(query, times).to_arrow_table().to_pylist()
    rates = _rates(connection, [row["price_id"] for row in found])
    usual = _usual_prices(found, rates)
    return [
        (
            _uses([row for row in chosen if not row["after"]], usual, rates),
            _uses([row for row in chosen if row["after"]], usual, rates),
        )
        for flag in (None, *(f"g{n}" for n in range(len(groups))))
        for chosen in [[row for row in found if flag is None or row[flag]]]
    ]


def _usual_prices(
    rows: list[dict[str, Any]], rates: Mapping[int, _Charged]
) -> dict[tuple[str, str | None], int]:
    """Return the price that each model and tier was charged most by before."""
    charged: dict[tuple[str, str | None], dict[int, int]] = {}
    for row in rows:
        if not row["after"] and row["price_id"] in rates:
            prices = charged.setdefault((row["model"], rates[row["price_id"]].tier), {})
            prices[row["price_id"]] = prices.get(row["price_id"], 0) + int(row["cost"] or 0)
    return {name: max(prices, key=lambda price: prices[price]) for name, prices in charged.items()}


def _rates(connection: duckdb.DuckDBPyConnection, prices: list[int | None]) -> dict[int, _Charged]:
    rows = connection.execute(
        _RATES.format(parts=", ".join(_PARTS)), [[price for price in prices if price is not None]]
    ).to_arrow_table()
    return {
        row["price_id"]: _Charged(
            row["tier"], Rates(**{part: row[part] for part in _PARTS}).charged()
        )
        for row in rows.to_pylist()
    }


def _uses(
    rows: list[dict[str, Any]],
    usual: Mapping[tuple[str, str | None], int],
    rates: Mapping[int, _Charged],
) -> dict[str, Use]:
    """Return usage by model, with what it would have cost at the usual price of each."""
    found: dict[str, Use] = {}
    for row in rows:
        cost = int(row["cost"] or 0)
        held = found.get(row["model"], Use(0, 0, 0))
        found[row["model"]] = Use(
            held.requests + int(row["requests"] or 0),
            held.cost + cost,
            held.at_old_prices + _at_usual_price(row, cost, usual, rates),
        )
    return found


def _at_usual_price(
    row: Mapping[str, Any],
    cost: int,
    usual: Mapping[tuple[str, str | None], int],
    rates: Mapping[int, _Charged],
) -> int:
    """Return what usage would have cost at the price that was usual for its model and tier."""
    charged = rates.get(row["price_id"])
    if charged is None:
        return cost
    price = usual.get((row["model"], charged.tier), row["price_id"])
    one, other = (
        sum(int(row[part] or 0) * (getattr(each.rates, part) or 0) for part in _PARTS)
        for each in (rates[price], charged)
    )
    return int(Fraction(cost * one, other)) if other else cost


def _contributors(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    times: list[datetime],
    asked: list[str],
    spans: Spans,
) -> list[Contributor]:
    """Return who used more than before, the greatest first."""
    columns = ", ".join(f'"{name}"' for name in asked)
    which = ", ".join(f'grouping("{name}") = 0 AS by_{name}' for name in asked)
    sets = ", ".join(f'("{name}")' for name in asked)
    more = (
        "coalesce(sum(cap_nano) FILTER (after), 0)"
        f" - (coalesce(sum(cap_nano) FILTER (NOT after), 0) * {spans.scale:.12f}::DOUBLE)::HUGEINT"
    )
    query = _CONTRIBUTED.format(
        columns=columns, which=which, more=more, rows=rows, sets=sets, most=MAX_CONTRIBUTORS
    )
    found = connection.execute(query, times).to_arrow_table()
    return [
        Contributor(name, row[name], int(row["more"]))
        for row in found.to_pylist()
        for name in asked
        if row[f"by_{name}"]
    ]
