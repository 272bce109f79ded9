"""What is done when somebody presses a button in Slack: the same as by a command, if they may."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from governor.actions.slack import buttons
from governor.actions.slack.buttons import Press
from governor.adapters.control import Caller
from governor.adapters.duckdb.outbox import Outbox
from governor.core.alerts import Alert
from governor.core.errors import GovernorError
from governor.core.gauges.history import Exemption
from governor.core.routing import People
from governor.daemon.looking import BEFORE_ALERT
from governor.daemon.quieting import ACK_FOR, Audit
from governor.daemon.raising import Raising
from governor.loops.deliver import Ask
from governor.loops.evaluate import Evaluate
from governor.rulebook.values import duration

PLANNED_FOR: Final = timedelta(hours=4)
"""How long from now on a burst is planned that somebody says is."""
UNKNOWN: Final = "This button is of another version of governor; use the command instead."
OVER: Final = "That is over already; nothing was changed."

_log = structlog.get_logger()


class Pressing:
    """Carries out presses, in the thread that owns the store."""

    def __init__(
        self,
        evaluate: Callable[[], Evaluate],
        outbox: Outbox,
        *,
        ask: Ask,
        now: Callable[[], datetime],
        audit: Audit,
        raising: Raising,
    ) -> None:
        self._evaluate = evaluate
        self._outbox = outbox
        self._ask = ask
        self._now = now
        self._audit = audit
        self._raising = raising

    def __call__(self, press: Press) -> str:
        """Do what was asked for, if it is allowed; return what to say to whoever asked."""
        caller = Caller(f"{press.name} ({press.user})", "slack")
        try:
            said = self._ask(lambda: self._done(press, caller))
        except GovernorError as error:
            said = f"That did not work: {error}"
        _log.info("slack.pressed", user=press.user, action=press.action, said=said)
        return said

    def _done(self, press: Press, caller: Caller) -> str:
        people = self._evaluate().routing.people
        if not people.may(press.user, approve=press.action in buttons.NEED_APPROVAL):
            return self._nothing(press, caller, "not allowed", _refusal(people, press))
        if press.action == buttons.APPROVE:
            return self._approved(press, caller)
        alerts = self._alerts(press)
        if not alerts:
            return self._nothing(press, caller, "not open", OVER)
        match press.action:
            case buttons.ACK:
                said = self._noted(alerts, caller, self._now() + ACK_FOR, snooze=False)
            case buttons.SNOOZE if press.span in buttons.SNOOZES:
                until = self._now() + duration(press.span)
                said = self._noted(alerts, caller, until, snooze=True)
            case buttons.PLAN:
                said = self._planned(alerts, caller)
            case buttons.RELEASE:
                said = self._released(alerts, caller)
            case _:
                said = self._nothing(press, caller, "unknown", UNKNOWN)
        return said

    def _approved(self, press: Press, caller: Caller) -> str:
        """Approve the raises that a message is about, or what its alerts wait for."""
        if alerts := self._alerts(press):
            return self._let_begin(alerts, caller)
        episodes = self._outbox.episodes(press.thread)
        done = [
            order
            for name in episodes
            if (order := self._raising.approved(name.removeprefix("raise-"), caller))
        ]
        if not done:
            return self._nothing(press, caller, "not open", OVER)
        waits = [order for order in done if order.waits(self._now())]
        state = "it needs another person" if waits else "it is in force"
        return f"Approved: {', '.join(order.rule for order in done)}; {state}."

    def _nothing(self, press: Press, caller: Caller, outcome: str, said: str) -> str:
        """Note that somebody pressed a button and nothing was changed."""
        row = self._audit(caller, f"slack.{press.action}"[:60], press.thread, outcome, None)
        self._evaluate().audited(row)
        return said

    def _alerts(self, press: Press) -> Sequence[Alert]:
        """Return the alerts of a thread that are open, in the episode that it is about."""
        episodes = set(self._outbox.episodes(press.thread))
        return [
            alert
            for alert, _ in self._evaluate().alerts
            if alert.is_open and f"{alert.key.id}-{alert.episode}" in episodes
        ]

    def _noted(
        self, alerts: Sequence[Alert], caller: Caller, until: datetime, *, snooze: bool
    ) -> str:
        what = "snooze" if snooze else "ack"
        for alert in alerts:
            outcome = f"until {until:%Y-%m-%dT%H:%M:%SZ}"
            row = self._audit(caller, f"alerts.{what}", alert.key.id, outcome, None)
            self._evaluate().ack(alert.key.id, until, row, snooze=snooze)
        done = "Snoozed" if snooze else "Acknowledged"
        return f"{done} until {until:%Y-%m-%d %H:%M} UTC: {_named(alerts)}."

    def _planned(self, alerts: Sequence[Alert], caller: Caller) -> str:
        now = self._now()
        spikes = [alert for alert in alerts if self._kind(alert) == "spike"]
        for alert in spikes:
            exempt = Exemption(
                alert.key.rule,
                alert.key.group,
                (alert.fired_at or now) - BEFORE_ALERT,
                now + PLANNED_FOR,
                planned=True,
                reason="marked in Slack",
                who=caller.who,
            )
            row = self._audit(caller, "rules.plan", alert.key.rule, "planned", alert.key.id)
            self._evaluate().exempt(exempt, row)
        until = f"until {now + PLANNED_FOR:%Y-%m-%d %H:%M} UTC, and nothing is learned from it"
        return f"Planned {until}: {_named(spikes)}." if spikes else OVER

    def _released(self, alerts: Sequence[Alert], caller: Caller) -> str:
        wanted = {alert.key.id for alert in alerts}
        released = 0
        for directive in self._evaluate().directives:
            if directive.alert in wanted and directive.acts:
                row = self._audit(caller, "throttles.release", directive.id, "", None)
                released += self._evaluate().release(directive.id, row) is not None
        return f"Released {released:,} for the rest of their period." if released else OVER

    def _let_begin(self, alerts: Sequence[Alert], caller: Caller) -> str:
        wanted = {alert.key.id for alert in alerts}
        evaluate = self._evaluate()
        waiting = [d.id for d in evaluate.directives if d.alert in wanted and d.waits]
        row = self._audit(caller, "throttles.approve", ", ".join(waiting)[:200], "", None)
        done = evaluate.approve(waiting, row)
        return f"Approved: {len(done):,} begin." if done else OVER

    def _kind(self, alert: Alert) -> str | None:
        rule = self._evaluate().rules.get(alert.key.rule)
        return rule.kind if rule else None


def _refusal(people: People, press: Press) -> str:
    if press.action in buttons.NEED_APPROVAL:
        named = f"{len(people.approve):,} people" if people.approve else "nobody yet"
        return f"That is for those that routing.yaml names in people.approve: {named}."
    return "Only those that routing.yaml names in people.act may do that."


def _named(alerts: Sequence[Alert]) -> str:
    rules = sorted({alert.key.rule for alert in alerts})
    return f"{len(alerts):,} of {', '.join(rules[:3])}{' and others' if len(rules) > 3 else ''}"  # noqa: PLR2004
