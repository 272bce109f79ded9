"""Settings: variables over secret files over `governor.yaml` over defaults, each with its origin.

The only reader of the environment and of the settings file.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from governor.core.errors import ConfigError
from governor.settings.checking import check, leaf_of
from governor.settings.gate import Gate
from governor.settings.listing import Row, listing, routes
from governor.settings.model import (
    Control,
    Directives,
    Http,
    Ingest,
    Kafka,
    Log,
    Prices,
    Rules,
    Settings,
    Store,
    Topic,
)
from governor.settings.receivers import Slack
from governor.settings.reference import reference
from governor.settings.sources import (
    CONFIG_VARIABLE,
    SECRETS_VARIABLE,
    from_file,
    from_overrides,
    from_secrets,
    from_variables,
    merge,
)

__all__ = [
    "Control",
    "Directives",
    "Gate",
    "Http",
    "Ingest",
    "Kafka",
    "Loaded",
    "Log",
    "Prices",
    "Row",
    "Rules",
    "Settings",
    "Slack",
    "Store",
    "Topic",
    "listing",
    "load",
    "reference",
]

DEFAULT_FILE: Final = Path("governor.yaml")
DEFAULT_SECRETS: Final = Path("/run/secrets")


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings, and the origin of each by its dotted name."""

    settings: Settings
    origins: Mapping[str, str]


def load(
    config_file: Path | None = None, overrides: Mapping[str, object] = MappingProxyType({})
) -> Loaded:
    """Read every source and return the settings.

    `config_file` comes from the command line; without it GOVERNOR_CONFIG names the file, or
    `governor.yaml` is read if it is there. `overrides` are dotted names with values from the
    command line; None is skipped. Raise ConfigError, one line for each thing that is wrong.
    """
    environment = dict(os.environ)  # noqa: TID251 this package is the reader of the environment
    problems: list[str] = []
    file, secrets = _file(config_file, environment), _secrets(environment)
    leaves = merge(
        [
            from_file(file, problems) if file else [],
            from_secrets(secrets, problems) if secrets else [],
            from_variables(environment, problems),
            from_overrides(overrides, problems),
        ]
    )
    settings = check(leaves, problems)
    if problems or settings is None:
        raise ConfigError("\n".join(problems))
    found = {route: leaf_of(leaves, route) for route in routes(settings)}
    origins = {".".join(route): leaf.origin if leaf else "default" for route, leaf in found.items()}
    return Loaded(settings, MappingProxyType(origins))


def _file(config_file: Path | None, environment: Mapping[str, str]) -> Path | None:
    named = environment.get(CONFIG_VARIABLE)
    if config_file is None and named is None:
        return DEFAULT_FILE if DEFAULT_FILE.exists() else None
    file = config_file or Path(named or "")
    if file.is_dir() or not file.exists():
        asked = f"--config {file}" if config_file else f"{CONFIG_VARIABLE}={named!r}"
        raise ConfigError(f"{asked}: no such file")
    return file


def _secrets(environment: Mapping[str, str]) -> Path | None:
    named = environment.get(SECRETS_VARIABLE)
    if named is None:
        return DEFAULT_SECRETS if DEFAULT_SECRETS.is_dir() else None
    if not named or not Path(named).is_dir():
        raise ConfigError(f"{SECRETS_VARIABLE}={named!r}: no such directory")
    return Path(named)
