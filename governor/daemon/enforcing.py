"""What people order of enforcement: release, approve, let through, and the switch for all of it."""

import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from governor.adapters.control import Call
from governor.core import allowing
from governor.core.directives import OPERATOR, SWITCH_ID, Directive, Effect, wire
from governor.core.errors import ConfigError
from governor.core.rules.actions import Fail
from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.daemon import answers
from governor.daemon.quieting import Audit, named, noted, spanned
from governor.documents.sections import listed, suggestion
from governor.loops.evaluate import Evaluate

ALLOW_FOR: Final = timedelta(days=1)
"""How long somebody is let through, unless something else is asked for."""
FOREVER: Final = timedelta(days=3_650)
"""How long enforcement is off, unless something else is asked for."""
MAX_ALLOWS: Final = 1_000
_WHERE: Final = "where."


class Enforcing:
    """Takes orders in the thread that owns the store; `audit` makes the row of one."""

    def __init__(
        self,
        evaluate: Callable[[], Evaluate],
        now: Callable[[], datetime],
        audit: Audit,
        delays: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._evaluate = evaluate
        self._now = now
        self._audit = audit
        self._delays = delays

    def listed(self, _: Call) -> list[dict[str, Any]]:
        """Return the newest version of each directive that is not over."""
        return [answers.throttle_row(each) for each in self._evaluate().directives]

    def release(self, call: Call) -> dict[str, Any] | None:
        """End a directive; None where none such stands."""
        (name,) = call.names
        if name.startswith(f"{allowing.NAME}-"):
            raise ConfigError(f"{name[:60]} is from `allow` in the rule files; take it out there")
        row = self._audit(call.caller, "throttles.release", name, "", None)
        done = self._evaluate().release(name, row)
        return answers.throttle_row(done) if done else None

    def approve(self, call: Call) -> dict[str, Any] | None:
        """Let a directive begin that waits; None where none such waits."""
        (name,) = call.names
        row = self._audit(call.caller, "throttles.approve", name, "", None)
        done = self._evaluate().approve([name], row)
        return answers.throttle_row(done[0]) if done else None

    def approve_all(self, call: Call) -> list[dict[str, Any]]:
        """Let all directives of a rule begin that wait."""
        (name,) = call.names
        evaluate = self._evaluate()
        answers.rule_of(evaluate.rules, name)
        waiting = [each.id for each in evaluate.directives if each.rule == name and each.waits]
        row = self._audit(call.caller, "throttles.approve", name, "", None)
        return [answers.throttle_row(each) for each in evaluate.approve(waiting, row)]

    def allow(self, call: Call) -> dict[str, Any]:
        """Let through what is like what is named, whatever rules say."""
        if len(self._allows()) >= MAX_ALLOWS:
            raise ConfigError(f"there are {MAX_ALLOWS:,} of these already; release some")
        scope = _scope(call.fields)
        name = f"allow-{secrets.token_hex(4)}"
        span = spanned(call.fields.get("for"), ALLOW_FOR)
        return self._order(call, "throttles.allow", self._allowing(call, name, scope, span))

    def off(self, call: Call) -> dict[str, Any]:
        """Have every gate allow everything, until it is switched on again or a time is over."""
        span = spanned(call.fields.get("for"), FOREVER)
        switch = self._allowing(call, SWITCH_ID, Scope(), span)
        return self._order(call, "enforcement.off", switch)

    def on(self, call: Call) -> dict[str, Any] | None:
        """Have gates obey again; None where they do."""
        if self._switch() is None:
            row = self._audit(call.caller, "enforcement.on", "", "was on", None)
            self._evaluate().audited(row)
            return None
        row = self._audit(call.caller, "enforcement.on", SWITCH_ID, "", None)
        done = self._evaluate().release(SWITCH_ID, row)
        return answers.throttle_row(done) if done else None

    def status(self, _: Call) -> dict[str, Any]:
        """Return whether enforcement is on, how many feel it, and how late and dear it is."""
        evaluate, switch = self._evaluate(), self._switch()
        evaluate.measure(self._now())
        acting = [each for each in evaluate.directives if each.acts and each.until > self._now()]
        return {
            "enforcement": "off" if switch else "on",
            "off": switch and answers.throttle_row(switch),
            "stale": evaluate.stale,
            "acting": sum(not (each.waits or each.shadow) for each in acting),
            "waiting": sum(bool(each.waits) for each in acting),
            "shadow": sum(each.shadow for each in acting),
            "allowed": sum(each.id != SWITCH_ID for each in self._allows()),
            "delays": self._delays(),
            "overshoot": answers.overshoot_rows(evaluate.overshoot),
        }

    def _switch(self) -> Directive | None:
        return next((each for each in self._allows() if each.id == SWITCH_ID), None)

    def _allows(self) -> list[Directive]:
        """Return what lets requests through now, the switch too."""
        now, standing = self._now(), self._evaluate().directives
        return [each for each in standing if each.effect is Effect.ALLOW and each.until > now]

    def _allowing(self, call: Call, name: str, scope: Scope, span: timedelta) -> Directive:
        now, reason = self._now(), noted(call, "reason")
        return Directive(
            id=name,
            version=0,
            effect=Effect.ALLOW,
            rule=OPERATOR,
            action=name.partition("-")[0],
            reason=reason or f"ordered by {call.caller.who}",
            scope=wire(scope),
            issued_at=now,
            until=now + span,
            fail=Fail.CLOSED,  # a lease that ran out must not make it hard again
            approved_by=call.caller.who,
        )

    def _order(self, call: Call, action: str, directive: Directive) -> dict[str, Any]:
        outcome = f"until {directive.until:%Y-%m-%dT%H:%M:%SZ}"
        row = self._audit(call.caller, action, directive.id, outcome, directive.reason)
        return answers.throttle_row(self._evaluate().direct(directive, row))


def _scope(fields: Mapping[str, str]) -> Scope:
    found = named(fields, _WHERE)
    if not found:
        raise ConfigError("say who is let through, such as customer=acme")
    for name in found:
        if name not in DIMENSIONS:
            close = suggestion(name, DIMENSIONS) or f"; known: {listed(DIMENSIONS)}"
            raise ConfigError(f"unknown dimension {name[:60]!r}{close}")
    return Scope(tuple(Condition(name, frozenset([value])) for name, value in found.items()))
