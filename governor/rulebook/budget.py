"""The kind `budget`: a limit on cost, requests or tokens in a calendar period."""

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

from governor.core.periods import Calendar, Every
from governor.core.rules.actions import Action
from governor.core.rules.budget import MAX_BUDGET_ALERTS, Budget
from governor.core.rules.units import Measure
from governor.documents import Node
from governor.documents.sections import Read, Section, choice
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import (
    UNIT_OF,
    Amount,
    amount,
    duration,
    percent,
    threshold,
    zone,
)

KEYS: Final = (
    *common.KEYS,
    "limit",
    "limit_from",
    "rollover",
    "period",
    "timezone",
)
MAX_DATED: Final = 100

_LENGTHS: Final = {
    Every.HOUR: timedelta(hours=1),
    Every.DAY: timedelta(days=1),
    Every.WEEK: timedelta(weeks=1),
    Every.MONTH: timedelta(days=28),
}
EVERY: Final = choice({str(every): every for every in Every})
_NO_LIMIT: Final = Amount(Measure.COST, 0)
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def read(section: Section) -> Budget:
    """Read a budget; what is wrong is reported."""
    limit = section.take("limit", amount, None, "100 USD")
    every = section.take("period", EVERY, Every.DAY, "day")
    deeds = actions(section, latched=True, ends=True)
    budget = Budget(
        **common.common(section, acts=True),
        measure=(limit or _NO_LIMIT).measure,
        limit=(limit or _NO_LIMIT).amount,
        limit_text=section.written("limit"),
        calendar=Calendar(every, section.take("timezone", zone, "UTC")),
        thresholds=thresholds(section, _reading(limit), deeds),
        hold=section.take("for", _hold(every), timedelta(0)),
        actions=deeds,
        carries=section.take("rollover", lambda text: _carried(text, limit), 0),
        max_alerts=common.most_alerts(section, MAX_BUDGET_ALERTS),
    )
    later = _dated(section, limit)
    variants = [
        (begins, _variant(section, budget, other, text, deeds))
        for begins, (other, text) in sorted(later.items())
    ]
    return replace(budget, later=tuple(variants))


def _reading(limit: Amount | None) -> Reading:
    return Reading(lambda text: threshold(text, limit), such_as="80%")


def _variant(
    section: Section, budget: Budget, limit: Amount, text: str, deeds: Mapping[str, Action]
) -> Budget:
    """Return the budget with another limit; a percentage is then of that."""
    return replace(
        budget,
        limit=limit.amount,
        limit_text=text,
        thresholds=thresholds(section, _reading(limit), deeds),
        carries=section.take("rollover", lambda written: _carried(written, limit), 0),
    )


def _dated(section: Section, limit: Amount | None) -> dict[date, tuple[Amount, str]]:
    """Read the amounts that hold for periods that begin on a day or later."""
    entry = section.entries.get("limit_from")
    if entry is None:
        return {}
    report, dated = section.report, entry.node.value
    if not isinstance(dated, dict) or not dated:
        report.add(entry.node, "limit_from must be a mapping, such as {2026-07-01: 150 USD}")
        return {}
    if len(dated) > MAX_DATED:
        report.add(entry.node, f"limit_from has more than {MAX_DATED} days")
    found: dict[date, tuple[Amount, str]] = {}
    for text, other in dated.items():
        begins = report.read("limit_from", Node(text, other.line, other.column), day, None)
        much = report.read(f"limit_from.{text[:20]}", other.node, _same_unit(limit), None)
        if begins is not None and much is not None:
            found[begins] = (much, str(other.node.value))
    return found


def day(text: str) -> date:
    """Read a day such as 2026-07-01."""
    try:
        return date.fromisoformat(text) if _DATE.fullmatch(text) else date.fromisoformat("-")
    except ValueError:
        raise ValueError("is no day; write such as 2026-07-01") from None


def _same_unit(limit: Amount | None) -> Read[Amount]:
    def same(text: str) -> Amount:
        found = amount(text)
        if limit is not None and found.measure is not limit.measure:
            units = f"{UNIT_OF[found.measure]}, and the limit in {UNIT_OF[limit.measure]}"
            raise ValueError(f"is in {units}; write both in one")
        return found

    return same


def _carried(text: str, limit: Amount | None) -> int:
    """Read how much of what was left may be carried over: `50 USD`, or `50%` of the limit."""
    share = percent(text)
    if share is None:
        return _same_unit(limit)(text).amount
    if share > 1:
        raise ValueError("must be at most 100%")
    return 0 if limit is None else int(Fraction(limit.amount) * share)


def _hold(every: Every) -> Read[timedelta]:
    def hold(text: str) -> timedelta:
        found = duration(text)
        if found >= _LENGTHS[every]:
            raise ValueError(f"must be shorter than the period, one {every}")
        return found

    return hold
