"""The radius: how many each rule may act on, and what is said where it would act on more."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from governor.core.directives import Directive
from governor.core.docket import Docket
from governor.core.enforcement import NEEDS_APPROVAL
from governor.core.notifications import Notice, radius_notice
from governor.core.overshoot import is_felt
from governor.core.reach import Reach, refusal
from governor.core.rules.actions import Action
from governor.core.rules.shared import Rule
from governor.core.scopes import Key

LastNotices = Callable[[Sequence[str]], Mapping[str, Notice]]
"""Returns what was last to be said in messages, by message."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within what new directives begin: whom rules reach, and whether usage is known too late.

    `caused_at` is the time of the newest event that is counted.
    """

    reach: Callable[[Rule, str], Reach]
    stale: bool = False
    caused_at: datetime | None = None


UNBOUND: Final = Bounds(lambda rule, of: Reach(rule, of, ()))


class Radius:
    """What one draft lets begin: whom actions touch already, and what is let begin now."""

    def __init__(self, docket: Docket, reach: Callable[[Rule, str], Reach], now: datetime) -> None:
        self._docket = docket
        self._reach = reach
        self._now = now
        self._touches: dict[tuple[str, str], set[str]] = {}

    def admit(self, rule: Rule, action: Action, group: Key) -> str | None:
        """Say why an action must wait before it touches one more group; None where it may."""
        most = action.most
        if most is None:
            return None
        reach = self._reach(rule, most.of)
        touched = self._touched(rule, action, reach)
        why = refusal(most, reach, touched, group)
        if why is None:
            touched |= reach.of(group)
        return why

    def _touched(self, rule: Rule, action: Action, reach: Reach) -> set[str]:
        """Return whom an action of a rule touches by now; what is admitted is added to it."""
        found = self._touches.get((rule.id, action.name))
        if found is None:
            acting = {
                directive.alert
                for directive in self._docket.directives.values()
                if (directive.rule, directive.action) == (rule.id, action.name)
                and is_felt(directive)
                and directive.until > self._now
            }
            groups = (
                reach.of(key.group)
                for key in self._docket.alerts
                if key.rule == rule.id and key.id in acting
            )
            found = self._touches[rule.id, action.name] = set().union(*groups)
        return found

    def notices(
        self, issued: Mapping[str, Directive], rules: Mapping[str, Rule], last_notices: LastNotices
    ) -> list[Notice]:
        """Return what to say of rules that would act on more than they may, where that is new."""
        waiting = {
            directive.rule: 0
            for directive in issued.values()
            if (rule := rules.get(directive.rule))
            and (action := rule.actions.get(directive.action))
            and action.most
        }
        if not waiting:
            return []
        for directive in (self._docket.directives | dict(issued)).values():
            beyond = directive.waits and directive.waits != NEEDS_APPROVAL
            if directive.rule in waiting and beyond and directive.until > self._now:
                waiting[directive.rule] += 1
        last = last_notices([f"radius-{name}" for name in waiting])
        found = []
        for name, number in waiting.items():
            said = last.get(f"radius-{name}")
            revision = said.revision + 1 if said else 1
            fresh = radius_notice(rules[name], number, self._now, revision=revision)
            if (said is None and number) or (said and said.summary != fresh.summary):
                found.append(fresh)
        return found
