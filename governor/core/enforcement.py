"""Enforcement: which directives an alert asks for, against those that stand already.

Judged by how things stand and never by an edge, so that a restart, a reload or a lost record ends
in the same directives.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec

from governor.core.alerts import Alert, Ending, Health, Phase
from governor.core.directives import Directive, Effect, wire
from governor.core.periods import ALWAYS
from governor.core.rules.actions import EVERY_ONE, Action, Deed, Until
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode, Rule
from governor.core.scopes import Condition, Key, Scope

HOLD: Final = timedelta(days=1)
"""How far ahead lies the end of what has none of its own; it is renewed in time."""
NEEDS_APPROVAL: Final = "its action says approval: manual"

_ACTING: Final = (Phase.FIRING, Phase.RECOVERING)
_MODES: Final = (Mode.ENFORCE, Mode.SHADOW)
_EFFECTS: Final = {
    Deed.THROTTLE: Effect.THROTTLE,
    Deed.DOWNGRADE: Effect.DOWNGRADE,
    Deed.BLOCK: Effect.BLOCK,
}
_WHOM: Final = "user"
"""Of which dimension a share of the values is meant, unless an action says `each`."""

Admit = Callable[[Rule, Action, Key], str | None]
"""Says why an action must wait before it touches a group; None where it may."""


def at_once(rule: Rule, action: Action, group: Key) -> str | None:  # noqa: ARG001  # it is Admit
    """Let every action begin."""
    return None


@dataclass(frozen=True, slots=True)
class Issue:
    """What all directives issued now have in common: next versions, time, evidence, bounds.

    With `stale` usage is known too late to begin anything: what stands stays, and may end.
    """

    versions: Iterator[int]
    now: datetime
    evidence: Mapping[str, str]
    caused_at: datetime | None = None
    admit: Admit = at_once
    stale: bool = False


def directives_for(
    alert: Alert, rule: Rule | None, standing: Sequence[Directive], issue: Issue
) -> list[Directive]:
    """Return the directives to issue so that those of `alert` are as they should be.

    `standing` is the newest version of each directive of this alert. What a person released stays
    released for as long as the alert lasts.
    """
    wanted = _wanted(alert, rule, issue)
    kept = _kept(alert, rule)
    issued = [
        released(directive, issue, reason="its alert is over or asks for it no more")
        for directive in standing
        if directive.acts and directive.id not in wanted and directive.action not in kept
    ]
    stood = {directive.id: directive for directive in standing}
    for name, (action, directive) in wanted.items():
        before = stood.get(name)
        if before is not None and not before.acts and before.episode not in {0, alert.episode}:
            before = None  # it ended with an earlier episode
        if before is not None and before.released_by:
            continue
        fresh = _as_before(before, directive, action, rule, alert, issue)
        if fresh is not None:
            issued.append(msgspec.structs.replace(fresh, version=next(issue.versions)))
    return issued


def _as_before(
    before: Directive | None,
    directive: Directive,
    action: Action,
    rule: Rule | None,
    alert: Alert,
    issue: Issue,
) -> Directive | None:
    """Return what to issue, with what stays as it was issued before; None where nothing is new."""
    enforces = rule is not None and rule.mode is Mode.ENFORCE
    begun = before is not None and before.acts and not before.waits
    if before is not None and begun and not (before.shadow and enforces):
        directive = msgspec.structs.replace(
            directive,
            approved_by=before.approved_by,
            starts_at=before.starts_at,
            until=_until_of(before, directive, action, issue.now),
        )
        return None if _says_the_same(before, directive) else directive
    if rule is None or issue.stale or alert.health is not Health.OK:
        return None
    waits = None
    if enforces:
        needs = NEEDS_APPROVAL if action.manual else None
        waits = needs or issue.admit(rule, action, alert.key.group)
    if waits is None:
        return directive
    until = _unending(alert, issue.now)  # a span of its own begins when it is approved
    directive = msgspec.structs.replace(directive, waits=waits, until=until)
    if before is None or not before.waits:
        return directive
    until = _until_of(before, directive, None, issue.now)
    directive = msgspec.structs.replace(directive, until=until)
    return None if _says_the_same(before, directive) else directive


def _until_of(
    before: Directive, fresh: Directive, action: Action | None, now: datetime
) -> datetime:
    """Return when what stands ends: a span of its own goes on, what has no end is renewed."""
    if action is not None and isinstance(action.until, timedelta):
        return before.until
    renewed = fresh.until == now + HOLD
    return before.until if renewed and before.until - now > HOLD / 2 else fresh.until


def renewal_due(directive: Directive, now: datetime) -> bool:
    """Return whether what has no end of its own is to be issued with a later one by now."""
    unending = directive.until - directive.issued_at == HOLD
    return directive.acts and unending and directive.until - now <= HOLD / 2


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
        waits=None,
        released_by=by,
    )


def approved(directive: Directive, action: Action | None, issue: Issue, *, by: str) -> Directive:
    """Return the version of a directive that waited and that a person lets begin now."""
    since = issue.now - directive.issued_at
    starts_at = directive.starts_at and directive.starts_at + since
    span = action.until if action and isinstance(action.until, timedelta) else None
    return msgspec.structs.replace(
        directive,
        version=next(issue.versions),
        issued_at=issue.now,
        starts_at=starts_at,
        until=min(directive.until, issue.now + span) if span else directive.until,
        waits=None,
        approved_by=by,
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


def _wanted(alert: Alert, rule: Rule | None, issue: Issue) -> dict[str, tuple[Action, Directive]]:
    if rule is None or rule.mode not in _MODES or alert.phase not in _ACTING:
        return {}
    names = [name for t in rule.thresholds[: alert.crossed] for name in t.actions]
    wanted = {}
    for action in (rule.actions[name] for name in names):
        directive = _directive(alert, rule, action, issue)
        wanted[directive.id] = (action, directive)
    return wanted


def _kept(alert: Alert, rule: Rule | None) -> frozenset[str]:
    """Return the actions that stay until the period ends, although the number turned good."""
    turned_good = alert.ending in {None, Ending.CLEARED} and not (rule and rule.latched)
    if rule is None or rule.mode not in _MODES or not turned_good or alert.key.period == ALWAYS:
        return frozenset()
    return frozenset(a.name for a in rule.actions.values() if a.until is Until.PERIOD_END)


def _says_the_same(before: Directive, after: Directive) -> bool:
    parts = (
        *("effect", "scope", "until", "rate_requests", "rate_span_s", "each", "fail", "models"),
        *("percent", "percent_of", "shadow"),
    )
    same = all(getattr(before, part) == getattr(after, part) for part in parts)
    return same and bool(before.waits) is bool(after.waits)


def _directive(alert: Alert, rule: Rule, action: Action, issue: Issue) -> Directive:
    rate = action.rate
    return Directive(
        id=f"{alert.key.id}-{action.name}",
        version=0,
        effect=_EFFECTS[action.do],
        rule=rule.id,
        action=action.name,
        reason=_reason(alert, rule),
        scope=wire(scope_of(rule, alert.key.group)),
        issued_at=issue.now,
        until=_end(alert, action, issue.now),
        rate_requests=rate.requests if rate else None,
        rate_span_s=int(rate.span.total_seconds()) if rate else None,
        each=action.each if action.do is Deed.THROTTLE else None,
        models=dict(action.models),
        percent=action.percent,
        percent_of=(action.each or _WHOM) if action.percent < EVERY_ONE else None,
        starts_at=issue.now + action.announce if action.announce else None,
        fail=action.fail,
        shadow=rule.mode is Mode.SHADOW,
        alert=alert.key.id,
        episode=alert.episode,
        evidence=issue.evidence,
        caused_at=issue.caused_at,
    )


def _end(alert: Alert, action: Action, now: datetime) -> datetime:
    """Return when the reason ends; what has no end of its own gets one that is renewed."""
    if isinstance(action.until, timedelta):
        return min(now + action.until, alert.key.period.end)
    return _unending(alert, now)


def _unending(alert: Alert, now: datetime) -> datetime:
    period = alert.key.period
    return now + HOLD if period == ALWAYS else period.end


def _reason(alert: Alert, rule: Rule) -> str:
    amount = rule.text(alert.amount)
    if isinstance(rule, Budget):
        return f"{amount} of {rule.limit_text} used in {alert.key.period.name}"
    return f"{rule.id} is at {amount}, the limit is {rule.limit_text}"
