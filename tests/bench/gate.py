"""How fast the gate decides, against an empty reply that is served the same way in the same run.

    make bench                                this after ingest
    python tests/bench/gate.py                about half a minute
    python tests/bench/gate.py beside         with a daemon beside it that stores a backlog; they
                                              share the cores, so there is no limit then

The gate is the real process, with 10,000 directives read from the embedded broker. Both servers are
asked in turns, over connections that stay open.
"""

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import uvicorn
import uvloop

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import DirectivePublisher
from governor.core.directives import Directive, Effect, Heartbeat, WireCondition
from governor.demo.broker import EmbeddedBroker
from governor.gate.serve import configured, listening
from tests.bench.ingest import BATCH, Figure, events, say
from tests.brokers import ApacheKafka

DIRECTIVES = 10_000
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "4"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "8000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
P99_RATIO = 2.0
TOPIC = "directives"


def decide(*, beside: bool = False) -> Iterator[Figure]:
    """Time decisions with 10,000 directives known, and empty replies in turns with them."""
    asked = bodies()
    with ExitStack() as stack:
        broker = stack.enter_context(EmbeddedBroker(topics={TOPIC: 1}))
        publish(broker)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gate = stack.enter_context(gate_process(broker, folder))
        empty = stack.enter_context(empty_process())
        if beside:
            stack.enter_context(ingesting(folder))
        for port in (gate, empty):
            uvloop.run(load(port, asked))
        rounds = [
            (uvloop.run(load(empty, asked)), uvloop.run(load(gate, asked))) for _ in range(ROUNDS)
        ]
        counted = throttled(gate)
    for name, part in (("p50", 0.50), ("p99", 0.99)):
        pairs = [(quantile(e, part), quantile(g, part)) for e, g in rounds]
        median_empty, median_gate = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        say(f"  {name}: decision {median_gate * 1e6:,.0f} us, empty {median_empty * 1e6:,.0f} us")
        ratio = statistics.median(g / e for e, g in pairs)
        limit = P99_RATIO if name == "p99" and not beside else float("inf")
        yield Figure(f"decision against empty, {name}", ratio, limit, at_most=True, unit="x")
    say(f"  of the decisions {counted:.0%} were about a throttle")


def publish(broker: EmbeddedBroker) -> None:
    """Put a throttle for each of 10,000 customers on the topic, and a heartbeat."""
    now = datetime.now(UTC)
    directives = [
        Directive(
            id=f"free-tier/customer={number}/slow/2026-11",
            version=number,
            effect=Effect.THROTTLE,
            rule="free-tier",
            action="slow",
            reason=f"free-tier customer={number} is at 110% of 5 USD",
            scope={
                "customer": WireCondition(values=(f"customer-{number}",)),
                "tier": WireCondition(values=("free", "trial")),
            },
            issued_at=now,
            until=now + timedelta(hours=1),
            rate_requests=2,
            rate_span_s=60,
        )
        for number in range(DIRECTIVES)
    ]
    beat = Heartbeat(version=DIRECTIVES, sent_at=now, lease_until=now + timedelta(hours=1))
    connection = Connection([broker.bootstrap_servers], api_version=broker.api_version)
    with closing(DirectivePublisher(connection, TOPIC)) as publisher:
        publisher.publish([*directives, beat])


def bodies() -> list[bytes]:
    """Return requests of 20,000 customers of all tiers: one in three meets a throttle."""
    draw = Random(7)
    return [
        json.dumps(
            {
                "customer": f"customer-{draw.randrange(2 * DIRECTIVES)}",
                "user": f"user-{draw.randrange(1000)}",
                "tier": draw.choice(("free", "trial", "paid")),
                "model": "gpt-4o",
                "region": None,
            }
        ).encode()
        for _ in range(REQUESTS)
    ]


