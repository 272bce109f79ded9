"""`governor sql`: a question to the DuckDB file, while no daemon has it open."""

import csv
import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from governor.adapters.duckdb.query import Answer, ask
from governor.cli.options import ConfigFile
from governor.settings import load


class Format(StrEnum):
    """How to print the answer."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT.")],
    config: ConfigFile = None,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to print.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Short for --output json.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most rows to print.")] = 1_000,
) -> None:
    """Ask the store one question, read-only; the daemon must not be running.

    Views: usage (an event a row), spend_hourly, spend_daily (UTC days).

    For example:

      governor sql "SELECT day, team, sum(cost_usd) FROM spend_daily GROUP BY ALL ORDER BY 1, 3"

      governor sql -o csv "SELECT * FROM usage WHERE price_status = 'unpriced'" > unpriced.csv
    """
    answer = ask(load(config).settings.store.path, query, limit=limit)
    form = Format.JSON if as_json else output
    {Format.TABLE: _table, Format.CSV: _csv, Format.JSON: _json}[form](answer)
    if answer.more:
        sys.stderr.write(f"governor: more rows than {limit:,}; see --limit\n")


def _table(answer: Answer) -> None:
    table = Table(*answer.columns)
    for row in answer.rows:
        table.add_row(*("" if value is None else str(value) for value in row))
    console = Console()
    console.print(table, markup=False, soft_wrap=not console.is_terminal)


def _csv(answer: Answer) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(answer.columns)
    writer.writerows(answer.rows)


def _json(answer: Answer) -> None:
    rows: list[dict[str, Any]] = [
        dict(zip(answer.columns, row, strict=True)) for row in answer.rows
    ]
    typer.echo(json.dumps(rows, default=str))
