"""How fast, how small, how soon: ingest measured as ratios within one run, on real Kafka.

    make bench                                   everything, about five minutes
    python tests/bench/ingest.py path depth      some parts: path, depth, latency, start

Absolute figures depend on the machine; the ratios are what the limits are about. Run it on a quiet
machine: the broker, the producer and the daemon share its cores.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import duckdb
import msgspec
import pyarrow as pa
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.kafka.source import FETCH_MAX_BYTES, PARTITION_FETCH_MAX_BYTES
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Batch, Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.brokers import ApacheKafka

EVENTS = int(os.environ.get("BENCH_EVENTS", "300000"))
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "5"))
BATCH = 5_000
MODELS = (
    ("openai", "gpt-4o"),
    ("openai", "gpt-4o-mini"),
    ("anthropic", "claude-sonnet-4-5"),
    ("google", "gemini-2.5-pro"),
)


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure and the limit it is held to."""

    name: str
    value: float
    limit: float
    at_most: bool
    unit: str

    @property
    def holds(self) -> bool:
        return self.value <= self.limit if self.at_most else self.value >= self.limit


def events(count: int, seed: int, start: datetime, step: timedelta) -> Iterator[bytes]:
    """Yield events of about 330 bytes, in time order."""
    draw = Random(seed)
    for number in range(count):
        provider, model = draw.choice(MODELS)
        yield msgspec.json.encode(
            {
                "event_id": str(uuid.UUID(int=draw.getrandbits(128))),
                "source": "gateway-1",
                "event_time": start + number * step,
                "provider": provider,
                "model": model,
                "operation": "chat",
                "status": "success",
                "input_tokens": draw.randrange(10, 5_000),
                "cache_read_tokens": draw.randrange(10),
                "output_tokens": draw.randrange(1, 1_000),
                "customer": f"customer-{draw.randrange(500)}",
                "user": f"user-{draw.randrange(5_000)}",
                "tier": draw.choice(("free", "pro")),
                "feature": f"feature-{draw.randrange(10)}",
                "team": f"team-{draw.randrange(8)}",
                "environment": "production",
            }
        )


def path() -> Iterator[Figure]:
    """Time the whole ingest path against kafka-python's bare poll, turn by turn."""
    with closing(ApacheKafka()) as kafka:
        kafka.create_topic("bench", 1)
        produce(kafka, "bench", EVENTS)
        ratios, rates, sizes = [], [], []
        for number in range(ROUNDS):
            bare = bare_poll_rate(kafka, "bench")
            rate, rss_mb = drain_rate(kafka, "bench")
            say(f"  round {number + 1}: poll {bare:,.0f}/s, whole path {rate:,.0f}/s, {rss_mb} MB")
            ratios.append(rate / bare)
            rates.append(rate)
            sizes.append(rss_mb)
    yield Figure("whole path / bare poll", statistics.median(ratios), 0.4, at_most=False, unit="")
    yield Figure("whole path", statistics.median(rates), 30_000, at_most=False, unit=" events/s")
    yield Figure("memory while catching up", max(sizes), 700, at_most=True, unit=" MB RSS")


def produce(kafka: ApacheKafka, topic: str, count: int) -> None:
    producer = KafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers,
        linger_ms=50,
        batch_size=512 * 1024,
        compression_type="lz4",
    )
    step = timedelta(microseconds=500)
    for value in events(count, 1, datetime.now(UTC) - count * step, step):
        producer.send(topic, value)
    producer.flush()
    producer.close()


def bare_poll_rate(kafka: ApacheKafka, topic: str) -> float:
    """Return records a second of poll() alone, with the options of the daemon's source."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_poll_records=BATCH,
        fetch_max_bytes=FETCH_MAX_BYTES,
        max_partition_fetch_bytes=PARTITION_FETCH_MAX_BYTES,
        metrics_enabled=False,
    )
    place = TopicPartition(topic, 0)
    consumer.assign([place])
    consumer.seek(place, 0)
    count = 0
    began = time.perf_counter()
    while count < EVENTS:
        count += sum(map(len, consumer.poll(1_000).values()))
    seconds = time.perf_counter() - began
    consumer.close()
    return count / seconds


def drain_rate(kafka: ApacheKafka, topic: str) -> tuple[float, int]:
    """Return events a second from having its place to the last commit, and peak MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "governor", "run", "--drain", "--json"]
        environment = settings(kafka, topic, Path(folder))
        child = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        out, log = child.communicate(timeout=300)
        times = {}
        for line in map(json.loads, filter(None, log.splitlines())):
            times.setdefault(line["event"], datetime.fromisoformat(line["timestamp"]))
        if child.returncode or json.loads(out)["counted"] != EVENTS:
            raise SystemExit(f"the drain went wrong: {out}{log}")
        seconds = (times["ingest.drained"] - times["partition.resumed"]).total_seconds()
        peak_kb = max(
            line["peak_rss_kb"]
            for line in map(json.loads, log.splitlines())
            if "peak_rss_kb" in line
        )
    return EVENTS / seconds, peak_kb // 1024


