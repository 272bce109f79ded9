"""`allow` of a rule file: who is let through whatever rules say."""

from datetime import UTC, datetime, time
from typing import Final

from governor.core.allowing import FOREVER, Allow
from governor.core.scopes import DIMENSIONS, Scope
from governor.documents import Node
from governor.documents.sections import Section, shown
from governor.documents.texts import line
from governor.rulebook.budget import day
from governor.rulebook.scope import EVERYTHING, conditions
from governor.rulebook.values import MAX_TEXT_CHARACTERS

MAX_ALLOWS: Final = 1_000
KEYS: Final = ("where", "reason", "until")
SUCH_AS: Final = "{customer: acme}"


def allow_list(top: Section) -> tuple[Allow, ...]:
    """Read the allow-list of a file; what is wrong is reported."""
    entry, report = top.entries.get("allow"), top.report
    if entry is None:
        return ()
    nodes = entry.node.value
    if not isinstance(nodes, list):
        report.add(entry, f"allow must be a list, such as [{{where: {SUCH_AS}, reason: contract}}]")
        return ()
    if len(nodes) > MAX_ALLOWS:
        report.add(entry, f"allow has more than {MAX_ALLOWS:,} entries")
    return tuple(_allow(node, top) for node in nodes[:MAX_ALLOWS])


def _allow(node: Node, top: Section) -> Allow:
    section = Section("an entry of allow", node, KEYS, top.report)
    return Allow(
        where=_where(section),
        reason=section.take("reason", line(MAX_TEXT_CHARACTERS), "", "enterprise contract"),
        until=section.take("until", _until, FOREVER),
    )


def _where(section: Section) -> Scope:
    entry = section.entries.get("where")
    if entry is None:
        section.needs("where", SUCH_AS)
        return Scope()
    if entry.node.value == EVERYTHING:
        why = "lets everybody through; to stop enforcement use `governor enforce off`"
        section.report.add(entry.node, f"where={shown(EVERYTHING)}: {why}")
        return Scope()
    return conditions("where", entry.node, section.report, DIMENSIONS, SUCH_AS)


def _until(text: str) -> datetime:
    return datetime.combine(day(text), time(), UTC)
