"""`governor rules plan`: a burst that is planned is no spike."""

import json
from typing import Annotated
from urllib.parse import quote, urlencode

import typer

from governor.cli.control import call
from governor.cli.options import AsJson, ConfigFile, pairs
from governor.settings import load


def plan(
    rule: Annotated[str, typer.Argument(help="A rule of kind spike.")],
    starts: Annotated[str, typer.Option("--from", help="A time with its zone.")],
    ends: Annotated[str, typer.Option("--until", help="Likewise.")],
    group: Annotated[
        list[str] | None, typer.Option(help="dimension=value; all groups without it.")
    ] = None,
    reason: Annotated[str, typer.Option(help="What is planned.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Have a spike rule not tell of a planned burst, nor learn from it.

    For example:

      governor rules plan feature-spike --group feature=chat --from 2026-12-01T08:00:00Z
      --until 2026-12-02T00:00:00Z --reason "launch of the new assistant"
    """
    fields = {"from": starts, "until": ends, "reason": reason}
    such_as = "dimension=value, such as feature=chat"
    for name, value in pairs(group, such_as, option="--group", empty=True):
        fields[f"group.{name}"] = value
    path = f"/v1/rules/{quote(rule, safe='')}/plan?{urlencode(fields)}"
    done = call(load(config).settings, "POST", path)
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"{done['rule']} tells nothing of {done['from']} to {done['until']}")
