"""The demo's children: the daemon and the gate, in processes that never outlive the demo."""

import http.client
import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from governor.core.errors import PermanentError, TransientError

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 30.0
ASK_TIMEOUT_S: Final = 5.0
LOOK_EVERY_S: Final = 0.05
LOG_TAIL_LINES: Final = 5


class Child:
    """A process of governor, from the constructor to `close`; its log is `NAME.log` in `folder`."""

    def __init__(self, folder: Path, name: str, arguments: Sequence[str]) -> None:
        """Start `python ARGUMENTS` in `folder`, where it finds its settings; return at once."""
        self.name: Final = name
        self._stopped = False
        self._log = folder / f"{name}.log"
        secrets = folder / "no-secrets"
        secrets.mkdir(exist_ok=True)
        inherited = {n: v for n, v in os.environ.items() if not n.startswith("GOVERNOR_")}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and module
                [sys.executable, *arguments],
                cwd=folder,
                env=inherited | {"GOVERNOR_SECRETS_DIR": str(secrets)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the demo, which then stops its children
            )
        try:
            # However we die, the end of this pipe tells the watcher, and it stops the child.
            self._watcher = subprocess.Popen(  # noqa: S603
                ["/bin/sh", "-c", 'read -r _; kill -TERM "$1"', "watcher", str(self._process.pid)],
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
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

    def opened(self, event: str) -> int:
        """Wait until it logs `event`, and return the port that the line names."""
        pause = threading.Event()
        for _ in range(int(START_TIMEOUT_S / LOOK_EVERY_S)):
            for line in self._log.read_text("utf-8", "replace").splitlines():
                if f'"{event}"' in line:
                    return int(json.loads(line)["port"])
            if self._process.poll() is not None:
                break
            pause.wait(LOOK_EVERY_S)
        raise self.failed("did not start")

    def get(self, port: int, path: str) -> tuple[int, bytes]:
        """Return status code and body of a page; TransientError where it does not answer."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            if self._process.poll() is not None:
                raise self.failed("has ended") from error
            raise TransientError(f"the demo's {self.name} does not answer") from error
        finally:
            connection.close()

    def stop(self) -> None:
        """Ask it to end, once, and return at once: a second SIGTERM would cut its ending short."""
        if not self._stopped:
            self._stopped = True
            self._process.terminate()

    def close(self) -> int:
        """Stop it by SIGTERM, after a while by force, and return its exit code."""
        self.stop()
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

    def failed(self, why: str) -> PermanentError:
        """Return the error that it `why`, with the last lines of its log."""
        lines = self._log.read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
        tail = "".join(f"\n  {line}" for line in lines)
        return PermanentError(f"the demo's {self.name} {why}; its log ends with:{tail}")
