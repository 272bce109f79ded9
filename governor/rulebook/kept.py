"""The last good rules, kept beside the store: what a start with wrong rule files falls back to."""

import shutil
from pathlib import Path

from governor.core.errors import ConfigError
from governor.rulebook import Rulebook, load


def keep(rulebook: Rulebook, folder: Path) -> None:
    """Write what a rulebook was read from to `folder`; a full disk keeps the former files."""
    fresh = folder.with_name(f"{folder.name}.new")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        for number, (file, content) in enumerate(
            zip(rulebook.files, rulebook.contents, strict=True)
        ):
            (fresh / f"{number:03}-{file.stem}.yaml").write_bytes(content)
        shutil.rmtree(folder, ignore_errors=True)
        fresh.replace(folder)
    except OSError:
        return


def kept(folder: Path) -> Rulebook | None:
    """Return the rules that were kept; None where there are none."""
    try:
        return load(folder)
    except ConfigError:
        return None
