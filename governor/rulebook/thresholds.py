"""`thresholds` of a rule: from which amount on a level holds, and which actions are then due."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from governor.core.rules.actions import Action
from governor.core.rules.shared import Level, Threshold
from governor.documents import Node
from governor.documents.sections import Read, Section, choice, shown, suggestion

MAX_THRESHOLDS: Final = 20
KEYS: Final = ("at", "clear", "level", "actions")
_LEVEL: Final = choice({str(level): level for level in Level})
_NO_AMOUNT: int | None = None
_NO_ACTIONS: Final[Mapping[str, Action]] = MappingProxyType({})


class Reading(NamedTuple):
    """How amounts of a rule are written. With `falls` less is worse, and amounts are negatives.

    `clears` is the share of its amount, in percent, at which a threshold holds no more unless it
    says so; None where what is reached stays reached.
    """

    at: Callable[[str], int | None]
    such_as: str
    clears: int | None = None
    falls: bool = False


class _Step(NamedTuple):
    """A threshold as far as it could be read; an action that is not known is an empty text."""

    section: Section
    amount: int | None
    level: Level | None
    actions: tuple[str, ...]
    clear: int | None


def thresholds(
    rule: Section, reading: Reading, actions: Mapping[str, Action] = _NO_ACTIONS
) -> tuple[Threshold, ...]:
    """Read the thresholds of a rule with these actions; they rise, and no action is left over."""
    entry = rule.entries.get("thresholds")
    such_as = f"[{{at: {reading.such_as}, level: warning}}]"
    if entry is None:
        rule.needs("thresholds", such_as)
        return ()
    nodes = entry.node.value
    if not isinstance(nodes, list) or not nodes:
        rule.report.add(entry.node, f"thresholds must be a list of at least one, such as {such_as}")
        return ()
    if len(nodes) > MAX_THRESHOLDS:
        rule.report.add(entry.node, f"thresholds are more than {MAX_THRESHOLDS}")
    steps = [_step(node, rule, reading, actions) for node in nodes[:MAX_THRESHOLDS]]
    for before, after in pairwise(steps):
        _check_rising(before, after, falls=reading.falls)
    _check_used(rule, steps)
    return tuple(
        Threshold(
            at=step.section.written("at"),
            amount=step.amount or 0,
            level=step.level or Level.INFO,
            actions=step.actions,
            clear=step.clear,
            early=any(actions[name].early for name in step.actions if name in actions),
        )
        for step in steps
    )


def _step(node: Node, rule: Section, reading: Reading, actions: Mapping[str, Action]) -> _Step:
    report = rule.report
    keys = KEYS if reading.clears is not None else [key for key in KEYS if key != "clear"]
    section = Section("a threshold", node, keys, report)
    named = section.entries.get("actions")
    amount = section.take("at", reading.at, _NO_AMOUNT, reading.such_as)
    return _Step(
        section=section,
        amount=amount,
        level=section.take("level", _LEVEL, None, "warning"),
        actions=tuple(
            report.read("actions", item, _known(actions), "")
            for item in (report.items("actions", named.node) if named else [])
        ),
        clear=_clear(section, amount, reading),
    )


def _clear(section: Section, amount: int | None, reading: Reading) -> int | None:
    """Return where a threshold holds no more: as it says, or a share of its amount."""
    if reading.clears is None or amount is None:
        return None
    usual: int | None = (
        amount * (reading.clears if not reading.falls else 200 - reading.clears) // 100
    )
    clear = section.take("clear", reading.at, usual)
    if clear is not None and clear > amount:
        side = "more" if reading.falls else "less"
        at, written = section.written("at"), section.written("clear")
        node = section.entries["clear"].node
        section.report.add(node, f"clear={shown(written)}: must be {side} than at, {at}")
    return clear


def _known(actions: Mapping[str, Action]) -> Read[str]:
    def known(text: str) -> str:
        if text not in actions:
            close = suggestion(text, actions) or "; define it under 'actions' of the rule"
            raise ValueError(f"unknown action{close}")
        return text

    return known


def _check_rising(before: _Step, after: _Step, *, falls: bool) -> None:
    report, entries = after.section.report, after.section.entries
    if before.amount is not None and after.amount is not None and before.amount >= after.amount:
        last, at = (shown(step.section.written("at")) for step in (before, after))
        side = "less" if falls else "more"
        report.add(entries["at"].node, f"at={at}: must be {side} than {last} before it")
    elif before.clear is not None and after.clear is not None and before.clear > after.clear:
        named = "clear" if "clear" in entries else "at"
        least = before.section.written("clear") or f"that of {before.section.written('at')}"
        side = "most" if falls else "least"
        why = f"must be at {side} {least}, where the threshold before it clears"
        report.add(entries[named].node, f"{named}={shown(after.section.written(named))}: {why}")
    if before.level is not None and after.level is not None and before.level > after.level:
        less = f"level='{after.level}': must not be less than '{before.level}' before it"
        report.add(entries["level"].node, less)


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
