"""`governor status`: what the running daemon says of itself."""

import json
import urllib.error
import urllib.request
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import TransientError
from governor.settings import load

TIMEOUT_S: Final = 5
PIPED_WIDTH: Final = 160
_COLUMNS: Final = (
    "topic",
    "partition",
    "next_offset",
    "lag_records",
    "events",
    "counted",
    "duplicates",
    "rejected",
    "late",
    "unpriced",
)


def status(
    config: ConfigFile = None,
    as_json: AsJson = False,
    url: Annotated[
        str | None, typer.Option(help="Where it listens; default: http.host and http.port.")
    ] = None,
) -> None:
    """Show how far the running daemon is, partition by partition. Exit 1 while it is not ready.

    For example:

      governor status

      governor status --json | jq .totals
    """
    http = load(config).settings.http
    found = _fetch(url or f"http://{http.host}:{http.port}")
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _show(found)
    raise typer.Exit(0 if found["ready"] else 1)


def _fetch(base: str) -> Any:
    if not base.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{base!r} must start with http:// or https://")
    try:
        with urllib.request.urlopen(f"{base}/status", timeout=TIMEOUT_S) as answer:  # noqa: S310
            return json.load(answer)
    except (OSError, ValueError) as error:
        raise TransientError(f"no governor answers at {base} ({error}); is it running?") from error


def _show(found: Any) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = PIPED_WIDTH
    table = Table(*(name.replace("_", " ") for name in _COLUMNS))
    for partition in found["partitions"]:
        table.add_row(*(_cell(partition[name]) for name in _COLUMNS))
    table.add_section()
    table.add_row("all", "", "", "", *(_cell(found["totals"][name]) for name in _COLUMNS[4:]))
    console.print(table)
    for line in _enforcement(found.get("enforcement", {})):
        console.print(line, markup=False)
    for trouble in found["troubles"]:
        console.print(f"not ready: {trouble}", markup=False)


def _enforcement(found: Any) -> list[str]:
    """Say how late and how dear enforcement was of late, where it was."""
    lines = [
        f"{name.removesuffix('_s').replace('_', ' ')}: p50 {parts['p50']:.2f} s, p99"
        f" {parts['p99']:.2f} s"
        for name, parts in found.get("delays", {}).items()
        if parts["p99"] is not None
    ]
    return lines + [
        f"{row['rule']}: {row['past_usd']} USD past its threshold"
        for row in found.get("overshoot", ())
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "?"
    return f"{value:,}" if isinstance(value, int) else str(value)
