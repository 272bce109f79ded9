"""`governor forecast`: where the weeks and months of rules are heading."""

import json
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

_COLUMNS: Final = {
    "rule": "rule",
    "group": "group",
    "period": "period",
    "so_far": "so far",
    "likely": "likely",
    "low": "at least (90%)",
    "high": "at most (90%)",
    "limit": "limit",
    "passes": "passes it",
    "exhausted": "likely on",
    "basis": "known by",
}
MAX_SHOWN: Final = 5
"""Groups of a rule that are shown, those most likely to pass their limit; JSON has all."""


def forecast(
    rule: Annotated[
        str | None, typer.Argument(help="A budget or forecast; all without it.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Show what weeks and months of budgets and forecasts will come to, and when limits are passed.

    Two weeks of a group's past are needed to be sure; before that it is a run-rate. For example:

      governor forecast

      governor forecast company-month --json | jq '.[0].amounts.likely'
    """
    path = "/v1/forecast" + (f"?{urlencode({'rule': rule})}" if rule else "")
    found = call(load(config).settings, "GET", path)
    if as_json:
        typer.echo(json.dumps(found))
        return
    shown = [row for rows in _by_rule(found).values() for row in rows[:MAX_SHOWN]]
    show(shown, _COLUMNS, "no rule has a week or a month with usage")
    if len(shown) < len(found):
        typer.echo(f"and {len(found) - len(shown):,} more groups; --json shows all")


def _by_rule(found: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each rule with how they are known, those at most risk first."""
    rules: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(found, key=lambda row: -row["amounts"]["above"]):
        basis = "its past" if row["sure"] else "run-rate only"
        rules.setdefault(row["rule"], []).append(row | {"basis": basis})
    return rules
