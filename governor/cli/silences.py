"""`governor silences`: alerts that nobody is told of for a while."""

import json
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile, pairs
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="Hold back alerts while governor runs.")

_COLUMNS: Final = {
    "id": "silence",
    "match": "alerts with",
    "until": "until (UTC)",
    "by": "by",
    "reason": "reason",
}


@app.command("list")
def list_silences(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the silences that people ordered; those of routing.yaml are in that file.

    For example:

      governor silences list
    """
    found = call(load(config).settings, "GET", "/v1/silences")
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(found, _COLUMNS, "nothing is silenced")


@app.command()
def add(
    match: Annotated[list[str], typer.Argument(help="fact=value, such as rule=customer-daily.")],
    span: Annotated[str, typer.Option("--for", help="For how long, such as 2h.")],
    reason: Annotated[str, typer.Option(help="Why; whoever wonders reads it.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Have nobody told of alerts with these facts for a while; all of them must hold.

    They are judged and act as ever, and whoever was told before is told of the end. For example:

      governor silences add rule=customer-daily customer=acme --for 2h --reason "load test"
    """
    fields = {"for": span, "reason": reason}
    for name, value in pairs(match, "fact=value, such as rule=customer-daily"):
        fields[f"match.{name}"] = value
    done = call(load(config).settings, "POST", f"/v1/silences?{urlencode(fields)}")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"silence {done['id']} holds until {done['until']}")


@app.command()
def end(
    silence: Annotated[str, typer.Argument(help="Its id, from `governor silences list`.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """End a silence now; what it held back and still lasts is told.

    For example:

      governor silences end 3fa1c09b
    """
    done = call(load(config).settings, "POST", f"/v1/silences/{quote(silence, safe='')}/end")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"silence {done['id']} has ended")
