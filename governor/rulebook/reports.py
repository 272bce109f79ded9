"""`reports` of `routing.yaml`: which reports are made, of what, and who gets them."""

import re
from datetime import time
from typing import Final

from governor.core.periods import Every
from governor.core.reports import ReportSpec
from governor.core.scopes import DIMENSIONS, Scope
from governor.documents import Node
from governor.documents.sections import Read, Report, Section, choice
from governor.documents.texts import identifier
from governor.rulebook.scope import EVERYTHING, conditions
from governor.rulebook.values import zone

KEYS: Final = ("name", "every", "at", "timezone", "to", "where")
USUAL_AT: Final = time(8)

_EVERY: Final = choice({"day": Every.DAY, "week": Every.WEEK, "month": Every.MONTH})
_TIME: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


def read_report(node: Node, report: Report, receiver: Read[str]) -> ReportSpec:
    """Return a report that is wanted."""
    section = Section("a report", node, KEYS, report)
    to = section.entries.get("to")
    if to is None:
        section.needs("to", "[slack]")
    where = section.entries.get("where")
    scope = Scope()
    if where is not None and where.node.value != EVERYTHING:
        scope = conditions("where", where.node, report, DIMENSIONS, "{team: search}")
    return ReportSpec(
        name=section.take("name", identifier, "", "daily"),
        every=section.take("every", _EVERY, Every.DAY),
        zone=section.take("timezone", zone, "UTC"),
        at=section.take("at", clock, USUAL_AT),
        to=tuple(report.read("to", item, receiver, "") for item in report.items("to", to.node))
        if to
        else (),
        where=scope,
    )


def clock(text: str) -> time:
    """Read a time of day in quotes."""
    found = _TIME.fullmatch(text)
    if not found:
        raise ValueError("must be a time of day in quotes, such as '22:00'")
    return time(int(found[1]), int(found[2]))
