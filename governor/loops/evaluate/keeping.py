"""Keeping: what was decided is stored, and only then is it true, published and said."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from governor.core.decisions import AuditRow, Line
from governor.core.directives import Directive, Effect
from governor.core.docket import Docket
from governor.core.draft import Draft, Telling, apply
from governor.core.gauges.history import Exemption
from governor.core.notifications import Notice
from governor.core.radius import UNBOUND, Bounds
from governor.core.raises import Raise
from governor.core.routing import Routing, Silence
from governor.core.rules.shared import Rule
from governor.loops.evaluate.adding import stored_lines, untold
from governor.loops.evaluate.ledger import Ledger


class Keeping:
    """The docket, and the way by which it changes. `evidence` is what usage was read of topics.

    `written` is the routing of the files, `ordered` are silences that people ordered, by id;
    `raises` are those of budgets that are not over.
    """

    def __init__(
        self,
        ledger: Ledger,
        receivers: Sequence[str],
        routing: Routing,
        *,
        publish: Callable[[Sequence[Directive]], None],
        say: Callable[[Sequence[Line]], None],
        bounds: Callable[[], Bounds] = lambda: UNBOUND,
    ) -> None:
        self.docket = Docket()
        self.written = routing
        self.ordered: dict[str, Silence] = {}
        self.raises: dict[str, Raise] = {}
        self.evidence: dict[str, str] = {}
        self._bounds = bounds
        self._ledger = ledger
        self._receivers = tuple(receivers)
        self._publish = publish
        self._say = say
        self._sure = True
        self._recalled = False

    @property
    def routing(self) -> Routing:
        """The routing as it is written, with the silences that people ordered."""
        if not self.ordered:
            return self.written
        silences = (*self.written.silences, *self.ordered.values())
        return replace(self.written, silences=silences)

    def take_recalled(self) -> bool:
        """Return whether the docket was recalled since the last call: periods may be over in it."""
        found, self._recalled = self._recalled, False
        return found

    @property
    def _everybody(self) -> tuple[str, ...]:
        return (*self._receivers, *(each.name for each in self.routing.receivers))

    def record(
        self,
        now: datetime,
        rules: Mapping[str, Rule],
        *,
        audit: Sequence[AuditRow] = (),
        notices: Sequence[Notice] = (),
        exemptions: Sequence[Exemption] = (),
    ) -> None:
        """Store what changes no alert."""
        draft = self.draft(now, rules)
        draft.audit += audit
        draft.notices += notices
        draft.exemptions += exemptions
        self.commit(draft)

    def release(
        self, directive_id: str, audit: AuditRow, now: datetime, rules: Mapping[str, Rule]
    ) -> Directive | None:
        """End a throttle because a person asks for it; None where none such stands."""
        draft = self.draft(now, rules)
        directive = self.docket.directives.get(directive_id)
        if directive is not None and directive.effect is not Effect.RELEASE:
            draft.release(directive, reason=f"released by {audit.who}", by=audit.who)
        draft.audit.append(replace(audit, outcome="released" if draft.directives else "not found"))
        self.commit(draft)
        return draft.directives.get(directive_id)

    def approve(
        self,
        directive_ids: Sequence[str],
        audit: AuditRow,
        now: datetime,
        rules: Mapping[str, Rule],
    ) -> list[Directive]:
        """Let directives begin that wait for a person; return those that did wait."""
        draft = self.draft(now, rules)
        for name in directive_ids:
            directive = self.docket.directives.get(name)
            if directive is not None and directive.waits and directive.until > now:
                draft.approve(directive, by=audit.who)
        outcome = f"approved {len(draft.directives)}" if draft.directives else "not found"
        draft.audit.append(replace(audit, outcome=outcome))
        self.commit(draft)
        return list(draft.directives.values())

    def order(
        self, directive: Directive, audit: AuditRow, now: datetime, rules: Mapping[str, Rule]
    ) -> Directive:
        """Issue a directive that a person ordered; return it with its version."""
        draft = self.draft(now, rules)
        draft.order(directive)
        draft.audit.append(audit)
        self.commit(draft)
        return draft.directives[directive.id]

    def draft(self, now: datetime, rules: Mapping[str, Rule]) -> Draft:
        """Return a draft on how things stand; what was last committed is recalled, if need be."""
        if not self._sure:
            self.recall(now, rules)
        telling = Telling(self._everybody, self.routing)
        return Draft(self.docket, rules, now, self.evidence, telling, self._bounds())

    def commit(self, draft: Draft, *, published: bool = False) -> None:
        """Store a draft, and only then let it be true. Raise TransientError to decide anew."""
        decisions = draft.decisions(self._ledger.notices)
        if decisions:
            self._sure = False
            self._ledger.commit(self._ledger.decided + 1, decisions, self._everybody)
            self._sure = True
        apply(draft, self.docket)
        self.ordered.update({silence.id: silence for silence in decisions.silences})
        self.raises.update({each.id: each for each in decisions.raises})
        self._say(decisions.lines)
        if not published:
            self._hand_over(decisions.directives)

    def recall(self, now: datetime, rules: Mapping[str, Rule]) -> None:
        """Let the docket be what is stored; publish what was stored without our knowing."""
        self._ledger.recall()
        known = self.docket
        self.docket = Docket(versions=known.versions, postponed=known.postponed)
        self.docket.alerts = {alert.key: alert for alert in self._ledger.alerts(now)}
        self.docket.lines = stored_lines(self._ledger, list(self.docket.alerts), rules)
        current = {key.id for key in self.docket.alerts}
        self.docket.put(
            directive
            for directive in self._ledger.directives(now)
            if directive.until > now or directive.alert in current
        )
        self.docket.held = untold(self._ledger, self.docket.alerts.values())
        self.docket.acks = {ack.alert: ack for ack in self._ledger.acks(now)}
        self.ordered = {silence.id: silence for silence in self._ledger.silences(now)}
        self.raises = {each.id: each for each in self._ledger.raises(now)}
        self._sure = self._recalled = True
        unknown = [
            d for name, d in self.docket.directives.items() if d != known.directives.get(name)
        ]
        if known.versions is not None:
            self._hand_over(unknown)

    def _hand_over(self, directives: Sequence[Directive]) -> None:
        """Have directives published, but for those that wait for a person."""
        if begun := [directive for directive in directives if not directive.waits]:
            self._publish(begun)
