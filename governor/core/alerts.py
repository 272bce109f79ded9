"""The alert: how the amounts of a rule's group become something to tell and to act on, and end.

`step` is pure and the only way a state changes; the daemon, tests and backtests call it. An alert
belongs to a rule, a group and a period. Level is state and never identity, so it can climb.

Nothing turns green without evidence: an amount that is not known changes nothing but `health`,
and its time does not count for `hold`.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from governor.core.periods import Period
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Mode
from governor.core.scopes import Key


class Phase(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"


class Health(StrEnum):
    """Whether the amount is known."""

    OK = "ok"
    NO_DATA = "no_data"


class What(StrEnum):
    """What a transition is: one line of history."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    FIRED = "fired"
    ESCALATED = "escalated"
    EASED = "eased"
    RESOLVED = "resolved"
    HEALTH = "health"
    MODE = "mode"


class Ending(StrEnum):
    """Why an alert is over."""

    PERIOD_ENDED = "period_ended"
    RULE_CHANGED = "rule_changed"
    RULE_REMOVED = "rule_removed"


@dataclass(frozen=True, slots=True)
class AlertKey:
    """What an alert is about; `group` are the values of the rule's `per` dimensions."""

    rule: str
    group: Key
    period: Period

    @property
    def id(self) -> str:
        """A short name for people, links and messages; 48 bits of a hash of the whole."""
        bounds = (self.period.start.isoformat(), self.period.end.isoformat())
        named = json.dumps([self.rule, self.group, *bounds])
        return hashlib.blake2b(named.encode(), digest_size=6).hexdigest()


@dataclass(frozen=True, slots=True)
class Alert:
    """The state of an alert. `crossed` counts the thresholds reached, `amount` is the newest known.

    `meaning` is that of the rule (`Budget.meaning`). `episode` counts how often it fired;
    `revision` grows with every transition that people hear of; `since` is when `pending` began,
    `judged_at` when it was last judged.
    """

    key: AlertKey
    meaning: str
    phase: Phase
    mode: Mode
    crossed: int
    level: Level | None
    amount: int
    since: datetime
    judged_at: datetime
    health: Health = Health.OK
    episode: int = 0
    revision: int = 0
    fired_at: datetime | None = None
    ended_at: datetime | None = None
    ending: Ending | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not over yet."""
        return self.phase is not Phase.RESOLVED


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of history. `threshold` is as written in the rule, None where none was crossed."""

    at: datetime
    what: What
    level: Level | None
    threshold: str | None
    amount: int
    actions: tuple[str, ...] = ()
    reason: str | None = None


Steps = tuple[Alert | None, tuple[Transition, ...]]


def step(
    alert: Alert | None, key: AlertKey, amount: int | None, rule: Budget, now: datetime
) -> Steps:
    """Judge a group of a rule in an open period; return its state and what became of it.

    `amount` is None where it is not known. An alert fires once its amount has reached a threshold
    for `rule.hold`, rises with every threshold, each a line of history, and never falls in its
    period, unless the rule itself was changed so that the known amount no longer reaches any.
    """
    if amount is None:
        return _unknown(alert, now)
    lines: list[Transition] = []
    if alert:
        if alert.health is not Health.OK:
            lines.append(_line(What.HEALTH, alert, now, reason=Health.OK))
        if alert.mode is not rule.mode and alert.is_open:
            lines.append(_line(What.MODE, alert, now, reason=f"{alert.mode} to {rule.mode}"))
            alert = replace(alert, revision=alert.revision + 1)
        alert = replace(
            alert,
            health=Health.OK,
            amount=amount,
            judged_at=now,
            mode=rule.mode,
            meaning=rule.meaning,
        )
    crossed = rule.crossed(amount)
    if alert is None or not alert.is_open:
        if not crossed:
            return alert, tuple(lines)
        alert = _begun(alert, key, amount, rule, now)
        if rule.hold:
            lines.append(_line(What.PENDING, alert, now))
    judged, more = _judged(alert, crossed, rule, now)
    return judged, (*lines, *more)


def _begun(last: Alert | None, key: AlertKey, amount: int, rule: Budget, now: datetime) -> Alert:
    return Alert(
        key=key,
        meaning=rule.meaning,
        phase=Phase.PENDING,
        mode=rule.mode,
        crossed=0,
        level=None,
        amount=amount,
        since=now,
        judged_at=now,
        episode=last.episode if last else 0,
        revision=last.revision if last else 0,
    )


def _judged(alert: Alert, crossed: int, rule: Budget, now: datetime) -> Steps:
    if not crossed:
        return end(alert, Ending.RULE_CHANGED, now)
    if alert.phase is Phase.PENDING:
        if now - alert.since < rule.hold:
            return alert, ()
        alert = replace(alert, phase=Phase.FIRING, episode=alert.episode + 1, fired_at=now)
    return _risen(alert, crossed, rule, now)


def end(alert: Alert, ending: Ending, now: datetime) -> tuple[Alert, tuple[Transition, ...]]:
    """End an open alert because its period ended, or its rule changed or is gone."""
    if alert.phase is Phase.PENDING:
        return _ended(alert, now, ending), (_line(What.CANCELLED, alert, now, reason=ending),)
    line = _line(What.RESOLVED, alert, now, reason=ending)
    return replace(_ended(alert, now, ending), revision=alert.revision + 1), (line,)


def _unknown(alert: Alert | None, now: datetime) -> Steps:
    if alert is None or not alert.is_open:
        return alert, ()
    lines: tuple[Transition, ...] = ()
    if alert.health is Health.OK:
        lines = (_line(What.HEALTH, alert, now, reason=Health.NO_DATA),)
    unseen = now - alert.judged_at if alert.phase is Phase.PENDING else timedelta(0)
    return (
        replace(alert, health=Health.NO_DATA, since=alert.since + unseen, judged_at=now),
        lines,
    )


def _risen(alert: Alert, crossed: int, rule: Budget, now: datetime) -> Steps:
    """Cross every threshold between, one line each; an edited rule may move mark and level."""
    lines = []
    for threshold in rule.thresholds[alert.crossed : crossed]:
        what = What.ESCALATED if alert.crossed else What.FIRED
        alert = replace(alert, crossed=alert.crossed + 1, level=threshold.level)
        lines.append(
            Transition(now, what, threshold.level, threshold.at, alert.amount, threshold.actions)
        )
    level = rule.thresholds[crossed - 1].level
    if crossed < alert.crossed or level is not alert.level:
        worse = alert.level is not None and level > alert.level
        alert = replace(alert, crossed=crossed, level=level)
        what = What.ESCALATED if worse else What.EASED
        lines.append(_line(what, alert, now, reason=Ending.RULE_CHANGED))
    if lines:
        alert = replace(alert, revision=alert.revision + 1)
    return alert, tuple(lines)


def _ended(alert: Alert, now: datetime, ending: Ending) -> Alert:
    return replace(alert, phase=Phase.RESOLVED, ended_at=now, ending=ending)


def _line(what: What, alert: Alert, now: datetime, *, reason: str | None = None) -> Transition:
    return Transition(now, what, alert.level, None, alert.amount, (), reason)
