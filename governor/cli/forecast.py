"""`governor forecast`: where the weeks and months of rules are heading."""

import json
from typing import Annotated, Final
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
}


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
    else:
        show(found, _COLUMNS, "no rule has a week or a month with usage")
