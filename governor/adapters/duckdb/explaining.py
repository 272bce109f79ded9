"""Where a rule's number comes from: a question to the view `usage` that anybody may ask again."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from governor.adapters.duckdb.asking import stated_sql
from governor.adapters.duckdb.conditions import is_sql, scope_sql
from governor.adapters.duckdb.file import open_file
from governor.adapters.duckdb.past import Past
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.rules.spike import Spike
from governor.core.rules.units import Measure
from governor.core.scopes import Key

MAX_GROUPS: Final = 20
"""Groups of a rule that are explained at once, those with the greatest amounts."""

_AMOUNTS: Final = {
    Measure.COST: "sum(cap_nano)::HUGEINT",
    Measure.REQUESTS: "sum(requests)::HUGEINT",
    Measure.TOKENS: "sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::HUGEINT",
}


@dataclass(frozen=True, slots=True)
class Amount:
    """What a group came to, by how many events, and when it was last used."""

    group: Key
    amount: int
    events: int
    unpriced_events: int
    last_event: datetime


def sql_of(rule: Rule, start: datetime, end: datetime) -> str:
    """Return the questions behind the number of a gauge, for a window, ready to be asked."""
    first, last = (f"TIMESTAMPTZ '{at.isoformat()}'" for at in (start, end))
    if isinstance(rule, Query):
        return rule.sql.strip().replace("$from", first).replace("$to", last)
    if isinstance(rule, Ratio):
        above = amounts_sql(rule, start, end, {})
        if not rule.denominator.is_told:
            return above
        below = stated_sql(rule).strip().replace("$1", first).replace("$2", last)
        return f"{above};\n{below}"
    return amounts_sql(rule, start, end, {})


def amounts_sql(
    rule: Rule, start: datetime, end: datetime, chosen: Mapping[str, str | None]
) -> str:
    """Return the question for what groups of a rule came to in [`start`, `end`).

    `chosen` are values that usage must have beside what the rule says.
    """
    measure = Measure.COST
    if isinstance(rule, Budget | Spike | Forecast | MixDrift):
        measure = rule.measure
    elif isinstance(rule, Ratio):
        measure = rule.numerator
    columns = "".join(f'"{name}", ' for name in rule.per)
    conditions = [
        f"event_time >= TIMESTAMPTZ '{start.isoformat()}'",
        f"event_time < TIMESTAMPTZ '{end.isoformat()}'",
        *scope_sql(rule.where),
        *(is_sql(name, value) for name, value in chosen.items()),
    ]
    return (
        f"SELECT {columns}{_AMOUNTS[measure]} AS amount, count(*) AS events,"
        " count(*) FILTER (cost_nano IS NULL) AS unpriced_events,"
        ' count(DISTINCT "user") AS users, max(event_time) AS last_event\n'
        "FROM usage\nWHERE " + "\n  AND ".join(conditions) + "\n"
        f"GROUP BY ALL HAVING count(*) > 0 ORDER BY amount DESC LIMIT {MAX_GROUPS}"
    )


class Numbers:
    """Answers from a store that is open."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def amounts(self, rule: Budget, query: str) -> list[Amount]:
        """Return the answer to `amounts_sql`, the greatest first."""
        rows = self._connection.execute(query).to_arrow_table().to_pylist()
        return [
            Amount(
                group=tuple(row[name] for name in rule.per),
                amount=int(row["amount"]),
                events=row["events"],
                unpriced_events=row["unpriced_events"],
                last_event=row["last_event"],
            )
            for row in rows
        ]

    def past(self, until: datetime) -> Past:
        """Return what was known up to a time."""
        return Past(self._connection, until)

    def alert_of(self, rule: str, group: Key, start: datetime) -> dict[str, Any] | None:
        """Return how the alert of a group and period stands; None where there never was one."""
        rows = self._connection.execute(
            "SELECT alert_id, phase, mode, level, crossed, since, health, episode, fired_at,"
            ' ended_at, ending FROM alerts WHERE rule = $1 AND "group" = $2 AND period_start = $3',
            [rule, json.dumps(list(group)), start],
        ).to_arrow_table()
        found: list[dict[str, Any]] = rows.to_pylist()
        return found[0] if found else None

    def firing(self) -> list[dict[str, Any]]:
        """Return all alerts that fire: rule, values of the group, level, mode."""
        rows = self._connection.execute(
            'SELECT rule, "group", level, mode FROM alerts'
            " WHERE phase IN ('firing', 'recovering') AND mode IN ('notify', 'enforce')"
        ).fetchall()
        return [
            {"rule": rule, "group": json.loads(group), "level": level, "mode": mode}
            for rule, group, level, mode in rows
        ]

    def throttles_of(self, alert: str, at: datetime) -> Sequence[dict[str, Any]]:
        """Return the newest version of each directive of an alert that has not ended at a time."""
        rows = self._connection.execute(
            "SELECT arg_max(body, version) AS body FROM directive_versions"
            " WHERE starts_with(directive_id, $2) GROUP BY directive_id"
            " HAVING arg_max(until, version) > $1",
            [at, f"{alert}-"],
        ).fetchall()
        return [json.loads(body) for (body,) in rows]


@contextmanager
def numbers_of(path: Path) -> Iterator[Numbers]:
    """Open a store read-only; raise StoreInUseError where a daemon has it open."""
    with closing(open_file(path, {"memory_limit": "1GB"}, read_only=True)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield Numbers(connection)
