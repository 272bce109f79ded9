"""`grouping` of `routing.yaml`: what is told in one message, and how often."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import Final

from governor.core.routing import ALERT, Grouping
from governor.core.rules.shared import Level
from governor.documents.sections import Read, Report, Section, listed, suggestion
from governor.rulebook.values import duration, whole

KEYS: Final = ("by", "wait", "update", "repeat", "storm")
MAX_WAIT: Final = timedelta(hours=1)
MIN_REPEAT: Final = timedelta(minutes=1)
MAX_STORM: Final = 1_000
NEVER: Final = "never"

_LEVELS: Final = {str(level): level for level in Level}


def read_grouping(top: Section, known: Sequence[str]) -> Grouping:
    """Return the grouping of a routing file; `known` are the facts of alerts."""
    entry = top.entries.get("grouping")
    usual = Grouping()
    if entry is None:
        return usual
    section = Section("grouping", entry.node, KEYS, top.report)
    by = section.entries.get("by")
    facts = top.report.items("by", by.node) if by else []
    return Grouping(
        by=tuple(top.report.read("by", item, fact((*known, ALERT)), "") for item in facts)
        or usual.by,
        wait=section.take("wait", _wait, usual.wait),
        update=section.take("update", _wait, usual.update),
        repeat=_repeat(section, top.report, usual.repeat),
        storm=section.take("storm", _storm, usual.storm),
    )


def fact(known: Sequence[str]) -> Read[str]:
    """Return a reader of one fact of an alert."""

    def read(text: str) -> str:
        if text not in known:
            close = suggestion(text, known) or f"; known: {listed(known)}"
            raise ValueError(f"is no fact of an alert{close}")
        return text

    return read


def _repeat(
    section: Section, report: Report, usual: Mapping[Level, timedelta]
) -> Mapping[Level, timedelta]:
    entry = section.entries.get("repeat")
    if entry is None:
        return usual
    levels = Section("repeat", entry.node, tuple(_LEVELS), report)
    found = {level: levels.take(name, _every, usual.get(level)) for name, level in _LEVELS.items()}
    return MappingProxyType({level: every for level, every in found.items() if every is not None})


def _wait(text: str) -> timedelta:
    found = timedelta(0) if text == "0s" else duration(text)
    if found > MAX_WAIT:
        raise ValueError("is longer than 1h; people would hear too late")
    return found


def _every(text: str) -> timedelta | None:
    if text == NEVER:
        return None
    found = duration(text)
    if found < MIN_REPEAT:
        raise ValueError("is shorter than 1m; write never, or a span such as 4h")
    return found


def _storm(text: str) -> int | None:
    return None if text == NEVER else whole(1, MAX_STORM)(text)
