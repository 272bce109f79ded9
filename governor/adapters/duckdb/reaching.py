"""Which usage of a span can matter to budgets: that of groups which reach a threshold.

Hours are summed up once for each mask. Where a rule's group comes to its first threshold within a
period, the hours of that period are wanted; all other usage can be left out of a replay.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import duckdb

from governor.adapters.duckdb.conditions import scope_sql
from governor.core.periods import Every, whole_hours
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure
from governor.core.scopes import mask_of
from governor.core.totals import Mask

_COLUMNS: Final = {Measure.COST: "cost", Measure.REQUESTS: "requests", Measure.TOKENS: "tokens"}
_HOURS: Final = """
CREATE OR REPLACE TEMP TABLE hours AS
SELECT date_trunc('hour', event_time) AS hour, {dimensions}
       sum(cap_nano)::HUGEINT AS cost, sum(requests)::BIGINT AS requests,
       sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::BIGINT AS tokens
FROM (FROM events UNION ALL FROM late_events)
WHERE event_time >= $1 AND event_time < $2
GROUP BY ALL
"""
_WANTED: Final = """
CREATE OR REPLACE TEMP TABLE wanted AS SELECT hour{mask} FROM hours LIMIT 0
"""
_REACHED: Final = """
INSERT INTO wanted
WITH counted AS (SELECT *, {period} AS period FROM hours{where}),
     reached AS (SELECT period{per} FROM counted GROUP BY ALL HAVING sum({amount}) >= {first})
SELECT DISTINCT c.hour{mask} FROM counted c SEMI JOIN reached r
    ON r.period = c.period{same}
"""


def reaching(
    connection: duckdb.DuckDBPyConnection,
    mask: Mask,
    rules: Sequence[Rule],
    start: datetime,
    end: datetime,
) -> bool:
    """Make the table `wanted` of hours and values that matter to the rules of a mask.

    It looks through [`start`, `end`) and, before it, the periods that were open at its start.
    Return False where all may matter.
    """
    budgets = [rule for rule in rules if isinstance(rule, Budget) and rule.mask == mask]
    others = [rule for rule in rules if not isinstance(rule, Budget)]
    needed = {mask_of((*rule.mask, *more)) for rule in others for more in ((), ("user",))}
    zones = {rule.calendar.zone for rule in budgets}
    if not budgets or mask in needed or not all(map(whole_hours, zones)):
        return False
    dimensions = "".join(f'"{name}", ' for name in mask)
    begins = min(rule.calendar.period(start).start for rule in budgets)
    connection.execute(_HOURS.format(dimensions=dimensions), [begins, end])
    connection.execute(_WANTED.format(mask="".join(f', "{name}"' for name in mask)))
    for rule in budgets:
        connection.execute(_reached(rule))
    return True


def among(mask: Mask) -> str:
    """Return the condition that an event `e` is in the table `wanted`."""
    same = "".join(f' AND w."{name}" IS NOT DISTINCT FROM e."{name}"' for name in mask)
    return f" AND EXISTS (FROM wanted w WHERE w.hour = date_trunc('hour', e.event_time){same})"


def _reached(rule: Budget) -> str:
    first = min(each.thresholds[0].amount for each in (rule, *(b for _, b in rule.later)))
    conditions = scope_sql(rule.where)
    zone = rule.calendar.zone.replace("'", "''")
    period = (
        "hour"
        if rule.calendar.every is Every.HOUR
        else f"date_trunc('{rule.calendar.every}', hour AT TIME ZONE '{zone}')"
    )
    return _REACHED.format(
        period=period,
        where=" WHERE " + " AND ".join(conditions) if conditions else "",
        per="".join(f', "{name}"' for name in rule.per),
        mask="".join(f', c."{name}"' for name in rule.mask),
        amount=_COLUMNS[rule.measure],
        first=first,
        same="".join(f' AND r."{name}" IS NOT DISTINCT FROM c."{name}"' for name in rule.per),
    )
