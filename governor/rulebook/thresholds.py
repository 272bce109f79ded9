"""`thresholds` of a rule: from which amount on a level holds, and which actions are then due."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Final, NamedTuple

from governor.core.rules.budget import Threshold
from governor.core.rules.shared import Level, Throttle
from governor.documents import Node
from governor.documents.sections import Read, Section, choice, shown, suggestion
from governor.rulebook.values import Amount, threshold

MAX_THRESHOLDS: Final = 20
KEYS: Final = ("at", "level", "actions")
_LEVEL: Final = choice({str(level): level for level in Level})


class _Step(NamedTuple):
    """A threshold as far as it could be read; an action that is not known is an empty text."""

    section: Section
    amount: int | None
    level: Level | None
    actions: tuple[str, ...]


def thresholds(
    rule: Section, limit: Amount | None, actions: Mapping[str, Throttle]
) -> tuple[Threshold, ...]:
    """Read the thresholds of a rule with these actions; they rise, and no action is left over."""
    entry = rule.entries.get("thresholds")
    if entry is None:
        rule.needs("thresholds", "[{at: 80%, level: warning}]")
        return ()
    nodes = entry.node.value
    if not isinstance(nodes, list) or not nodes:
        such_as = "[{at: 80%, level: warning}]"
        rule.report.add(entry.node, f"thresholds must be a list of at least one, such as {such_as}")
        return ()
    if len(nodes) > MAX_THRESHOLDS:
        rule.report.add(entry.node, f"thresholds are more than {MAX_THRESHOLDS}")
    steps = [_step(node, rule, limit, actions) for node in nodes[:MAX_THRESHOLDS]]
    for before, after in pairwise(steps):
        _check_rising(before, after)
    _check_used(rule, steps)
    return tuple(
        Threshold(
            at=step.section.written("at"),
            amount=step.amount or 0,
            level=step.level or Level.INFO,
            actions=step.actions,
        )
        for step in steps
    )


def _step(
    node: Node, rule: Section, limit: Amount | None, actions: Mapping[str, Throttle]
) -> _Step:
    report = rule.report
    section = Section("a threshold", node, KEYS, report)
    named = section.entries.get("actions")
    return _Step(
        section=section,
        amount=section.take("at", lambda text: threshold(text, limit), None, "80%"),
        level=section.take("level", _LEVEL, None, "warning"),
        actions=tuple(
            report.read("actions", item, _known(actions), "")
            for item in (report.items("actions", named.node) if named else [])
        ),
    )


def _known(actions: Mapping[str, Throttle]) -> Read[str]:
    def known(text: str) -> str:
        if text not in actions:
            close = suggestion(text, actions) or "; define it under 'actions' of the rule"
            raise ValueError(f"unknown action{close}")
        return text

    return known


def _check_rising(before: _Step, after: _Step) -> None:
    report, entries = after.section.report, after.section.entries
    if before.amount is not None and after.amount is not None and before.amount >= after.amount:
        last, at = (shown(step.section.written("at")) for step in (before, after))
        report.add(entries["at"].node, f"at={at}: must be more than {last} before it")
    if before.level is not None and after.level is not None and before.level > after.level:
        falls = f"level='{after.level}': must not be less than '{before.level}' before it"
        report.add(entries["level"].node, falls)


def _check_used(rule: Section, steps: list[_Step]) -> None:
    """Report the actions that no threshold names, unless a name is misspelled."""
    used = {name for step in steps for name in step.actions}
    entry = rule.entries.get("actions")
    if entry is None or not isinstance(entry.node.value, dict) or "" in used:
        return
    for name, action in entry.node.value.items():
        if name not in used:
            why = "no threshold names it; add it to the actions of one, or remove it"
            rule.report.add(action, f"action {shown(name)}: {why}")
