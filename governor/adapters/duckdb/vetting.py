"""Whether a question may be asked: one SELECT on the views, that has an answer of the right form.

It is tried on empty tables, so a wrong name is found before the first evaluation, not by it.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

import duckdb

from governor.adapters.duckdb.file import schema

VIEWS: Final = (
    "usage",
    "spend_hourly",
    "spend_daily",
    "business",
    "business_daily",
    "unit_economics",
)
"""What a question may read."""

REFUSED: Final = frozenset(
    {"repeat", "lpad", "rpad", "getenv", "query", "query_table", "range", "generate_series"}
)
"""Functions that can take time or memory beyond all bounds, or read elsewhere."""

_NOON: Final = datetime(2026, 1, 1, 12, tzinfo=UTC)


def vet(sql: str, wanted: Sequence[str]) -> None:
    """Raise ValueError, with what to write instead, where a question may not be asked.

    `wanted` are the columns that its answer must have, and no others.
    """
    with closing(_empty().cursor()) as connection:
        tree = _tree(connection, sql)
        _check_tables(tree)
        _check_bounds(tree)
        try:
            found = connection.execute(sql, {"from": _NOON, "to": _NOON}).description or []
        except duckdb.Error as error:
            raise ValueError(_plain(error)) from error
    names = [column[0] for column in found]
    for name in wanted:
        if name not in names:
            raise ValueError(f"has no column {name}; it has {', '.join(names)}")
    more = [name for name in names if name not in wanted]
    if more:
        raise ValueError(f"has the column {more[0]}, which is neither in per nor the value")


@cache
def _empty() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config={"threads": "1"})
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(schema())
    connection.execute("SET enable_external_access = false")
    connection.execute("SET lock_configuration = true")
    return connection


def _tree(connection: duckdb.DuckDBPyConnection, sql: str) -> dict[str, Any]:
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise ValueError(_plain(error)) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        raise ValueError("must be one SELECT")
    (row,) = connection.execute("SELECT json_serialize_sql($1)", [sql]).fetchall()
    tree: dict[str, Any] = json.loads(row[0])
    if tree.get("error"):
        raise ValueError(f"must be one SELECT: {tree.get('error_message', '')}"[:200])
    return tree


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every node of a parsed statement."""
    if isinstance(tree, dict):
        yield tree
        for value in tree.values():
            yield from _nodes(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _nodes(value)


def _check_tables(tree: dict[str, Any]) -> None:
    named = {
        entry["key"]
        for node in _nodes(tree)
        for entry in (node.get("cte_map") or {}).get("map", [])
    }
    for node in _nodes(tree):
        kind, table = node.get("type"), node.get("table_name")
        if kind == "BASE_TABLE" and (node.get("schema_name") or table not in {*VIEWS, *named}):
            raise ValueError(f"reads {table}; it may read {', '.join(VIEWS)}")
        function = node.get("function_name")
        if kind == "TABLE_FUNCTION" and _called(node) != "unnest":
            raise ValueError(f"calls {_called(node)} as a table; it may read {', '.join(VIEWS)}")
        if isinstance(function, str) and function in REFUSED:
            raise ValueError(f"calls {function}, which has no bound")


def _called(node: dict[str, Any]) -> str:
    return str((node.get("function") or {}).get("function_name"))


def _check_bounds(tree: dict[str, Any]) -> None:
    used = {
        str(node.get("identifier")) for node in _nodes(tree) if node.get("class") == "PARAMETER"
    }
    for name in ("from", "to"):
        if name not in used:
            raise ValueError(
                f"has no ${name}; bound the time, such as"
                " WHERE event_time >= $from AND event_time < $to"
            )
    for name in used - {"from", "to"}:
        raise ValueError(f"has the parameter ${name}; there are $from and $to")


def _plain(error: duckdb.Error) -> str:
    """Return the first line of an error, less its kind, and what DuckDB thinks was meant."""
    lines = str(error).splitlines()
    found = lines[0].partition(": ")[2] or lines[0]
    meant = next((each for each in lines if "Candidate" in each or "Did you mean" in each), "")
    return f"{found[:200]}{' (' + meant.strip()[:120] + ')' if meant else ''}"
