"""The alert: how the amounts of a rule's group become something to tell and to act on, and end.

`step` is pure and the only way a state changes; the daemon, tests and backtests call it. An alert
belongs to a rule, a group and a period. Level is state and never identity, so it can climb.

Nothing turns green without evidence: an amount that is not known changes nothing but `health`,
unless the rule says otherwise, and its time counts for no clock.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TypeAlias

from governor.core.periods import Period
from governor.core.rules.shared import Level, Mode, Rule, Unknown
from governor.core.scopes import Key


class Phase(StrEnum):
    """Where an alert is in its life."""

    PENDING = "pending"
    FIRING = "firing"
    RECOVERING = "recovering"
    RESOLVED = "resolved"


class Health(StrEnum):
    """Whether the amount is known. `guarded`: it is, and too little stands behind it to count."""

    OK = "ok"
    GUARDED = "guarded"
    NO_DATA = "no_data"
    ERROR = "error"


class What(StrEnum):
    """What a transition is: one line of history."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    FIRED = "fired"
    ESCALATED = "escalated"
    EASED = "eased"
    RECOVERING = "recovering"
    RELAPSED = "relapsed"
    GREW = "grew"
    RESOLVED = "resolved"
    HEALTH = "health"
    MODE = "mode"


class Ending(StrEnum):
    """Why an alert is over."""

    PERIOD_ENDED = "period_ended"
    CLEARED = "cleared"
    GROUP_GONE = "group_gone"
    GAVE_WAY = "gave_way"
    RULE_CHANGED = "rule_changed"
    RULE_RENAMED = "rule_renamed"
    RULE_REMOVED = "rule_removed"


Seen: TypeAlias = int | Health
"""What was found of a group: its amount, or why there is none that counts."""


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
    """The state of an alert. `crossed` counts the thresholds that hold, `amount` is the newest.

    `meaning` is that of the rule (`Rule.meaning`). `episode` counts how often it fired; `revision`
    grows with every transition that people hear of; `since` is when `pending` began, `cleared_at`
    when `recovering` did, `judged_at` when it was last judged. `told` is the amount that people
    last heard of; `why` is what was said then of how it came about, a sentence and details.
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
    cleared_at: datetime | None = None
    told: int = 0
    why: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether it is not over yet."""
        return self.phase is not Phase.RESOLVED

    @property
    def waits(self) -> bool:
        """Whether time alone may change it."""
        return self.phase in {Phase.PENDING, Phase.RECOVERING}


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
    alert: Alert | None, key: AlertKey, seen: Seen, rule: Rule, now: datetime, *, lead: int = 0
) -> Steps:
    """Judge a group of a rule in an open period; return its state and what became of it.

    An alert fires once its amount has reached a threshold for `rule.hold`, and rises with every
    threshold, each a line of history. That of a latched rule never falls in its period, unless the
    rule itself was changed so that the known amount no longer reaches any; another eases as
    thresholds no longer hold, and is over once none has for `rule.keep`.
    """
    policy = _policy(seen, rule)
    if policy is Unknown.KEEP:
        return _unknown(alert, seen, now)
    lines: list[Transition] = []
    if alert:
        alert, lines = _renewed(alert, seen, rule, now)
    crossed = _crossed(alert, seen, rule, policy, lead)
    if alert is None or not alert.is_open:
        if not crossed:
            return alert, tuple(lines)
        alert = _begun(alert, key, seen, rule, now)
        if rule.hold:
            lines.append(_line(What.PENDING, alert, now))
    judged, more = _judged(alert, crossed, rule, now)
    return judged, (*lines, *more)


def end(alert: Alert, ending: Ending, now: datetime) -> tuple[Alert, tuple[Transition, ...]]:
    """End an open alert: its period ended, all is well, or its rule or group is gone or changed."""
    ended = replace(alert, phase=Phase.RESOLVED, ended_at=now, ending=ending, cleared_at=None)
    if alert.phase is Phase.PENDING:
        return ended, (_line(What.CANCELLED, alert, now, reason=ending),)
    line = _line(What.RESOLVED, alert, now, reason=ending)
    return replace(ended, revision=alert.revision + 1), (line,)


def _policy(seen: Seen, rule: Rule) -> Unknown | None:
    """Return what to make of an amount that is not known; None where it is."""
    policies = {Health.NO_DATA: rule.on_no_data, Health.ERROR: rule.on_error}
    return policies.get(seen) if isinstance(seen, Health) else None


def _crossed(alert: Alert | None, seen: Seen, rule: Rule, policy: Unknown | None, lead: int) -> int:
    """Return how many thresholds hold now; one that was reached early is not lost again."""
    if isinstance(seen, Health):
        return len(rule.thresholds) if policy is Unknown.FIRE else 0
    falls = not rule.latched or rule.acts_early
    held = alert.crossed if alert and alert.is_open and falls else 0
    return rule.crossed(seen, held, lead)


