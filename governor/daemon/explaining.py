"""Why a rule fired, or why it did not: value, thresholds, clocks, and the SQL behind the number."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final

from governor.adapters.duckdb.explaining import Amount, Numbers, amounts_sql
from governor.core.errors import ConfigError
from governor.core.periods import Period
from governor.core.routing import Routing
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Rule
from governor.core.scopes import DIMENSIONS
from governor.daemon import explaining_gauges as gauges
from governor.documents.sections import suggestion

_MICROSECOND: Final = timedelta(microseconds=1)
"""What was used at the very time counts."""


def answer(
    numbers: Numbers,
    rules: Mapping[str, Rule],
    fields: Mapping[str, str],
    now: datetime,
    routing: Routing,
) -> list[dict[str, Any]]:
    """Answer a request: `rule` with `group.<dimension>`, or `entity.<dimension>`; `at` is a time.

    Raise ConfigError where a field of it is wrong.
    """
    at = moment(fields["at"]) if "at" in fields else now
    chosen = {
        word: {
            name.removeprefix(f"{word}."): value
            for name, value in fields.items()
            if name.startswith(f"{word}.")
        }
        for word in ("group", "entity")
    }
    if chosen["entity"]:
        found = explain_entity(numbers, rules.values(), chosen["entity"], at)
        return [_with_routes(numbers, each, rules, routing, at) for each in found]
    name = fields.get("rule", "")
    if name not in rules:
        raise ConfigError(f"there is no rule {name[:60]!r}{suggestion(name, rules)}")
    group = {key: value or None for key, value in chosen["group"].items()}
    explained = explain_rule(numbers, rules[name], group, at)
    return [_with_routes(numbers, explained, rules, routing, at)]


def _with_routes(
    numbers: Numbers,
    explained: dict[str, Any],
    rules: Mapping[str, Rule],
    routing: Routing,
    at: datetime,
) -> dict[str, Any]:
    """Say of each group who is told, and what holds that back."""
    rule = rules[explained["rule"]]
    firing = routing.firing(_firing(numbers, rules))
    for group in explained["groups"]:
        alert = group["alert"]
        reached = [t["level"] for t in explained["thresholds"] if t["at"] == group["reached"]]
        level = (alert or {}).get("level") or (reached[0] if reached else "info")
        facts = {
            **rule.labels,
            **group["group"],
            "rule": rule.id,
            "owner": rule.owner,
            "kind": rule.kind,
            "level": level,
            "mode": rule.mode.value,
        }
        group["receivers"] = list(routing.receivers_for(facts, ("everybody",)))
        group["mutes"] = routing.mutes(facts, at, firing)
    return explained


def _firing(numbers: Numbers, rules: Mapping[str, Rule]) -> Iterator[dict[str, str | None]]:
    for row in numbers.firing():
        rule = rules.get(row["rule"])
        if rule is not None and len(row["group"]) == len(rule.per):
            yield {
                **rule.labels,
                **dict(zip(rule.per, row["group"], strict=True)),
                "rule": rule.id,
                "owner": rule.owner,
                "kind": rule.kind,
                "level": row["level"],
                "mode": row["mode"],
            }


def moment(text: str) -> datetime:
    """Read a time with its zone."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ConfigError(f"{text[:60]!r} is no time with a zone, such as 2026-11-01T00:00:00Z")
    return found.astimezone(UTC)


def explain_rule(
    numbers: Numbers,
    rule: Rule,
    chosen: Mapping[str, str | None],
    at: datetime,
) -> dict[str, Any]:
    """Return how a rule stands at a time, for the groups that have the values `chosen`."""
    for name in chosen:
        if name not in rule.per:
            per = ", ".join(rule.per) or "no dimension"
            raise ConfigError(f"--group {name}: {rule.id} has groups by {per}")
    explained = {
        "rule": rule.id,
        "place": rule.place,
        "kind": rule.kind,
        "mode": rule.mode.value,
        "owner": rule.owner,
        "counts": rule.unit.value,
        "limit": rule.limit_text,
        "at": at,
        "hold_s": rule.hold.total_seconds(),
        "thresholds": [_threshold(rule, number) for number in range(len(rule.thresholds))],
    }
    if isinstance(rule, Budget):
        return explained | _budget(numbers, rule.of(at), chosen, at)
    return explained | gauges.explained(numbers, rule, chosen, at)


