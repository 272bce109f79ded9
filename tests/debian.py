"""Real servers from Debian's packages, installed where they are missing and that is allowed."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.environments import ROOT, locked

FAKETIME: Final = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
CACHE: Final = ROOT / ".cache" / "debian"
PACKAGES: Final = {
    "nginx": "nginx-light",
    "redis-server": "redis-server",
    FAKETIME: "libfaketime",
}
PLACES: Final = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def program(name: str) -> str:
    """Return the path of a program or library; without it a test fails in CI, else is skipped."""
    found = _found(name)
    if found:
        return found
    with locked(CACHE):
        why = "" if _found(name) else _install(PACKAGES[name])
    found = _found(name)
    if found:
        return found
    reason = f"{name} is not here and cannot be installed ({why}): apt install {PACKAGES[name]}"
    if os.environ.get("CI"):
        pytest.fail(f"CI is set, and {reason}", pytrace=False)
    pytest.skip(reason)


def _found(name: str) -> str | None:
    if name.startswith("/"):
        return name if Path(name).exists() else None
    return shutil.which(name, path=PLACES)


def _install(package: str) -> str:
    """Install a package, if we are root on a Debian; return what was said against it."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return "we are not root on a Debian"
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    said = ""
    for command in (("update",), ("install", "-y", "--no-install-recommends", package)):
        done = subprocess.run(
            ["apt-get", "-qq", *command], env=env, capture_output=True, text=True, check=False
        )
        said += done.stderr[-500:]
    return said.strip()
