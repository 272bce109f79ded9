"""`actions` of a rule: what its thresholds may call for by name; so far only a throttle."""

from collections.abc import Mapping
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from governor.core.rules.shared import Fail, Rate, Throttle
from governor.documents import Node
from governor.documents.sections import Section, choice, shown
from governor.documents.texts import identifier
from governor.rulebook.scope import dimension
from governor.rulebook.values import rate

MAX_ACTIONS: Final = 20
KEYS: Final = ("do", "to", "each", "until", "fail")
TOGETHER: Final = "none"
"""For `each`: one rate for the whole group."""
_NO_ACTIONS: Final[Mapping[str, Throttle]] = MappingProxyType({})
_STAND_IN: Final = Rate(1, timedelta(days=1))
_USER: Final[str | None] = "user"


def actions(rule: Section) -> Mapping[str, Throttle]:
    """Read the actions of a rule: a mapping of names to what to do."""
    entry = rule.entries.get("actions")
    if entry is None:
        return _NO_ACTIONS
    named, report = entry.node.value, rule.report
    if not isinstance(named, dict) or not named:
        such_as = "{slow: {do: throttle, to: 2/min}}"
        report.add(entry.node, f"actions must be a mapping, such as {such_as}")
        return _NO_ACTIONS
    if len(named) > MAX_ACTIONS:
        report.add(entry.node, f"actions are more than {MAX_ACTIONS}")
    found = {}
    for name, action in list(named.items())[:MAX_ACTIONS]:
        report.read("action", Node(name, action.line, action.column), identifier, "")
        found[name] = _throttle(name, Section(f"action {shown(name)}", action.node, KEYS, report))
    return MappingProxyType(found)


def _throttle(name: str, section: Section) -> Throttle:
    """Read `{do: throttle, to: 2/min}` with what else a throttle may say."""
    section.take("do", choice({"throttle": None}), None, "throttle")
    section.take("until", choice({"period_end": None}), None)
    return Throttle(
        name=name,
        rate=section.take("to", rate, _STAND_IN, "2/min"),
        each=section.take("each", _each, _USER),
        fail=section.take("fail", choice({str(fail): fail for fail in Fail}), Fail.OPEN),
    )


def _each(text: str) -> str | None:
    return None if text == TOGETHER else dimension(text)
