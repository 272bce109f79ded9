"""Environments of their own for programs that tests run: made once a lock file, from its hashes."""

import hashlib
import os
import subprocess
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[1]


def python_of(name: str) -> Path:
    """Return the interpreter of the environment that `tests/<name>/requirements.lock` names."""
    lock = ROOT / "tests" / name / "requirements.lock"
    cache = ROOT / ".cache" / name
    place = cache / hashlib.sha256(lock.read_bytes()).hexdigest()[:12]
    interpreter = place / "bin" / "python"
    with locked(cache):
        if not (place / "ready").exists():
            venv.create(place, with_pip=True, clear=True)
            install = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
            made = subprocess.run(
                [interpreter, *install, "--require-hashes", "-r", lock],
                capture_output=True,
                text=True,
                check=False,
            )
            if made.returncode:
                _not_there(name, made.stderr[-2000:])
            (place / "ready").touch()
    return interpreter


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a lock that other processes respect."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        flock(file, LOCK_EX)
        yield


def _not_there(name: str, reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and the {name} cannot be installed: {reason}", pytrace=False)
    pytest.skip(f"the {name} cannot be installed: {reason}")
