"""`governor throttles`: who is slowed down, and how to end it."""

import json
from typing import Annotated, Final
from urllib.parse import quote

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="See and end throttles.")

_COLUMNS: Final = {
    "id": "throttle",
    "effect": "effect",
    "scope": "who",
    "rate": "rate",
    "each": "for each",
    "reason": "reason",
    "until": "until (UTC)",
    "version": "version",
}


@app.command("list")
def list_throttles(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the throttles of periods that are not over, released ones too.

    For example:

      governor throttles list

      governor throttles list --json | jq '.[].id'
    """
    throttles = call(load(config).settings, "GET", "/v1/throttles")
    if as_json:
        typer.echo(json.dumps(throttles))
    else:
        show(throttles, _COLUMNS, "nobody is throttled")


@app.command()
def release(
    throttle: Annotated[str, typer.Argument(help="Its id, from `governor throttles list`.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End a throttle now; its rule does not start it again before the period ends.

    Who did it is kept in the table `audit`. For example:

      governor throttles release 7d1c9f0a2b3e-slow
    """
    done = call(load(config).settings, "POST", f"/v1/throttles/{quote(throttle, safe='')}/release")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"{done['id']} is released (version {done['version']}), until {done['until']}")
