"""Why a rule fired that is judged from time to time: its number, its guards, its clocks."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from governor.adapters.duckdb.explaining import MAX_GROUPS, Numbers, sql_of
from governor.core.alerts import Health, Seen
from governor.core.periods import ALWAYS
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Mode, Rule
from governor.core.scopes import Key
from governor.loops.evaluate import reading_at

_MICROSECOND: Final = timedelta(microseconds=1)
_QUIET: Final = {
    Mode.OFF: "mode off: it is not judged",
    Mode.SHADOW: "mode shadow: it is recorded, nobody is told and nothing is done",
    Mode.NOTIFY: "mode notify: people are told and nothing is done",
}
_UNKNOWN: Final = {
    Health.GUARDED: "guarded: too little stands behind the number for it to count",
    Health.NO_DATA: "no data: what the number is made of is not known, or too old",
    Health.ERROR: "error: the number could not be computed",
}


def explained(
    numbers: Numbers, rule: Rule, chosen: Mapping[str, str | None], at: datetime
) -> dict[str, Any]:
    """Return the window of a rule, its groups with their numbers, and the SQL of them."""
    past = numbers.past(at + _MICROSECOND)
    readings = reading_at(past, rule, at)
    start, end = _window(numbers, rule, at)
    period = rule.period(at)
    found: dict[Key, Seen] = {
        group: seen
        for group, seen in readings.groups.items()
        if all(group[rule.per.index(name)] == value for name, value in chosen.items())
    }
    whole = len(chosen) == len(rule.per)
    if not found and whole and readings.otherwise is not None:
        found = {tuple(chosen[name] for name in rule.per): readings.otherwise}
    greatest = sorted(found.items(), key=lambda item: -item[1] if isinstance(item[1], int) else 0)
    return {
        "period": "" if period == ALWAYS else period.name,
        "period_start": start,
        "resets_at": None if period == ALWAYS else period.end,
        "window_end": end,
        "every_s": rule.every.total_seconds(),
        "groups": [_group(numbers, rule, group, seen, at) for group, seen in greatest[:MAX_GROUPS]],
        "sql": sql_of(rule, start, end),
    }


def _window(numbers: Numbers, rule: Rule, at: datetime) -> tuple[datetime, datetime]:
    settled = at - rule.settle
    if isinstance(rule, Query):
        return settled - rule.window, settled
    if isinstance(rule, MixDrift):
        return rule.end(settled) - rule.window, rule.end(settled)
    if isinstance(rule, Forecast):
        return rule.period(at).start, at
    if not isinstance(rule, Ratio):
        return at - timedelta(days=1), at
    if not rule.denominator.is_told:
        return rule.span(settled)
    fresh_to = numbers.past(at).stated_until(rule, settled)
    return rule.span(settled if fresh_to is None else min(settled, fresh_to - _MICROSECOND))


def _group(numbers: Numbers, rule: Rule, group: Key, seen: Seen, at: datetime) -> dict[str, Any]:
    alert = numbers.alert_of(rule.id, group, rule.period(at).start)
    health = seen if isinstance(seen, Health) else Health.OK
    crossed = 0 if isinstance(seen, Health) else rule.crossed(seen)
    return {
        "group": dict(zip(rule.per, group, strict=True)),
        "value": None if isinstance(seen, Health) else rule.text(seen),
        "percent": None,
        "health": health.value,
        "reached": rule.thresholds[crossed - 1].at if crossed else None,
        "alert": alert,
        "throttles": [],
        "why": list(_why(rule, seen, alert, at)),
    }


def _why(rule: Rule, seen: Seen, alert: Mapping[str, Any] | None, at: datetime) -> Iterator[str]:
    if isinstance(seen, Health):
        yield _UNKNOWN.get(seen, str(seen))
    else:
        crossed = rule.crossed(seen)
        first = rule.thresholds[0]
        yield (
            f"{rule.thresholds[crossed - 1].at} is reached"
            if crossed
            else (f"not fired: the first threshold is {first.at}")
        )
    yield from of_alert(rule, alert, at)
    yield from of_mode(rule)


def of_mode(rule: Rule) -> Iterator[str]:
    """Say what the mode of a rule keeps it from."""
    if rule.mode in _QUIET:
        yield _QUIET[rule.mode]


def of_alert(rule: Rule, alert: Mapping[str, Any] | None, at: datetime) -> Iterator[str]:
    """Say how the alert of a group stands."""
    if alert is None:
        return
    if alert["phase"] == "pending":
        left = rule.hold - (at - alert["since"])
        yield f"pending: it fires when it has held for {rule.hold}, in {left}"
    if alert["health"] != "ok":
        yield f"its amount is not known now: {alert['health']}"
