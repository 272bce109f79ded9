"""`where` of a rule: which usage it is about, as conditions on dimensions."""

from collections.abc import Sequence
from typing import Final

from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.core.usage import MAX_NAME_CHARACTERS
from governor.documents import Node
from governor.documents.sections import Report, listed, shown, suggestion
from governor.documents.texts import line

EVERYTHING: Final = "all"
_WILDCARDS: Final = frozenset("*?[")
_value = line(MAX_NAME_CHARACTERS)


def dimension(text: str) -> str:
    """Read the name of a dimension."""
    if text not in DIMENSIONS:
        close = suggestion(text, DIMENSIONS) or f"; known: {listed(DIMENSIONS)}"
        raise ValueError(f"unknown dimension{close}")
    return text


def where(node: Node, report: Report) -> Scope:
    """Read `all`, or a mapping such as `{tier: free, feature: {not: evals}}`."""
    if node.value == EVERYTHING:
        return Scope()
    return conditions("where", node, report, DIMENSIONS, "{tier: free}")


def conditions(key: str, node: Node, report: Report, known: Sequence[str], such_as: str) -> Scope:
    """Read a mapping of known names to conditions."""
    if not isinstance(node.value, dict) or not node.value:
        report.add(node, f"{key} must be {EVERYTHING}, or a mapping such as {such_as}")
        return Scope()
    found = []
    what = "dimension" if known is DIMENSIONS else "name"
    for name, entry in node.value.items():
        if name in known:
            found.append(_condition(name, entry.node, report))
        else:
            close = suggestion(name, known) or f"; known: {listed(known)}"
            report.add(entry, f"unknown {what} {shown(name)}{close}")
    return Scope(tuple(found))


def _condition(name: str, node: Node, report: Report, *, negated: bool = False) -> Condition:
    nothing = Condition(name)
    if not isinstance(node.value, dict):
        nodes = report.items(name, node)
        values = [report.read(name, item, _exact, "") for item in nodes]
        return Condition(name, frozenset(values), negated=negated)
    if len(node.value) != 1 or not node.value.keys() <= {"not", "like"}:
        report.add(node, f"{name} must be a value, a list, {{not: ...}} or {{like: ...}}")
        return nothing
    ((word, entry),) = node.value.items()
    if word == "like":
        patterns = [
            report.read(f"{name}.like", item, _pattern, "")
            for item in report.items(f"{name}.like", entry.node)
        ]
        return Condition(name, patterns=tuple(patterns), negated=negated)
    if negated:
        report.add(entry, f"{name} has a not inside a not; remove both")
        return nothing
    return _condition(name, entry.node, report, negated=True)


def _exact(text: str) -> str:
    if "*" in text:
        raise ValueError(f"is a pattern; write {{like: {text[:MAX_NAME_CHARACTERS]!r}}}")
    return _value(text)


def _pattern(text: str) -> str:
    if not _WILDCARDS & set(text):
        raise ValueError("has no *, ? or [...]; write the value without like")
    return _value(text)
