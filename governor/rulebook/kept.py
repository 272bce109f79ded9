"""The last good rules, kept beside the store: what a start with wrong rule files falls back to."""

import shutil
from pathlib import Path

import structlog

from governor.core.errors import ConfigError
from governor.rulebook import Rulebook, load
from governor.rulebook.files import ROUTING

_log = structlog.get_logger()


def keep(rulebook: Rulebook, folder: Path) -> None:
    """Write what a rulebook was read from to `folder`; a full disk keeps the former files.

    A crash on the way leaves the new folder or the former one, perhaps under its second name.
    """
    fresh, former = _beside(folder, "new"), _beside(folder, "old")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for number, content in enumerate(rulebook.contents):
            routing = rulebook.files[number].name == ROUTING
            (fresh / (ROUTING if routing else f"{number:03}.yaml")).write_bytes(content)
        if folder.exists():
            shutil.rmtree(former, ignore_errors=True)
            folder.replace(former)
        fresh.replace(folder)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        _log.warning("rules.not_kept", folder=str(folder), error=str(error))


def kept(folder: Path) -> Rulebook | None:
    """Return the rules that were kept; None where there are none."""
    for place in (folder, _beside(folder, "old")):
        try:
            return load(place)
        except ConfigError:
            continue
    return None


def _beside(folder: Path, ending: str) -> Path:
    return folder.with_name(f"{folder.name}.{ending}")
