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


def annotations(problems: Sequence[Problem]) -> Iterator[str]:
    """Yield problems as GitHub Actions shows them beside the lines of a pull request."""
    for problem in problems:
        place = f"file={_property(str(problem.path))}"
        if problem.line:
            place += f",line={problem.line},col={problem.column}"
        message = problem.message.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")
        yield f"::error {place}::{message}"


def _property(text: str) -> str:
    for character, code in (("%", "%25"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
        text = text.replace(character, code)
    return text


def sarif(problems: Sequence[Problem]) -> dict[str, Any]:
    """Return problems as SARIF 2.1.0, which code scanners and editors read."""
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "governor", "rules": [{"id": "rule-file"}]}},
                "results": [
                    {
                        "ruleId": "rule-file",
                        "level": "error",
                        "message": {"text": problem.message},
                        "locations": [{"physicalLocation": _location(problem)}],
                    }
                    for problem in problems
                ],
            }
        ],
    }


def _location(problem: Problem) -> dict[str, Any]:
    place: dict[str, Any] = {"artifactLocation": {"uri": problem.path.as_posix()}}
    if problem.line:
        place["region"] = {"startLine": problem.line, "startColumn": problem.column}
    return place


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
