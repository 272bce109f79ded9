"""`routing.yaml`: receivers, routes, what holds back; beside the rules, and no rule file itself."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Final, TypeVar

from governor.core.routing import (
    FACTS,
    Escalation,
    Heartbeat,
    Inhibition,
    People,
    QuietHours,
    Route,
    Routing,
    Silence,
)
from governor.core.rules.shared import Level, Mode
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.documents import Document, Node, Problem
from governor.documents.sections import Read, Report, Section, choice, listed, suggestion
from governor.documents.texts import identifier, line
from governor.rulebook.grouping import fact, read_grouping
from governor.rulebook.receivers import BUILT_IN, read_receivers
from governor.rulebook.reports import clock, read_report
from governor.rulebook.scope import EVERYTHING, conditions
from governor.rulebook.values import (
    MAX_NAME_CHARACTERS,
    MAX_TEXT_CHARACTERS,
    amount,
    duration,
    zone,
)

KEYS: Final = (
    "version",
    "receivers",
    "routes",
    "fallback",
    "grouping",
    "heartbeat",
    "inhibit",
    "people",
    "quiet",
    "reports",
    "silences",
)
MAX_ITEMS: Final = 100
MAX_SILENCES: Final = 1_000
DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_USER: Final = re.compile(r"[UW][A-Z0-9]{4,20}")
_DAY: Final = choice({day: number for number, day in enumerate(DAYS)})
_LEVEL: Final = choice({str(level): level for level in Level})
_BOOL: Final = choice({"true": True, "false": False})
_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ALL_DAYS: Final = frozenset(range(7))

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RoutingFile:
    """What the file holds, and all that is wrong with it."""

    path: Path
    raw: bytes
    routing: Routing
    problems: tuple[Problem, ...]


def read_routing(document: Document, labels: Collection[str]) -> RoutingFile:
    """Read `routing.yaml`; `labels` are those that some rule has."""
    report = Report(document.path, list(document.problems))
    routing = Routing()
    if not report.problems:
        top = Section("a routing file", document.root, KEYS, report)
        top.take("version", choice({"1": "1"}), "1", "1")
        known = (*FACTS, *DIMENSIONS, *labels)
        receivers = read_receivers(top)
        names = [*BUILT_IN, *(each.name for each in receivers)]
        routes = _routes(top, known, names)
        routing = Routing(
            receivers=receivers,
            routes=routes,
            inhibitions=_each(top, "inhibit", lambda node: _inhibition(node, report, known)),
            quiets=_each(top, "quiet", lambda node: _quiet(node, report, known)),
            silences=_each(top, "silences", lambda node: _silence(node, report, known)),
            grouping=read_grouping(top, known),
            heartbeat=_heartbeat(top, names),
            people=_people(top),
            reports=_each(top, "reports", lambda node: read_report(node, report, _one_of(names))),
            fallback=top.take("fallback", _one_of(names), None),
        )
        _check_receivers(top, routing)
        _check_cycles(top, routing)
    return RoutingFile(document.path, document.raw, routing, tuple(report.problems))


def _each(top: Section, key: str, read: Callable[[Node], T]) -> tuple[T, ...]:
    entry = top.entries.get(key)
    if entry is None:
        return ()
    if not isinstance(entry.node.value, list):
        top.report.add(entry, f"{key} must be a list")
        return ()
    most = MAX_SILENCES if key == "silences" else MAX_ITEMS
    if len(entry.node.value) > most:
        top.report.add(entry, f"{key} has more than {most} items")
    return tuple(read(node) for node in entry.node.value[:most])


def _routes(top: Section, known: Sequence[str], receivers: Sequence[str]) -> tuple[Route, ...]:
    routes = _each(top, "routes", lambda node: _route(node, top.report, known, receivers))
    if routes and (routes[-1].match.conditions or routes[-1].also):
        last = top.entries["routes"].node.value
        node = last[-1] if isinstance(last, list) else top.node
        top.report.add(node, "the last route must have no match, so that nothing is told to nobody")
    return routes


def _route(node: Node, report: Report, known: Sequence[str], receivers: Sequence[str]) -> Route:
    section = Section("a route", node, ("match", "to", "also", "escalate"), report)
    entry = section.entries.get("to")
    if entry is None:
        section.needs("to", "[slack]")
    items = report.items("to", entry.node) if entry else []
    return Route(
        match=_match(section, "match", known),
        to=tuple(report.read("to", item, _one_of(receivers), "") for item in items),
        also=section.take("also", _BOOL, False),  # noqa: FBT003
        place=f"{report.path}:{node.line}:{node.column}",
        escalate=_escalations(section, receivers),
    )


def _escalations(route: Section, receivers: Sequence[str]) -> tuple[Escalation, ...]:
    entry = route.entries.get("escalate")
    found = []
    for item in route.report.items("escalate", entry.node) if entry else []:
        section = Section("an escalation", item, ("after", "level", "to"), route.report)
        to = section.entries.get("to")
        if to is None:
            section.needs("to", "[oncall]")
        named = route.report.items("to", to.node) if to else []
        found.append(
            Escalation(
                after=section.take("after", duration, timedelta(0), "30m"),
                to=tuple(route.report.read("to", each, _one_of(receivers), "") for each in named),
                level=section.take("level", _LEVEL, Level.CRITICAL),
            )
        )
    return tuple(found)


def _people(top: Section) -> People:
    entry = top.entries.get("people")
    if entry is None:
        return People()
    section = Section("people", entry.node, ("act", "approve", "two_above"), top.report)
    users = {
        key: frozenset(
            top.report.read(key, item, _user, "")
            for item in top.report.items(key, section.entries[key].node)
        )
        for key in ("act", "approve")
        if key in section.entries
    }
    two_above = section.take("two_above", _usd, 0)
    return People(users.get("act"), users.get("approve", frozenset()), two_above)


def _usd(text: str) -> int:
    found = amount(text)
    if found.measure is not Measure.COST:
        raise ValueError("must be money, such as 500 USD")
    return found.amount


def _user(text: str) -> str:
    if not _USER.fullmatch(text):
        raise ValueError("must be the id of a user of Slack, such as U0123ABCD, and not a name")
    return text


def _heartbeat(top: Section, receivers: Sequence[str]) -> Heartbeat | None:
    entry = top.entries.get("heartbeat")
    if entry is None:
        return None
    section = Section("heartbeat", entry.node, ("to", "every"), top.report)
    to = section.entries.get("to")
    if to is None:
        section.needs("to", "[slack]")
    named = top.report.items("to", to.node) if to else []
    return Heartbeat(
        to=tuple(top.report.read("to", each, _one_of(receivers), "") for each in named),
        every=section.take("every", duration, timedelta(days=1)),
    )


def _one_of(receivers: Sequence[str]) -> Read[str]:
    def read(text: str) -> str:
        if text not in receivers:
            close = suggestion(text, receivers) or f"; known: {listed(receivers)}"
            raise ValueError(f"unknown receiver{close}")
        return text

    return read


def _match(section: Section, key: str, known: Sequence[str], *, needed: bool = False) -> Scope:
    """Read conditions on facts of an alert; without any, all alerts match."""
    entry = section.entries.get(key)
    if entry is None:
        if needed:
            section.needs(key, "{rule: company-monthly}")
        return Scope()
    if entry.node.value == EVERYTHING:
        return Scope()
    scope = conditions(key, entry.node, section.report, known, "{owner: growth}")
    words = {"level": [str(level) for level in Level], "mode": [mode.value for mode in Mode]}
    for condition in scope.conditions:
        _check_words(section, key, condition, words)
    return scope


def _check_words(
    section: Section, key: str, condition: Condition, words: Mapping[str, Sequence[str]]
) -> None:
    for value in condition.values:
        possible = words.get(condition.dimension)
        if possible and value not in possible:
            close = suggestion(value, possible)
            message = f"{condition.dimension}={value!r}: must be {listed(possible)}{close}"
            section.report.add(section.entries[key].node, message)


def _inhibition(node: Node, report: Report, known: Sequence[str]) -> Inhibition:
    section = Section("an inhibition", node, ("name", "when", "hide", "same"), report)
    entry = section.entries.get("same")
    if entry is None:
        section.needs("same", "[team], or [rule] where they have nothing in common to compare")
    items = report.items("same", entry.node) if entry else []
    when, hide = (_match(section, key, known, needed=True) for key in ("when", "hide"))
    if when == hide and when.conditions:
        report.add(node, "hides what it waits for; when and hide must be of different alerts")
    return Inhibition(
        name=section.take("name", identifier, "", "month-hides-day"),
        when=when,
        hide=hide,
        same=tuple(report.read("same", item, fact(known), "") for item in items),
    )


def _quiet(node: Node, report: Report, known: Sequence[str]) -> QuietHours:
    keys = ("name", "days", "from", "to", "timezone", "holds", "match")
    section = Section("quiet hours", node, keys, report)
    start = section.take("from", clock, time(22), "'22:00'")
    end = section.take("to", clock, time(7), "'07:00'")
    if start == end:
        report.add(node, "quiet hours begin and end at one time; write a silence instead")
    days = section.entries.get("days")
    held = section.entries.get("holds")
    listed_days = report.items("days", days.node) if days else []
    listed_levels = report.items("holds", held.node) if held else []
    if held is None:
        section.needs("holds", "[info, warning]")
    found = frozenset(report.read("days", item, _DAY, 0) for item in listed_days)
    return QuietHours(
        name=section.take("name", identifier, "", "nights"),
        days=found or _ALL_DAYS,
        start=start,
        end=end,
        zone=section.take("timezone", zone, "UTC"),
        levels=frozenset(report.read("holds", i, _LEVEL, Level.INFO) for i in listed_levels),
        match=_match(section, "match", known),
    )


def _silence(node: Node, report: Report, known: Sequence[str]) -> Silence:
    section = Section("a silence", node, ("match", "since", "until", "reason", "by"), report)
    return Silence(
        match=_match(section, "match", known, needed=True),
        since=section.take("since", _moment, None),
        until=section.take("until", _moment, _NO_TIME, "2026-12-01T00:00:00Z"),
        reason=section.take("reason", line(MAX_TEXT_CHARACTERS), "", "'load test'"),
        by=section.take("by", line(MAX_NAME_CHARACTERS), "", "ann"),
    )


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise ValueError("must be a time with its zone, such as 2026-12-01T00:00:00Z")
    return found.astimezone(UTC)


def _check_receivers(top: Section, routing: Routing) -> None:
    """Report receivers that no route names."""
    used = {name for route in routing.routes for name in route.to}
    used |= {name for route in routing.routes for each in route.escalate for name in each.to}
    used |= {each.fallback for each in routing.receivers if each.fallback}
    used |= {name for each in routing.reports for name in each.to}
    used |= {routing.fallback} if routing.fallback else set()
    used |= set(routing.heartbeat.to) if routing.heartbeat else set()
    entry = top.entries.get("receivers")
    if entry is None or not isinstance(entry.node.value, dict) or "" in used:
        return
    for name, each in entry.node.value.items():
        if name not in used:
            top.report.add(each, f"receiver {name!r}: no route names it; add one, or remove it")


def _check_cycles(top: Section, routing: Routing) -> None:
    """Report two inhibitions that hide each other's reasons: nobody would be told of either."""
    for number, one in enumerate(routing.inhibitions):
        for other in routing.inhibitions[number + 1 :]:
            if one.when == other.hide and other.when == one.hide:
                why = f"{one.name} and {other.name} hide each other; remove one"
                top.report.add(top.entries["inhibit"], why)
