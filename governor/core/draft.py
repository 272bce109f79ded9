"""The draft: what is to change of alerts and directives, decided on how they stand in the docket.

It is stored, and only then applied: nothing in memory is true before it is stored.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import msgspec

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Transition
from governor.core.allowing import Allow, allowing
from governor.core.books import Total
from governor.core.decisions import AuditRow, Decisions, Line, ReportRow
from governor.core.directives import Directive
from governor.core.docket import Docket
from governor.core.enforcement import (
    Issue,
    approved,
    directives_for,
    released,
)
from governor.core.gauges.history import Exemption
from governor.core.notifications import (
    ENDINGS,
    Notice,
    is_told,
    line_text,
    notice_of,
)
from governor.core.overshoot import due_at, is_felt, past
from governor.core.periods import Period
from governor.core.radius import UNBOUND, Bounds, LastNotices, Radius
from governor.core.raises import Raise
from governor.core.routing import Facts, Firing, Routing, Silence, facts_of, facts_of_alert
from governor.core.rules.shared import Mode, Rule

_TOLD: Final = (Mode.NOTIFY, Mode.ENFORCE)


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
        bounds: Bounds = UNBOUND,
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
        self.directed: set[AlertKey] = set()
        self.postponed: set[AlertKey] = set()
        self._opened: dict[str, int] = {}
        self._fresh: dict[str, int] = {}
        self._docket = docket
        self._now = now
        self._evidence = dict(evidence)
        self._bounds = bounds
        self._radius = Radius(docket, bounds.reach, now)
        self._by_id: dict[str, Alert] | None = None

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
        if issue is None or alert.key in self.directed:
            return
        self.directed.add(alert.key)
        rule = self.rules.get(alert.key.rule)
        standing = list(self._docket.standing(alert.key.id).values())
        issued = directives_for(alert, rule, standing, issue)
        self.directives |= {directive.id: directive for directive in issued}
        if issue.stale and rule and rule.actions and alert.is_open:
            self.postponed.add(alert.key)
        if any(not directive.shadow for directive in issued):
            self._have_told(alert)

    def release(self, directive: Directive, *, reason: str, by: str | None = None) -> None:
        """End a directive; `by` is the person who asked for it."""
        issue = self._issue()
        if issue is None:
            return
        self._order(released(directive, issue, reason=reason, by=by), told=by is not None)

    def approve(self, directive: Directive, *, by: str) -> None:
        """Let a directive begin that waited for a person."""
        issue = self._issue()
        if issue is not None:
            rule = self.rules.get(directive.rule)
            action = rule.actions.get(directive.action) if rule else None
            self._order(approved(directive, action, issue, by=by), told=True)

    def order(self, directive: Directive) -> None:
        """Issue what a person ordered, which no alert asked for."""
        issue = self._issue()
        if issue is not None:
            self._order(msgspec.structs.replace(directive, version=next(issue.versions)))

    def allow(self, allows: Iterable[Allow]) -> None:
        """Let those through that rule files name, and no others of theirs."""
        issue = self._issue()
        if issue is not None:
            fresh = allowing(allows, self._docket.directives, issue)
            self.directives |= {directive.id: directive for directive in fresh}

    def _order(self, directive: Directive, *, told: bool = False) -> None:
        self.directives[directive.id] = directive
        if not told or directive.alert is None:
            return
        if self._by_id is None:
            self._by_id = {key.id: alert for key, alert in self._docket.alerts.items()}
        if alert := self._by_id.get(directive.alert):
            self._have_told(alert)

    def decisions(self, last_notices: LastNotices) -> Decisions:
        """Return all of it, with what follows from it for those who are told."""
        for alert in list(self.alerts.values()):
            self.direct(alert)
        changed = [alert for alert in self.alerts.values() if self._changed(alert)]
        muted = [_message(alert) for alert in changed if self._spoken_for(alert) is None]
        last = last_notices(muted) if muted else {}
        firing = self._telling.routing.firing(self._firing())
        stopped = self._radius.notices(self.directives, self.rules, last_notices)
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
                *(self._telling.addressed(notice) for notice in (*self.notices, *stopped)),
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
        if versions is None:
            return None
        bounds = self._bounds
        return Issue(
            versions,
            self._now,
            self._evidence,
            caused_at=bounds.caused_at,
            admit=self._radius.admit,
            stale=bounds.stale,
        )

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
            waiting=sum(bool(each.waits) for each in self._directives_of(alert)),
        )

    def _directives_of(self, alert: Alert) -> list[Directive]:
        """Return the directives of an alert as this draft has them, but for shadows."""
        standing = self._docket.standing(alert.key.id)
        prefix = f"{alert.key.id}-"
        actions = self.rules[alert.key.rule].actions
        names = {*standing, *(prefix + action for action in actions)}
        found = [self.directives.get(name, standing.get(name)) for name in sorted(names)]
        return [directive for directive in found if directive and not directive.shadow]

    def _throttles(self, alert: Alert) -> tuple[str, ...]:
        shown = self._directives_of(alert)
        lines = [_throttle_text(directive) for directive in shown]
        rule, felt = self.rules[alert.key.rule], any(map(is_felt, shown))
        if felt and (over := past(rule, alert.amount)):
            due = due_at(rule)
            lines.append(f"{rule.text(over)} past {due.at if due else ''} by then")
        return tuple(lines)


def apply(draft: Draft, docket: Docket) -> None:
    """Let a draft that was stored be true."""
    for total, period, crossed in draft.marks:
        total.mark(period, crossed)
    docket.alerts.update(draft.noted)
    docket.alerts.update(draft.alerts)
    docket.held = (docket.held - draft.told) | draft.held
    docket.postponed = (docket.postponed - draft.directed) | draft.postponed
    docket.acks.update(draft.acks)
    docket.put(draft.directives.values())
    for key, transitions in draft.transitions.items():
        if rule := draft.rules.get(key.rule):
            docket.lines[key.id] = (*docket.lines.get(key.id, ()), *_said(transitions, rule))


def _message(alert: Alert) -> str:
    return f"{alert.key.id}-{alert.episode}"


def _said(transitions: Iterable[Transition], rule: Rule) -> tuple[str, ...]:
    return tuple(line_text(each, rule) for each in transitions if is_told(each))


def _throttle_text(directive: Directive) -> str:
    """Return what a directive does, or that it is over, in one line for people."""
    if directive.released_by:
        return f"{directive.action}: released by {directive.released_by}"
    if not directive.acts:
        return f"{directive.action}: released"
    if directive.waits:
        return f"{directive.action} ({directive.deed}) waits for approval: {directive.waits}"
    begins = f", from {directive.starts_at:%Y-%m-%d %H:%M} UTC on" if directive.starts_at else ""
    by = f", approved by {directive.approved_by}" if directive.approved_by else ""
    return f"{directive.deed}{begins}{by}"
