"""`governor detect`: what in a file of anybody's series is unlike its own past."""

import csv
import json
import sys
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from governor.cli.options import AsJson
from governor.core.errors import ConfigError
from governor.core.surprise import PARTS
from governor.detection import Columns, Judged, columns_of, judge, points, row_of


def detect(
    file: Annotated[Path, typer.Argument(help="A CSV file with a header.")],
    time: Annotated[str | None, typer.Option(help="Column of the time.")] = None,
    value: Annotated[str | None, typer.Option(help="Column of the value.")] = None,
    series: Annotated[str | None, typer.Option(help="Column that names the series.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write there, and a summary here.")
    ] = None,
    chart: Annotated[
        Path | None, typer.Option(help="Draw it, too: a file *.png or *.svg (governor[charts]).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Score each point of a series by how unlike its own past it is; nothing later is looked at.

    Prints timestamp, value, score (0 to 1) and alarm (0 or 1) of every point, as CSV.

    For example:

      governor detect spend.csv > scored.csv

      governor detect usage.csv --time day --value cost --series team -o scored.csv

      governor detect spend.csv --chart spend.svg --json | jq '.alarms'
    """
    columns = columns_of(file, time, value, series)
    judged = list(judge(points(file, columns)))
    if chart:
        _draw(judged, chart)
    if output:
        _write_to(output, judged, columns)
    if as_json:
        typer.echo(json.dumps(_document(judged, columns)))
    elif output is None:
        _write(sys.stdout, judged, columns)
    else:
        _summary(judged)


def _write_to(output: Path, judged: Sequence[Judged], columns: Columns) -> None:
    try:
        with output.open("w", newline="", encoding="utf-8") as stream:
            _write(stream, judged, columns)
    except OSError as error:
        raise ConfigError(f"{output} cannot be written ({error.strerror})") from error


def _write(stream: TextIO, judged: Sequence[Judged], columns: Columns) -> None:
    named = [columns.series] if columns.series else []
    names = [*named, "timestamp", "value", "score", "alarm"]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row_of(each, columns) for each in judged)


def _document(judged: Sequence[Judged], columns: Columns) -> dict[str, Any]:
    return {
        "points": len(judged),
        "alarms": [
            {
                **row_of(each, columns),
                "score": round(each.score.score, 6),
                "alarm": 1,
                "why": each.score.why,
                "parts": dict(zip(PARTS, (round(p, 3) for p in each.score.parts), strict=True)),
            }
            for each in judged
            if each.score.alarm
        ],
    }


def _summary(judged: Sequence[Judged]) -> None:
    alarms = [each for each in judged if each.score.alarm]
    typer.echo(f"{len(judged):,} points, {len(alarms):,} alarms")
    for why, many in Counter(each.score.why for each in alarms).most_common():
        typer.echo(f"  {why}: {many:,}")


def _draw(judged: Sequence[Judged], path: Path) -> None:
    try:
        drawn = import_module("governor.detection.chart")
    except ImportError as error:
        raise ConfigError(f"--chart needs {error.name}: pip install 'governor[charts]'") from None
    drawn.draw(judged, path)
