"""What a rule of any kind may say: who it belongs to, whose number it is, when it counts."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final

from governor.core.notifications import PLACEHOLDERS, placeholders, render
from governor.core.routing import FACTS
from governor.core.rules.shared import Mode, Unknown
from governor.core.scopes import DIMENSIONS, Scope
from governor.documents import Node
from governor.documents.sections import Read, Section, choice, listed, shown, suggestion
from governor.documents.texts import identifier, line, url
from governor.rulebook.scope import EVERYTHING, dimension, where
from governor.rulebook.values import (
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    duration,
    whole,
)

KEYS: Final = (
    "id",
    "kind",
    "owner",
    "summary",
    "runbook",
    "labels",
    "mode",
    "where",
    "per",
    "for",
    "thresholds",
    "actions",
    "max_alerts",
    "renamed_from",
)
GAUGE_KEYS: Final = ("every", "settle", "keep_firing_for", "on_no_data", "on_error")
"""What rules may say beside that are judged from time to time and can turn good again."""

MAX_LABELS: Final = 20
MAX_ALERTS: Final = 1_000_000
MIN_EVERY: Final = timedelta(seconds=10)
MAX_SPAN: Final = timedelta(days=1)

_MODE: Final = choice({str(mode): mode for mode in Mode})
_UNKNOWN: Final = choice({str(policy): policy for policy in Unknown})
_ON_ERROR: Final = choice({str(p): p for p in Unknown if p is not Unknown.OK})
_BRACES: Final = re.compile(r"\{\{|\}\}")
_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})


def common(section: Section, *, acts: bool) -> dict[str, Any]:
    """Read what rules of all kinds have, as fields of `Rule`; one that never `acts` says so."""
    per = _per(section)
    mode = section.take("mode", _MODE, Mode.NOTIFY)
    if mode is Mode.ENFORCE and not acts:
        kind = section.written("kind")
        where_it_is = section.entries["mode"].node
        section.report.add(
            where_it_is, f"mode='enforce': a {kind} has no actions; write notify or shadow"
        )
        mode = Mode.NOTIFY
    if mode is Mode.ENFORCE and "where" not in section.known and not per:
        section.report.add(
            section.node, f"{section.name} has mode enforce and no per; it would act on all usage"
        )
    return {
        "id": section.take("id", identifier, "", "free-tier-daily"),
        "owner": section.take("owner", line(MAX_NAME_CHARACTERS), "", "growth"),
        "summary": section.take("summary", _summary(per), "", "'Spent {{ value }} of {{ limit }}'"),
        "where": _where(section, mode),
        "per": per,
        "mode": mode,
        "labels": _labels(section),
        "renamed_from": _former(section),
        "runbook": section.take("runbook", url, None),
        "place": f"{section.report.path}:{section.node.line}:{section.node.column}",
    }


def judged(section: Section, every: timedelta, *, hold: bool = True) -> dict[str, Any]:
    """Read when a gauge is judged and what becomes of numbers that are not known."""
    return {
        "every": section.take("every", _every, every),
        "settle": section.take("settle", _short, timedelta(0)),
        "hold": section.take("for", _short, timedelta(0)) if hold else timedelta(0),
        "keep": section.take("keep_firing_for", _short, timedelta(0)),
        "on_no_data": section.take("on_no_data", _UNKNOWN, Unknown.KEEP),
        "on_error": section.take("on_error", _ON_ERROR, Unknown.KEEP),
    }


def most_alerts(section: Section, otherwise: int) -> int:
    """Read how many alerts of a rule may be open at a time."""
    return section.take("max_alerts", whole(1, MAX_ALERTS), otherwise)


def _per(section: Section) -> tuple[str, ...]:
    entry = section.entries.get("per")
    if entry is None:
        return ()
    report = section.report
    found: list[str] = []
    for item in report.items("per", entry.node):
        name = report.read("per", item, dimension, str(item.value))
        if name in found:
            report.add(item, f"per={shown(name)}: is there already; remove one")
        found.append(name)
    return tuple(found)


def _summary(per: Sequence[str]) -> Read[str]:
    """Return a reader of a summary, whose placeholders are known or of the group."""
    known = [*PLACEHOLDERS, *(f"group.{name}" for name in per)]
    plain = line(MAX_TEXT_CHARACTERS)

    def summary(text: str) -> str:
        plain(text)
        for name in placeholders(text):
            if name not in known:
                raise ValueError(_unknown_placeholder(name, known))
        if _BRACES.search(render(text, {})):
            raise ValueError("has braces that are no placeholder; write one like {{ value }}")
        return text

    return summary


def _unknown_placeholder(name: str, known: Collection[str]) -> str:
    bare = name.removeprefix("group.")
    if bare in DIMENSIONS:
        return f"{{{{ group.{bare} }}}} needs {bare} in per"
    close = suggestion(name, known) or f"; known: {listed(known)}"
    return f"unknown placeholder {name!r}{close}"


def _where(section: Section, mode: Mode) -> Scope:
    entry = section.entries.get("where")
    if entry is not None:
        return where(entry.node, section.report)
    if mode is Mode.ENFORCE and "where" in section.known and section.lacks("where"):
        why = f"write 'where: {EVERYTHING}' if it is meant for all usage"
        section.report.add(section.node, f"{section.name} has mode enforce and no where; {why}")
    return Scope()


def _labels(section: Section) -> Mapping[str, str]:
    entry = section.entries.get("labels")
    if entry is None:
        return _NO_LABELS
    named, report = entry.node.value, section.report
    if not isinstance(named, dict) or not named:
        report.add(entry.node, "labels must be a mapping, such as {severity: low, team: search}")
        return _NO_LABELS
    if len(named) > MAX_LABELS:
        report.add(entry.node, f"labels are more than {MAX_LABELS}")
    value = line(MAX_NAME_CHARACTERS)
    for name, label in named.items():
        report.read("label", Node(name, label.line, label.column), _label, "")
    return MappingProxyType(
        {
            name: report.read(f"labels.{name}", label.node, value, "")
            for name, label in named.items()
        }
    )


def _label(text: str) -> str:
    if text in DIMENSIONS:
        raise ValueError("is the name of a dimension; choose another")
    if text in FACTS:
        raise ValueError("is what routes call something else already; choose another")
    return identifier(text)


def _former(section: Section) -> tuple[str, ...]:
    entry = section.entries.get("renamed_from")
    if entry is None:
        return ()
    report = section.report
    items = report.items("renamed_from", entry.node)
    return tuple(report.read("renamed_from", item, identifier, "") for item in items)


def _every(text: str) -> timedelta:
    found = duration(text)
    if not MIN_EVERY <= found <= MAX_SPAN:
        raise ValueError("must be from 10s to 1d")
    return found


def _short(text: str) -> timedelta:
    found = duration(text)
    if found > MAX_SPAN:
        raise ValueError("must be at most 1d")
    return found
