"""Routing: who is told of what, and what holds back that somebody is told.

What holds back holds back the beginning and the rise of an alert, and never its end: a receiver
that was told of an alert is told that it is over. What was held back is told when nothing holds it
back any more and it still lasts.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from types import MappingProxyType
from typing import Final
from zoneinfo import ZoneInfo

from governor.core.alerts import Alert
from governor.core.notifications import Notice
from governor.core.reports import ReportSpec
from governor.core.rules.shared import Level, Rule
from governor.core.scopes import Scope

LOG: Final = "log"
"""The receiver that is told of everything."""

Facts = Mapping[str, str | None]
"""What routes look at: `FACTS`, labels of the rule, and values of the group."""

_ANOTHER: Final = 2
"""Alerts that are kept as a reason: itself, and another one."""

ALERT: Final = "alert"
"""In `Grouping.by`: each alert is for itself."""
FACTS: Final = ("rule", "owner", "kind", "level", "mode")


@dataclass(frozen=True, slots=True, kw_only=True)
class Addressee:
    """A receiver of `routing.yaml`; `fallback` is told in its place while it cannot be."""

    name: str
    fallback: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SlackChannel(Addressee):
    """A channel of the workspace that the bot of the settings is in.

    `mention` is who is called by name when an alert reaches a level: `<!here>`, `<@U...>`.
    """

    channel: str
    mention: Mapping[Level, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook(Addressee):
    """A web address that is posted to, signed; None for that of the settings."""

    url: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pager(Addressee):
    """The PagerDuty service of the settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail(Addressee):
    """Mail addresses, by the mail server of the settings."""

    to: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Grouping:
    """What is told together, and how often; used for receivers whose messages can be edited.

    Alerts with the same facts `by` share a message; `ALERT` is one of its own for each. It waits so
    long for others before it is posted, and there is so much time between two edits; a rise and the
    end are told at once. `repeat` is after how long it is said again, by level. More groups than
    `storm` that begin in a minute share one message; None for never.
    """

    by: tuple[str, ...] = ("rule",)
    wait: timedelta = timedelta(seconds=5)
    update: timedelta = timedelta(seconds=5)
    repeat: Mapping[Level, timedelta] = field(
        default_factory=lambda: MappingProxyType(
            {Level.CRITICAL: timedelta(hours=4), Level.WARNING: timedelta(days=1)}
        )
    )
    storm: int | None = 10

    def key(self, facts: Facts, alert: str) -> str:
        """Return what is the same for alerts that belong together."""
        if ALERT in self.by:
            return alert
        return json.dumps([facts.get(name) for name in self.by], ensure_ascii=False)


APART: Final = Grouping(
    by=(ALERT,), wait=timedelta(0), update=timedelta(0), repeat=MappingProxyType({}), storm=None
)
"""Each alert for itself, at once: for receivers that group by themselves, and for the log."""


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who is told too of an alert of at least `level` that lasts for `after` unacknowledged."""

    after: timedelta
    to: tuple[str, ...]
    level: Level = Level.CRITICAL


@dataclass(frozen=True, slots=True)
class Route:
    """Who is told of what matches; with `also`, later routes are looked at, too."""

    match: Scope
    to: tuple[str, ...]
    also: bool = False
    place: str = ""
    escalate: tuple[Escalation, ...] = ()


@dataclass(frozen=True, slots=True)
class Inhibition:
    """While an alert that is like `when` fires, those like `hide` with the `same` facts are held.

    A fact that is missing on either side is never the same.
    """

    name: str
    when: Scope
    hide: Scope
    same: tuple[str, ...]

    def common(self, facts: Facts) -> tuple[str, ...] | None:
        """Return what must be the same; None where it is not all there."""
        found = tuple(value for name in self.same if (value := facts.get(name)) is not None)
        return found if len(found) == len(self.same) else None


class Firing:
    """What fires, looked up by what inhibitions compare: so that many alerts cost no more each."""

    def __init__(self, inhibitions: Iterable[Inhibition], firing: Iterable[Facts]) -> None:
        self._reasons: dict[str, dict[tuple[str, ...], list[Facts]]] = {
            each.name: {} for each in inhibitions
        }
        listed = list(firing) if self._reasons else []
        for each in inhibitions:
            for facts in listed:
                common = each.common(facts) if each.when.holds(facts) else None
                if common is not None:
                    found = self._reasons[each.name].setdefault(common, [])
                    found += [facts] if len(found) < _ANOTHER else []

    def hides(self, each: Inhibition, facts: Facts) -> bool:
        """Return whether an alert is held back by another one that fires."""
        common = each.common(facts) if each.hide.holds(facts) else None
        if common is None:
            return False
        return any(other != facts for other in self._reasons[each.name].get(common, ()))


@dataclass(frozen=True, slots=True)
class QuietHours:
    """Local hours of some days (Monday is 0) in which `levels` wait; `end` may be the next day."""

    name: str
    days: frozenset[int]
    start: time
    end: time
    zone: str
    levels: frozenset[Level]
    match: Scope = field(default_factory=Scope)

    def until(self, at: datetime) -> datetime | None:
        """Return when the quiet hours around a time end; None where it is in none."""
        return next((end for start, end in self._around(at) if start <= at < end), None)

    def next_change(self, at: datetime) -> datetime:
        """Return when they begin or end next."""
        return min(edge for span in self._around(at) for edge in span if edge > at)

    def _around(self, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        zone = ZoneInfo(self.zone)
        today = at.astimezone(zone).date()
        for days in range(-1, 9):
            day = today + timedelta(days=days)
            if day.weekday() not in self.days:
                continue
            last = day if self.start < self.end else day + timedelta(days=1)
            yield (
                datetime.combine(day, self.start, zone).astimezone(at.tzinfo),
                datetime.combine(last, self.end, zone).astimezone(at.tzinfo),
            )


@dataclass(frozen=True, slots=True)
class Silence:
    """Alerts like `match` are held back until a time; somebody says why.

    One that was ordered while governor runs has an `id`; its end can be brought forward.
    """

    match: Scope
    until: datetime
    reason: str
    by: str
    since: datetime | None = None
    id: str = ""

    def holds(self, facts: Facts, at: datetime) -> bool:
        """Return whether an alert is held back at a time."""
        begun = self.since is None or self.since <= at
        return begun and at < self.until and self.match.holds(facts)


@dataclass(frozen=True, slots=True)
class People:
    """Users of Slack, by id, who may press buttons: `act` None for all who see them.

    To release a throttle and to raise a budget is for those of `approve` alone, for nobody where
    none is named. A raise of more than `two_above` nano-dollars needs two of them.
    """

    act: frozenset[str] | None = None
    approve: frozenset[str] = frozenset()
    two_above: int = 0

    def may(self, user: str, *, approve: bool) -> bool:
        """Return whether somebody may press a button, or one that needs approval."""
        if approve:
            return user in self.approve
        return self.act is None or user in self.act | self.approve


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Who is told, and how often, that governor is alive and does its work."""

    to: tuple[str, ...]
    every: timedelta


