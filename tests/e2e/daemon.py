"""The real daemon and the real commands as processes, in a clean environment."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import duckdb
from kafka import KafkaConsumer, TopicPartition

from tests.brokers import Broker

FULL = os.environ.get("GOVERNOR_TEST_SIZE") == "full"
"""Whether campaigns run at the size of `make soak`."""
START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 10.0
COMMAND_TIMEOUT_S = 240.0

Seen = TypeVar("Seen")


def environment(
    folder: Path, broker: Broker | None, topic: str, **settings: object
) -> dict[str, str]:
    """Return a clean environment; `kafka__group_id="x"` becomes GOVERNOR_KAFKA__GROUP_ID=x."""
    named = {
        "topics": f"{topic}=native",
        "store__path": folder / "governor.duckdb",
        "store__min_free": "0B",
        "http__port": 0,
        "log__format": "json",
        "kafka__group_id": f"governor-{topic}",
    }
    if broker is not None:
        named["kafka__bootstrap_servers"] = broker.bootstrap_servers
        if broker.api_version:
            named["kafka__api_version"] = ".".join(map(str, broker.api_version))
    chosen = {f"GOVERNOR_{name.upper()}": str(value) for name, value in (named | settings).items()}
    inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**inherited, "HOME": str(folder), "LANG": "C.UTF-8", **chosen}


def governor(
    *arguments: object, env: Mapping[str, str], timeout_s: float = COMMAND_TIMEOUT_S
) -> subprocess.CompletedProcess[str]:
    """Run one command to its end, in the folder of the store."""
    return subprocess.run(
        [sys.executable, "-m", "governor", *map(str, arguments)],
        env=dict(env),
        cwd=env["HOME"],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def drain(env: Mapping[str, str], *arguments: object) -> dict[str, int]:
    """Run `governor run --drain --json`, expect code 0, and return its totals."""
    done = governor("run", "--drain", "--json", *arguments, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    totals: dict[str, int] = json.loads(done.stdout)
    return totals


class Daemon:
    """`governor run` as a process; its log, one JSON object a line, goes to a file.

    With `ahead_s` its clock is that many seconds ahead, as in the demo.
    """

    command = "run"

    def __init__(
        self, env: Mapping[str, str], *arguments: str, ahead_s: float | None = None
    ) -> None:
        self.env = dict(env)
        self._call = ["governor", self.command, *arguments]
        if ahead_s is not None:
            self._call = ["governor.cli.ahead", self.command, str(ahead_s)]
        self._log = Path(env["HOME"]) / f"{self.command}.log"
        self._log_start = 0
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if kind is not None:
            print(f"--- the daemon's log ends\n{self.log_text()[-6000:]}")

    def start(self) -> None:
        """Start the process, and return at once."""
        assert self.process is None, "it runs already"
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self._call],
                env=self.env,
                cwd=self.env["HOME"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> int:
        """Ask it to end by SIGTERM and return its exit code; it has 10 s."""
        self.terminate()
        return self.wait(STOP_TIMEOUT_S)

    def terminate(self) -> None:
        """Send SIGTERM, and return at once."""
        assert self.process is not None, "it does not run"
        self.process.send_signal(signal.SIGTERM)

    def wait(self, timeout_s: float) -> int:
        """Wait until it has ended by itself, and return its exit code."""
        assert self.process is not None, "it does not run"
        code = self.process.wait(timeout_s)
        self.process = None
        return code

    def kill(self) -> None:
        """End it by SIGKILL, if it runs."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def log_text(self) -> str:
        """Return what it has written since its last start."""
        with self._log.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def log(self, event: str | None = None) -> list[dict[str, Any]]:
        """Return the log lines since its last start, of one event or of all."""
        texts = self.log_text().splitlines(keepends=True)
        whole = [text for text in texts if text.startswith("{") and text.endswith("\n")]
        lines: list[dict[str, Any]] = [json.loads(text) for text in whole]
        return [line for line in lines if event is None or line.get("event") == event]

    def await_log(
        self, event: str, *, timeout_s: float = START_TIMEOUT_S, **fields: object
    ) -> dict[str, Any]:
        """Wait for a log line with these fields, and return it."""

        def found() -> dict[str, Any] | None:
            for line in self.log(event):
                if fields.items() <= line.items():
                    return line
            return None

        return self.until(found, f"log line {event} {fields}", timeout_s=timeout_s)

    def until(self, look: Callable[[], Seen], what: str, *, timeout_s: float) -> Seen:
        """Look until what is seen is truthy; fail if the daemon ends before or time runs out."""
        deadline = time.monotonic() + timeout_s
        while True:
            ended = self.process is None or self.process.poll() is not None
            if seen := look():
                return seen
            if ended or time.monotonic() > deadline:
                why = "the daemon ended" if ended else f"{timeout_s:.0f} s went by"
                raise AssertionError(f"no {what}: {why}\n{self.log_text()[-4000:]}")
            time.sleep(0.05)

    def get(self, path: str) -> tuple[int, str]:
        """Return status code and body of a page; (0, reason) where nobody answers."""
        opened = self.await_log("probes.opened")
        url = f"http://127.0.0.1:{opened['port']}{path}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def await_ready(self, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until /readyz says 200."""
        self.until(lambda: self.get("/readyz")[0] == 200, "readiness", timeout_s=timeout_s)

    def status(self) -> dict[str, Any]:
        """Return what /status says."""
        code, body = self.get("/status")
        assert code == 200, f"no status: {code} {body}\n{self.log_text()[-4000:]}"
        found: dict[str, Any] = json.loads(body)
        return found

    def totals(self) -> dict[str, int]:
        """Return the totals of /status."""
        found: dict[str, int] = self.status()["totals"]
        return found

    def await_events(self, count: int, timeout_s: float = START_TIMEOUT_S) -> None:
        """Wait until this many events are stored in all, whatever became of them."""
        what = f"{count} events"
        self.until(lambda: self.totals()["events"] >= count, what, timeout_s=timeout_s)


class Gate(Daemon):
    """`governor gate` as a process."""

    command = "gate"

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, str]:
        """Return status and body; (0, reason) where nobody answers."""
        port = self.await_log("gate.opened")["port"]
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def decide(self, **dimensions: str) -> dict[str, Any]:
        """Ask whether a request may run."""
        status, body = self.ask("/v1/decide", json.dumps(dimensions).encode())
        assert status == 200, body
        found: dict[str, Any] = json.loads(body)
        return found


@contextmanager
def opened(path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a store that no daemon has open, read-only."""
    with duckdb.connect(path, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        yield connection


def sql(path: Path, query: str) -> list[tuple[Any, ...]]:
    """Ask a store that no daemon has open."""
    with opened(path) as connection:
        return connection.execute(query).fetchall()


def group_offsets(broker: Broker, group_id: str, topic: str, partitions: int) -> dict[int, int]:
    """Return what the broker holds as the group's offsets, by partition."""
    consumer = KafkaConsumer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        group_id=group_id,
        enable_auto_commit=False,
    )
    try:
        return {p: consumer.committed(TopicPartition(topic, p)) for p in range(partitions)}
    finally:
        consumer.close(autocommit=False)
