"""What to tell a receiver of an alert: one notice a time it changed, always of how it stands now.

A receiver may miss what lies between: history holds every threshold, a notice the highest.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from governor.core.acks import Ack
from governor.core.alerts import Alert, Ending, Transition, What
from governor.core.periods import ALWAYS
from governor.core.raises import Raise
from governor.core.rules.shared import Level, Mode, Rule
from governor.core.rules.units import Unit

MAX_TEXT_CHARACTERS: Final = 500
PLACEHOLDERS: Final = ("value", "limit", "percent", "level", "rule", "owner", "period")
"""What a summary may show, beside `group.<dimension>`."""

_PLACEHOLDER: Final = re.compile(r"\{\{\s*([a-z_]+(?:\.[a-z_]+)?)\s*\}\}")


@dataclass(frozen=True, slots=True)
class Notice:
    """How an alert stands, in values that are ready to be shown.

    `message` is the same for every notice of an episode: a receiver that can edit shows one
    message. `resolved` is why it is over, None while it is open. `throttles` are plain lines of
    what is being slowed, `history` one line for each threshold crossed. `to` are the receivers that
    are to be told, None for all; those that were told of its message before are told in any case.
    `why` is a sentence on how it came about, and lines of detail. Notices that have `together` in
    common share a message where a receiver takes several in one; `weight` is what is at stake, in
    nano-dollars, 0 where that is not money. `acked` is who has seen it, and until `quiet_until` it
    is not repeated. `later` are receivers that are told after so many seconds, if it still lasts
    and nobody has seen it. `waiting` counts what is to be done and waits for approval.
    """

    message: str
    alert: str
    revision: int
    rule: str
    owner: str
    mode: Mode
    level: Level
    resolved: str | None
    title: str
    summary: str
    value: str
    limit: str
    percent: Decimal | None
    group: tuple[tuple[str, str], ...]
    period: str
    period_end: datetime
    at: datetime
    fired_at: datetime
    history: tuple[str, ...]
    throttles: tuple[str, ...] = ()
    runbook: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    kind: str = ""
    to: tuple[str, ...] | None = None
    why: str | None = None
    together: str = ""
    weight: int = 0
    acked: str | None = None
    quiet_until: datetime | None = None
    later: tuple[tuple[str, int], ...] = ()
    waiting: int = 0


def notice_of(
    alert: Alert,
    rule: Rule,
    *,
    history: tuple[str, ...],
    throttles: tuple[str, ...],
    now: datetime,
    ack: Ack | None = None,
    waiting: int = 0,
) -> Notice:
    """Return what to say of an alert that fired, in the words of its rule."""
    value = rule.text(alert.amount)
    percent = rule.percent(alert.amount)
    group = tuple(
        (dimension, "(none)" if named is None else named)
        for dimension, named in zip(rule.per, alert.key.group, strict=True)
    )
    words = {
        "value": value,
        "limit": rule.limit_text,
        "percent": "?" if percent is None else f"{percent:.0f}%",
        "level": str(alert.level or Level.INFO),
        "rule": rule.id,
        "owner": rule.owner,
        "period": "" if alert.key.period == ALWAYS else alert.key.period.name,
        **{f"group.{dimension}": named for dimension, named in group},
    }
    return Notice(
        message=f"{alert.key.id}-{alert.episode}",
        alert=alert.key.id,
        revision=alert.revision,
        rule=rule.id,
        owner=rule.owner,
        mode=rule.mode,
        level=alert.level or Level.INFO,
        resolved=None if alert.is_open else ENDINGS[alert.ending or Ending.PERIOD_ENDED],
        title=rule.id,
        summary=render(rule.summary, words),
        value=value,
        limit=rule.limit_text,
        percent=None if percent is None else percent.quantize(Decimal("0.1")),
        group=group,
        period="" if alert.key.period == ALWAYS else alert.key.period.name,
        period_end=alert.key.period.end,
        at=now,
        fired_at=alert.fired_at or now,
        history=history,
        throttles=throttles,
        runbook=rule.runbook,
        labels=tuple(rule.labels.items()),
        kind=rule.kind,
        why=alert.why,
        weight=alert.amount if rule.unit is Unit.COST else 0,
        acked=ack.text if ack else None,
        quiet_until=ack.until if ack else None,
        waiting=waiting,
    )


def rejection_notice(name: str, title: str, summary: str, now: datetime) -> Notice:
    """Return what to say when files that people edit are refused."""
    return Notice(
        message=f"{name}-{now:%Y%m%dT%H%M%S.%f}",
        alert=name,
        revision=1,
        rule=name,
        owner="governor",
        mode=Mode.NOTIFY,
        level=Level.CRITICAL,
        resolved=None,
        title=title,
        summary=summary[:MAX_TEXT_CHARACTERS],
        value="",
        limit="",
        percent=None,
        group=(),
        period="",
        period_end=now,
        at=now,
        fired_at=now,
        history=(),
    )


def overflow_notice(rule: Rule, full: int, now: datetime, *, revision: int = 1) -> Notice:
    """Return what to say when `full` groups of a rule fire and have no room for an alert."""
    most = f"{rule.max_alerts:,} alerts of {rule.id} are open, the most that max_alerts allows"
    return replace(
        rejection_notice(f"overflow-{rule.id}", f"{rule.id}: too many alerts", most, now),
        message=f"overflow-{rule.id}",
        revision=revision,
        owner=rule.owner,
        summary=f"{most}; {full:,} more groups fire and are left out, those with the least.",
        resolved=None if full else "there is room again",
    )


def radius_notice(rule: Rule, waiting: int, now: datetime, *, revision: int = 1) -> Notice:
    """Return what to say where a rule would act on more than it may, and waits for approval."""
    return replace(
        rejection_notice(f"radius-{rule.id}", f"{rule.id}: stopped at its limit", "", now),
        message=f"radius-{rule.id}",
        revision=revision,
        owner=rule.owner,
        rule=rule.id,
        summary=f"It would act on {waiting:,} more than max_affected allows. They are left alone"
        f" until somebody approves: governor throttles approve --rule {rule.id}",
        resolved=None if waiting else "nothing waits any more",
    )


def heartbeat_notice(
    summary: str, every: timedelta, revision: int, to: tuple[str, ...], now: datetime
) -> Notice:
    """Return what to say where all is well with governor itself."""
    beat = rejection_notice("heartbeat", "governor is alive", summary, now)
    return replace(
        beat,
        message="heartbeat",
        kind="heartbeat",
        level=Level.INFO,
        revision=revision,
        period_end=now + every,
        to=to,
    )


def raise_notice(order: Raise, said: str, owner: str, now: datetime) -> Notice:
    """Return what to say of a raise of a budget, which is edited as people approve or end it."""
    base = rejection_notice(f"raise-{order.id}", "Budget raised for a while", said, now)
    approved = ", ".join(order.approved_by)
    over = None
    if order.ended:
        over = "somebody ended it"
    elif order.holds(now):
        over = f"approved by {approved}; it is in force"
    return replace(
        base,
        message=f"raise-{order.id}",
        kind="raise",
        level=Level.INFO,
        owner=owner,
        rule=order.rule,
        title=base.title if order.holds(now) else "A budget is to be raised",
        revision=1 + len(order.approved_by) + order.ended,
        resolved=over,
        why=f"Asked for by {order.asked_by}; approved by {approved}, needs {order.needs}",
    )


ENDINGS: Final = {
    Ending.PERIOD_ENDED: "the period ended",
    Ending.CLEARED: "all is well again",
    Ending.GROUP_GONE: "its group was not seen for long",
    Ending.GAVE_WAY: "there was room for so many alerts, and others are greater; it may go on",
    Ending.RULE_CHANGED: "the rule was changed",
    Ending.RULE_RENAMED: "the rule has another id now",
    Ending.RULE_REMOVED: "the rule was removed or switched off",
}


def line_text(transition: Transition, rule: Rule) -> str:
    """Return one line of history for people: `12:03 UTC 80% reached, 80.20 USD, warning`."""
    when = f"{transition.at:%H:%M} UTC"
    amount = rule.text(transition.amount)
    if transition.what is What.GREW:
        return f"{when} grew to {amount}, {transition.level}"
    if transition.threshold is None:
        return f"{when} {transition.what} at {amount}"
    return f"{when} {transition.threshold} reached at {amount}, {transition.level}"


def is_told(transition: Transition) -> bool:
    """Return whether a transition is a line of the history that people read."""
    return transition.threshold is not None or transition.what is What.GREW


def placeholders(summary: str) -> list[str]:
    """Return the names that a summary asks for, in order."""
    return _PLACEHOLDER.findall(summary)


def render(summary: str, values: Mapping[str, str]) -> str:
    """Fill in a summary; a name without a value is shown as `?`."""
    filled = _PLACEHOLDER.sub(lambda found: values.get(found[1], "?"), summary)
    return filled[:MAX_TEXT_CHARACTERS]
