"""A file of tests of rules: usage in, and all that is to come of it, by the clock of the test."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from governor.core.rules.budget import Measure
from governor.core.scopes import DIMENSIONS
from governor.documents import Node, Problem, read_document
from governor.documents.sections import Read, Report, Section, choice, shown
from governor.documents.texts import line
from governor.rulebook.files import is_test
from governor.rulebook.values import amount

VERSION: Final = "1"
KEYS: Final = ("version", "rules", "tests")
TEST_KEYS: Final = ("name", "start", "until", "events", "expect")
EVENT_KEYS: Final = (*DIMENSIONS, "at", "every", "for", "cost", "requests", "tokens")
EXPECT_KEYS: Final = ("transitions", "actions", "messages")
TRANSITION_KEYS: Final = (
    *("at", "rule", "group", "what", "level", "threshold", "reason", "value"),
)
ACTION_KEYS: Final = ("at", "rule", "action", "effect", "each", "rate")
MESSAGE_KEYS: Final = ("at", "rule", "op", "level", "contains")

MAX_TESTS: Final = 200
MAX_EVENTS: Final = 100_000
"""Of a test, with all repeats."""
MAX_ENTRIES: Final = 10_000
MAX_NAME_CHARACTERS: Final = 200

_SPAN: Final = re.compile(r"(?:(\d{1,4})d)?(?:(\d{1,5})h)?(?:(\d{1,6})m)?(?:(\d{1,7})s)?", re.ASCII)
_COUNT: Final = re.compile(r"[0-9]{1,12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Usage:
    """Usage at a time after the start: values by dimension, and amounts by measure."""

    at: timedelta
    values: Mapping[str, str]
    amounts: Mapping[Measure, int]
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


@dataclass(frozen=True, slots=True)
class Wanted:
    """Something that is to happen: what of it is written down, and where in the file."""

    at: timedelta | None
    fields: Mapping[str, Any]
    line: int


@dataclass(frozen=True, slots=True)
class Test:
    """One test. `messages` is None where they are not looked at."""

    name: str
    start: datetime
    until: timedelta
    usage: tuple[Usage, ...]
    transitions: tuple[Wanted, ...]
    actions: tuple[Wanted, ...]
    messages: tuple[Wanted, ...] | None
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
    if sum(each.times for each in usage) > MAX_EVENTS:
        report.add(section.entries["events"], f"the events are more than {MAX_EVENTS:,} in all")
        usage = ()
    expect = section.entries.get("expect")
    wanted = Section("expect", expect.node, EXPECT_KEYS, report) if expect else None
    if wanted is None:
        section.needs("expect", "{transitions: []} where nothing is to happen")
    return Test(
        name=section.take("name", line(MAX_NAME_CHARACTERS), "", "the cap slows the free tier"),
        start=section.take("start", _moment, _NO_TIME, "2026-03-02T09:00:00Z"),
        until=section.take("until", span, timedelta(0), "16h"),
        usage=usage,
        transitions=_wanted(wanted, "transitions", TRANSITION_KEYS),
        actions=_wanted(wanted, "actions", ACTION_KEYS),
        messages=_wanted(wanted, "messages", MESSAGE_KEYS)
        if wanted and "messages" in wanted.entries
        else None,
        line=node.line,
    )


_NO_TIME: Final = datetime(1970, 1, 1, tzinfo=UTC)


def _usage(node: Node, report: Report) -> Usage:
    section = Section("an event", node, EVENT_KEYS, report)
    every = section.take("every", span, timedelta(0))
    lasting = section.take("for", span, timedelta(0))
    if bool(every) != bool(lasting):
        report.add(node, "every and for go together, such as {every: 1m, for: 2h}")
        every = lasting = timedelta(0)
    cost = section.take("cost", _of(Measure.COST), 0)
    return Usage(
        at=section.take("at", span, timedelta(0)),
        values={
            name: section.take(name, line(MAX_NAME_CHARACTERS), "")
            for name in DIMENSIONS
            if name in section.entries
        },
        amounts={
            Measure.COST: cost,
            Measure.REQUESTS: section.take("requests", _count, 1),
            Measure.TOKENS: section.take("tokens", _count, 0),
        },
        every=every,
        lasting=lasting,
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
