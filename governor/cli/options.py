"""Options that several commands share."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from governor.core.errors import ConfigError

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; default: governor.yaml if it is there."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def pairs(
    given: Iterable[str] | None, such_as: str, *, option: str = "", empty: bool = False
) -> Iterator[tuple[str, str]]:
    """Yield name and value of words such as `customer=acme`; a value may be `empty` or not.

    Raise ConfigError that says to write `such_as`, after the name of the `option`.
    """
    for text in given or ():
        name, equals, value = text.partition("=")
        if not equals or not name or not (value or empty):
            raise ConfigError(f"{option} {text!r}: write {such_as}".lstrip())
        yield name, value
