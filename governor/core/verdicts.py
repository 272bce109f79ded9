"""Verdicts: what numbers do to alerts, taken down in a draft."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from governor.core.alerts import Alert, AlertKey, Ending, Health, Seen, end, step
from governor.core.books import Total
from governor.core.docket import Docket
from governor.core.draft import Draft
from governor.core.early import Lead, no_lead
from governor.core.gauges.shared import Readings
from governor.core.rules.absence import Absence
from governor.core.rules.shared import Rule, Unknown
from governor.core.scopes import Key
from governor.core.totals import Totals

Why = Callable[[Rule, Key], str | None]
"""Says how the number of a group of a rule came about; None where there is nothing to say."""


def judge(
    draft: Draft,
    docket: Docket,
    rule: Rule,
    group: Key,
    seen: Seen,
    now: datetime,
    why: Why,
    lead: int = 0,
) -> Alert | None:
    """Judge one group of a rule by what was found of it; return how its alert stands."""
    key = AlertKey(rule.id, group, rule.period(now))
    before = docket.alerts.get(key)
    after, lines = step(before, key, seen, rule, now, lead=lead)
    if after is None:
        return None
    if after.is_open and after.revision != (before.revision if before else 0):
        after = replace(after, why=why(rule, group))
    renamed = before and before.meaning != after.meaning
    if lines or renamed or (after.waits and after != before):
        draft.take(after, lines)
    elif not rule.latched:
        draft.noted[key] = after
    return after


def unexplained(rule: Rule, group: Key) -> str | None:  # noqa: ARG001  # it is a Why
    """Say nothing of how a number came about."""
    return None


def judge_totals(
    draft: Draft,
    docket: Docket,
    totals: Iterable[Total],
    now: datetime,
    why: Why,
    lead_of: Lead = no_lead,
) -> int:
    """Judge totals of budgets; return how many had no room, for want of `max_alerts`."""
    full = 0
    for total in _greatest_first(totals, now):
        rule, period = total.rule, total.rule.calendar.period(now)
        amount = total.amount(period)
        lead = lead_of(rule, total.group, amount, now) if rule.acts_early else 0
        known = AlertKey(rule.id, total.group, period) in docket.alerts
        if not known and rule.crossed(amount, 0, lead) and draft.opened(rule.id) >= rule.max_alerts:
            draft.marks.append((total, period, len(rule.thresholds)))
            full += 1
            continue
        after = judge(draft, docket, rule, total.group, amount, now, why, lead)
        draft.marks.append((total, period, after.crossed if after and after.is_open else 0))
    return full


def _greatest_first(totals: Iterable[Total], now: datetime) -> Iterable[Total]:
    """Return totals so that those that find room are the greatest."""
    listed = list(totals)
    if len(listed) > 1:
        listed.sort(key=lambda total: -total.amount(total.rule.calendar.period(now)))
    return listed


def judge_readings(
    draft: Draft, docket: Docket, rule: Rule, readings: Readings, now: datetime, why: Why
) -> int:
    """Judge what a gauge was read as; return how many groups had no room."""
    period = rule.period(now)
    open_groups = {
        key.group: alert
        for key, alert in docket.alerts.items()
        if key.rule == rule.id and key.period == period and alert.is_open
    }
    for group, alert in open_groups.items():
        seen = readings.groups.get(group, readings.otherwise)
        if seen is None:
            draft.take(*end(alert, Ending.GROUP_GONE, now))
        else:
            judge(draft, docket, rule, group, seen, now, why)
    fresh = [
        (group, seen)
        for group, seen in (*readings.groups.items(), *_blind(rule, readings))
        if group not in open_groups and _fires(rule, seen)
    ]
    room = max(0, rule.max_alerts - len(open_groups))
    if len(fresh) > room:
        fresh.sort(key=lambda found: 0 if isinstance(found[1], Health) else -found[1])
        if rule.regrows:
            room += _give_way(draft, open_groups.values(), fresh[room:], now)
    for group, seen in fresh[:room]:
        judge(draft, docket, rule, group, seen, now, why)
    return len(fresh) - room if len(fresh) > room else 0


def _give_way(
    draft: Draft, alerts: Iterable[Alert], fresh: Sequence[tuple[Key, Seen]], now: datetime
) -> int:
    """End the least alerts where there is one of twice their amount; return how many."""
    newest = [draft.alerts.get(a.key) or draft.noted.get(a.key) or a for a in alerts]
    least = sorted((alert for alert in newest if alert.is_open), key=lambda alert: alert.amount)
    gone = 0
    for alert, (_, seen) in zip(least, fresh, strict=False):
        if isinstance(seen, Health) or seen < 2 * alert.amount:
            break
        draft.take(*end(alert, Ending.GAVE_WAY, now))
        gone += 1
    return gone


def _blind(rule: Rule, readings: Readings) -> list[tuple[Key, Seen]]:
    """Return the groups that are known to exist though nothing was found of any."""
    if readings.groups or not isinstance(readings.otherwise, Health):
        return []
    known = rule.known if isinstance(rule, Absence) else ()
    return [(group, readings.otherwise) for group in known or ([] if rule.per else [()])]


def _fires(rule: Rule, seen: Seen) -> bool:
    if isinstance(seen, Health):
        policies = {Health.NO_DATA: rule.on_no_data, Health.ERROR: rule.on_error}
        return policies.get(seen) is Unknown.FIRE
    return rule.crossed(seen) > 0


def judge_the_rest(
    draft: Draft, docket: Docket, totals: Totals, rules: Mapping[str, Rule], now: datetime
) -> None:
    """Judge open alerts without a number: their rule is gone, or speaks of others now.

    Where the rule is the same its usage is not known, which ends nothing.
    """
    for key, alert in docket.alerts.items():
        if not alert.is_open or key.period.end <= now or key in draft.alerts:
            continue
        rule = rules.get(key.rule)
        if rule is None:
            draft.take(*end(alert, Ending.RULE_REMOVED, now))
            continue
        same_period = rule.period(now) == key.period
        if not rule.latched:
            if rule.meaning != alert.meaning or not same_period:
                draft.take(*end(alert, Ending.RULE_CHANGED, now))
            continue
        known = totals.get(key.rule, key.group) is not None
        if rule.meaning != alert.meaning and not (known and same_period):
            draft.take(*end(alert, Ending.RULE_CHANGED, now))
        elif not known:
            judge(draft, docket, rule, key.group, Health.NO_DATA, now, unexplained)


def greatest(
    totals: Totals, docket: Docket, rules: Mapping[str, Rule], now: datetime, most: int
) -> list[tuple[Rule, Key, int]]:
    """Return what budgets without groups, and the greatest open alerts, come to now."""
    whole: list[tuple[Rule, Key, int]] = [
        (rule, (), total.amount(rule.calendar.period(now)))
        for rule in totals.rules.values()
        if not rule.per and (total := totals.get(rule.id, ()))
    ]
    grouped = []
    for key, alert in docket.alerts.items():
        rule = rules.get(key.rule)
        if rule is None or not alert.is_open or not key.group:
            continue
        total = totals.get(key.rule, key.group)
        amount = total.amount(key.period) if total else alert.amount
        grouped.append((rule, key.group, amount))
    return [*whole, *heapq.nlargest(most, grouped, key=lambda each: each[2])]


def tell_held(draft: Draft, docket: Docket) -> None:
    """Try anew to tell of what was held back."""
    held = {key: docket.alerts.get(key) for key in docket.held}
    lasting = [alert for alert in held.values() if alert is not None and alert.is_open]
    draft.told |= held.keys() - {alert.key for alert in lasting}
    draft.tell_held(lasting)


def rename(draft: Draft, docket: Docket, rules: Mapping[str, Rule], now: datetime) -> None:
    """Let alerts of a rule's former ids go on under its id, with all their clocks."""
    former = {name: rule for rule in rules.values() for name in rule.renamed_from}
    for key, alert in docket.alerts.items():
        rule = former.get(key.rule)
        if rule is None or key.rule in rules or not alert.is_open:
            continue
        fresh = replace(key, rule=rule.id)
        if fresh in docket.alerts or rule.period(now) != key.period:
            continue
        draft.take(*end(alert, Ending.RULE_RENAMED, now))
        draft.take(replace(alert, key=fresh, revision=alert.revision + 1), ())
