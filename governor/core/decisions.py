"""Decisions: what one evaluation came to, stored in one transaction and acted on after it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Transition
from governor.core.directives import Directive
from governor.core.gauges.history import Exemption
from governor.core.notifications import Notice
from governor.core.periods import Period
from governor.core.raises import Raise
from governor.core.routing import Silence
from governor.core.rules.shared import Mode


@dataclass(frozen=True, slots=True)
class Line:
    """One line of history. `evidence` maps `topic/partition` to the offsets `start-end` read.

    `why` is what was said of how the number came about, where something was.
    """

    key: AlertKey
    episode: int
    mode: Mode
    transition: Transition
    evidence: Mapping[str, str]
    why: str | None = None


@dataclass(frozen=True, slots=True)
class AuditRow:
    """Who did what by which way, and what came of it."""

    at: datetime
    who: str
    via: str
    action: str
    target: str
    outcome: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class ReportRow:
    """A row of the ledger of reports: one a report and period, `body` None where it was missed."""

    report: str
    period: Period
    made_at: datetime
    body: str | None


@dataclass(frozen=True, slots=True)
class Decisions:
    """New states of alerts, their history, what to tell, what gates must do, who asked for it.

    `exemptions` are spans that gauges are not to learn from, `acks` who has seen what, `silences`
    what people ordered not to be told, `reports` which reports were made, `raises` of budgets.
    """

    alerts: tuple[Alert, ...] = ()
    lines: tuple[Line, ...] = ()
    notices: tuple[Notice, ...] = ()
    directives: tuple[Directive, ...] = ()
    audit: tuple[AuditRow, ...] = ()
    exemptions: tuple[Exemption, ...] = ()
    acks: tuple[Ack, ...] = ()
    silences: tuple[Silence, ...] = ()
    reports: tuple[ReportRow, ...] = ()
    raises: tuple[Raise, ...] = ()

    def __bool__(self) -> bool:
        parts = (self.alerts, self.lines, self.notices, self.directives, self.audit)
        ordered = (self.exemptions, self.acks, self.silences, self.raises)
        return any((*parts, *ordered, self.reports))