@dataclass(frozen=True, slots=True)
class Routing:
    """All of it. Without routes everybody is told of everything."""

    receivers: tuple[Addressee, ...] = ()
    routes: tuple[Route, ...] = ()
    inhibitions: tuple[Inhibition, ...] = ()
    quiets: tuple[QuietHours, ...] = ()
    silences: tuple[Silence, ...] = ()
    grouping: Grouping = field(default_factory=Grouping)
    heartbeat: Heartbeat | None = None
    fallback: str | None = None
    people: People = field(default_factory=People)
    reports: tuple[ReportSpec, ...] = ()

    def fallback_of(self, receiver: str) -> str | None:
        """Return who is told in place of a receiver that cannot be."""
        own = next((each.fallback for each in self.receivers if each.name == receiver), None)
        found = own or self.fallback
        return None if found == receiver else found

    def matched(self, facts: Facts) -> list[Route]:
        """Return the routes that decide, in order."""
        found = []
        for route in self.routes:
            if route.match.holds(facts):
                found.append(route)
                if not route.also:
                    break
        return found

    def receivers_for(self, facts: Facts, everybody: Iterable[str]) -> tuple[str, ...]:
        """Return who is told, the log among them."""
        if not self.routes:
            return tuple(everybody)
        named = [name for route in self.matched(facts) for name in route.to]
        return tuple(dict.fromkeys((LOG, *named)))

    def later_for(self, facts: Facts, level: Level) -> tuple[tuple[str, int], ...]:
        """Return who is told later, and after how many seconds."""
        return tuple(
            (name, int(each.after.total_seconds()))
            for route in self.matched(facts)
            for each in route.escalate
            if level >= each.level
            for name in each.to
        )

    def firing(self, firing: Iterable[Facts]) -> Firing:
        """Return what fires, ready to be asked by `mutes`."""
        return Firing(self.inhibitions, firing)

    def mutes(self, facts: Facts, at: datetime, firing: Firing) -> list[str]:
        """Return what holds an alert back at a time, in words."""
        found = [
            f"silenced until {silence.until:%Y-%m-%d %H:%M} UTC by {silence.by}: {silence.reason}"
            for silence in self.silences
            if silence.holds(facts, at)
        ]
        for quiet in self.quiets:
            waits = facts.get("level") in {str(level) for level in quiet.levels}
            if waits and quiet.match.holds(facts) and (end := quiet.until(at)):
                found.append(f"quiet hours {quiet.name} until {end:%Y-%m-%d %H:%M} UTC")
        found += [
            f"inhibited by {each.name}" for each in self.inhibitions if firing.hides(each, facts)
        ]
        return found

    def next_change(self, at: datetime) -> datetime | None:
        """Return when time changes next what is held back; None for never."""
        ends = [each.until for each in self.silences if each.until > at]
        begins = [each.since for each in self.silences if each.since and each.since > at]
        return min([*ends, *begins, *(q.next_change(at) for q in self.quiets)], default=None)


def facts_of_alert(alert: Alert, rule: Rule) -> dict[str, str | None]:
    """Return what routes look at of an alert."""
    return {
        **rule.labels,
        **dict(zip(rule.per, alert.key.group, strict=True)),
        "rule": rule.id,
        "owner": rule.owner,
        "kind": rule.kind,
        "level": str(alert.level or Level.INFO),
        "mode": alert.mode.value,
    }


def facts_of(notice: Notice) -> dict[str, str | None]:
    """Return what routes look at of a notice."""
    return {
        **dict(notice.labels),
        **{name: None if value == "(none)" else value for name, value in notice.group},
        "rule": notice.rule,
        "owner": notice.owner,
        "kind": notice.kind,
        "level": str(notice.level),
        "mode": notice.mode.value,
    }
