"""Orders: what people ask of evaluation, and what governor has told of itself."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from governor.core.acks import Ack
from governor.core.alerts import Alert
from governor.core.decisions import AuditRow, ReportRow
from governor.core.directives import Directive
from governor.core.errors import TransientError
from governor.core.gauges.history import Exemption
from governor.core.notifications import Notice
from governor.core.raises import Raise
from governor.core.routing import Silence
from governor.core.rules.shared import Level, Rule
from governor.loops.evaluate.gauging import Gauging
from governor.loops.evaluate.keeping import Keeping


class Orders:
    """Carries out what people ask for; each is stored with its row of the audit."""

    _keeping: Keeping
    _gauges: Gauging
    _rules: Mapping[str, Rule]
    _asked: bool = False

    def _now(self) -> datetime:
        raise NotImplementedError

    def release(self, directive_id: str, audit: AuditRow) -> Directive | None:
        """End a directive because a person asks for it; None where none such stands.

        It stays released for as long as its alert lasts.
        """
        self._require_versions()
        return self._keeping.release(directive_id, audit, self._now(), self._rules)

    def approve(self, directive_ids: Sequence[str], audit: AuditRow) -> list[Directive]:
        """Let directives begin that wait for a person; return those that did wait."""
        self._require_versions()
        return self._keeping.approve(directive_ids, audit, self._now(), self._rules)

    def direct(self, directive: Directive, audit: AuditRow) -> Directive:
        """Issue what a person ordered: to let some through, or everybody."""
        self._require_versions()
        return self._keeping.order(directive, audit, self._now(), self._rules)

    def _require_versions(self) -> None:
        if self._keeping.docket.versions is None:
            self._asked = True
            raise TransientError("the topic of directives has not been read yet; try again")

    def audited(self, row: AuditRow) -> None:
        """Store who asked for what."""
        self._keeping.record(self._now(), self._rules, audit=[row])

    def tell(self, notice: Notice) -> None:
        """Have something told that is about governor itself."""
        self._keeping.record(self._now(), self._rules, notices=[notice])

    def exempt(self, exemption: Exemption, audit: AuditRow) -> None:
        """Have a rule not learn from a span, or not tell of it."""
        self._keeping.record(self._now(), self._rules, audit=[audit], exemptions=[exemption])
        self._gauges.exempt(exemption, self._now())

    def ack(
        self, alert_id: str, until: datetime, audit: AuditRow, *, snooze: bool = False
    ) -> Alert | None:
        """Note that somebody has seen an alert; None where none such lasts, which is audited too.

        An `until` that is past takes back what was noted before.
        """
        now = self._now()
        found = next(
            (a for a in self._keeping.docket.alerts.values() if a.key.id == alert_id), None
        )
        if found is None or not found.is_open or found.fired_at is None:
            self.audited(replace(audit, outcome="not open"))
            return None
        draft = self._keeping.draft(now, self._rules)
        draft.ack(
            found,
            Ack(
                alert=alert_id,
                episode=found.episode,
                who=audit.who,
                at=now,
                until=until,
                level=found.level or Level.INFO,
                snooze=snooze,
                note=audit.detail or "",
            ),
        )
        draft.audit.append(audit)
        self._keeping.commit(draft)
        return found

    def seen(self, alerts: Iterable[Alert]) -> dict[str, str]:
        """Return by alert who has seen it as it is, and until when that holds."""
        now, acks = self._now(), self._keeping.docket.acks
        return {
            name: f"{ack.text}, until {ack.until:%Y-%m-%d %H:%M} UTC"
            for alert in alerts
            if (ack := acks.get(name := alert.key.id)) and alert.is_open and ack.holds(alert, now)
        }

    def silence(self, silence: Silence, audit: AuditRow) -> None:
        """Hold back alerts from now on; one with the id of another takes its place."""
        draft = self._keeping.draft(self._now(), self._rules)
        draft.silences.append(silence)
        draft.audit.append(audit)
        self._keeping.commit(draft)

    def raise_limit(self, order: Raise, audit: AuditRow, notices: Sequence[Notice] = ()) -> None:
        """Store a raise of a budget as it stands now, and judge by it."""
        draft = self._keeping.draft(self._now(), self._rules)
        draft.raises.append(order)
        draft.notices += notices
        draft.audit.append(audit)
        self._keeping.commit(draft)
        self.recount()

    def recount(self) -> None:
        """Add up and judge anew."""
        raise NotImplementedError

    def reported(
        self, rows: Sequence[ReportRow], notices: Sequence[Notice], audit: Sequence[AuditRow] = ()
    ) -> None:
        """Enter reports into their ledger, and have those told who get them, in one transaction."""
        draft = self._keeping.draft(self._now(), self._rules)
        draft.reports += rows
        draft.notices += notices
        draft.audit += audit
        self._keeping.commit(draft)

    @property
    def raises(self) -> Mapping[str, Raise]:
        """The raises of budgets that are not over, by id."""
        return self._keeping.raises

    @property
    def acks(self) -> Mapping[str, Ack]:
        """The newest acknowledgement of each alert, by its id."""
        return self._keeping.docket.acks

    @property
    def silences(self) -> Mapping[str, Silence]:
        """What people ordered not to be told, by id."""
        return self._keeping.ordered
