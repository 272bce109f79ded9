"""`governor config`: which settings are in force, and where each comes from."""

import json
from pathlib import Path
from typing import Annotated

import typer

from governor.settings import Row, listing, load, reference

app = typer.Typer(
    help="Show the settings in force, and the reference of all settings.", no_args_is_help=True
)

_CONFIG_HELP = "Settings file; else GOVERNOR_CONFIG, else governor.yaml if it is there."


@app.command()
def show(
    config: Annotated[Path | None, typer.Option(help=_CONFIG_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")] = False,
) -> None:
    """Print every setting in force with its value and its origin; no secret is shown.

    Ends with code 2 and the reasons where the settings cannot be used, so it is also a check.

    For example:

      governor config show

      governor config show --config deploy/governor.yaml

      governor config show --json | jq '."kafka.group_id".origin'
    """
    loaded = load(config)
    rows = listing(loaded.settings, loaded.origins)
    typer.echo(_document(rows) if as_json else _columns(rows))


@app.command("reference")
def show_reference() -> None:
    """Print the reference of all settings as Markdown.

    For example:

      governor config reference > docs/reference/settings.md
    """
    typer.echo(reference(), nl=False)


def _document(rows: list[Row]) -> str:
    settings = {row.name: {"value": row.value, "origin": row.origin} for row in rows}
    return json.dumps(settings, indent=2)


def _columns(rows: list[Row]) -> str:
    cells = [("SETTING", "VALUE", "ORIGIN"), *((row.name, _text(row), row.origin) for row in rows)]
    names, values = (max(len(row[column]) for row in cells) for column in (0, 1))
    return "\n".join(f"{name:{names}}  {value:{values}}  {origin}" for name, value, origin in cells)


def _text(row: Row) -> str:
    if row.value is None:
        return "-"
    if isinstance(row.value, bool):
        return str(row.value).lower()
    return ",".join(row.value) if isinstance(row.value, list) else str(row.value)
