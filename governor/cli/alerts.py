"""`governor alerts`: what has fired."""

import json
from typing import Annotated, Final

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="See what has fired.")

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
