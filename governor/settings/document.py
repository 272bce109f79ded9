"""The settings file: bounded YAML 1.2 to nested texts, each with the line and column of its key.

It is built from parser events without recursion. A scalar stays the text that is written, and
what a value says never enters a message: a secret may stand anywhere in the file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml import events as yaml
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.reader import ReaderError

from governor.core.errors import ConfigError

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 32

_NULLS: Final = frozenset({"", "~", "null", "Null", "NULL"})
_SPEAKING_KEY: Final = re.compile(r"[\w.-]{1,60}")
_QUOTED: Final = re.compile(r"(['\"])(?!<)[^\s'\"]{3,}\1")


class Entry(NamedTuple):
    """A value and the place of its key; lines and columns count from 1."""

    value: "Node"
    line: int
    column: int


Node: TypeAlias = str | list["Node"] | dict[str, Entry] | None


def read_document(path: Path) -> dict[str, Entry]:
    """Return the mapping in the file at `path`; an empty file is an empty mapping.

    Raise ConfigError, `path:line:column: why`, where the file is no such document.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    if len(raw) > MAX_BYTES:
        raise ConfigError(f"{path}:1:1: is larger than 1 MB, the most a settings file may be")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(raw[: error.start].decode("utf-8-sig"))
    else:
        return _build(path, text)
    raise ConfigError(f"{path}:{place}: is not UTF-8 text")


def _build(path: Path, text: str) -> dict[str, Entry]:
    builder = _Builder(path)
    for event in _events(path, text):
        builder.take(event)
    if builder.root is None:
        return {}
    if not isinstance(builder.root, dict):
        raise ConfigError(f"{path}:1:1: must be a mapping of settings, such as 'kafka:'")
    return builder.root


def _events(path: Path, text: str) -> Iterator[Any]:
    """Yield parser events; no parser error leaves here, for its text and its traceback quote."""
    found = ""
    events = iter(YAML(typ="safe", pure=True).parse(text))
    while not found:
        try:
            event = next(events, None)
        except ReaderError as error:
            found = f"{_place(text[: error.position])}: holds a control character"
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"
            found = f"{place}: is not YAML: {_QUOTED.sub('this', error.problem or 'bad syntax')}"
        except YAMLError:
            found = "1:1: is not YAML"
        else:
            if event is None:
                return
            yield event
    raise ConfigError(f"{path}:{found}")


def _place(before: str) -> str:
    return f"{before.count(chr(10)) + 1}:{len(before) - (before.rfind(chr(10)) + 1) + 1}"


@dataclass(slots=True)
class _Frame:
    """A collection being filled; `key` is the mapping key that waits for its value."""

    items: list[Node] | dict[str, Entry]
    key: str | None = None
    line: int = 0
    column: int = 0


class _Builder:
    """Fills nested collections from events, and refuses what a settings file has no use for."""

    def __init__(self, path: Path) -> None:
        self.root: Node = None
        self._path = path
        self._stack: list[_Frame] = []
        self._documents = 0

    def take(self, event: Any) -> None:
        """Take the next event in the order of the file."""
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                self._refuse(event, self._documents > 1, "a second document; one is the limit")
                self._refuse(event, bool(event.version or event.tags), "a directive; remove it")
            case yaml.AliasEvent():
                self._refuse(event, True, "an alias (*); write the value out")  # noqa: FBT003
            case yaml.ScalarEvent():
                self._check(event)
                plain = event.implicit[0]
                null = plain and event.value in _NULLS
                self._add(event, None if null else event.value)
            case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                self._check(event)
                self._refuse(event, self._wants_key, "a collection as a key; a key is one word")
                deep = len(self._stack) >= MAX_DEPTH
                self._refuse(event, deep, f"nesting deeper than {MAX_DEPTH} levels")
                mapping = isinstance(event, yaml.MappingStartEvent)
                self._stack.append(_Frame({} if mapping else []))
            case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                self._add(event, self._stack.pop().items)

    @property
    def _wants_key(self) -> bool:
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.items, dict) and top.key is None

    def _check(self, event: Any) -> None:
        self._refuse(event, event.anchor is not None, "an anchor (&); write the value out")
        self._refuse(event, event.ctag is not None, "a tag (!); put the value in quotes")

    def _add(self, event: Any, value: Node) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if isinstance(top.items, list):
            top.items.append(value)
        elif top.key is None:
            self._refuse(event, not isinstance(value, str), "an empty key; a key is one word")
            top.key = str(value)
            top.line, top.column = event.start_mark.line + 1, event.start_mark.column + 1
            self._refuse(event, top.key in top.items, f"{speaking(top.key)} twice; remove one")
        else:
            top.items[top.key] = Entry(value, top.line, top.column)
            top.key = None

    def _refuse(self, event: Any, condition: bool, what: str) -> None:  # noqa: FBT001
        if condition:
            mark = event.start_mark
            raise ConfigError(f"{self._path}:{mark.line + 1}:{mark.column + 1}: has {what}")


def speaking(key: str) -> str:
    """Return `key` where it reads like a name; else it may be a value that slipped its place."""
    return key if _SPEAKING_KEY.fullmatch(key) else "a key that is no name"
