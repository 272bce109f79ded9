"""How fast the gate decides, against an empty reply that is served the same way in the same run.

    make bench                                this after ingest
    python tests/bench/gate.py                about a minute
    python tests/bench/gate.py beside         with a daemon beside it that stores a backlog
    python tests/bench/gate.py many           100,000 directives: time to load them, and memory

The gate is the real process, with 10,000 directives read from the embedded broker; `many` reads
from Apache Kafka. Both servers are asked in turns, over connections that stay open: as fast as they
answer, which tells what one core decides in a second of its own, and 500 times a second, which
tells what a request waits.
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
from dataclasses import dataclass
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
from tests.brokers import ApacheKafka, Broker

DIRECTIVES = 10_000
CONNECTIONS = int(os.environ.get("BENCH_CONNECTIONS", "4"))
REQUESTS = int(os.environ.get("BENCH_REQUESTS", "8000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "7"))
P99_RATIO = 2.0
LEAST_PER_S = 8_000
PACED_PER_S = 500
MANY = 100_000
MANY_MB = 300
MANY_S = 5.0
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
        for server in (gate, empty):
            uvloop.run(load(server.port, asked))
        rates = [(rate(empty, asked), rate(gate, asked)) for _ in range(ROUNDS)]
        some = asked[: 4 * PACED_PER_S]
        rounds = [
            (uvloop.run(paced(empty.port, some)), uvloop.run(paced(gate.port, some)))
            for _ in range(ROUNDS)
        ]
        counted = throttled(gate.port)
    medians = [statistics.median(found[place] for found in rates) for place in (0, 1)]
    say(f"  of one core: {medians[1]:,.0f} decisions/s, empty {medians[0]:,.0f}/s")
    least = 0.0 if beside else LEAST_PER_S
    yield Figure("decisions a second of one core", medians[1], least, at_most=False, unit="/s")
    for name, part in (("p50", 0.50), ("p99", 0.99)):
        pairs = [(quantile(e, part), quantile(g, part)) for e, g in rounds]
        median_empty, median_gate = (statistics.median(p[i] for p in pairs) for i in (0, 1))
        say(f"  {name}: decision {median_gate * 1e6:,.0f} us, empty {median_empty * 1e6:,.0f} us")
        ratio = statistics.median(g / e for e, g in pairs)
        limit = P99_RATIO if name == "p99" else float("inf")
        yield Figure(f"500/s against empty, {name}", ratio, limit, at_most=True, unit="x")
    say(f"  of the decisions {counted:.0%} were about a throttle")


def many() -> Iterator[Figure]:
    """Load 100,000 directives: how long that takes, and how much memory the process has then."""
    with ExitStack() as stack:
        broker = stack.enter_context(closing(ApacheKafka()))
        broker.create_topic(TOPIC, 1, **{"cleanup.policy": "compact"})
        publish(broker, MANY)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        gate = stack.enter_context(gate_process(broker, folder, MANY))
        status = Path(f"/proc/{gate.process.pid}/status").read_text()
        kilobytes = int(status.partition("VmHWM:")[2].split()[0])
    yield Figure("100,000 directives loaded", gate.loaded_s, MANY_S, at_most=True, unit=" s")
    yield Figure("memory with them, at most", kilobytes / 1e3, MANY_MB, at_most=True, unit=" MB")


def publish(broker: Broker, count: int = DIRECTIVES) -> None:
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
        for number in range(count)
    ]
    beat = Heartbeat(version=count, sent_at=now, lease_until=now + timedelta(hours=1))
    connection = Connection([broker.bootstrap_servers], api_version=broker.api_version)
    with closing(DirectivePublisher(connection, TOPIC)) as publisher:
        for start in range(0, count, DIRECTIVES):
            publisher.publish(directives[start : start + DIRECTIVES])
        publisher.publish([beat])


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


@dataclass(frozen=True)
class Server:
    """A server under test; `loaded_s` is how long it took from listening to having read all."""

    port: int
    process: subprocess.Popen[str]
    loaded_s: float = 0.0

    def cpu_s(self) -> float:
        """Return the processor time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rate(server: Server, asked: list[bytes]) -> float:
    """Return how many are answered in a second of the server's own processor time."""
    before = server.cpu_s()
    uvloop.run(load(server.port, asked))
    return len(asked) / (server.cpu_s() - before)


@contextmanager
def gate_process(broker: Broker, folder: Path, known: int = DIRECTIVES) -> Iterator[Server]:
    """Run `governor gate` until it has read the topic."""
    version = ".".join(map(str, broker.api_version or ()))
    environment = os.environ | {
        "GOVERNOR_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        **({"GOVERNOR_KAFKA__API_VERSION": version} if version else {}),
        "GOVERNOR_DIRECTIVES__TOPIC": TOPIC,
        "GOVERNOR_LOG__FORMAT": "json",
    }
    command = [sys.executable, "-m", "governor", "gate", "--port", "0"]
    with running(command, environment, folder) as process:
        port, opened = 0, 0.0
        for line in process.stderr or ():
            found = json.loads(line)
            if found["event"] == "gate.opened":
                port, opened = found["port"], time.perf_counter()
            if found["event"] == "directives.read":
                assert found["known"] == known, found
                break
        yield Server(port, process, time.perf_counter() - opened)


@contextmanager
def empty_process() -> Iterator[Server]:
    """Run an application that replies at once, served as the gate is."""
    with running([sys.executable, __file__, "--empty"], dict(os.environ), Path()) as process:
        assert process.stderr is not None
        yield Server(int(process.stderr.readline()), process)


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

    def __init__(
        self, bodies: Iterator[bytes], times: list[float], per_s: float | None = None
    ) -> None:
        self._bodies = bodies
        self._times = times
        self._pace_s = 1 / per_s if per_s else None
        self._due = self._began = time.perf_counter()
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
        if self._pace_s is None:
            self._send()
            return
        self._due += self._pace_s
        wait_s = max(0.0, self._due - time.perf_counter())
        asyncio.get_running_loop().call_later(wait_s, self._send)

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


async def paced(port: int, asked: list[bytes]) -> list[float]:
    """Send requests at a steady pace; return the seconds each took, in order."""
    bodies, times = iter(asked), list[float]()
    loop = asyncio.get_running_loop()
    per_s = PACED_PER_S / CONNECTIONS
    clients = []
    for _ in range(CONNECTIONS):
        made = await loop.create_connection(lambda: Client(bodies, times, per_s), "127.0.0.1", port)
        clients.append(made[1])
        await asyncio.sleep(1 / PACED_PER_S)
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
    say(f"gate: {(many if 'many' in names else decide).__doc__}")
    figures = list(many() if "many" in names else decide(beside="beside" in names))
    for figure in figures:
        verdict = "holds" if figure.holds else "MISSED"
        side = "at most" if figure.at_most else "at least"
        limited = 0 < figure.limit < float("inf")
        bound = f"  ({side} {figure.limit:g}: {verdict})" if limited else ""
        say(f"{figure.name:32} {figure.value:>12,.3f}{figure.unit}{bound}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--empty"]:
        with listening("127.0.0.1", 0) as listener:
            print(listener.getsockname()[1], file=sys.stderr, flush=True)
            uvicorn.Server(configured(nothing)).run(sockets=[listener])
    else:
        sys.exit(main(sys.argv[1:]))
