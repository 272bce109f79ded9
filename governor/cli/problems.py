"""Problems of files as people and scripts read them: place, message, the line, and a caret."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from governor.documents import LINE_BREAK, Problem

EXIT_WRONG: Final = 2
MAX_LINE_CHARACTERS: Final = 100


def problem_rows(problems: Sequence[Problem]) -> list[dict[str, Any]]:
    """Return problems as rows of JSON."""
    return [
        {
            "path": str(problem.path),
            "line": problem.line,
            "column": problem.column,
            "message": problem.message,
        }
        for problem in problems
    ]


def problem_lines(problems: Sequence[Problem], raw: Mapping[Path, bytes]) -> Iterator[str]:
    """Yield each problem with its line; `raw` holds what is in the files."""
    sources = {path: _source(text) for path, text in raw.items()}
    for problem in problems:
        yield str(problem)
        yield from _quoted(problem, sources.get(problem.path, []))


def _source(raw: bytes) -> list[str]:
    return LINE_BREAK.split(raw.decode("utf-8-sig", "replace"))


def _quoted(problem: Problem, source: list[str]) -> Iterator[str]:
    """Yield the line of a problem and a caret below its column; long lines are cut around it."""
    if not 0 < problem.line <= len(source):
        return
    line, column = source[problem.line - 1], problem.column - 1
    start = max(0, column - MAX_LINE_CHARACTERS // 2)
    part = line[start : start + MAX_LINE_CHARACTERS]
    yield "    " + "".join(letter if letter.isprintable() else " " for letter in part)
    yield "    " + " " * (column - start) + "^"


def count(number: int, noun: str) -> str:
    """Return `1 rule` or `2 rules`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
