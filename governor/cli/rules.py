"""`governor rules`: what the rule files say, and what is wrong with them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from governor.cli.options import AsJson, ConfigFile
from governor.cli.problems import EXIT_WRONG, count, problem_lines, problem_rows
from governor.rulebook import Checked
from governor.rulebook import check as check_files
from governor.settings import load

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
        "problems": problem_rows(checked.problems),
    }


def _lines(checked: Checked) -> Iterator[str]:
    yield from problem_lines(checked.problems, {file.path: file.raw for file in checked.files})
    for file in checked.files:
        wrong = sum(problem.path == file.path for problem in checked.problems)
        outcome = count(wrong, "problem") if wrong else "ok"
        yield f"{file.path}: {count(len(file.ids), 'rule')}, {outcome}"