def settings(kafka: ApacheKafka, topic: str, folder: Path, **more: str) -> dict[str, str]:
    return {
        "PATH": os.environ["PATH"],
        "GOVERNOR_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "GOVERNOR_TOPICS": f"{topic}=native",
        "GOVERNOR_STORE__PATH": str(folder / "governor.duckdb"),
        "GOVERNOR_INGEST__BATCH_RECORDS": str(BATCH),
        "GOVERNOR_LOG__FORMAT": "json",
        **more,
    }


def depth() -> Iterator[Figure]:
    """Weigh the cost of a batch with many events stored against the cost with few."""
    small, large = 1_000_000, 20_000_000
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        for stored in (small, large):
            where = Path(folder) / str(stored)
            where.mkdir()
            costs[stored] = batch_ms(where, stored)
            say(f"  {stored:,} stored: {costs[stored]:.1f} ms a batch of {BATCH:,}")
            shutil.rmtree(where)
    ratio = costs[large] / costs[small]
    yield Figure("batch at 20M stored / at 1M", ratio, 1.3, at_most=True, unit="")


def batch_ms(folder: Path, stored: int) -> float:
    """Return the median milliseconds of 60 batches, 1 % late, on top of `stored` events."""
    now = datetime.now(UTC)
    catalogue = Catalogue()
    rates = RateTable(Tariffs(catalogue))
    options = FileOptions(folder / "governor.duckdb", 400_000_000, 1, 64_000_000, 0)
    Store(options, rates, lambda: now).close()
    fill(options.path, stored, now)
    store = Store(options, rates, lambda: now)
    place = PartitionId("bench", 0)
    store.resume({place: (Resumption(0, Start.NEW_TOPIC, 0), None)}, now)
    intake = Intake(
        formats={"bench": FORMATS["native"]({})},
        window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
        clock=Frozen(now),
        max_record_bytes=1_000_000,
        watermarks={},
    )
    step = timedelta(milliseconds=0.5)
    draw = Random(2)
    lines = list(events(60 * BATCH, 3, now - 60 * BATCH * step, step))
    times: list[float] = []
    for start in range(0, len(lines), BATCH):
        records = [
            Record(0, start + i, line) for i, line in enumerate(lines[start : start + BATCH])
        ]
        for index in draw.sample(range(1, BATCH), BATCH // 100):
            records[index] = aged(records[index], timedelta(days=draw.uniform(0.1, 40)))
        polled = Polled(
            records={place: records},
            starts={place: Position(start, None)},
            ends={place: start + BATCH},
        )
        batch: Batch = intake.batch(polled)
        began = time.perf_counter()
        store.append(batch)
        times.append((time.perf_counter() - began) * 1_000)
    store.close()
    return statistics.median(times)


class Frozen:
    """A clock that stands still."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def at(self, newest_us: int | None) -> datetime:  # noqa: ARG002
        return self._now


@dataclass(frozen=True, slots=True)
class Record:
    partition: int
    offset: int
    value: bytes


def aged(record: Record, age: timedelta) -> Record:
    event = msgspec.json.decode(record.value)
    event["event_time"] = datetime.fromisoformat(event["event_time"]) - age
    return Record(record.partition, record.offset, msgspec.json.encode(event))


def fill(file: Path, count: int, now: datetime) -> None:
    """Store `count` events of the last 40 days in time order, 1 % of them late."""
    connection = duckdb.connect(str(file), config={"threads": 2, "memory_limit": "2GB"})
    connection.execute("SET TimeZone = 'UTC'")
    chunk = 1_000_000
    step_us = int(timedelta(days=40) / timedelta(microseconds=1)) // count
    for first in range(0, count, chunk):
        for table, share in (("events", "i % 100 > 0"), ("late_events", "i % 100 = 0")):
            connection.execute(
                f"""INSERT INTO {table} BY NAME
                SELECT uuid()::VARCHAR AS event_id, 'gateway-1' AS source,
                       $1::TIMESTAMPTZ + to_microseconds(i * $2) AS event_time,
                       'openai' AS provider, 'gpt-4o' AS model, 'team-' || i % 8 AS team,
                       'customer-' || i % 500 AS customer, i % 5000 AS input_tokens,
                       i % 1000 AS output_tokens, 1 AS requests, 0 AS "partition", i AS "offset",
                       'bench' AS topic, 1 AS price_id, i AS cost_nano, i AS cap_nano
                FROM range($3, $4) t(i) WHERE {share}""",
                [now - timedelta(days=40, minutes=5), step_us, first, first + chunk],
            )
    connection.execute("CHECKPOINT")
    connection.close()


def latency() -> Iterator[Figure]:
    """Time an event from the producer's clock to the commit, at 2,000 events a second."""
    seconds, rate = 20, 2_000
    with closing(ApacheKafka()) as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topic("bench", 3)
        log = Path(folder) / "commits.json"
        environment = settings(kafka, "bench", Path(folder), GOVERNOR_HTTP__PORT="0")
        command = [sys.executable, __file__, "--daemon", str(log)]
        daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=5)
        wait = threading.Event().wait
        wait(4)
        began = time.perf_counter()
        lines = list(events(seconds * rate, 5, datetime.now(UTC), timedelta(0)))
        began = time.perf_counter()
        for number, line in enumerate(lines):
            due = began + number / rate
            if due > time.perf_counter():
                wait(due - time.perf_counter())
            event = msgspec.json.decode(line) | {"event_time": datetime.now(UTC)}
            producer.send("bench", msgspec.json.encode(event))
        producer.flush()
        producer.close()
        wait(3)
        daemon.terminate()
        daemon.wait(timeout=30)
        delays = sorted(json.loads(log.read_text()))
    if len(delays) != seconds * rate:
        raise SystemExit(f"{len(delays)} of {seconds * rate} events were committed")
    say(f"  p50 {delays[len(delays) // 2]:.3f} s, worst {delays[-1]:.3f} s")
    p99 = delays[int(len(delays) * 0.99)]
    yield Figure("produced to committed, p99", p99, 1.0, at_most=True, unit=" s at 2,000/s")


