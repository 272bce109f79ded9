"""Raises of budgets for a while: asked for, approved by one person or two, ended."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from governor.adapters.control import Call, Caller
from governor.core.errors import ConfigError
from governor.core.notifications import Notice, raise_notice
from governor.core.raises import Raise
from governor.core.rules.budget import Budget
from governor.core.rules.units import Measure
from governor.daemon.answers import rule_of
from governor.daemon.explaining import moment
from governor.daemon.quieting import Audit
from governor.loops.evaluate import Evaluate
from governor.rulebook.values import UNIT_OF, amount

MAX_FOR: Final = timedelta(days=92)
MAX_RAISES: Final = 100
MAX_REASON: Final = 200


class Raising:
    """Takes orders in the thread that owns the store; `audit` makes the row of one."""

    def __init__(
        self, evaluate: Callable[[], Evaluate], now: Callable[[], datetime], audit: Audit
    ) -> None:
        self._evaluate = evaluate
        self._now = now
        self._audit = audit

    def listed(self, _: Call) -> list[dict[str, Any]]:
        """Return the raises that are in force or wait for approval."""
        now = self._now()
        found = [each for each in self._evaluate().raises.values() if each.until > now]
        return [self._row(each) for each in found if not each.ended]

    def ask(self, call: Call) -> dict[str, Any]:
        """Raise a budget for a while; above what one person may, another has to approve it."""
        (name,) = call.names
        rule, now = self._budget(name), self._now()
        if len(self.listed(call)) >= MAX_RAISES:
            raise ConfigError(f"there are {MAX_RAISES} raises already; end some")
        by = _amount(rule, call.fields.get("by", ""))
        until = moment(call.fields.get("until", ""))
        if not now < until <= now + MAX_FOR:
            raise ConfigError(f"until {until} must be ahead, and at most {MAX_FOR.days} days")
        reason = " ".join(call.fields.get("reason", "").split())[:MAX_REASON]
        if not reason:
            raise ConfigError("a raise needs a reason; whoever approves it reads it")
        above = self._evaluate().routing.people.two_above
        two = above and rule.measure is Measure.COST and by > above
        order = Raise(
            id=secrets.token_hex(4),
            rule=rule.id,
            by=by,
            until=until,
            reason=reason,
            asked_by=call.caller.who,
            asked_at=now,
            approved_by=(call.caller.who,),
            needs=2 if two else 1,
        )
        self._store(order, call.caller, "raises.ask")
        return self._row(order)

    def approve(self, call: Call) -> dict[str, Any] | None:
        """Approve a raise; None where none such waits."""
        (name,) = call.names
        found = self.approved(name, call.caller)
        return None if found is None else self._row(found)

    def approved(self, name: str, caller: Caller) -> Raise | None:
        """Approve a raise for somebody who may; None where none such waits. Raise ConfigError."""
        order = self._evaluate().raises.get(name)
        if order is None or not order.waits(self._now()):
            return None
        if order.has_approved(caller.who):
            raise ConfigError(f"{caller.who} has approved it already; it needs another person")
        order = replace(order, approved_by=(*order.approved_by, caller.who))
        self._store(order, caller, "raises.approve")
        return order

    def end(self, call: Call) -> dict[str, Any] | None:
        """End a raise, or refuse one that waits; None where there is none such."""
        (name,) = call.names
        order = self._evaluate().raises.get(name)
        if order is None or order.ended or order.until <= self._now():
            return None
        order = replace(order, ended=True)
        self._store(order, call.caller, "raises.end")
        return self._row(order)

    def _store(self, order: Raise, caller: Caller, action: str) -> None:
        evaluate, now = self._evaluate(), self._now()
        state = "waits" if order.waits(now) else "in force" if order.holds(now) else "over"
        row = self._audit(caller, action, order.id, state, f"{order.rule}: {order.reason}")
        evaluate.raise_limit(order, row, [self._notice(order, now)])

    def _notice(self, order: Raise, now: datetime) -> Notice:
        rule = self._evaluate().rules.get(order.rule)
        by = rule.text(order.by) if rule else str(order.by)
        said = f"{order.rule} by {by} until {order.until:%Y-%m-%d %H:%M} UTC: {order.reason}"
        owner = rule.owner if rule else "governor"
        return raise_notice(order, said, owner, now)

    def _budget(self, name: str) -> Budget:
        rule = rule_of(self._evaluate().rules, name)
        if not isinstance(rule, Budget):
            raise ConfigError(f"{name} is a {rule.kind}; only a budget can be raised")
        return rule

    def _row(self, order: Raise) -> dict[str, Any]:
        rule = self._evaluate().rules.get(order.rule)
        return {
            "id": order.id,
            "rule": order.rule,
            "by": rule.text(order.by) if rule else str(order.by),
            "until": order.until,
            "reason": order.reason,
            "asked_by": order.asked_by,
            "approved_by": list(order.approved_by),
            "needs": order.needs,
            "in_force": order.holds(self._now()),
        }


def _amount(rule: Budget, text: str) -> int:
    try:
        found = amount(text)
    except ValueError as error:
        raise ConfigError(f"by={text[:60]!r}: {error}") from None
    if found.measure is not rule.measure:
        raise ConfigError(
            f"{rule.id} counts {UNIT_OF[rule.measure]}; {text[:60]!r} is something else"
        )
    return found.amount
