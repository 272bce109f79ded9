"""`governor report showback`: what each team or customer used, a file for each."""

import csv
import io
import json
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from governor import pages
from governor.cli.control import call
from governor.cli.options import AsJson, ConfigFile
from governor.core.errors import ConfigError
from governor.core.pricing import NANO_PER_USD
from governor.settings import load

COLUMNS: Final = ("day", "feature", "model", "requests", "tokens", "cost_usd", "unpriced_events")
NOBODY: Final = "(none)"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""How a text begins that a spreadsheet takes for a formula."""


def showback(
    by: Annotated[str, typer.Argument(help="A dimension: team, customer, project, ...")],
    out: Annotated[Path, typer.Option(help="Folder for a page and a CSV file of each.")],
    only: Annotated[str | None, typer.Option(help="One value of it alone.")] = None,
    every: Annotated[str, typer.Option(help="daily, weekly or monthly.")] = "monthly",
    date: Annotated[str | None, typer.Option(help="A local date in the period.")] = None,
    timezone: Annotated[str | None, typer.Option(help="An IANA name; default: UTC.")] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Write what each team or customer used in a month: a page and a CSV file for each.

    A file holds what one of them used and nothing of any other. For example:

      governor report showback team --date 2026-10-01 --out showback

      governor report showback customer --only acme --every weekly --out acme
    """
    asked = {"every": every, "date": date, "timezone": timezone, f"where.{by}": only}
    fields = {name: value for name, value in asked.items() if value is not None}
    path = f"/v1/showback/{quote(by, safe='')}?{urlencode(fields)}"
    found = call(load(config).settings, "GET", path)
    rows, period, zone = found["rows"], found["period"], found["zone"]
    files: list[Path] = []
    for name, some in groupby(rows, key=lambda row: row["name"]):
        mine = list(some)
        shown = NOBODY if name is None else name
        stem = f"{_UNSAFE.sub('-', shown).strip('-') or 'none'}-{period}"
        files.append(_write(out, f"{stem}.csv", as_csv(mine), [str(f) for f in files]))
        page = pages.showback(shown, period, zone, mine)
        files.append(_write(out, f"{stem}.html", page, [str(f) for f in files]))
    if as_json:
        typer.echo(json.dumps([str(file) for file in files]))
    else:
        for file in files:
            typer.echo(f"{file} is written")
        if not files:
            typer.echo(f"nothing was used in {period}")


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as CSV; no text in it is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        cost = Decimal(row["cost_nano"]) / NANO_PER_USD
        writer.writerow(
            [
                row["day"],
                _plain(row["feature"]),
                _plain(row["model"]),
                row["requests"],
                row["tokens"],
                f"{cost:.9f}",
                row["unpriced_events"],
            ]
        )
    return text.getvalue()


def _plain(text: str | None) -> str:
    said = text or ""
    return f"'{said}" if said.startswith(_FORMULA) else said


def _write(folder: Path, name: str, content: str, others: Sequence[str]) -> Path:
    """Write a file; names that would be the same get a number."""
    path, number = folder / name, 2
    while str(path) in others:
        path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        number += 1
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
    return path