def recording_daemon(log: Path) -> None:
    """Run the daemon and note the seconds from each event's time to its commit."""
    from governor import daemon as real  # noqa: PLC0415
    from governor.settings import load  # noqa: PLC0415

    delays: list[float] = []
    append = Store.append

    def noted(store: Store, batch: Batch) -> object:
        stored = append(store, batch)
        committed = time.time()
        times = batch.events["event_time"].cast(pa.int64()).to_pylist()
        delays.extend(committed - micros / 1e6 for micros in times)
        return stored

    Store.append = noted  # type: ignore[method-assign,assignment]
    real.run(load().settings)
    log.write_text(json.dumps(delays))


def start() -> Iterator[Figure]:
    """Time a start from cold with a million events stored to ready."""
    took = []
    with closing(ApacheKafka()) as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topic("bench", 3)
        now = datetime.now(UTC)
        catalogue = Catalogue()
        rates = RateTable(Tariffs(catalogue))
        file = Path(folder) / "governor.duckdb"
        Store(FileOptions(file, 400_000_000, 1, 64_000_000, 0), rates, lambda: now).close()
        fill(file, 1_000_000, now)
        for _ in range(3):
            environment = settings(kafka, "bench", Path(folder), GOVERNOR_HTTP__PORT="19464")
            command = [sys.executable, "-m", "governor", "run"]
            began = time.perf_counter()
            daemon = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
            while not ready("http://127.0.0.1:19464/readyz"):
                threading.Event().wait(0.02)
            took.append(time.perf_counter() - began)
            daemon.terminate()
            daemon.wait(timeout=30)
    worst = max(took)
    yield Figure("ready after a cold start", worst, 3.0, at_most=True, unit=" s with 1M stored")


def ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return answer.status == 200
    except OSError:
        return False


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "path": path,
    "depth": depth,
    "latency": latency,
    "start": start,
}


def report(parts: Mapping[str, Callable[[], Iterator[Figure]]], names: Sequence[str]) -> int:
    """Run the parts named, or all; return 1 where a limit is not reached."""
    figures = []
    for name in names or parts:
        say(f"{name}: {(parts[name].__doc__ or name).splitlines()[0]}")
        figures += list(parts[name]())
    say("")
    for figure in figures:
        bound = "at most" if figure.at_most else "at least"
        verdict = "holds" if figure.holds else "MISSED"
        say(
            f"{figure.name:32} {figure.value:>12,.3f}{figure.unit}"
            f"  ({bound} {figure.limit:g}: {verdict})"
        )
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--daemon"]:
        recording_daemon(Path(sys.argv[2]))
    else:
        sys.exit(report(PARTS, sys.argv[1:]))
