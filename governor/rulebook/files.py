"""Which files hold the rules: `*.yaml` and `*.yml` below a folder, nothing hidden, in order."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from governor.documents import Problem, read_bytes

SUFFIXES: Final = (".yaml", ".yml")
TEST_SUFFIXES: Final = tuple(f".test{suffix}" for suffix in SUFFIXES)
ROUTING: Final = "routing.yaml"
"""Who is told: a file among the rule files that holds no rules."""
MAX_FILES: Final = 100
MAX_FOLDERS: Final = 100


def find(paths: Iterable[Path]) -> tuple[list[Path], list[Problem]]:
    """Return the rule files at and below `paths`, each once, and what is wrong with the places."""
    files: dict[Path, Path] = {}
    problems: list[Problem] = []
    for path in paths:
        try:
            for file in _below(path, problems) if path.is_dir() else [path]:
                if not str(file).isprintable():
                    odd = f"holds {file.name!r}, a name that is no text; rename it"
                    problems.append(Problem(path, 0, 0, odd))
                elif file.is_file():
                    files.setdefault(file.resolve(), file)
                else:
                    problems.append(Problem(file, 0, 0, "no such file or folder"))
        except OSError as error:
            problems.append(Problem(path, 0, 0, f"cannot be read ({error.strerror})"))
    return list(files.values()), problems


def is_test(name: str) -> bool:
    """Tell whether a file holds tests of rules, and no rules."""
    return name.endswith(TEST_SUFFIXES)


def _below(folder: Path, problems: list[Problem]) -> list[Path]:
    files: list[Path] = []

    def unreadable(error: OSError) -> None:
        problems.append(Problem(Path(error.filename), 0, 0, f"cannot be read ({error.strerror})"))

    for count, (place, folders, names) in enumerate(os.walk(folder, onerror=unreadable), start=1):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files += [
            Path(place, name)
            for name in sorted(names)
            if name.endswith(SUFFIXES) and not name.startswith(".") and not is_test(name)
        ]
        if count > MAX_FOLDERS or len(files) > MAX_FILES:
            limit = f"{MAX_FILES} rule files or {MAX_FOLDERS} folders"
            problems.append(Problem(folder, 0, 0, f"holds more than {limit}"))
            return files[:MAX_FILES]
    if not any(file.name != ROUTING for file in files):
        problems.append(Problem(folder, 0, 0, "holds no rule file (*.yaml)"))
    return files


def digest(path: Path) -> str:
    """Return what `load(path).digest` would be, without parsing; what cannot be read is empty."""
    return digest_of((file, _content(file)) for file in find([path])[0])


def _content(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except OSError:
        return b""


def digest_of(contents: Iterable[tuple[Path, bytes]]) -> str:
    """Return a hash of names and contents, in order."""
    whole = hashlib.sha256()
    for path, raw in contents:
        for part in (os.fsencode(path), raw):
            whole.update(b"%d:" % len(part))
            whole.update(part)
    return whole.hexdigest()
