"""`governor topics`: the topics governor reads and writes, made on purpose."""

import json
from typing import Annotated

import typer

from governor import daemon
from governor.adapters.kafka import directives, topics
from governor.cli.options import AsJson, ConfigFile
from governor.settings import load

app = typer.Typer(help="Make the topics that governor reads and writes.", no_args_is_help=True)


@app.callback()
def _topics() -> None:
    """Make the topics that governor reads and writes."""


@app.command()
def create(
    config: ConfigFile = None,
    partitions: Annotated[
        int, typer.Option(min=1, max=10_000, help="Partitions of each topic of usage.")
    ] = 6,
    replication: Annotated[
        int, typer.Option(min=-1, max=32, help="Copies of each; -1: what the brokers say.")
    ] = -1,
    as_json: AsJson = False,
) -> None:
    """Create every topic named in the settings that does not exist yet.

    The topic of directives is made compacted, with one partition. Where it exists, it must be
    compacted.

    For example:

      governor topics create

      governor topics create --partitions 12 --replication 3
    """
    settings = load(config).settings
    connection = daemon.connection_of(settings)
    made = {
        topic: topics.create(connection, topic, partitions=partitions, replication=replication)
        for topic in settings.topics
    }
    compacted = settings.directives.topic
    made[compacted] = topics.create(
        connection,
        compacted,
        partitions=1,
        replication=replication,
        configs=directives.TOPIC_CONFIGS,
    )
    found = {topic: "created" if new else "exists already" for topic, new in made.items()}
    for line in [json.dumps(found)] if as_json else map(": ".join, found.items()):
        typer.echo(line)
    if not made[compacted]:
        directives.require_compacted(connection, compacted)
