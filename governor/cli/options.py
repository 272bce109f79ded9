"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; default: governor.yaml if it is there."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
