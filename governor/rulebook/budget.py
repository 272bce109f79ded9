"""The kind `budget`: a limit on cost, requests or tokens in a calendar period."""

import re
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

from governor.core.notifications import PLACEHOLDERS, placeholders, render
from governor.core.periods import Calendar, Every
from governor.core.rules.budget import Budget, Measure
from governor.core.rules.shared import Mode
from governor.core.scopes import DIMENSIONS, Scope
from governor.documents.sections import Read, Section, choice, listed, shown, suggestion
from governor.documents.texts import identifier, line, url
from governor.rulebook.actions import actions
from governor.rulebook.scope import EVERYTHING, dimension, where
from governor.rulebook.thresholds import thresholds
from governor.rulebook.values import (
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    Amount,
    amount,
    duration,
    zone,
)

KEYS: Final = (
    "id",
    "kind",
    "owner",
    "summary",
    "runbook",
    "mode",
    "where",
    "per",
    "limit",
    "period",
    "timezone",
    "for",
    "thresholds",
    "actions",
)

_LENGTHS: Final = {
    Every.HOUR: timedelta(hours=1),
    Every.DAY: timedelta(days=1),
    Every.WEEK: timedelta(weeks=1),
    Every.MONTH: timedelta(days=28),
}
_EVERY: Final = choice({str(every): every for every in Every})
_MODE: Final = choice({str(mode): mode for mode in Mode})
_BRACES: Final = re.compile(r"\{\{|\}\}")
_NO_LIMIT: Final = Amount(Measure.COST, 0)


def read(section: Section) -> Budget:
    """Read a budget; what is wrong is reported."""
    per = _per(section)
    limit = section.take("limit", amount, None, "100 USD")
    every = section.take("period", _EVERY, Every.DAY, "day")
    mode = section.take("mode", _MODE, Mode.NOTIFY)
    deeds = actions(section)
    return Budget(
        id=section.take("id", identifier, "", "free-tier-daily"),
        owner=section.take("owner", line(MAX_NAME_CHARACTERS), "", "growth"),
        summary=section.take("summary", _summary(per), "", "'Spent {{ value }} of {{ limit }}'"),
        measure=(limit or _NO_LIMIT).measure,
        limit=(limit or _NO_LIMIT).amount,
        limit_text=section.written("limit"),
        calendar=Calendar(every, section.take("timezone", zone, "UTC")),
        thresholds=thresholds(section, limit, deeds),
        where=_where(section, mode),
        per=per,
        mode=mode,
        hold=section.take("for", _hold(every), timedelta(0)),
        actions=deeds,
        runbook=section.take("runbook", url, None),
        place=f"{section.report.path}:{section.node.line}:{section.node.column}",
    )


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
            if name in known:
                continue
            if name.removeprefix("group.") in DIMENSIONS:
                bare = name.removeprefix("group.")
                raise ValueError(f"{{{{ group.{bare} }}}} needs {bare} in per")
            close = suggestion(name, known) or f"; known: {listed(known)}"
            raise ValueError(f"unknown placeholder {name!r}{close}")
        if _BRACES.search(render(text, {})):
            raise ValueError("has braces that are no placeholder; write one like {{ value }}")
        return text

    return summary


def _where(section: Section, mode: Mode) -> Scope:
    entry = section.entries.get("where")
    if entry is not None:
        return where(entry.node, section.report)
    if mode is Mode.ENFORCE and section.lacks("where"):
        why = f"write 'where: {EVERYTHING}' if it is meant for all usage"
        section.report.add(section.node, f"{section.name} has mode enforce and no where; {why}")
    return Scope()


def _hold(every: Every) -> Read[timedelta]:
    def hold(text: str) -> timedelta:
        found = duration(text)
        if found >= _LENGTHS[every]:
            raise ValueError(f"must be shorter than the period, one {every}")
        return found

    return hold
