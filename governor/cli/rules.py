"""`governor rules`: what the rule files say, and what is wrong with them."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from governor.cli.backtest import backtest
from governor.cli.costs import costs
from governor.cli.explain import explain
from governor.cli.options import AsJson, ConfigFile
from governor.cli.problems import (
    EXIT_WRONG,
    annotations,
    count,
    problem_lines,
    problem_rows,
    sarif,
)
from governor.cli.rule_diff import diff
from governor.cli.rule_plan import plan
from governor.cli.rule_route import route
from governor.cli.rule_tests import run_tests
from governor.core.errors import ConfigError
from governor.rulebook import Checked
from governor.rulebook import check as check_files
from governor.rulebook.schema import schema as rule_schema
from governor.settings import load

app = typer.Typer(help="Check, test and replay the rules.", no_args_is_help=True)


@app.callback()
def _rules() -> None:
    """Check, test and replay the rules."""


app.command("test")(run_tests)
app.command()(backtest)
app.command()(diff)
app.command()(explain)
app.command()(route)
app.command()(plan)


@app.command()
def check(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders or files; default: rules.path.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
    style: Annotated[
        str, typer.Option("--format", help="text, json, github (annotations) or sarif.")
    ] = "text",
    cost: Annotated[
        bool, typer.Option("--cost", help="Ask the questions of query rules once, and time them.")
    ] = False,
) -> None:
    """Check rule files together and print every problem with its place. Exit 2 if there is one.

    For example:

      governor rules check

      governor rules check rules/free-tier.yaml

      governor rules check --json rules | jq '.problems[].message'

      governor rules check --format sarif > rules.sarif

      governor rules check --cost
    """
    checked = check_files(paths or [load(config).settings.rules.path])
    styles: Mapping[str, Callable[[Checked], str]] = {
        "text": lambda found: "\n".join(_lines(found)),
        "json": lambda found: json.dumps(_document(found)),
        "github": lambda found: "\n".join(annotations(found.problems)),
        "sarif": lambda found: json.dumps(sarif(found.problems), indent=1),
    }
    if style not in styles:
        raise ConfigError(f"--format {style}: write {', '.join(styles)}")
    typer.echo(styles["json" if as_json else style](checked))
    if cost and not checked.problems and style == "text" and not as_json:
        rules = [rule for file in checked.files for rule in file.rules]
        for line in costs(load(config).settings.store.path, rules):
            typer.echo(line)
    raise typer.Exit(EXIT_WRONG if checked.problems else 0)


@app.command()
def schema() -> None:
    """Print the JSON Schema of rule files, for editors.

    For example:

      governor rules schema > rules.schema.json

      # and as the first line of a rule file:
      # yaml-language-server: $schema=../rules.schema.json
    """
    typer.echo(json.dumps(rule_schema(), indent=1))


def _document(checked: Checked) -> dict[str, Any]:
    return {
        "ok": not checked.problems,
        "files": [
            {"path": str(file.path), "rules": [name for name, _, _ in file.ids]}
            for file in checked.files
        ],
        "routing": str(checked.routing.path) if checked.routing else None,
        "problems": problem_rows(checked.problems),
    }


def _lines(checked: Checked) -> Iterator[str]:
    raw = {file.path: file.raw for file in checked.files}
    if checked.routing is not None:
        raw[checked.routing.path] = checked.routing.raw
    yield from problem_lines(checked.problems, raw)
    if checked.routing is not None:
        wrong = len(checked.routing.problems)
        yield f"{checked.routing.path}: routing, {count(wrong, 'problem') if wrong else 'ok'}"
    for file in checked.files:
        wrong = sum(problem.path == file.path for problem in checked.problems)
        outcome = count(wrong, "problem") if wrong else "ok"
        yield f"{file.path}: {count(len(file.ids), 'rule')}, {outcome}"
