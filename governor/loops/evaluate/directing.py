"""Directing: what alerts ask of gates is issued, taken up from the topic, renewed and released."""

import itertools
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from governor import telemetry
from governor.core.alerts import Alert
from governor.core.allowing import Allow
from governor.core.directives import Directive, newest_by_key
from governor.core.overshoot import Overshoot, is_felt, overshoots
from governor.core.pricing import NANO_PER_USD
from governor.core.rules.shared import Mode
from governor.loops.evaluate.bounding import Bounding
from governor.loops.evaluate.ledger import Ledger
from governor.loops.evaluate.orders import Orders

REDIRECT_EVERY: Final = timedelta(seconds=10)
"""How often what waits, or is to be renewed, is looked at again."""
_MODES: Final = (Mode.ENFORCE, Mode.SHADOW)


class Directing(Orders):
    """The part of evaluation that has to do with directives."""

    _ledger: Ledger
    _bounding: Bounding
    _allows: tuple[Allow, ...] = ()
    _redirect_at: datetime | None = None
    overshoot: tuple[Overshoot, ...] = ()
    """What was spent past the thresholds of rules that act, as it was some seconds ago."""

    @property
    def alerts(self) -> Sequence[tuple[Alert, int]]:
        """Alerts of periods that are not over, each with the amount of now."""
        raise NotImplementedError

    @property
    def directives(self) -> Sequence[Directive]:
        """The newest version of each directive that has not ended."""
        return list(self._keeping.docket.directives.values())

    @property
    def stale(self) -> bool:
        """Whether usage is known too late for anything new to begin."""
        return self._bounding.stale

    @property
    def enforces(self) -> bool:
        """Whether a rule may act, or what one did still stands, or a person asked to direct."""
        modes = (Mode.ENFORCE, Mode.SHADOW)
        acts = any(rule.mode in modes and rule.actions for rule in self._rules.values())
        return acts or self._asked or bool(self._keeping.docket.directives)

    def adopt(self, records: Iterable[Directive], version: int) -> list[Directive]:
        """Take up what stands on the topic; return what must be published there.

        `version` is the greatest ever seen on the topic. Until this was called no directive is
        issued, since its version might go back. A directive that the store does not know (its file
        was lost) is kept until it ends.
        """
        now = self._now()
        on_topic = newest_by_key(records)
        draft = self._keeping.draft(now, self._rules)
        for directive in on_topic.values():
            known = self._keeping.docket.directives.get(directive.id)
            if directive.until > now and (known is None or known.version < directive.version):
                draft.directives[directive.id] = directive
        top = max([0, version, self._ledger.max_version(), *(d.version for d in on_topic.values())])
        self._keeping.commit(draft, published=True)
        self._keeping.docket.versions = itertools.count(top + 1)
        behind = [
            directive
            for directive in self._keeping.docket.directives.values()
            if directive.until > now
            and not directive.waits
            and (directive.id not in on_topic or on_topic[directive.id].version < directive.version)
        ]
        self._direct(now)
        return behind

    def _redirect(self, now: datetime) -> None:
        """Look again at what waits, was put off for late usage, or must be renewed."""
        docket = self._keeping.docket
        due = self._redirect_at is None or now >= self._redirect_at
        if not due and not (docket.postponed and not self._bounding.stale):
            return
        self._redirect_at = now + REDIRECT_EVERY
        self.measure(now)
        draft = self._keeping.draft(now, self._rules)
        for alert in docket.undecided(now):
            draft.direct(alert)
        self._keeping.commit(draft)

    def measure(self, now: datetime) -> None:
        """Let what is shown of enforcement be as it is now."""
        self.overshoot = overshoots(self.alerts, self._rules, self._standing)
        telemetry.OVERSHOOT.clear()
        for each in self.overshoot:
            telemetry.OVERSHOOT.labels(each.rule).set(each.past_nano / NANO_PER_USD)
        acting = [each for each in self.directives if each.acts and each.until > now]
        for state, number in (
            ("acting", sum(map(is_felt, acting))),
            ("waiting", sum(bool(each.waits) for each in acting)),
            ("shadow", sum(each.shadow for each in acting)),
        ):
            telemetry.DIRECTIVES_ACTING.labels(state).set(number)

    def _standing(self, alert: str) -> Iterable[Directive]:
        return self._keeping.docket.standing(alert).values()

    def _direct(self, now: datetime) -> None:
        """Issue what alerts ask for and the topic does not say, and release what nothing asks."""
        draft = self._keeping.draft(now, self._rules)
        for alert in self._keeping.docket.alerts.values():
            draft.direct(alert)
        draft.allow(self._allows)
        known = {key.id for key in self._keeping.docket.alerts}
        for directive in self._keeping.docket.directives.values():
            rule = self._rules.get(directive.rule)
            stands = directive.acts and directive.alert not in known
            if stands and (rule is None or rule.mode not in (Mode.ENFORCE, Mode.SHADOW)):
                draft.release(directive, reason="its rule enforces no more")
        self._keeping.commit(draft)
