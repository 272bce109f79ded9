"""`governor budgets`: a limit that is higher for a while."""

import json
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="Raise budgets for a while.")

_COLUMNS: Final = {
    "id": "raise",
    "rule": "rule",
    "by": "by",
    "until": "until (UTC)",
    "asked_by": "asked by",
    "approved_by": "approved by",
    "in_force": "in force",
    "reason": "reason",
}

RaiseId = Annotated[str, typer.Argument(help="Its id, from `governor budgets raises`.")]


@app.command("raises")
def list_raises(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the raises that are in force or wait for somebody.

    For example:

      governor budgets raises
    """
    found = call(load(config).settings, "GET", "/v1/raises")
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(
            [each | {"approved_by": ", ".join(each["approved_by"])} for each in found],
            _COLUMNS,
            "no budget is raised",
        )


@app.command("raise")
def raise_(
    rule: Annotated[str, typer.Argument(help="A rule of kind budget.")],
    by: Annotated[str, typer.Option(help="By how much, such as '500 USD'.")],
    until: Annotated[str, typer.Option(help="A time with its zone.")],
    reason: Annotated[str, typer.Option(help="Why; whoever approves it reads it.")],
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Raise a budget for a while; it applies to each of its groups.

    Above `people.two_above` of routing.yaml another person has to approve it. For example:

      governor budgets raise company-monthly --by "500 USD" --until 2026-12-01T00:00:00Z
      --reason "launch week"
    """
    fields = urlencode({"by": by, "until": until, "reason": reason})
    path = f"/v1/rules/{quote(rule, safe='')}/raise?{fields}"
    _said(call(load(config).settings, "POST", path), as_json=as_json)


@app.command()
def approve(raise_id: RaiseId, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """Approve a raise that somebody else asked for.

    For example:

      governor budgets approve 3fa1c09b
    """
    path = f"/v1/raises/{quote(raise_id, safe='')}/approve"
    _said(call(load(config).settings, "POST", path), as_json=as_json)


@app.command()
def end(raise_id: RaiseId, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """End a raise now, or refuse one that waits.

    For example:

      governor budgets end 3fa1c09b
    """
    path = f"/v1/raises/{quote(raise_id, safe='')}/end"
    _said(call(load(config).settings, "POST", path), as_json=as_json)


def _said(done: Any, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(done))
        return
    state = "is in force" if done["in_force"] else "is not in force"
    many = f"{len(done['approved_by'])} of {done['needs']}"
    typer.echo(f"{done['id']}: {done['rule']} by {done['by']} {state}, approved by {many}")
