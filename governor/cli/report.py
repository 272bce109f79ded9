"""`governor report`: what a day, week or month came to."""

import json
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import msgspec
import typer

from governor import pages
from governor.cli.control import call, show
from governor.cli.options import AsJson, ConfigFile, pairs
from governor.core.errors import ConfigError
from governor.core.report_text import headline, sections
from governor.core.reports import Report
from governor.settings import load

app: Final = typer.Typer(no_args_is_help=True, help="Make, send and list reports.")

_COLUMNS: Final = {
    "report": "report",
    "period": "period",
    "made_at": "made (UTC)",
    "made": "made",
}

Day = Annotated[str | None, typer.Option("--date", help="A local date in the period, 2026-11-26.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show it, and send it to nobody.")]
Zone = Annotated[str | None, typer.Option(help="An IANA name; default: that of the report.")]
Where = Annotated[
    list[str] | None, typer.Option(help="dimension=value, such as team=search; all must hold.")
]
Html = Annotated[Path | None, typer.Option(help="Write it as a page to this file, too.")]


@app.command("list")
def list_reports(config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List which reports were made, of which periods, the newest first.

    For example:

      governor report list
    """
    found = call(load(config).settings, "GET", "/v1/reports")
    if as_json:
        typer.echo(json.dumps(found))
    else:
        show(found, _COLUMNS, "no report was made yet")


def _of_a_kind(name: str, about: str) -> None:
    """Make the command of a report that needs no entry in `routing.yaml` to be looked at."""

    def command(
        date: Day = None,
        dry_run: DryRun = False,
        timezone: Zone = None,
        where: Where = None,
        html: Html = None,
        config: ConfigFile = None,
        as_json: AsJson = False,
    ) -> None:
        asked = _fields(date, timezone, where)
        _report(name, asked, html, config, dry_run=dry_run, as_json=as_json)

    app.command(name, help=about)(command)


_of_a_kind(
    "daily",
    """Make the report of a day, yesterday unless a date is named.

    Without --dry-run it is sent to those who get the report `daily` of routing.yaml. For example:

      governor report daily --dry-run

      governor report daily --date 2026-11-26 --timezone Europe/Berlin --dry-run --html day.html

      governor report daily --where team=search --dry-run --json
    """,
)
_of_a_kind(
    "weekly",
    """Make the report of a week, the last whole one unless a date in another is named.

    For example:

      governor report weekly --dry-run
    """,
)
_of_a_kind(
    "monthly",
    """Make the report of a month, the last whole one unless a date in another is named.

    For example:

      governor report monthly --date 2026-10-01 --dry-run
    """,
)


@app.command()
def make(
    name: Annotated[str, typer.Argument(help="A report of routing.yaml.")],
    date: Day = None,
    dry_run: DryRun = False,
    html: Html = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a report of routing.yaml now, for those who get it.

    For example:

      governor report make search-team --date 2026-11-26
    """
    _report(name, _fields(date, None, None), html, config, dry_run=dry_run, as_json=as_json)


def _fields(date: str | None, timezone: str | None, where: list[str] | None) -> dict[str, str]:
    fields = {"date": date, "timezone": timezone}
    found = {name: value for name, value in fields.items() if value is not None}
    for name, value in pairs(where, "dimension=value, such as team=search", option="--where"):
        found[f"where.{name}"] = value
    return found


def _report(
    name: str,
    asked: dict[str, str],
    html: Path | None,
    config: Path | None,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    place = f"/v1/reports/{quote(name, safe='')}"
    path = f"{place}{'' if dry_run else '/send'}?{urlencode(asked)}"
    answer: Any = call(load(config).settings, "GET" if dry_run else "POST", path)
    report = msgspec.convert(answer, Report)
    if html is not None:
        _write(html, pages.report(report))
    if as_json:
        typer.echo(json.dumps(answer))
        return
    typer.echo(f"{report.title}\n{headline(report)}")
    for title, lines in sections(report):
        typer.echo(f"\n{title}")
        for line in lines:
            typer.echo(f"  {line}")
    for done in [f"{html} is written" if html else "", "" if dry_run else "it is sent"]:
        if done:
            typer.echo(f"\n{done}")


def _write(path: Path, page: str) -> None:
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error
