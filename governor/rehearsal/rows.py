"""What happened in a rehearsal as rows, for people, scripts and tests alike."""

from typing import Any, Final

from governor.core.decisions import Line
from governor.core.notifications import Notice
from governor.core.rules.shared import Rule
from governor.rehearsal import Directed, Told

_NOBODY: Final = ("log", "rehearsal")
"""Receivers that nobody reads."""


def line_row(line: Line, rule: Rule) -> dict[str, Any]:
    """Return a transition."""
    transition = line.transition
    return {
        "at": transition.at,
        "rule": line.key.rule,
        "group": dict(zip(rule.per, line.key.group, strict=True)),
        "period": line.key.period.name,
        "what": transition.what.value,
        "level": str(transition.level) if transition.level else None,
        "threshold": transition.threshold,
        "reason": transition.reason,
        "mode": line.mode.value,
        "actions": list(transition.actions),
        "amount": transition.amount,
        "value": rule.text(transition.amount),
        "why": line.why if transition.threshold else None,
    }


def directed_row(directed: Directed) -> dict[str, Any]:
    """Return what gates would be told."""
    directive = directed.directive
    return {
        "at": directed.at,
        "rule": directive.rule,
        "action": directive.action,
        "effect": directive.effect.value,
        "scope": {
            dimension: [("not " if condition.not_ else "") + text for text in found]
            for dimension, condition in directive.scope.items()
            for found in [condition.values or condition.like]
        },
        "does": directive.deed,
        "rate": f"{directive.rate_requests} in {directive.rate_span_s} s",
        "each": directive.each,
        "until": directive.until,
        "reason": directive.reason,
    }


def told_row(told: Told) -> dict[str, Any]:
    """Return a message that would be posted or edited."""
    return {
        "at": told.at,
        "rule": told.notice.rule,
        "op": "post" if told.first else "update",
        "to": ", ".join(name for name in told.notice.to or () if name not in _NOBODY),
        "level": str(told.notice.level),
        "text": text_of(told.notice),
    }


def text_of(notice: Notice) -> str:
    """Return what a notice says, in a line."""
    heading = "Resolved" if notice.resolved else str(notice.level).capitalize()
    over = f" Over: {notice.resolved}." if notice.resolved else ""
    slowed = "".join(f" Throttle: {line}." for line in notice.throttles)
    return f"{heading}: {notice.title}. {notice.summary}{over}{slowed}"
