"""What the control API answers: alerts, throttles and rules as rows of JSON."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from decimal import Decimal
from typing import Any, Final

from governor.core.alerts import Alert
from governor.core.directives import Directive, Effect, WireCondition
from governor.core.errors import ConfigError
from governor.core.overshoot import Overshoot
from governor.core.periods import ALWAYS
from governor.core.rerating import total
from governor.core.rules.shared import Rule
from governor.documents.sections import suggestion
from governor.loops.rerate import Progress

MAX_LISTED: Final = 1_000
"""Alerts in one answer, and groups of changed events."""


def alert_rows(
    recent: Iterable[Alert],
    open_now: Iterable[tuple[Alert, int]],
    rules: Mapping[str, Rule],
    seen: Mapping[str, str],
) -> list[dict[str, Any]]:
    """Return alerts as rows, those of open periods with the amount of now.

    `seen` says by alert who has seen it as it is.
    """
    live = {alert.key.id: amount for alert, amount in open_now}
    return [
        _alert_row(alert, live.get(alert.key.id, alert.amount), rules.get(alert.key.rule))
        | {"seen": seen.get(alert.key.id)}
        for alert in recent
    ]


def rule_of(rules: Mapping[str, Rule], name: str) -> Rule:
    """Return the rule of an id; raise ConfigError where there is none."""
    found = rules.get(name)
    if found is None:
        raise ConfigError(f"there is no rule {name[:60]!r}{suggestion(name, rules)}")
    return found


def throttle_row(directive: Directive) -> dict[str, Any]:
    """Return a directive as a row."""
    return {
        "id": directive.id,
        "effect": directive.effect.value,
        "rule": directive.rule,
        "state": _state(directive),
        "action": directive.action,
        "does": directive.deed,
        "each": directive.each,
        "fail": directive.fail.value,
        "reason": directive.reason,
        "scope": {name: _scope_text(found) for name, found in directive.scope.items()},
        "version": directive.version,
        "issued_at": directive.issued_at,
        "until": directive.until,
        "starts_at": directive.starts_at,
        "waits": directive.waits,
        "approved_by": directive.approved_by,
        "released_by": directive.released_by,
        "alert": directive.alert,
        "evidence": directive.evidence,
    }


def _state(directive: Directive) -> str:
    if directive.effect is Effect.RELEASE:
        return "released"
    if directive.waits:
        return "waiting"
    return "shadow" if directive.shadow else "holding"


def overshoot_rows(overshoots: Iterable[Overshoot]) -> list[dict[str, Any]]:
    """Return what was spent past the thresholds of rules that act, as rows."""
    return [
        {
            "rule": each.rule,
            "groups": each.groups,
            "past_usd": str(Decimal(each.past_nano).scaleb(-9)),
            "worst_usd": str(Decimal(each.worst_nano).scaleb(-9)),
        }
        for each in overshoots
    ]


def rerate_row(progress: Progress) -> dict[str, Any]:
    """Return how far an order to price again is, and what it has changed, greatest first."""
    order = progress.order
    ordered = sorted(
        progress.changes.items(),
        key=lambda item: -abs(item[1].after_nano - item[1].before_nano),
    )
    return {
        "run": order.id,
        "from": order.starts_at,
        "until": order.ends_at,
        "dry_run": order.dry_run,
        "slices": progress.slices,
        "done": progress.done,
        "over": progress.over,
        "error": progress.error,
        "total": asdict(total(progress.changes)),
        "changes": [
            {**group._asdict(), **asdict(change)} for group, change in ordered[:MAX_LISTED]
        ],
        "groups": len(ordered),
    }


def rule_row(rule: Rule) -> dict[str, Any]:
    """Return a rule as a row."""
    return {
        "id": rule.id,
        "kind": rule.kind,
        "mode": rule.mode.value,
        "owner": rule.owner,
        "limit": rule.limit_text,
        "place": rule.place,
    }


def _alert_row(alert: Alert, amount: int, rule: Rule | None) -> dict[str, Any]:
    group = dict(zip(rule.per, alert.key.group, strict=False)) if rule else None
    return {
        "id": alert.key.id,
        "rule": alert.key.rule,
        "group": group if group is not None else list(alert.key.group),
        "period": "" if alert.key.period == ALWAYS else alert.key.period.name,
        "phase": alert.phase.value,
        "level": str(alert.level) if alert.level else None,
        "mode": alert.mode.value,
        "amount": amount,
        "value": rule.text(amount) if rule else None,
        "limit": rule.limit_text if rule else None,
        "health": alert.health.value,
        "fired_at": alert.fired_at,
        "ended_at": alert.ended_at,
        "ending": alert.ending.value if alert.ending else None,
        "why": alert.why,
    }


def _scope_text(condition: WireCondition) -> str:
    said = ", ".join((*condition.values, *(f"like {glob}" for glob in condition.like)))
    return f"not {said}" if condition.not_ else said
