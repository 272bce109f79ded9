"""Mappings of a rule file, read key by key: what is wrong is reported with its place.

Where something is wrong a stand-in takes its place and reading goes on, so that one look finds
all; what was read is then used by no one.
"""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias, TypeVar

from governor.documents import Entry, Node, Problem

MAX_SHOWN_CHARACTERS: Final = 60
MAX_ITEMS: Final = 100
MIN_PREFIX: Final = 3
MIN_LIKENESS: Final = 0.66

T = TypeVar("T")
Read: TypeAlias = Callable[[str], T]
"""Turns a text into a value; raises ValueError that says what to write instead."""

_NO_ENTRIES: Final[Mapping[str, Entry]] = MappingProxyType({})
_NUMBER: Final = re.compile(r"-?[0-9][0-9.]{0,20}", re.ASCII)


@dataclass(slots=True)
class Report:
    """The problems of one file."""

    path: Path
    problems: list[Problem] = field(default_factory=list)

    def add(self, at: Node | Entry, message: str) -> None:
        """Note what is wrong at the place of a value or a key."""
        self.problems.append(Problem(self.path, at.line, at.column, message))

    def read(self, key: str, node: Node, read: Read[T], otherwise: T) -> T:
        """Return what the text at `node` stands for, or `otherwise`."""
        if not isinstance(node.value, str):
            what = "has no value" if node.value is None else "must be one value"
            self.add(node, f"{key} {what}")
            return otherwise
        try:
            return read(node.value)
        except ValueError as error:
            self.add(node, f"{key}={shown(node.value)}: {error}")
            return otherwise

    def items(self, key: str, node: Node) -> list[Node]:
        """Return the values of a list, or the one value that stands alone; at least one."""
        items = node.value if isinstance(node.value, list) else [node]
        if not items:
            self.add(node, f"{key} is an empty list; name something, or remove it")
        elif len(items) > MAX_ITEMS:
            self.add(node, f"{key} has more than {MAX_ITEMS} items")
        return items[:MAX_ITEMS]


class Section:
    """A mapping with the `keys` that it may have; `defaults` are entries it has unless its own."""

    def __init__(
        self,
        name: str,
        node: Node,
        keys: Collection[str],
        report: Report,
        defaults: Mapping[str, Entry] = _NO_ENTRIES,
    ) -> None:
        self.name = name
        self.node = node
        self.report = report
        self.entries: Mapping[str, Entry] = {}
        self.known = frozenset(keys)
        self._forgiven: set[str] = set()
        if not isinstance(node.value, dict):
            report.add(node, f"{name} must be a mapping of {listed(keys)}")
            self._forgiven.update(keys)
            return
        self.entries = {**defaults, **node.value}
        for key, entry in node.value.items():
            if key not in keys:
                close = closest(key, keys)
                self._forgiven.update([close] if close else [])
                advice = suggestion(key, keys) or f"; {name} may have {listed(keys)}"
                report.add(entry, f"unknown key {shown(key)}{advice}")

    def take(self, key: str, read: Read[T], otherwise: T, needed: str | None = None) -> T:
        """Return the value of `key`; `otherwise` where it is wrong or not there.

        `needed` is an example of a key that has to be there.
        """
        entry = self.entries.get(key)
        if entry is not None:
            return self.report.read(key, entry.node, read, otherwise)
        if needed is not None:
            self.needs(key, needed)
        return otherwise

    def written(self, key: str) -> str:
        """Return the text at `key` as it is written; empty where there is none."""
        entry = self.entries.get(key)
        return entry.node.value if entry and isinstance(entry.node.value, str) else ""

    def needs(self, key: str, such_as: str) -> None:
        """Report that a key is missing, unless a misspelled one stands for it."""
        if key not in self._forgiven:
            self.report.add(self.node, f"{self.name} needs {key}, such as {such_as}")

    def lacks(self, key: str) -> bool:
        """Return whether a key is missing, and no misspelled one stands for it."""
        return key not in self.entries and key not in self._forgiven


def choice(options: Mapping[str, T]) -> Read[T]:
    """Return a reader of one word of `options`."""

    def read(text: str) -> T:
        if text not in options:
            raise ValueError(f"must be {listed(options)}{suggestion(text, options)}")
        return options[text]

    return read


def listed(words: Iterable[str]) -> str:
    """Return `a, b or c`, `nothing` where there is none."""
    words = list(words) or ["nothing"]
    *most, last = words
    return f"{', '.join(most)} or {last}" if most else last


def shown(text: str) -> str:
    """Return a text as a message shows it: a number bare, else in quotes, cut where long."""
    if _NUMBER.fullmatch(text):
        return text
    return repr(text[:MAX_SHOWN_CHARACTERS] + ("..." if len(text) > MAX_SHOWN_CHARACTERS else ""))


def suggestion(word: str, known: Iterable[str]) -> str:
    """Return ` (did you mean ...?)` with the known word most like `word`, or nothing."""
    close = closest(word, known)
    return f" (did you mean {close!r}?)" if close else ""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that `word` begins, or that is written much like it."""
    folded = {name.casefold(): name for name in known}
    written = word.casefold()[:MAX_SHOWN_CHARACTERS]
    begun = [name for name in folded if len(written) >= MIN_PREFIX and name.startswith(written)]
    close = (
        begun if len(begun) == 1 else get_close_matches(written, folded, n=1, cutoff=MIN_LIKENESS)
    )
    return folded[close[0]] if close else None
