"""Enforcement: which directives an alert asks for, against those that stand already.

Judged by how things stand and never by an edge, so that a restart, a reload or a lost record ends
in the same directives.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec

from governor.core.alerts import Alert, Phase
from governor.core.directives import Directive, Effect, wire
from governor.core.rules.shared import Mode, Rule, Throttle
from governor.core.scopes import Condition, Key, Scope

_ACTING: Final = (Phase.FIRING, Phase.RECOVERING)


@dataclass(frozen=True, slots=True)
class Issue:
    """What all directives issued now have in common: next versions, time, evidence."""

    versions: Iterator[int]
    now: datetime
    evidence: Mapping[str, str]


def directives_for(
    alert: Alert, rule: Rule | None, standing: Sequence[Directive], issue: Issue
) -> list[Directive]:
    """Return the directives to issue so that those of `alert` are as they should be.

    `standing` is the newest version of each directive of this alert. What a person released stays
    released for as long as the alert lasts.
    """
    wanted = _wanted(alert, rule, issue)
    issued = [
        released(directive, issue, reason="its alert is over or asks for it no more")
        for directive in standing
        if directive.effect is Effect.THROTTLE and directive.id not in wanted
    ]
    stood = {directive.id: directive for directive in standing}
    for name, directive in wanted.items():
        before = stood.get(name)
        if before is None or not (before.released_by or _says_the_same(before, directive)):
            issued.append(msgspec.structs.replace(directive, version=next(issue.versions)))
    return issued


def released(
    directive: Directive, issue: Issue, *, reason: str, by: str | None = None
) -> Directive:
    """Return the version of a directive that ends it."""
    return msgspec.structs.replace(
        directive,
        version=next(issue.versions),
        effect=Effect.RELEASE,
        reason=reason,
        issued_at=issue.now,
        released_by=by,
    )


def scope_of(rule: Rule, group: Key) -> Scope:
    """Return the usage that a group of a rule is made of."""
    own = {
        dimension: Condition(dimension, frozenset({value}))
        if value is not None
        else Condition(dimension, patterns=("*",), negated=True)
        for dimension, value in zip(rule.per, group, strict=True)
    }
    others = [c for c in rule.where.conditions if c.dimension not in own]
    return Scope((*others, *own.values()))


def _wanted(alert: Alert, rule: Rule | None, issue: Issue) -> dict[str, Directive]:
    if rule is None or rule.mode is not Mode.ENFORCE or alert.phase not in _ACTING:
        return {}
    actions = [name for t in rule.thresholds[: alert.crossed] for name in t.actions]
    directives = [_throttle(alert, rule, rule.actions[name], issue) for name in actions]
    return {directive.id: directive for directive in directives}


def _says_the_same(before: Directive, after: Directive) -> bool:
    parts = ("effect", "scope", "until", "rate_requests", "rate_span_s", "each", "fail")
    return all(getattr(before, part) == getattr(after, part) for part in parts)


def _throttle(alert: Alert, rule: Rule, throttle: Throttle, issue: Issue) -> Directive:
    spent = rule.text(alert.amount)
    return Directive(
        id=f"{alert.key.id}-{throttle.name}",
        version=0,
        effect=Effect.THROTTLE,
        rule=rule.id,
        action=throttle.name,
        reason=f"{spent} of {rule.limit_text} used in {alert.key.period.name}",
        scope=wire(scope_of(rule, alert.key.group)),
        issued_at=issue.now,
        until=alert.key.period.end,
        rate_requests=throttle.rate.requests,
        rate_span_s=int(throttle.rate.span.total_seconds()),
        each=throttle.each,
        fail=throttle.fail,
        alert=alert.key.id,
        evidence=issue.evidence,
    )
