"""The raise: a budget's limit is higher for a while, since people asked for that and agreed."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Final

from governor.core.rules.budget import Budget
from governor.core.rules.shared import Rule, Threshold

_ID: Final = re.compile(r"\(([^()]+)\)$")


@dataclass(frozen=True, slots=True)
class Raise:
    """Somebody asked that a budget be raised by an amount, in its unit, until a time.

    It is in force once `needs` people have approved it, whoever asked among them if they may.
    """

    id: str
    rule: str
    by: int
    until: datetime
    reason: str
    asked_by: str
    asked_at: datetime
    approved_by: tuple[str, ...]
    needs: int
    ended: bool = False

    def has_approved(self, who: str) -> bool:
        """Return whether somebody has approved it already, by whatever name they go now."""
        return person(who) in map(person, self.approved_by)

    def waits(self, now: datetime) -> bool:
        """Return whether somebody has still to approve it."""
        return not self.ended and now < self.until and len(self.approved_by) < self.needs

    def holds(self, now: datetime) -> bool:
        """Return whether it is in force."""
        return not self.ended and now < self.until and len(self.approved_by) >= self.needs


def person(who: str) -> str:
    """Return what tells people apart: of `ann (U0ANN)` the id, for names can be changed."""
    found = _ID.search(who)
    return found[1] if found else who


def raised(rule: Rule, raises: Iterable[Raise], now: datetime) -> Rule:
    """Return a rule with the raises in force; thresholds in percent rise with its limit."""
    if not isinstance(rule, Budget):
        return rule
    more = sum(each.by for each in raises if each.rule == rule.id and each.holds(now))
    if not more:
        return rule
    later = tuple((day, _by(budget, more)) for day, budget in rule.later)
    return replace(_by(rule, more), later=later)


def next_change(raises: Iterable[Raise], now: datetime) -> datetime | None:
    """Return when the next raise that is in force ends."""
    return min((each.until for each in raises if each.holds(now)), default=None)


def _by(rule: Budget, more: int) -> Budget:
    limit = rule.limit + more
    thresholds = tuple(
        replace(each, amount=_share(each, limit)) if each.at.endswith("%") else each
        for each in rule.thresholds
    )
    text = f"{rule.text(limit)} ({rule.limit_text} and a raise)"
    return replace(rule, limit=limit, limit_text=text, thresholds=thresholds)


def _share(threshold: Threshold, limit: int) -> int:
    """Return what a threshold in percent is of a limit, rounded up as rule files are read."""
    return math.ceil(Fraction(threshold.at[:-1]) * limit / 100)
