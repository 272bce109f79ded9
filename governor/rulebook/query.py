"""The kind `query`: a number for each group by a question in SQL."""

from datetime import timedelta
from typing import Final

from governor.adapters.duckdb.vetting import vet
from governor.core.rules.query import Query
from governor.core.rules.shared import MAX_ALERTS
from governor.core.rules.units import Measure, Unit
from governor.documents.sections import Read, Section, choice
from governor.documents.texts import identifier
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.ratio import DIRECTION, signed
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import amount, count, duration, seconds, share

KEYS: Final = (
    *(key for key in common.KEYS if key != "where"),
    *common.GAUGE_KEYS,
    "sql",
    "value",
    "unit",
    "direction",
    "window",
    "timeout",
)
MAX_SQL_CHARACTERS: Final = 10_000
MAX_WINDOW: Final = timedelta(days=31)
MAX_TIMEOUT: Final = timedelta(seconds=10)
UNITS: Final = {"USD": Unit.COST, "share": Unit.SHARE, "count": Unit.COUNT, "seconds": Unit.SPAN}


def read(section: Section) -> Query:
    """Read a query and try it on empty tables; what is wrong is reported."""
    rule = common.common(section, acts=True)
    unit = section.take("unit", choice(UNITS), _NO_UNIT, "USD")
    below = section.take("direction", DIRECTION, False)  # noqa: FBT003  # above
    value = section.take("value", identifier_of_column, "", "wasted")
    reading = Reading(_anything, "20 USD", 100)
    if unit is not None:
        at, such_as = _AMOUNTS[unit]
        reading = Reading(signed(at, below=below), such_as, 100, below)
    deeds = actions(section, latched=False, ends=False)
    steps = thresholds(section, reading, deeds)
    wanted = (*rule["per"], value)
    return Query(
        **rule,
        **common.judged(section, timedelta(minutes=5)),
        limit_text=steps[0].at if steps else "",
        thresholds=steps,
        actions=deeds,
        sql=section.take("sql", lambda text: _question(text, wanted), "", _SUCH_AS),
        value=value,
        unit_of=unit or Unit.COUNT,
        window=section.take("window", _window, timedelta(hours=1), "1h"),
        timeout=section.take("timeout", _timeout, timedelta(seconds=5)),
        below=below,
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


_SUCH_AS: Final = (
    "'SELECT customer, sum(cost_usd) AS wasted FROM usage"
    " WHERE event_time >= $from AND event_time < $to GROUP BY customer'"
)


def identifier_of_column(text: str) -> str:
    """Read the name of a column."""
    return identifier(text.replace("_", "-")).replace("-", "_")


def _question(text: str, wanted: tuple[str, ...]) -> str:
    if len(text) > MAX_SQL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_SQL_CHARACTERS:,} characters")
    if all(wanted):
        vet(text, wanted)
    return text


_NO_UNIT: Unit | None = None


def _anything(_: str) -> int | None:
    """Read nothing: without a unit no amount can be right or wrong."""
    return None


def _usd(text: str) -> int:
    found = amount(text)
    if found.measure is not Measure.COST:
        raise ValueError("must be in USD, such as 20 USD")
    return found.amount


_AMOUNTS: Final[dict[Unit, tuple[Read[int], str]]] = {
    Unit.COST: (_usd, "20 USD"),
    Unit.SHARE: (share, "25%"),
    Unit.COUNT: (count, "100"),
    Unit.SPAN: (seconds, "15m"),
}


def _window(text: str) -> timedelta:
    found = duration(text)
    if not timedelta(minutes=1) <= found <= MAX_WINDOW:
        raise ValueError(f"must be from 1m to {MAX_WINDOW.days}d")
    return found


def _timeout(text: str) -> timedelta:
    found = duration(text)
    if not timedelta(seconds=1) <= found <= MAX_TIMEOUT:
        raise ValueError("must be from 1s to 10s")
    return found
