"""`governor enforce`: the switch for all enforcement, and how it stands."""

import json
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from governor.cli.control import call
from governor.cli.options import AsJson, ConfigFile
from governor.cli.problems import count
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="Switch all enforcement off and on.")


@app.command()
def off(
    reason: Annotated[str, typer.Option(help="Why; whoever wonders reads it.")],
    span: Annotated[
        str | None, typer.Option("--for", help="For how long, such as 2h; default: until on.")
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Have every gate allow everything, within a second; rules go on judging and telling.

    It holds over restarts of daemon and gates. For example:

      governor enforce off --reason "checking a complaint"

      governor enforce off --for 2h --reason "migration"
    """
    fields = {"reason": reason} | ({"for": span} if span else {})
    done = call(load(config).settings, "POST", f"/v1/enforcement/off?{urlencode(fields)}")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        ends = f" until {done['until']}" if span else ""
        typer.echo(f"enforcement is off{ends}; `governor enforce on` ends that")


@app.command()
def on(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Have gates obey again what rules ask for now.

    For example:

      governor enforce on
    """
    done = call(load(config).settings, "POST", "/v1/enforcement/on")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo("enforcement is on")


@app.command()
def status(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show whether enforcement is on, whom it touches, how late it is, and what that cost.

    For example:

      governor enforce status

      governor enforce status --json | jq .overshoot
    """
    found = call(load(config).settings, "GET", "/v1/enforcement")
    if as_json:
        typer.echo(json.dumps(found))
        return
    for line in _lines(found):
        typer.echo(line)


def _lines(found: dict[str, Any]) -> list[str]:
    switch = found["off"]
    lines = [f"enforcement is {found['enforcement']}"]
    if switch:
        lines[0] += f" until {switch['until']}: {switch['reason']}"
    if found["stale"]:
        lines.append("usage is stored too late: nothing new begins (directives.stale_after)")
    counts = ("acting", "waiting", "shadow", "allowed")
    lines.append(", ".join(f"{found[name]:,} {name}" for name in counts))
    for name, parts in found["delays"].items():
        said = ", ".join(
            f"{part} {'?' if value is None else format(value, '.2f')} s"
            for part, value in parts.items()
        )
        lines.append(f"{name.removesuffix('_s').replace('_', ' ')}: {said}")
    lines += [
        f"{row['rule']}: {row['past_usd']} USD past its threshold, {count(row['groups'], 'group')},"
        f" the worst {row['worst_usd']} USD"
        for row in found["overshoot"]
    ]
    return lines