def _budget(
    numbers: Numbers, rule: Budget, chosen: Mapping[str, str | None], at: datetime
) -> dict[str, Any]:
    period = rule.calendar.period(at)
    query = amounts_sql(rule, period.start, min(at + _MICROSECOND, period.end), chosen)
    found = numbers.amounts(rule, query)
    if not found and len(chosen) == len(rule.per):
        group = tuple(chosen[name] for name in rule.per)
        found = [Amount(group, 0, 0, 0, period.start)]
    return {
        "period": period.name,
        "period_start": period.start,
        "resets_at": period.end,
        "thresholds": [_threshold(rule, number) for number in range(len(rule.thresholds))],
        "groups": [_group(numbers, rule, each, period, at) for each in found],
        "sql": query,
    }


def explain_entity(
    numbers: Numbers,
    rules: Iterable[Rule],
    entity: Mapping[str, str],
    at: datetime,
) -> list[dict[str, Any]]:
    """Return every rule that counts usage of an entity, with its groups and the entity's share."""
    for name in entity:
        if name not in DIMENSIONS:
            raise ConfigError(f"--entity {name}: no dimension{suggestion(name, DIMENSIONS)}")
    return list(_touching(numbers, rules, entity, at))


def _touching(
    numbers: Numbers,
    rules: Iterable[Rule],
    entity: Mapping[str, str],
    at: datetime,
) -> Iterator[dict[str, Any]]:
    for rule in rules:
        if not isinstance(rule, Budget):
            named = {name: entity[name] for name in rule.per if name in entity}
            if named and (found := explain_rule(numbers, rule, named, at))["groups"]:
                yield found
            continue
        period = rule.calendar.period(at)
        query = amounts_sql(rule, period.start, min(at + _MICROSECOND, period.end), entity)
        shares = {each.group: each for each in numbers.amounts(rule, query)}
        for group, share in shares.items():
            explained = explain_rule(numbers, rule, dict(zip(rule.per, group, strict=True)), at)
            for row in explained["groups"]:
                row["share"] = rule.text(share.amount)
            yield explained


def _threshold(rule: Rule, number: int) -> dict[str, Any]:
    threshold = rule.thresholds[number]
    return {
        "at": threshold.at,
        "amount": rule.text(threshold.amount),
        "level": str(threshold.level),
        "actions": list(threshold.actions),
    }


def _group(
    numbers: Numbers,
    rule: Budget,
    found: Amount,
    period: Period,
    at: datetime,
) -> dict[str, Any]:
    alert = numbers.alert_of(rule.id, found.group, period.start)
    crossed = rule.crossed(found.amount)
    throttles = numbers.throttles_of(alert["alert_id"], at) if alert else ()
    return {
        "group": dict(zip(rule.per, found.group, strict=True)),
        "value": rule.text(found.amount),
        "percent": str((Decimal(100 * found.amount) / rule.limit).quantize(Decimal("0.1"))),
        "events": found.events,
        "unpriced_events": found.unpriced_events,
        "last_event": found.last_event if found.events else None,
        "reached": rule.thresholds[crossed - 1].at if crossed else None,
        "alert": alert,
        "throttles": [
            {"effect": each["effect"], "action": each["action"], "reason": each["reason"]}
            for each in throttles
        ],
        "why": list(_why(rule, found, alert, crossed, at)),
    }


def _why(
    rule: Budget, found: Amount, alert: Mapping[str, Any] | None, crossed: int, at: datetime
) -> Iterator[str]:
    """Say in sentences what follows from the numbers."""
    if not found.events:
        yield "nothing was used in this period by anything that the rule counts"
    if not crossed:
        first = rule.thresholds[0]
        missing = rule.text(first.amount - found.amount)
        yield f"not fired: {missing} below the first threshold, {first.at}"
    else:
        yield f"{rule.thresholds[crossed - 1].at} is reached"
    if crossed and crossed < len(rule.thresholds):
        following = rule.thresholds[crossed]
        missing = rule.text(following.amount - found.amount)
        yield f"next: {following.at}, {missing} away"
    yield from gauges.of_alert(rule, alert, at)
    yield from gauges.of_mode(rule)
    if found.unpriced_events:
        yield f"{found.unpriced_events:,} events have no price and count at a stand-in"
