"""`governor rules test`: the tests beside the rules, and what differs from them."""

import json
import re
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final
from xml.etree import ElementTree as ET

import typer

from governor.adapters.duckdb.scratch import Scratch
from governor.cli.options import AsJson, ConfigFile
from governor.cli.problems import EXIT_WRONG, count, problem_lines, problem_rows
from governor.core.errors import ConfigError
from governor.core.routing import Routing
from governor.core.rules.shared import Rule
from governor.documents import Problem
from governor.documents.sections import suggestion
from governor.rehearsal.testfile import TestFile, find_tests, read_tests
from governor.rehearsal.trial import Outcome, carry_out
from governor.rulebook import check as check_files
from governor.rulebook.files import ROUTING
from governor.settings import load

EXIT_FAILED: Final = 1


def run_tests(
    paths: Annotated[
        list[Path] | None, typer.Argument(help="Folders or *.test.yaml; default: rules.path.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="Only tests whose name this finds.")] = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Show all that happened, not only what differs.")
    ] = False,
    junit: Annotated[Path | None, typer.Option(help="Write a JUnit report, too.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Run the tests beside the rules: usage in, all that comes of it out.

    Exit 1 where a test fails, 2 where a file is wrong or there is no test.

    For example:

      governor rules test

      governor rules test rules/free-tier.test.yaml --run midnight --diff

      governor rules test --junit report.xml
    """
    files = [read_tests(path) for path in find_tests(paths or [load(config).settings.rules.path])]
    problems, rules = _read(files)
    if problems:
        _refuse(problems, files, as_json=as_json)
    results = [
        (file, outcome, seconds)
        for file in files
        for outcome, seconds in _outcomes(file, rules[file.path], _routing(file), run)
    ]
    if not results:
        raise ConfigError("there is no such test; tests stand in *.test.yaml beside the rules")
    if junit:
        _write_junit(junit, results)
    if as_json:
        typer.echo(json.dumps([_row(*result) for result in results]))
    else:
        for line in _lines(results, whole=diff):
            typer.echo(line)
    raise typer.Exit(0 if all(outcome.passed for _, outcome, _ in results) else EXIT_FAILED)


def _read(files: Sequence[TestFile]) -> tuple[list[Problem], dict[Path, list[Rule]]]:
    problems = [problem for file in files for problem in file.problems]
    rules: dict[Path, list[Rule]] = {}
    for file in files:
        checked = check_files(list(file.rules))
        problems += checked.problems
        rules[file.path] = [rule for each in checked.files for rule in each.rules]
        problems += _unknown(file, {name for each in checked.files for name, _, _ in each.ids})
    return sorted(set(problems)), rules


def _unknown(file: TestFile, ids: Collection[str]) -> list[Problem]:
    """Return a problem for each test that is about a rule that is not there."""
    return [
        Problem(file.path, test.line, 1, f"only={name!r}: no such rule{suggestion(name, ids)}")
        for test in file.tests
        for name in test.only
        if name not in ids
    ]


def _refuse(problems: list[Problem], files: Sequence[TestFile], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"problems": problem_rows(problems)}))
    else:
        for line in problem_lines(problems, {file.path: file.raw for file in files}):
            typer.echo(line)
    raise typer.Exit(EXIT_WRONG)


def _routing(file: TestFile) -> Routing | None:
    """Return who is told by the `routing.yaml` beside a file of tests; it is right or not there."""
    beside = file.path.parent / ROUTING
    if not beside.exists():
        return None
    checked = check_files([file.path.parent])
    if checked.routing is None or checked.routing.problems:
        raise ConfigError(f"{beside} is wrong; see governor rules check {file.path.parent}")
    return checked.routing.routing


def _outcomes(
    file: TestFile, rules: Sequence[Rule], routing: Routing | None, run: str | None
) -> Iterator[tuple[Outcome, float]]:
    for each in file.tests:
        if run is None or re.search(run, each.name):
            began = time.perf_counter()
            yield carry_out(each, rules, Scratch, routing), time.perf_counter() - began


def _row(file: TestFile, outcome: Outcome, seconds: float) -> dict[str, Any]:
    return {
        "file": str(file.path),
        "test": outcome.test.name,
        "passed": outcome.passed,
        "seconds": round(seconds, 4),
        "differences": [asdict(difference) for difference in outcome.differences],
        "happened": outcome.happened,
    }


def _lines(results: Sequence[tuple[TestFile, Outcome, float]], *, whole: bool) -> Iterator[str]:
    shown: Path | None = None
    for file, outcome, seconds in results:
        if file.path != shown:
            yield str(file.path)
            shown = file.path
        verdict = "ok  " if outcome.passed else "FAIL"
        yield f"  {verdict}  {outcome.test.name} ({1_000 * seconds:.0f} ms)"
        for kind, happened in outcome.happened.items():
            differing = [d for d in outcome.differences if d.kind == kind]
            extra = [d.extra for d in differing if d.extra is not None]
            if whole or differing:
                yield f"      {kind}:"
            for text in happened if whole else extra:
                yield f"        {'+' if text in extra else ' '} {text}"
            for missing in (d for d in differing if d.missing is not None):
                yield f"        - {missing.missing}   ({file.path}:{missing.line})"
    failed = sum(not outcome.passed for _, outcome, _ in results)
    yield f"{count(len(results), 'test')}, {f'{failed} failed' if failed else 'all passed'}"
    if failed:
        yield "- was to happen and did not; + happened and was not to"


def _write_junit(path: Path, results: Sequence[tuple[TestFile, Outcome, float]]) -> None:
    failed = sum(not outcome.passed for _, outcome, _ in results)
    suite = ET.Element(
        "testsuite", name="governor rules", tests=str(len(results)), failures=str(failed)
    )
    for file, outcome, seconds in results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=str(file.path),
            name=outcome.test.name,
            time=f"{seconds:.4f}",
        )
        if not outcome.passed:
            text = "\n".join(f"{d.kind}: {d}" for d in outcome.differences)
            ET.SubElement(case, "failure", message="other things happened").text = text
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)
