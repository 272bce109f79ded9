"""The docket: how every alert and directive stands, and drafts of what is to change.

A draft is made from the docket, stored, and only then applied: nothing in memory is true before it
is stored.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Phase, Transition
from governor.core.books import Total
from governor.core.decisions import AuditRow, Decisions, Line, ReportRow
from governor.core.directives import Directive, Effect
from governor.core.enforcement import Issue, directives_for, released
from governor.core.gauges.history import Exemption
from governor.core.notifications import ENDINGS, Notice, is_told, line_text, notice_of
from governor.core.periods import Period
from governor.core.raises import Raise
from governor.core.routing import Facts, Firing, Routing, Silence, facts_of, facts_of_alert
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode, Rule

_TOLD: Final = (Mode.NOTIFY, Mode.ENFORCE)

LastNotices = Callable[[Sequence[str]], Mapping[str, Notice]]
"""Returns what was last to be said in messages, by message."""


@dataclass(slots=True)
class Docket:
    """Alerts of the periods that are not over, their lines as people read them, directives.

    `versions` gives the next versions of directives; without it none is issued. `held` are the
    alerts of which something is to be told and is held back, `acks` the newest of each alert.
    """

    alerts: dict[AlertKey, Alert] = field(default_factory=dict)
    lines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    directives: dict[str, Directive] = field(default_factory=dict)
    versions: Iterator[int] | None = None
    held: set[AlertKey] = field(default_factory=set)
    acks: dict[str, Ack] = field(default_factory=dict)
    _of_alert: dict[str, dict[str, Directive]] = field(default_factory=dict)

    def has_open(self, rule: str) -> bool:
        """Return whether an alert of a rule is open."""
        return any(key.rule == rule and alert.is_open for key, alert in self.alerts.items())

    def standing(self, alert: str) -> dict[str, Directive]:
        """Return the newest version of each directive of an alert, by directive id."""
        return self._of_alert.get(alert, {})

    def holding_until(self, rules: Mapping[str, Rule]) -> list[datetime]:
        """Return when what waits for its hold will have held; gauges are judged when due."""
        return [
            alert.since + rule.hold
            for alert in self.alerts.values()
            if alert.phase is Phase.PENDING and (rule := rules.get(alert.key.rule)) and rule.latched
        ]

    def next_end(self, rules: Iterable[Rule], now: datetime) -> datetime | None:
        """Return when a period ends next: of a budget, or of an alert that is open."""
        calendars = {rule.calendar for rule in rules if isinstance(rule, Budget)}
        ends = [calendar.period(now).end for calendar in calendars]
        open_ends = [key.period.end for key, alert in self.alerts.items() if alert.is_open]
        return min([*ends, *open_ends], default=None)

    def put(self, directives: Iterable[Directive]) -> None:
        """Take in new versions of directives."""
        for directive in directives:
            self.directives[directive.id] = directive
            self._of_alert.setdefault(directive.alert or "", {})[directive.id] = directive

    def forget(self, now: datetime) -> None:
        """Drop what belongs to periods that are over."""
        self.alerts = {key: alert for key, alert in self.alerts.items() if key.period.end > now}
        current = {key.id for key in self.alerts}
        self.lines = {alert: lines for alert, lines in self.lines.items() if alert in current}
        self.acks = {alert: ack for alert, ack in self.acks.items() if alert in current}
        kept = [directive for directive in self.directives.values() if directive.until > now]
        self.directives, self._of_alert = {}, {}
        self.put(kept)

    def apply(self, draft: "Draft") -> None:
        """Let a draft that was stored be true."""
        for total, period, crossed in draft.marks:
            total.mark(period, crossed)
        self.alerts.update(draft.noted)
        self.alerts.update(draft.alerts)
        self.held = (self.held - draft.told) | draft.held
        self.acks.update(draft.acks)
        self.put(draft.directives.values())
        for key, transitions in draft.transitions.items():
            if rule := draft.rules.get(key.rule):
                self.lines[key.id] = (*self.lines.get(key.id, ()), *_said(transitions, rule))


@dataclass(frozen=True, slots=True)
class Telling:
    """Who there is to be told, and who is told of what."""

    everybody: tuple[str, ...] = ()
    routing: Routing = field(default_factory=Routing)

    def addressed(self, notice: Notice) -> Notice:
        """Return a notice with its receivers."""
        facts = facts_of(notice)
        key = self.routing.grouping.key(facts, notice.message)
        notice = replace(notice, together=notice.together or key)
        if notice.to is not None or not self.routing.routes:
            return notice
        to = self.routing.receivers_for(facts, self.everybody)
        return replace(notice, to=to, later=self.routing.later_for(facts, notice.level))

    def mutes(self, facts: Facts, now: datetime, firing: Firing) -> list[str]:
        """Return what holds an alert back."""
        routing = self.routing
        if not (routing.silences or routing.quiets or routing.inhibitions):
            return []
        return routing.mutes(facts, now, firing)


class Draft:
    """Decisions in the making, on how things stand in a docket.

    `noted` are newer amounts of alerts of which nothing else changed; they need not be stored.
    """

    def __init__(
        self,
        docket: Docket,
        rules: Mapping[str, Rule],
        now: datetime,
        evidence: Mapping[str, str],
        telling: Telling,
    ) -> None:
        self.rules = rules
        self.held: set[AlertKey] = set()
        self.told: set[AlertKey] = set()
        self._telling = telling
        self.alerts: dict[AlertKey, Alert] = {}
        self.noted: dict[AlertKey, Alert] = {}
        self.transitions: dict[AlertKey, list[Transition]] = {}
        self.directives: dict[str, Directive] = {}
        self.marks: list[tuple[Total, Period, int]] = []
        self.audit: list[AuditRow] = []
        self.notices: list[Notice] = []
        self.exemptions: list[Exemption] = []
        self.acks: dict[str, Ack] = {}
        self.silences: list[Silence] = []
        self.reports: list[ReportRow] = []
        self.raises: list[Raise] = []
        self._directed: set[AlertKey] = set()
        self._opened: dict[str, int] = {}
        self._fresh: dict[str, int] = {}
        self._docket = docket
        self._now = now
        self._evidence = dict(evidence)

    def take(self, alert: Alert, transitions: Iterable[Transition]) -> None:
        """Take in a new state and the transitions that led to it."""
        if alert.key not in self.alerts and alert.is_open:
            before = self._docket.alerts.get(alert.key)
            if before is None or not before.is_open:
                self._fresh[alert.key.rule] = self._fresh.get(alert.key.rule, 0) + 1
        self.alerts[alert.key] = alert
        self.transitions.setdefault(alert.key, []).extend(transitions)

    def opened(self, rule: str) -> int:
        """Return how many alerts of a rule are open, those of this draft included."""
        if rule not in self._opened:
            self._opened[rule] = sum(
                alert.is_open and key.rule == rule for key, alert in self._docket.alerts.items()
            )
        fresh = self._fresh.get(rule, 0)
        return self._opened[rule] + fresh

    def direct(self, alert: Alert) -> None:
        """Issue the directives that an alert asks for, once, and release those it does not."""
        issue = self._issue()
        if issue is None or alert.key in self._directed:
            return
        self._directed.add(alert.key)
        standing = list(self._docket.standing(alert.key.id).values())
        issued = directives_for(alert, self.rules.get(alert.key.rule), standing, issue)
        self.directives |= {directive.id: directive for directive in issued}
        if issued:
            self._have_told(alert)

    def release(self, directive: Directive, *, reason: str, by: str | None = None) -> None:
        """End a directive; `by` is the person who asked for it."""
        issue = self._issue()
        if issue is None:
            return
        self.directives[directive.id] = released(directive, issue, reason=reason, by=by)
        for alert in self._docket.alerts.values() if by else ():
            if alert.key.id == directive.alert:
                self._have_told(alert)

    def decisions(self, last_notices: LastNotices) -> Decisions:
        """Return all of it, with what follows from it for those who are told."""
        for alert in list(self.alerts.values()):
            self.direct(alert)
        changed = [alert for alert in self.alerts.values() if self._changed(alert)]
        muted = [_message(alert) for alert in changed if self._spoken_for(alert) is None]
        last = last_notices(muted) if muted else {}
        firing = self._telling.routing.firing(self._firing())
        told = [
            self._routed(alert, notice, firing)
            for alert in changed
            if (notice := self._notice(alert, last.get(_message(alert))))
        ]
        return Decisions(
            alerts=tuple(self.alerts.values()),
            lines=tuple(
                Line(key, alert.episode, alert.mode, line, self._evidence, alert.why)
                for key, lines in self.transitions.items()
                for alert in [self.alerts[key]]
                for line in lines
            ),
            notices=(
                *(self._telling.addressed(notice) for notice in self.notices),
                *(notice for notice in told if notice),
            ),
            directives=tuple(self.directives.values()),
            audit=tuple(self.audit),
            exemptions=tuple(self.exemptions),
            acks=tuple(self.acks.values()),
            silences=tuple(self.silences),
            reports=tuple(self.reports),
            raises=tuple(self.raises),
        )

    def ack(self, alert: Alert, ack: Ack) -> None:
        """Take in that somebody has seen an alert, and have people told of that."""
        self.acks[alert.key.id] = ack
        self._have_told(alert)

    def tell_held(self, alerts: Iterable[Alert]) -> None:
        """Have people told of alerts that were held back, those that nothing holds back now."""
        firing = self._telling.routing.firing(self._firing())
        for alert in alerts:
            rule = self._spoken_for(alert)
            if rule is None or not self._is_held(alert, facts_of_alert(alert, rule), firing):
                self._have_told(alert)

    def _routed(self, alert: Alert, notice: Notice, firing: Firing) -> Notice | None:
        """Return a notice with who is told; None where it is held back, which no end is."""
        if notice.resolved is not None:
            self.told.add(alert.key)
            return self._telling.addressed(replace(notice, to=()))
        if self._is_held(alert, facts_of(notice), firing):
            self.held.add(alert.key)
            return None
        self.told.add(alert.key)
        return self._telling.addressed(notice)

    def _is_held(self, alert: Alert, facts: Facts, firing: Firing) -> bool:
        """Return whether an alert is not to be told now; that it is snoozed is told once."""
        ack = self._ack_of(alert)
        snoozed = ack is not None and ack.snooze and alert.key.id not in self.acks
        return snoozed or bool(self._telling.mutes(facts, self._now, firing))

    def _ack_of(self, alert: Alert) -> Ack | None:
        """Return who has seen an alert as it is, if anybody has."""
        found = self.acks.get(alert.key.id) or self._docket.acks.get(alert.key.id)
        return found if found and found.holds(alert, self._now) else None

    def _firing(self) -> Iterator[Facts]:
        """Yield the facts of all that fires, as this draft has it."""
        for alert in (self._docket.alerts | self.alerts).values():
            rule = self.rules.get(alert.key.rule)
            if rule and alert.is_open and alert.fired_at and alert.mode in _TOLD:
                yield facts_of_alert(alert, rule)

    def _issue(self) -> Issue | None:
        versions = self._docket.versions
        return None if versions is None else Issue(versions, self._now, self._evidence)

    def _have_told(self, alert: Alert) -> None:
        """Have people told of an alert whose directives change while itself it does not."""
        alert = self.alerts.get(alert.key, alert)
        before = self._docket.alerts.get(alert.key)
        if before is not None and alert.revision == before.revision:
            self.alerts[alert.key] = replace(alert, revision=alert.revision + 1)

    def _changed(self, alert: Alert) -> bool:
        before = self._docket.alerts.get(alert.key)
        return alert.fired_at is not None and not (before and before.revision == alert.revision)

    def _spoken_for(self, alert: Alert) -> Rule | None:
        """Return the rule in whose words people are told; None where it has none for this alert.

        It is gone, speaks of other usage now, or is to tell nobody.
        """
        rule = self.rules.get(alert.key.rule)
        speaks = rule and rule.meaning == alert.meaning and alert.mode in _TOLD
        return rule if speaks else None

    def _notice(self, alert: Alert, last: Notice | None) -> Notice | None:
        rule = self._spoken_for(alert)
        if rule is None:
            over = ENDINGS[alert.ending] if alert.ending else None  # the end is never kept back
            if last is None or not (over or last.throttles):
                return None
            return replace(last, revision=alert.revision, resolved=over, throttles=(), at=self._now)
        said = _said(self.transitions.get(alert.key, ()), rule)
        return notice_of(
            alert,
            rule,
            history=(*self._docket.lines.get(alert.key.id, ()), *said),
            throttles=self._throttles(alert),
            now=self._now,
            ack=self._ack_of(alert),
        )

    def _throttles(self, alert: Alert) -> tuple[str, ...]:
        standing = self._docket.standing(alert.key.id)
        prefix = f"{alert.key.id}-"
        actions = self.rules[alert.key.rule].actions
        names = {*standing, *(prefix + action for action in actions)}
        found = [self.directives.get(name, standing.get(name)) for name in sorted(names)]
        return tuple(_throttle_text(directive) for directive in found if directive)


def _message(alert: Alert) -> str:
    return f"{alert.key.id}-{alert.episode}"


def _said(transitions: Iterable[Transition], rule: Rule) -> tuple[str, ...]:
    return tuple(line_text(each, rule) for each in transitions if is_told(each))


def _throttle_text(directive: Directive) -> str:
    rate = f"{directive.rate_requests} requests in {directive.rate_span_s} s"
    if directive.effect is Effect.THROTTLE:
        return f"{rate} for {'each ' + directive.each if directive.each else 'all together'}"
    if directive.released_by:
        return f"{directive.action}: released by {directive.released_by}"
    return f"{directive.action}: released"
