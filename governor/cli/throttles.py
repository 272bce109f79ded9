"""`governor throttles`: who is slowed, downgraded, blocked or let through, and how to change it."""

import json
from typing import Annotated, Final
from urllib.parse import quote, urlencode

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile, pairs
from governor.core.errors import ConfigError
from governor.settings import load

app: Final = typer.Typer(
    no_args_is_help=True, help="See, end and approve throttles, downgrades and blocks."
)

_COLUMNS: Final = {
    "id": "throttle",
    "state": "state",
    "scope": "who",
    "does": "does",
    "reason": "reason",
    "until": "until (UTC)",
    "version": "version",
}


@app.command("list")
def list_throttles(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List throttles, downgrades and blocks that are not over, released and waiting ones too.

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


@app.command()
def approve(
    throttle: Annotated[
        str | None, typer.Argument(help="Its id, from `governor throttles list`.")
    ] = None,
    rule: Annotated[str | None, typer.Option(help="All that wait of this rule.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let begin what waits: for `approval: manual`, or beyond `max_affected`.

    For example:

      governor throttles approve 7d1c9f0a2b3e-block

      governor throttles approve --rule customer-daily
    """
    if (throttle is None) == (rule is None):
        raise ConfigError("name one throttle, or a rule by --rule")
    kind, name = ("rules", rule) if rule else ("throttles", throttle)
    path = f"/v1/{kind}/{quote(name or '', safe='')}/approve"
    done = call(load(config).settings, "POST", path)
    if as_json:
        typer.echo(json.dumps(done))
        return
    rows = done if rule else [done]
    for row in rows:
        typer.echo(f"{row['id']} begins (version {row['version']}): {row['does']}")
    if not rows:
        typer.echo(f"nothing of {rule} waits for approval")


@app.command()
def allow(
    who: Annotated[list[str], typer.Argument(help="dimension=value, such as customer=acme.")],
    reason: Annotated[str, typer.Option(help="Why; whoever wonders reads it.")],
    span: Annotated[str, typer.Option("--for", help="For how long, such as 4h.")] = "1d",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let requests with these dimensions through, whatever rules say; all of them must hold.

    End it with `governor throttles release ID`. For example:

      governor throttles allow customer=acme --for 4h --reason "launch day"
    """
    fields = {"for": span, "reason": reason}
    for name, value in pairs(who, "dimension=value, such as customer=acme"):
        fields[f"where.{name}"] = value
    done = call(load(config).settings, "POST", f"/v1/allow?{urlencode(fields)}")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"{done['id']} holds until {done['until']}")