@contextmanager
def gate_process(broker: EmbeddedBroker, folder: Path) -> Iterator[int]:
    """Run `governor gate` until it has read the topic; yield its port."""
    version = ".".join(map(str, broker.api_version))
    environment = os.environ | {
        "GOVERNOR_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        "GOVERNOR_KAFKA__API_VERSION": version,
        "GOVERNOR_DIRECTIVES__TOPIC": TOPIC,
        "GOVERNOR_LOG__FORMAT": "json",
    }
    command = [sys.executable, "-m", "governor", "gate", "--port", "0"]
    with running(command, environment, folder) as process:
        port = 0
        for line in process.stderr or ():
            found = json.loads(line)
            port = found.get("port", port)
            if found["event"] == "directives.read":
                assert found["known"] == DIRECTIVES, found
                break
        yield port


@contextmanager
def empty_process() -> Iterator[int]:
    """Run an application that replies at once, served as the gate is; yield its port."""
    with running([sys.executable, __file__, "--empty"], dict(os.environ), Path()) as process:
        assert process.stderr is not None
        yield int(process.stderr.readline())


@contextmanager
def running(
    command: Sequence[str], environment: dict[str, str], folder: Path
) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        command, env=environment, cwd=folder, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=10)


@contextmanager
def ingesting(folder: Path) -> Iterator[None]:
    """Run a daemon that stores a backlog for as long as the rounds take."""
    with closing(ApacheKafka()) as kafka:
        kafka.create_topic("bench", 3)
        fill(kafka)
        environment = os.environ | {
            "GOVERNOR_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "GOVERNOR_TOPICS": "bench=native",
            "GOVERNOR_STORE__PATH": str(folder / "governor.duckdb"),
            "GOVERNOR_HTTP__PORT": "0",
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "governor", "run"],
            env=environment,
            cwd=folder,
            stderr=subprocess.DEVNULL,
        )
        try:
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


def fill(kafka: ApacheKafka) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415

    lines = events(120 * BATCH, 5, datetime.now(UTC), timedelta(milliseconds=0.1))
    with closing(KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=50)) as sender:
        for line in lines:
            sender.send("bench", line)


class Client(asyncio.Protocol):
    """One connection: sends a request when the answer to the one before is complete."""

    def __init__(self, bodies: Iterator[bytes], times: list[float]) -> None:
        self._bodies = bodies
        self._times = times
        self._began = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        if not found or len(body) < int(length):
            return
        self._times.append(time.perf_counter() - self._began)
        if not head.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(RuntimeError(self._answer.decode()))
            return
        self._send()

    def _send(self) -> None:
        body = next(self._bodies, None)
        if body is None:
            self._transport.close()
            self.done.set_result(None)
            return
        head = b"POST /v1/decide HTTP/1.1\r\nHost: gate\r\nContent-Type: application/json\r\n"
        self._answer = b""
        self._began = time.perf_counter()
        self._transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body))


async def load(port: int, asked: list[bytes]) -> list[float]:
    """Send all requests over some connections; return the seconds each took, in order."""
    bodies, times = iter(asked), list[float]()
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(bodies, times), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    await asyncio.gather(*(client.done for client in clients))
    return sorted(times)


def quantile(times: list[float], part: float) -> float:
    return times[int(len(times) * part)]


def throttled(port: int) -> float:
    """Return the part of all decisions that a throttle held for."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    counts = {
        line.split('"')[1]: float(line.split()[-1])
        for line in lines
        if line.startswith("governor_gate_decisions_total")
    }
    return 1 - counts["allow"] / sum(counts.values())


async def nothing(_: Any, __: Any, send: Any) -> None:
    """Reply as shortly as an application can."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"{}"})


def main(names: Sequence[str]) -> int:
    """Measure; return 1 where the limit is not reached."""
    say(f"gate: {decide.__doc__}")
    figures = list(decide(beside="beside" in names))
    for figure in figures:
        verdict = "holds" if figure.holds else "MISSED"
        bound = f"  (at most {figure.limit:g}: {verdict})" if figure.limit < float("inf") else ""
        say(f"{figure.name:32} {figure.value:>12,.3f}{figure.unit}{bound}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--empty"]:
        with listening("127.0.0.1", 0) as listener:
            print(listener.getsockname()[1], file=sys.stderr, flush=True)
            uvicorn.Server(configured(nothing)).run(sockets=[listener])
    else:
        sys.exit(main(sys.argv[1:]))
