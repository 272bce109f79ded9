"""Files that people write: bounded YAML 1.2 to nested texts, each with its line and column.

It is built from parser events without recursion. A scalar stays the text that is written, and
what a value says never enters a problem: a secret may stand anywhere in a settings file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32
MAX_PROBLEMS: Final = 100
"""After so many problems of one document its rest is not read."""

LINE_BREAK: Final = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
"""What ends a line by the count of the parser."""

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_SPEAKING_KEY: Final = re.compile(r"[\w.-]{1,60}")
_QUOTED: Final = re.compile(r"(['\"])(?!<)[^\s'\"]{3,}\1")


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """What is wrong in a file, and where; lines and columns count from 1, 0 is the whole file."""

    path: Path
    line: int
    column: int
    message: str

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.path}{place}: {self.message}"


class Node(NamedTuple):
    """A text, list or mapping and where it begins; None for nothing, at the place of its key."""

    value: "str | list[Node] | dict[str, Entry] | None"
    line: int
    column: int


NOTHING: Final = Node(None, 1, 1)
"""The root of an empty document."""


class Entry(NamedTuple):
    """The value of a key, and the place of the key."""

    node: Node
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Document:
    """A file as it was read. `root` is of no use where there are problems."""

    path: Path
    raw: bytes
    root: Node
    problems: tuple[Problem, ...]


def read_document(path: Path, kind: str) -> Document:
    """Read the file at `path`; `kind` says in a message what it is, such as `rule file`."""
    try:
        raw = read_bytes(path)
    except OSError as error:
        problem = Problem(path, 0, 0, f"cannot be read ({error.strerror})")
        return Document(path, b"", NOTHING, (problem,))
    builder = _Builder(path)
    try:
        for event in _events(path, _text(path, raw, kind)):
            builder.take(event)
    except _Unreadable as end:
        builder.problems.append(end.problem)
    return Document(path, raw, builder.root, tuple(sorted(builder.problems)))


def read_bytes(path: Path) -> bytes:
    """Return what is in a file, at most one byte more than it may hold; raise OSError."""
    with path.open("rb") as stream:
        return stream.read(MAX_BYTES + 1)


class _Unreadable(Exception):  # noqa: N818 it ends the reading of one document
    """The rest of the document cannot be read."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


def _text(path: Path, raw: bytes, kind: str) -> str:
    if len(raw) > MAX_BYTES:
        raise _Unreadable(Problem(path, 1, 1, f"is larger than 1 MB, the most a {kind} may be"))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig")
    raise _Unreadable(Problem(path, *_place(before), "is not UTF-8 text"))


def _events(path: Path, text: str) -> Iterator[Any]:
    """Yield parser events; no parser error leaves here, for its text and its traceback quote."""
    found: Problem | None = None
    events = iter(YAML(typ="safe", pure=True).parse(text))
    while found is None:
        try:
            event = next(events, None)
        except ReaderError as error:
            found = Problem(path, *_place(text[: error.position]), "holds a control character")
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
            found = Problem(path, line, column, f"is not YAML: {_why(error)}")
        except (YAMLError, ValueError, OverflowError, AssertionError):
            found = Problem(path, 1, 1, "is not YAML")  # the last three: odd escapes and versions
        else:
            if event is None:
                return
            yield event
    raise _Unreadable(found)


def _why(error: MarkedYAMLError) -> str:
    """Say what a parser found, and where the bracket or quote was opened that is still open."""
    problem = error.problem or "bad syntax"
    if problem.startswith("found character '\\t'"):
        return "has a tab; indent with spaces"
    said = _QUOTED.sub("this", problem.replace("found '<stream end>'", "the file ends"))
    opened = {"while parsing a flow": "bracket", "while scanning a quoted": "quote"}
    for context, what in opened.items():
        if (error.context or "").startswith(context) and (mark := error.context_mark):
            return f"{said}; the {what} of line {mark.line + 1} is still open"
    return said


def _place(before: str) -> tuple[int, int]:
    lines = LINE_BREAK.split(before)
    return len(lines), len(lines[-1]) + 1


@dataclass(slots=True)
class _Frame:
    """A collection being filled; `key` is the mapping key that waits for its value."""

    items: list[Node] | dict[str, Entry]
    line: int
    column: int
    key: str | None = None
    key_line: int = 0
    key_column: int = 0


@dataclass(slots=True)
class _Builder:
    """Fills nested collections from events, and notes what such a file has no use for."""

    path: Path
    root: Node = NOTHING
    problems: list[Problem] = field(default_factory=list)
    _stack: list[_Frame] = field(default_factory=list)
    _documents: int = 0

    def take(self, event: Any) -> None:
        """Take the next event in the order of the file."""
        line, column = event.start_mark.line + 1, event.start_mark.column + 1
        match event:
            case yaml.DocumentStartEvent():
                self._begin(event)
            case yaml.AliasEvent():
                self._note(event, "an alias (*); write the value out, or in quotes")
                self._add(event, Node(None, line, column))
            case yaml.ScalarEvent():
                self._check(event)
                null = event.implicit[0] and event.value in _NULLS
                self._add(event, Node(None if null else event.value, line, column))
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._check(event)
                if self._wants_key:
                    raise self._end(event, "a collection as a key; a key is one word")
                if len(self._stack) >= MAX_DEPTH:
                    raise self._end(event, f"nesting deeper than {MAX_DEPTH} levels")
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Frame({} if mapping else [], line, column))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                frame = self._stack.pop()
                self._add(event, Node(frame.items, frame.line, frame.column))

    @property
    def _wants_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.items, dict) and top.key is None

    def _begin(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            raise self._end(event, "a second document; one is the limit")
        if event.version or event.tags:
            self._note(event, "a directive; remove it")

    def _check(self, event: Any) -> None:
        if event.anchor is not None:
            self._note(event, "an anchor (&); write the value out")
        if event.ctag is not None:
            self._note(event, "a tag (!); put the value in quotes")

    def _add(self, event: Any, node: Node) -> None:
        if not self._stack:
            self.root = node
            return
        top = self._stack[-1]
        if isinstance(top.items, list):
            top.items.append(node)
        elif top.key is None:
            top.key, top.key_line, top.key_column = str(node.value or ""), node.line, node.column
            if not isinstance(node.value, str):
                self._note(event, "an empty key; a key is one word")
            elif top.key in top.items:
                self._note(event, f"{speaking(top.key)} twice; remove one")
        else:
            line, column = top.key_line, top.key_column
            value = Node(None, line, column) if node.value is None else node
            top.items[top.key] = Entry(value, line, column)
            top.key = None

    def _note(self, event: Any, what: str) -> None:
        end = self._end(event, what)
        if len(self.problems) + 1 >= MAX_PROBLEMS:
            raise end
        self.problems.append(end.problem)

    def _end(self, event: Any, what: str) -> _Unreadable:
        mark = event.start_mark
        return _Unreadable(Problem(self.path, mark.line + 1, mark.column + 1, f"has {what}"))


def speaking(key: str) -> str:
    """Return `key` where it reads like a name; else it may be a value that slipped its place."""
    return key if _SPEAKING_KEY.fullmatch(key) else "a key that is no name"
