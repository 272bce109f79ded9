"""What evaluation takes from the store: totals, lines of history, what was said of overflows."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from governor.core.alerts import Alert, AlertKey
from governor.core.notifications import Notice, is_told, line_text, overflow_notice
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode, Rule
from governor.core.totals import Totals
from governor.loops.evaluate.ledger import Ledger

_TOLD: Final = (Mode.NOTIFY, Mode.ENFORCE)
_MICROSECOND: Final = timedelta(microseconds=1)


def added_up(ledger: Ledger, rules: Iterable[Rule], now: datetime) -> Totals:
    """Return the totals of budgets, from what is stored of the periods that are open."""
    budgets = [rule.of(now) for rule in rules if isinstance(rule, Budget)]
    totals = Totals(budgets)
    for mask in totals.masks:
        for calendar in {rule.calendar for rule in budgets if rule.mask == mask}:
            current = calendar.period(now)
            totals.add(mask, ledger.totals(mask, current.start, current.end), calendar)
            totals.add(mask, ledger.totals_ahead(mask, current.end), calendar)
    for rule in budgets:
        if rule.carries:
            _carry(ledger, totals, rule, now)
    return totals


def _carry(ledger: Ledger, totals: Totals, rule: Budget, now: datetime) -> None:
    """Carry over what the groups of a rule left of the period before."""
    start = rule.calendar.period(now).start
    last = rule.calendar.period(start - _MICROSECOND)
    before = Totals([rule.of(last.start)])
    before.add(rule.mask, ledger.totals(rule.mask, last.start, last.end))
    totals.carry(rule, now, before.used(rule.id, last))


def stored_lines(
    ledger: Ledger, alerts: Sequence[AlertKey], rules: Mapping[str, Rule]
) -> dict[str, tuple[str, ...]]:
    """Return the lines of alerts as people read them, by alert."""
    lines: dict[str, tuple[str, ...]] = {}
    for key, transition in ledger.history(alerts):
        rule = rules.get(key.rule)
        if rule and is_told(transition):
            lines[key.id] = (*lines.get(key.id, ()), line_text(transition, rule))
    return lines


def untold(ledger: Ledger, alerts: Iterable[Alert]) -> set[AlertKey]:
    """Return the open alerts of which more is to be told than was, for it was held back."""
    firing = {
        f"{alert.key.id}-{alert.episode}": alert
        for alert in alerts
        if alert.is_open and alert.fired_at is not None and alert.mode in _TOLD
    }
    last = ledger.notices(list(firing)) if firing else {}
    return {
        alert.key
        for message, alert in firing.items()
        if message not in last or last[message].revision < alert.revision
    }


def overflow_notices(
    rule: Rule,
    full: int,
    now: datetime,
    last_notices: Callable[[Sequence[str]], Mapping[str, Notice]],
) -> list[Notice]:
    """Return what to say where groups of a rule had no room for an alert, or have it again."""
    fresh = overflow_notice(rule, full, now)
    last = last_notices([fresh.message]).get(fresh.message)
    if last is None:
        return [fresh] if full else []
    if (last.resolved is None) == bool(full):
        return []
    return [overflow_notice(rule, full, now, revision=last.revision + 1)]
