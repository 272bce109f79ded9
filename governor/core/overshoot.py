"""Overshoot: how far spending went past the thresholds at which rules act."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from governor.core.alerts import Alert
from governor.core.directives import Directive
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode, Rule, Threshold
from governor.core.rules.units import Unit


@dataclass(frozen=True, slots=True)
class Overshoot:
    """What the groups of a rule that are acted on spent past its threshold, in nano-dollars."""

    rule: str
    groups: int
    past_nano: int
    worst_nano: int


def due_at(rule: Rule) -> Threshold | None:
    """Return the lowest threshold of a budget at which it acts; None where none does."""
    acting = (each for each in rule.thresholds if each.actions)
    return next(acting, None) if isinstance(rule, Budget) else None


def past(rule: Rule, amount: int) -> int:
    """Return by how much an amount is past the threshold at which its budget acts."""
    due = due_at(rule)
    return max(0, amount - due.amount) if due else 0


def overshoots(
    alerts: Iterable[tuple[Alert, int]],
    rules: Mapping[str, Rule],
    standing: Callable[[str], Iterable[Directive]],
) -> tuple[Overshoot, ...]:
    """Return the overshoot of each rule that acts on somebody now, the greatest first."""
    found: dict[str, list[int]] = {}
    acting = {
        name
        for name, rule in rules.items()
        if rule.mode is Mode.ENFORCE and rule.unit is Unit.COST and due_at(rule)
    }
    for alert, amount in alerts if acting else ():
        if alert.key.rule not in acting:
            continue
        rule = rules[alert.key.rule]
        if any(is_felt(directive) for directive in standing(alert.key.id)):
            found.setdefault(rule.id, []).append(past(rule, amount))
    listed = [Overshoot(name, len(all_), sum(all_), max(all_)) for name, all_ in found.items()]
    return tuple(sorted(listed, key=lambda each: (-each.past_nano, each.rule)))


def is_felt(directive: Directive) -> bool:
    """Return whether a directive acts on somebody: it neither waits nor is a shadow."""
    return directive.acts and not (directive.waits or directive.shadow)
