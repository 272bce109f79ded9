"""The demo's daemon: `governor run` itself, in a process that never outlives the demo."""

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from governor.core.errors import PermanentError, TransientError

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
ASK_TIMEOUT_S: Final = 5.0
LOG_TAIL_LINES: Final = 5


class DaemonProcess:
    """Runs from the constructor to `close`; its log is `daemon.log` in `folder`."""

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        """Start the daemon in `folder` with these `GOVERNOR_*` variables and no others."""
        self._log = folder / "daemon.log"
        secrets = folder / "no-secrets"
        secrets.mkdir()
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("GOVERNOR_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "governor", "run"],
                cwd=folder,
                env=inherited
                | {"GOVERNOR_SECRETS_DIR": str(secrets), "GOVERNOR_LOG__FORMAT": "json"}
                | {"GOVERNOR_HTTP__HOST": "127.0.0.1", "GOVERNOR_HTTP__PORT": "0", **variables},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops the daemon
            )
        try:
            # However we die, the end of this pipe tells the watcher, and it stops the daemon.
            self._watcher = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", 'read -r _; kill -TERM "$1"', "watcher", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            self._url = f"http://127.0.0.1:{self._port()}"
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def status(self) -> Any:
        """Return what /status says; TransientError where it does not answer."""
        return json.loads(self._get("/status"))

    def spend_usd(self) -> float:
        """Return the cost that /metrics says, for watching; exact sums are in the file."""
        lines = self._get("/metrics").decode().splitlines()
        name = "governor_cost_usd_total "
        return next((float(line[len(name) :]) for line in lines if line.startswith(name)), 0.0)

    def close(self) -> int:
        """Stop the daemon by SIGTERM, after a while by force, and return its exit code."""
        self._process.terminate()
        try:
            code = self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        watcher: subprocess.Popen[bytes] | None = getattr(self, "_watcher", None)
        if watcher is not None:
            watcher.kill()
            with watcher:
                pass
        return code

    def _port(self) -> int:
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / 0.1)):
            for line in self._log.read_text("utf-8", "replace").splitlines():
                if '"probes.opened"' in line:
                    return int(json.loads(line)["port"])
            if self._process.poll() is not None:
                break
            pause.wait(0.1)
        raise PermanentError(f"the demo's daemon did not start; its log ends with:\n{self.tail()}")

    def tail(self) -> str:
        """Return the last lines of the daemon's log."""
        lines = self._log.read_text("utf-8", "replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-LOG_TAIL_LINES:])

    def _get(self, path: str) -> bytes:
        try:
            with urllib.request.urlopen(self._url + path, timeout=ASK_TIMEOUT_S) as answer:  # noqa: S310
                body: bytes = answer.read()
                return body
        except OSError as error:
            if self._process.poll() is not None:
                raise PermanentError(
                    f"the demo's daemon has ended; its log ends with:\n{self.tail()}"
                ) from error
            raise TransientError(f"the demo's daemon does not answer at {self._url}") from error
