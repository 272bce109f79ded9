"""`governor gate`: answers gateways whether a request may run."""

from typing import Annotated

import typer

from governor import daemon, telemetry
from governor.cli.options import ConfigFile
from governor.gate.serve import serve
from governor.settings import load


def gate(
    config: ConfigFile = None,
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; default: gate.host.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port, 0 for any free one; default: gate.port."),
    ] = None,
) -> None:
    """Answer whether a request may run, by the directives of the daemon, until SIGTERM.

    For example:

      governor gate                 with governor.yaml, variables or defaults

      governor gate --port 9500     one more beside it
    """
    settings = load(config).settings
    telemetry.configure(settings.log.level, settings.log.format)
    serve(
        daemon.connection_of(settings),
        topic=settings.directives.topic,
        host=settings.gate.host if host is None else host,
        port=settings.gate.port if port is None else port,
    )
