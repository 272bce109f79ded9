"""The docket: how every alert and directive stands; drafts say what is to change."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Phase
from governor.core.directives import Directive
from governor.core.enforcement import renewal_due
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Rule


@dataclass(slots=True)
class Docket:
    """Alerts of the periods that are not over, their lines as people read them, directives.

    `versions` gives the next versions of directives; without it none is issued. `held` are the
    alerts of which something is to be told and is held back, `acks` the newest of each alert.
    `postponed` are those of which nothing could begin, since usage was known too late.
    """

    alerts: dict[AlertKey, Alert] = field(default_factory=dict)
    lines: dict[str, tuple[str, ...]] = field(default_factory=dict)
    directives: dict[str, Directive] = field(default_factory=dict)
    versions: Iterator[int] | None = None
    held: set[AlertKey] = field(default_factory=set)
    postponed: set[AlertKey] = field(default_factory=set)
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
        kept = [
            directive
            for directive in self.directives.values()
            if directive.until > now or directive.alert in current
        ]
        self.directives, self._of_alert = {}, {}
        self.put(kept)

    def undecided(self, now: datetime) -> list[Alert]:
        """Return the alerts whose directives time may change: they wait, or are to be renewed."""
        names = {key.id for key in self.postponed} | {
            directive.alert
            for directive in self.directives.values()
            if directive.waits or renewal_due(directive, now)
        }
        if not names:
            return []
        return [alert for key, alert in self.alerts.items() if key.id in names]
