"""`governor run`: the daemon."""

import json
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Final

import typer

from governor import daemon, telemetry
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

_SUMMARY: Final = (
    "stored in all: {events:,} events = {counted:,} counted + {duplicates:,} duplicates +"
    " {rejected:,} rejected; of the counted {late:,} were late, {unpriced:,} unpriced"
)


class Clock(StrEnum):
    """What the present is, for judging how old an event is."""

    WALL = "wall"
    EVENT_TIME = "event-time"


def run(
    config: ConfigFile = None,
    drain: Annotated[
        bool, typer.Option("--drain", help="Store what the topics hold now, then exit.")
    ] = False,
    clock: Annotated[
        Clock, typer.Option(help="event-time: the newest event is the present, for replays.")
    ] = Clock.WALL,
    as_json: AsJson = False,
) -> None:
    """Count usage events from Kafka until SIGTERM.

    For example:

      governor run                              with governor.yaml, variables or defaults

      governor run --drain                      catch up, print a summary, exit

      governor run --drain --clock event-time   count an old trace as if it were now
    """
    settings = load(config).settings
    telemetry.configure(settings.log.level, settings.log.format)
    summary = daemon.run(settings, drain=drain, follow_events=clock is Clock.EVENT_TIME)
    totals = asdict(summary.totals)
    if as_json:
        typer.echo(json.dumps(totals))
    elif drain:
        typer.echo(_SUMMARY.format(**totals))
