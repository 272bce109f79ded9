"""`governor topics`: the topics governor reads, made on purpose."""

from typing import Annotated

import typer

from governor import daemon
from governor.adapters.kafka import topics
from governor.cli.options import ConfigFile
from governor.settings import load

app = typer.Typer(help="Make the topics that governor reads.", no_args_is_help=True)


@app.callback()
def _topics() -> None:
    """Make the topics that governor reads."""


@app.command()
def create(
    config: ConfigFile = None,
    partitions: Annotated[int, typer.Option(min=1, max=10_000, help="Partitions of each.")] = 6,
    replication: Annotated[
        int, typer.Option(min=-1, max=32, help="Copies of each; -1: what the brokers say.")
    ] = -1,
) -> None:
    """Create every topic named in the settings that does not exist yet.

    For example:

      governor topics create

      governor topics create --partitions 12 --replication 3
    """
    settings = load(config).settings
    connection = daemon.connection_of(settings)
    for topic in settings.topics:
        made = topics.create(connection, topic, partitions=partitions, replication=replication)
        typer.echo(f"{topic}: {'created' if made else 'exists already'}")
