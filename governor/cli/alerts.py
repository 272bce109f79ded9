"""`governor alerts`: what has fired, and why."""

import json
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError
from governor.core.picture import Picture
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="See what has fired, and why.")

AlertId = Annotated[str, typer.Argument(help="Its id, from `governor alerts list`.")]

_COLUMNS: Final = {
    "id": "alert",
    "level": "level",
    "phase": "phase",
    "rule": "rule",
    "group": "group",
    "value": "value",
    "limit": "limit",
    "period": "period",
    "mode": "mode",
    "fired_at": "fired (UTC)",
    "seen": "seen",
}


@app.command("list")
def list_alerts(
    config: ConfigFile = None,
    as_json: AsJson = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are over, newest first.")
    ] = False,
) -> None:
    """List the alerts that are open, of rules in every mode; `shadow` ones told nobody.

    For example:

      governor alerts list

      governor alerts list --all

      governor alerts list --json | jq '.[] | select(.level == "critical")'
    """
    alerts = call(load(config).settings, "GET", "/v1/alerts")
    found = [alert for alert in alerts if everything or alert["phase"] != "resolved"]
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(found, _COLUMNS, "no alert is open" if not everything else "no alert has fired")


@app.command("show")
def show_alert(alert: AlertId, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Show one alert: how it came about, what drove it, who contributed, what happened since.

    For example:

      governor alerts show 7d1c9f0a2b3e
    """
    found = _call(config, "GET", alert)
    if as_json:
        typer.echo(json.dumps(found))
        return
    group = ", ".join(f"{name}={value or '(none)'}" for name, value in found["group"].items())
    named = f"{found['rule']}, {group}" if group else found["rule"]
    typer.echo(f"{named}: {found['level']}, {found['phase']}, {found['value']}")
    seen = [found["seen"]] if found["seen"] else []
    for line in (*seen, *found["why"], *found["history"]):
        typer.echo(f"  {line}")


@app.command()
def ack(
    alert: AlertId,
    span: Annotated[str, typer.Option("--for", help="How long it holds, such as 4h.")] = "1d",
    note: Annotated[str, typer.Option(help="What you are doing about it.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say that you have seen an alert: it is not repeated and not escalated while that holds.

    If it gets worse people are told all the same. For example:

      governor alerts ack 7d1c9f0a2b3e --note "looking into it"
    """
    _note(config, alert, "ack", {"for": span, "note": note}, as_json=as_json)


@app.command()
def snooze(
    alert: AlertId,
    span: Annotated[str, typer.Option("--for", help="For how long, such as 1h.")],
    note: Annotated[str, typer.Option(help="Why.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Hear no more of an alert for a while, unless it gets worse or is over.

    For example:

      governor alerts snooze 7d1c9f0a2b3e --for 4h
    """
    _note(config, alert, "snooze", {"for": span, "note": note}, as_json=as_json)


@app.command()
def unack(alert: AlertId, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Take back that an alert was acknowledged or snoozed.

    For example:

      governor alerts unack 7d1c9f0a2b3e
    """
    _note(config, alert, "unack", {}, as_json=as_json)


@app.command()
def chart(
    alert: AlertId,
    file: Annotated[Path, typer.Argument(help="A file *.png, *.svg, *.html or *.json.")],
    config: ConfigFile = None,
) -> None:
    """Draw an alert: what was used against what is usual, the shares, or the way to the limit.

    It needs `pip install 'governor[charts]'`. For example:

      governor alerts chart 7d1c9f0a2b3e spike.png
    """
    try:
        drawing = import_module("governor.pictures.alert")
    except ImportError as error:
        why = f"a chart needs {error.name}: pip install 'governor[charts]'"
        raise ConfigError(why) from None
    drawing.draw(msgspec.convert(_call(config, "GET", alert, "/picture"), Picture), file)
    typer.echo(f"{file} is written")


@app.command()
def forgive(
    alert: AlertId,
    reason: Annotated[str, typer.Option(help="Why it was not normal.")] = "",
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say that what a spike was about is not normal: it is not learned from.

    Without it a long burst becomes what is usual, and the next one is not told. For example:

      governor alerts forgive 7d1c9f0a2b3e --reason "a loop in a client"
    """
    done = _call(config, "POST", alert, f"/forgive?{urlencode({'reason': reason})}")
    if as_json:
        typer.echo(json.dumps(done))
    else:
        typer.echo(f"{done['rule']} learns nothing from {done['from']} to {done['until']}")


def _note(
    config: Path | None, alert: str, order: str, fields: dict[str, str], *, as_json: bool
) -> None:
    done = _call(config, "POST", alert, f"/{order}?{urlencode(fields)}")
    if as_json:
        typer.echo(json.dumps(done))
    elif order == "unack":
        typer.echo(f"{done['rule']} is told again as if nobody had seen it")
    else:
        what = {"ack": "acknowledged", "snooze": "snoozed"}[order]
        typer.echo(
            f"{done['rule']}, {done['level']}, is {what} by {done['by']} until {done['until']}"
        )


def _call(config: Path | None, method: str, alert: str, more: str = "") -> Any:
    path = f"/v1/alerts/{quote(alert, safe='')}{more}"
    return call(load(config).settings, method, path)
