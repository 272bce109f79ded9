"""A file of tests of rules: usage in, and all that is to come of it, by the clock of the test."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from governor.core.business import BUSINESS_DIMENSIONS
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS
from governor.documents import Node, Problem, read_document
from governor.documents.sections import Read, Report, Section, choice, shown
from governor.documents.texts import identifier, line
from governor.rulebook.files import is_test
from governor.rulebook.values import amount

VERSION: Final = "1"
KEYS: Final = ("version", "rules", "tests")
TEST_KEYS: Final = ("name", "start", "until", "only", "events", "business", "expect")
TIMES: Final = ("at", "every", "for")
BESIDE: Final = ("status", "error_type", "model_requested")
"""What an event may say beside its dimensions; rules ask for it in SQL only."""
EVENT_KEYS: Final = (
    *DIMENSIONS,
    *TIMES,
    "cost",
    "requests",
    "tokens",
    *BESIDE,
    "unpriced",
)
BUSINESS_KEYS: Final = (*BUSINESS_DIMENSIONS, *TIMES, "covers", "revenue", "outcomes")
EXPECT_KEYS: Final = ("transitions", "actions", "messages")
TRANSITION_KEYS: Final = (
    *("at", "rule", "group", "what", "level", "threshold", "reason", "value"),
)
ACTION_KEYS: Final = ("at", "rule", "action", "effect", "each", "rate", "does")
MESSAGE_KEYS: Final = ("at", "rule", "op", "to", "level", "contains")

MAX_TESTS: Final = 200
MAX_EVENTS: Final = 100_000
"""Of a test, with all repeats."""
MAX_ENTRIES: Final = 10_000
MAX_NAME_CHARACTERS: Final = 200

_SPAN: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeated:
    """Something at a time after the start, or again `every` so often, for `lasting`."""

    at: timedelta
    every: timedelta = timedelta(0)
    lasting: timedelta = timedelta(0)

    @property
    def times(self) -> int:
        """How often it comes."""
        return -(-self.lasting // self.every) if self.every else 1

    def repeated(self) -> Iterator[timedelta]:
        """Yield each time that it comes, after the start."""
        for number in range(self.times):
            yield self.at + number * self.every


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage(Repeated):
    """Usage: values by dimension, and amounts by measure; `unpriced` costs a stand-in."""

    values: Mapping[str, str]
    amounts: Mapping[Measure, int]
    unpriced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Stated(Repeated):
    """What a business event states, of the span `covers` that ends with it, or of that moment."""

    values: Mapping[str, str]
    measure: str
    amount: int
    covers: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that is to happen: what of it is written down, and where in the file."""

    at: timedelta | None
    fields: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class Test:
    """One test. `messages` is None where they are not looked at, `only` the rules that run."""

    name: str
    start: datetime
    until: timedelta
    usage: tuple[Usage, ...]
    business: tuple[Stated, ...]
    transitions: tuple[Wanted, ...]
    actions: tuple[Wanted, ...]
    messages: tuple[Wanted, ...] | None
    only: tuple[str, ...] = ()
    line: int = 0


@dataclass(frozen=True, slots=True)
class TestFile:
    """Tests of a file with the rules they are about, and all that is wrong with it."""

    path: Path
    raw: bytes
    rules: tuple[Path, ...]
    tests: tuple[Test, ...]
    problems: tuple[Problem, ...] = field(default=())


def find_tests(paths: Iterable[Path]) -> list[Path]:
    """Return the files of tests at and below some paths, in order; what is named is taken."""
    found: dict[Path, None] = {}
    for path in paths:
        below = sorted(each for each in path.rglob("*") if is_test(each.name))
        found |= dict.fromkeys(below if path.is_dir() else [path])
    return list(found)


def read_tests(path: Path) -> TestFile:
    """Read a file of tests; without `rules` they are about the file beside it of the same name."""
    document = read_document(path, "test file")
    report = Report(path, list(document.problems))
    tests: list[Test] = []
    rules: list[Path] = []
    if not report.problems:
        top = Section("a test file", document.root, KEYS, report)
        top.take("version", choice({VERSION: VERSION}), VERSION, VERSION)
        rules = _rules(top, report)
        tests = [_test(node, report) for node in _list(top, "tests", MAX_TESTS, needed=True)]
    return TestFile(
        path, document.raw, tuple(rules), tuple(tests), tuple(sorted(set(report.problems)))
    )


def _rules(top: Section, report: Report) -> list[Path]:
    entry = top.entries.get("rules")
    folder = top.report.path.parent
    if entry is None:
        name = top.report.path.name
        return [folder / re.sub(r"\.test(\.ya?ml)$", r"\1", name)]
    named = [
        report.read("rules", item, line(MAX_NAME_CHARACTERS), "")
        for item in report.items("rules", entry.node)
    ]
    return [folder / name for name in named if name]


def _list(section: Section, key: str, most: int, *, needed: bool = False) -> list[Node]:
    entry = section.entries.get(key)
    if entry is None:
        if needed:
            section.needs(key, "a list")
        return []
    if not isinstance(entry.node.value, list):
        section.report.add(entry, f"{key} must be a list")
        return []
    if len(entry.node.value) > most:
        section.report.add(entry, f"{key} has more than {most} items")
    return entry.node.value[:most]