def _renewed(alert: Alert, seen: Seen, rule: Rule, now: datetime) -> tuple[Alert, list[Transition]]:
    """Note what is known now, and let time in which nothing was judged count for no clock."""
    lines = []
    health = seen if isinstance(seen, Health) else Health.OK
    if alert.health is not health and alert.is_open:
        lines.append(_line(What.HEALTH, alert, now, reason=health))
    if alert.mode is not rule.mode and alert.is_open:
        lines.append(_line(What.MODE, alert, now, reason=f"{alert.mode} to {rule.mode}"))
        alert = replace(alert, revision=alert.revision + 1)
    late = now - alert.judged_at - rule.every
    if alert.waits and not rule.latched and late > rule.every:
        alert = _shifted(alert, late)
    return replace(
        alert,
        health=health,
        amount=alert.amount if isinstance(seen, Health) else seen,
        judged_at=now,
        mode=rule.mode,
        meaning=rule.meaning,
    ), lines


def _begun(last: Alert | None, key: AlertKey, seen: Seen, rule: Rule, now: datetime) -> Alert:
    health = seen if isinstance(seen, Health) else Health.OK
    before = last.amount if last else 0
    return Alert(
        key=key,
        meaning=rule.meaning,
        phase=Phase.PENDING,
        mode=rule.mode,
        crossed=0,
        level=None,
        amount=before if isinstance(seen, Health) else seen,
        since=now,
        judged_at=now,
        health=health,
        episode=last.episode if last else 0,
        revision=last.revision if last else 0,
    )


def _judged(alert: Alert, crossed: int, rule: Rule, now: datetime) -> Steps:
    if not crossed:
        return _fallen(alert, rule, now)
    lines: tuple[Transition, ...] = ()
    if alert.phase is Phase.PENDING:
        if now - alert.since < rule.hold:
            return alert, ()
        alert = replace(alert, phase=Phase.FIRING, episode=alert.episode + 1, fired_at=now)
    elif alert.phase is Phase.RECOVERING:
        alert = replace(alert, phase=Phase.FIRING, cleared_at=None)
        lines = (_line(What.RELAPSED, alert, now),)
    risen, more = _risen(alert, crossed, rule, now)
    return risen, (*lines, *more)


def _fallen(alert: Alert, rule: Rule, now: datetime) -> Steps:
    """Let an alert of which no threshold holds recover, and end when that has lasted."""
    if rule.latched:
        return end(alert, Ending.RULE_CHANGED, now)
    if alert.phase is Phase.FIRING and rule.keep:
        alert = replace(alert, phase=Phase.RECOVERING, cleared_at=now)
        return alert, (_line(What.RECOVERING, alert, now),)
    if alert.cleared_at is not None and now - alert.cleared_at < rule.keep:
        return alert, ()
    return end(alert, Ending.CLEARED, now)


def _unknown(alert: Alert | None, seen: Seen, now: datetime) -> Steps:
    if alert is None or not alert.is_open or not isinstance(seen, Health):
        return alert, ()
    lines: tuple[Transition, ...] = ()
    if alert.health is not seen:
        lines = (_line(What.HEALTH, alert, now, reason=seen),)
    if alert.waits:
        alert = _shifted(alert, now - alert.judged_at)
    return replace(alert, health=seen, judged_at=now), lines


def _shifted(alert: Alert, unseen: timedelta) -> Alert:
    """Let the running clock of an alert have begun later, by the time in which nothing was seen."""
    if alert.phase is Phase.PENDING:
        return replace(alert, since=alert.since + unseen)
    return replace(alert, cleared_at=(alert.cleared_at or alert.judged_at) + unseen)


def _risen(alert: Alert, crossed: int, rule: Rule, now: datetime) -> Steps:
    """Cross every threshold between, one line each; an edited rule may move mark and level."""
    lines = []
    for threshold in rule.thresholds[alert.crossed : crossed]:
        what = What.ESCALATED if alert.crossed else What.FIRED
        alert = replace(alert, crossed=alert.crossed + 1, level=threshold.level)
        blind = None if alert.health is Health.OK else alert.health
        lines.append(
            Transition(
                now, what, threshold.level, threshold.at, alert.amount, threshold.actions, blind
            )
        )
    level = rule.thresholds[crossed - 1].level
    if crossed < alert.crossed or level is not alert.level:
        worse = alert.level is not None and level > alert.level
        alert = replace(alert, crossed=crossed, level=level)
        what = What.ESCALATED if worse else What.EASED
        reason = Ending.RULE_CHANGED if rule.latched or worse else Ending.CLEARED
        lines.append(_line(what, alert, now, reason=reason))
    if not lines and rule.regrows and 0 < 2 * alert.told <= alert.amount:
        lines.append(_line(What.GREW, alert, now))
    if lines:
        alert = replace(alert, revision=alert.revision + 1, told=alert.amount)
    return alert, tuple(lines)


def _line(what: What, alert: Alert, now: datetime, *, reason: str | None = None) -> Transition:
    return Transition(now, what, alert.level, None, alert.amount, (), reason)
