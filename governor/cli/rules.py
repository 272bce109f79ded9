"""`governor rules`: what the rule files say, and what is wrong with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from governor.cli.options import AsJson, ConfigFile
from governor.documents import LINE_BREAK, Problem
from governor.rulebook import Checked, RuleFile
from governor.rulebook import check as check_files
from governor.settings import load

EXIT_WRONG: Final = 2
MAX_LINE_CHARACTERS: Final = 100
app = typer.Typer(help="Check the rule files.", no_args_is_help=True)


@app.callback()
def _rules() -> None:
    """Check the rule files."""


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders or files; default: rules.path.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Check rule files together and print every problem with its place. Exit 2 if there is one.

    For example:

      governor rules check

      governor rules check rules/free-tier.yaml

      governor rules check --json rules | jq '.problems[].message'
    """
    checked = check_files(paths or [load(config).settings.rules.path])
    typer.echo(json.dumps(_document(checked)) if as_json else "\n".join(_lines(checked)))
    raise typer.Exit(EXIT_WRONG if checked.problems else 0)


def _document(checked: Checked) -> dict[str, Any]:
    return {
        "ok": not checked.problems,
        "files": [
            {"path": str(file.path), "rules": [name for name, _, _ in file.ids]}
            for file in checked.files
        ],
        "problems": [
            {
                "path": str(problem.path),
                "line": problem.line,
                "column": problem.column,
                "message": problem.message,
            }
            for problem in checked.problems
        ],
    }


def _lines(checked: Checked) -> Iterator[str]:
    sources = {file.path: _source(file) for file in checked.files}
    for problem in checked.problems:
        yield str(problem)
        yield from _quoted(problem, sources.get(problem.path, []))
    for file in checked.files:
        wrong = sum(problem.path == file.path for problem in checked.problems)
        outcome = _count(wrong, "problem") if wrong else "ok"
        yield f"{file.path}: {_count(len(file.ids), 'rule')}, {outcome}"


def _source(file: RuleFile) -> list[str]:
    return LINE_BREAK.split(file.raw.decode("utf-8-sig", "replace"))


def _quoted(problem: Problem, source: list[str]) -> Iterator[str]:
    """Yield the line of a problem and a caret below its column; long lines are cut around it."""
    if not 0 < problem.line <= len(source):
        return
    line, column = source[problem.line - 1], problem.column - 1
    start = max(0, column - MAX_LINE_CHARACTERS // 2)
    part = line[start : start + MAX_LINE_CHARACTERS]
    yield "    " + "".join(letter if letter.isprintable() else " " for letter in part)
    yield "    " + " " * (column - start) + "^"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