def _test(node: Node, report: Report) -> Test:
    section = Section("a test", node, TEST_KEYS, report)
    usage = tuple(_usage(item, report) for item in _list(section, "events", MAX_ENTRIES))
    business = tuple(_stated(item, report) for item in _list(section, "business", MAX_ENTRIES))
    if sum(each.times for each in (*usage, *business)) > MAX_EVENTS:
        report.add(node, f"the events are more than {MAX_EVENTS:,} in all")
        usage, business = (), ()
    expect = section.entries.get("expect")
    wanted = Section("expect", expect.node, EXPECT_KEYS, report) if expect else None
    if wanted is None:
        section.needs("expect", "{transitions: []} where nothing is to happen")
    return Test(
        name=section.take("name", line(MAX_NAME_CHARACTERS), "", "the cap slows the free tier"),
        start=section.take("start", _moment, _NO_TIME, "2026-03-02T09:00:00Z"),
        until=section.take("until", span, timedelta(0), "16h"),
        usage=usage,
        business=business,
        transitions=_wanted(wanted, "transitions", TRANSITION_KEYS),
        actions=_wanted(wanted, "actions", ACTION_KEYS),
        messages=_wanted(wanted, "messages", MESSAGE_KEYS)
        if wanted and "messages" in wanted.entries
        else None,
        only=_only(section),
        line=node.line,
    )


_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _only(section: Section) -> tuple[str, ...]:
    entry = section.entries.get("only")
    if entry is None:
        return ()
    items = section.report.items("only", entry.node)
    return tuple(section.report.read("only", item, identifier, "") for item in items)


def _times(section: Section) -> dict[str, timedelta]:
    every = section.take("every", span, timedelta(0))
    lasting = section.take("for", span, timedelta(0))
    if bool(every) != bool(lasting):
        section.report.add(section.node, "every and for go together, such as {every: 1m, for: 2h}")
        every = lasting = timedelta(0)
    at = section.take("at", span, timedelta(0))
    return {"at": at, "every": every, "lasting": lasting}


def _values(section: Section, names: Iterable[str]) -> dict[str, str]:
    return {
        name: section.take(name, line(MAX_NAME_CHARACTERS), "")
        for name in names
        if name in section.entries
    }


def _usage(node: Node, report: Report) -> Usage:
    section = Section("an event", node, EVENT_KEYS, report)
    return Usage(
        **_times(section),
        values=_values(section, (*DIMENSIONS, *BESIDE)),
        amounts={
            Measure.COST: section.take("cost", _of(Measure.COST), 0),
            Measure.REQUESTS: section.take("requests", _count, 1),
            Measure.TOKENS: section.take("tokens", _count, 0),
        },
        unpriced=section.take("unpriced", choice({"true": True, "false": False}), False),  # noqa: FBT003
    )


def _stated(node: Node, report: Report) -> Stated:
    section = Section("a business event", node, BUSINESS_KEYS, report)
    told = [name for name in ("revenue", "outcomes") if name in section.entries]
    if len(told) != 1:
        report.add(node, "a business event needs revenue or outcomes, one of the two")
    measure = told[0] if told else "revenue"
    read = _of(Measure.COST) if measure == "revenue" else _count
    return Stated(
        **_times(section),
        values=_values(section, BUSINESS_DIMENSIONS),
        measure=measure,
        amount=section.take(measure, read, 0),
        covers=section.take("covers", span, timedelta(0)),
    )


def _wanted(section: Section | None, key: str, keys: tuple[str, ...]) -> tuple[Wanted, ...]:
    if section is None:
        return ()
    found = []
    for node in _list(section, key, MAX_ENTRIES):
        entry = Section(f"an entry of {key}", node, keys, section.report)
        at = entry.take("at", span, None)
        fields = {
            name: _fields(name, value.node, section.report)
            for name, value in entry.entries.items()
            if name != "at" and name in keys
        }
        found.append(Wanted(at, fields, node.line))
    return tuple(found)


def _fields(name: str, node: Node, report: Report) -> Any:
    if name == "group":
        if isinstance(node.value, dict):
            return {
                key: report.read(f"group.{key}", entry.node, str, "")
                for key, entry in node.value.items()
            }
        report.add(node, "group must be a mapping, such as {feature: chat}")
        return {}
    return report.read(name, node, str, "")


def _of(measure: Measure) -> Read[int]:
    def read(text: str) -> int:
        found = amount(text)
        if found.measure is not measure:
            raise ValueError("must be in USD, such as 0.50 USD")
        return found.amount

    return read


def _count(text: str) -> int:
    if not _COUNT.fullmatch(text):
        raise ValueError("must be a whole number")
    return int(text)


def span(text: str) -> timedelta:
    """Read `90s`, `5m`, `1h40m` or `2d6h`."""
    found = _SPAN.fullmatch(text)
    if not text or not found:
        raise ValueError("must be a span, such as 90s, 5m, 1h40m or 2d6h")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a time with its zone, such as 2026-03-02T09:00:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"has no zone; write such as {shown(text)[1:-1]}Z")
    return found
