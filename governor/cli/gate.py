"""`governor gate`: answers gateways whether a request may run."""

from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from governor import daemon, telemetry
from governor.cli.options import ConfigFile
from governor.core.errors import ConfigError
from governor.gate.identity import TokenOptions
from governor.gate.serve import Options, serve
from governor.settings import load
from governor.settings.gate import Gate


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
        options=options_of(settings.gate),
    )


def options_of(gate: Gate) -> Options:
    """Return whom the gate believes, secrets unwrapped for it alone."""
    secret, file = _bare(gate.token_key), gate.token_key_file
    tokens = None
    if gate.token_claims:
        tokens = TokenOptions(
            header=gate.token_header,
            claims=gate.token_claims,
            secret=secret,
            public=_text_of(file) if file else None,
            issuer=gate.token_issuer,
            audience=gate.token_audience,
        )
    return Options(gate.headers, tokens, _bare(gate.caller_token), _bare(gate.redis_url))


def _bare(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None


def _text_of(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"gate.token_key_file: {file} cannot be read: {error}") from None
