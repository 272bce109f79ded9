"""`governor rules diff`: what a change of rules means, for those who must approve it."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from governor.cli.options import AsJson
from governor.cli.problems import count
from governor.core.allowing import Allow
from governor.core.errors import ConfigError
from governor.core.routing import Routing
from governor.core.rules.shared import Rule
from governor.rulebook import Checked, check
from governor.rulebook.compare import Sense, compare, compare_allows, compare_routing

EXIT_FOUND: Final = 1


def diff(
    before: Annotated[Path, typer.Argument(help="Rules as they were: a folder or a file.")],
    after: Annotated[Path, typer.Argument(help="Rules as they are to be.")],
    fail_on: Annotated[
        str | None, typer.Option(help="Exit 1 on changes of these senses, with commas between.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare two rulebooks by what they mean: loosened, tightened, newly enforced.

    Senses are new, gone, enforced, tightened, loosened, other_usage, timing, routed, words.

    For example:

      governor rules diff main/rules rules

      governor rules diff main/rules rules --fail-on enforced,loosened
    """
    senses = [word.strip() for word in (fail_on or "").split(",") if word.strip()]
    for word in senses:
        if word not in {sense.value for sense in Sense}:
            known = ", ".join(sense.value for sense in Sense)
            raise ConfigError(f"--fail-on {word}: the senses are {known}")
    old, new = _checked(before), _checked(after)
    changes = [
        *compare(_rules(old), _rules(new)),
        *compare_allows(_allows(old), _allows(new)),
        *compare_routing(_routing(old), _routing(new)),
    ]
    if as_json:
        typer.echo(json.dumps([asdict(change) for change in changes]))
    else:
        for change in changes:
            typer.echo(f"{change.sense:12} {change.rule}: {change.text}")
        typer.echo(count(len(changes), "change") if changes else "no change of meaning")
    found = any(change.sense.value in senses for change in changes)
    raise typer.Exit(EXIT_FOUND if found else 0)


def _allows(checked: Checked) -> list[Allow]:
    return [allow for file in checked.files for allow in file.allows]


def _checked(path: Path) -> Checked:
    checked = check([path])
    if checked.problems:
        raise ConfigError("\n".join(str(problem) for problem in checked.problems))
    return checked


def _routing(checked: Checked) -> Routing:
    return checked.routing.routing if checked.routing else Routing()


def _rules(checked: Checked) -> list[Rule]:
    return [rule for file in checked.files for rule in file.rules]
