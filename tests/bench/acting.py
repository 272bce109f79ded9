"""How soon a cap acts, and what rules cost: measured on real Kafka, as ratios within one run.

    python tests/bench/acting.py                 everything, about two minutes
    python tests/bench/acting.py rules           one part: rules, reaction

`make bench` runs it after the parts of ingest.
"""

import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import msgspec
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.periods import Calendar, Every
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Threshold
from governor.core.rules.units import Measure
from governor.core.scopes import Condition, Scope
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.evaluate import Evaluate
from governor.loops.ingest import Intake
from tests.bench.ingest import Figure, report, say
from tests.bench.ingest import settings as ingest_settings
from tests.brokers import ApacheKafka
from tests.gateways import Upstream, nginx

BATCH = 5_000
ROUNDS = 40
RULES, GROUPS = 1_000, 10_000
TEAMS = 100
PLACE = PartitionId("usage", 0)


@dataclass(frozen=True, slots=True)
class Record:
    """A record as Kafka hands it over."""

    offset: int
    value: bytes
    timestamp: int = 0


def lines(count: int, draw: Random, now: datetime) -> list[bytes]:
    """Return events of 10,000 customers in 100 teams, at one time."""
    return [
        msgspec.json.encode(
            {
                "event_id": f"{draw.getrandbits(64):x}",
                "source": "gateway-1",
                "event_time": now,
                "provider": "openai",
                "model": draw.choice(("gpt-4o", "gpt-4o-mini")),
                "input_tokens": draw.randrange(10, 5_000),
                "output_tokens": draw.randrange(1, 1_000),
                "customer": f"customer-{(number := draw.randrange(GROUPS))}",
                "team": f"team-{number % TEAMS}",
                "tier": ("free", "pro")[number % 2],
                "user": f"user-{draw.randrange(50_000)}",
                "feature": f"feature-{draw.randrange(10)}",
                "environment": "production",
            }
        )
        for _ in range(count)
    ]


def budgets() -> list[Budget]:
    """Return a thousand rules of three shapes that have 10,000 groups between them."""
    shapes: list[tuple[Scope, tuple[str, ...], Every]] = []
    for number in range(RULES):
        team = Condition("team", frozenset({f"team-{number % TEAMS}"}))
        tier = Condition("tier", frozenset({("free", "pro")[number % 2]}))
        if number < TEAMS:
            shapes.append((Scope((team,)), ("customer",), Every.DAY))
        elif number < RULES // 2:
            feature = Condition("feature", frozenset({f"feature-{number % 10}"}))
            shapes.append((Scope((team, feature)), (), Every.MONTH))
        else:
            shapes.append((Scope((team, tier)), (), Every.WEEK))
    return [
        Budget(
            id=f"rule-{number}",
            owner="bench",
            summary="",
            measure=Measure.COST,
            limit=10**15,
            limit_text="1000000 USD",
            calendar=Calendar(every, "America/New_York"),
            thresholds=(
                Threshold("80%", 8 * 10**14, Level.WARNING),
                Threshold("100%", 10**15, Level.CRITICAL),
            ),
            where=where,
            per=per,
        )
        for number, (where, per, every) in enumerate(shapes)
    ]


class Frozen:
    """A clock that stands still."""

    def __init__(self, now: datetime) -> None:
        self._now = now

    def at(self, _: int | None) -> datetime:
        return self._now


class Line:
    """One way through decode, store and, with rules, judgement; timed batch by batch."""

    def __init__(self, folder: Path, now: datetime, rules: Sequence[Budget]) -> None:
        catalogue = Catalogue()
        rates = RateTable(Tariffs(catalogue))
        options = FileOptions(folder / "governor.duckdb", 400_000_000, 1, 64_000_000, 0)
        self.store = Store(options, rates, lambda: now)
        self.store.resume({PLACE: (Resumption(0, Start.NEW_TOPIC, 0), "id")}, now)
        self._intake = Intake(
            formats={PLACE.topic: FORMATS["native"]({})},
            window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
            clock=Frozen(now),
            max_record_bytes=1_000_000,
            watermarks={},
        )
        self.evaluate = Evaluate(
            State(self.store, lambda: now),
            rules,
            now=lambda: now,
            follow_events=False,
            receivers=["log"],
            publish=lambda _: None,
        )
        self.evaluate.begin()
        self._offset = 0

    def seconds(self, batch: Sequence[bytes]) -> float:
        """Take a batch through, and return how long that took."""
        records = [Record(self._offset + n, value) for n, value in enumerate(batch)]
        start, self._offset = self._offset, self._offset + len(batch)
        began = time.perf_counter()
        polled = Polled({PLACE: records}, {PLACE: Position(start, "id")}, {PLACE: self._offset})
        made = self._intake.batch(polled)
        stored = self.store.append(made)
        assert stored is not None
        self.evaluate.stored(made, stored)
        self.evaluate.settle()
        return time.perf_counter() - began


def rules() -> Iterator[Figure]:
    """Time batches with 1,000 rules over 10,000 groups and with none, turn by turn."""
    now = datetime.now(UTC)
    draw = Random(1)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        bare, ruled = Line(Path(first), now, []), Line(Path(second), now, budgets())
        times: list[tuple[float, float]] = []
        for number in range(ROUNDS + 10):
            batch = lines(BATCH, draw, now)
            took = (bare.seconds(batch), ruled.seconds(batch))
            if number >= 10:
                times.append(took)
        groups = ruled.evaluate.groups
    without, with_rules = (statistics.median(column) for column in zip(*times, strict=True))
    say(f"  {groups:,} groups; a batch: {without * 1e3:.1f} ms, ruled {with_rules * 1e3:.1f} ms")
    loss = 1 - without / with_rules
    yield Figure("rate lost to 1,000 rules", loss, 0.15, at_most=True, unit="")


RULE = """
  - id: cap-{number}
    kind: budget
    mode: enforce
    owner: bench
    summary: "{{{{ value }}}}"
    where: {{customer: customer-{number}}}
    limit: 10 USD
    period: day
    thresholds: [{{at: 100%, level: critical, actions: [slow]}}]
    actions:
      slow: {{do: throttle, to: 1/day, each: none}}
"""


def reaction() -> Iterator[Figure]:
    """Time from an event that crosses a cap to its directive and nginx's refusal, at 2,000/s."""
    rate, count = 2_000, 200
    with closing(ApacheKafka()) as kafka, tempfile.TemporaryDirectory() as folder:
        kafka.create_topic("bench", 3)
        kafka.create_topic("directives", 1, **{"cleanup.policy": "compact"})
        rule_file = Path(folder) / "rules.yaml"
        text = "".join(RULE.format(number=number) for number in range(count))
        rule_file.write_text(f"version: 1\nrules:{text}")
        environment = ingest_settings(
            kafka,
            "bench",
            Path(folder),
            GOVERNOR_HTTP__PORT="0",
            GOVERNOR_RULES__PATH=str(rule_file),
            GOVERNOR_DIRECTIVES__TOPIC="directives",
            GOVERNOR_CONTROL__SOCKET=str(Path(folder) / "control.sock"),
            GOVERNOR_GATE__PORT="0",
            GOVERNOR_GATE__HEADERS="customer=x-customer",
            GOVERNOR_LOG__FORMAT="json",
        )
        log = (Path(folder) / "gate.log").open("w+")
        gate = subprocess.Popen(
            [sys.executable, "-m", "governor", "gate"], env=environment, stderr=log
        )
        daemon = subprocess.Popen(
            [sys.executable, "-m", "governor", "run"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            threading.Event().wait(5)
            log.seek(0)
            opened = next(line for line in log if '"gate.opened"' in line)
            gate_port = json.loads(opened)["port"]
            names = [f"customer-{number}" for number in range(count)]
            place = Path(folder) / "nginx"
            place.mkdir()
            with Upstream() as upstream, nginx(place, gate_port, upstream.port, names) as client:
                published, refused = crossings(kafka, rate, count, client.port)
        finally:
            for process in (daemon, gate):
                process.terminate()
                process.wait(timeout=30)
    for name, delays, limit in (
        ("crossing to directive, p99", sorted(published), 2.0),
        ("crossing to refusal by nginx, p99", sorted(refused), 2.0),
    ):
        if len(delays) != count:
            raise SystemExit(f"{name}: {len(delays)} of {count} caps acted")
        say(f"  {name[:-5]}: p50 {delays[count // 2]:.3f} s, worst {delays[-1]:.3f} s")
        p99 = delays[int(count * 0.99) - 1]
        yield Figure(name, p99, limit, at_most=True, unit=" s at 2,000/s")


def crossings(
    kafka: ApacheKafka, rate: int, count: int, port: int
) -> tuple[list[float], list[float]]:
    """Send a steady load in which each customer crosses its cap once; return both delays."""
    crossed: dict[str, float] = {}
    seen: dict[str, float] = {}
    refused: dict[str, float] = {}
    over = threading.Event()
    watchers = [
        threading.Thread(target=watch, args=(kafka, seen, over)),
        threading.Thread(target=ask, args=(port, crossed, refused, over)),
    ]
    for watcher in watchers:
        watcher.start()
    load(kafka, rate, count, crossed)
    threading.Event().wait(5)
    over.set()
    for watcher in watchers:
        watcher.join()
    return tuple(  # type: ignore[return-value]
        [found[customer] - at for customer, at in crossed.items() if customer in found]
        for found in (seen, refused)
    )


def load(kafka: ApacheKafka, rate: int, count: int, crossed: dict[str, float]) -> None:
    """Send for 20 s; note in `crossed` when each customer crosses."""
    producer = KafkaProducer(bootstrap_servers=kafka.bootstrap_servers, linger_ms=5)
    wait = threading.Event().wait
    seconds = 20
    began = time.perf_counter()
    for number in range(seconds * rate):
        due = began + number / rate
        if due > time.perf_counter():
            wait(due - time.perf_counter())
        tokens = 100
        customer = f"other-{number % 1_000}"
        if number % (seconds * rate // count) == 0:
            customer = f"customer-{len(crossed)}"
            tokens = 4_000_001
            crossed[customer] = time.time()
        event = {
            "event_id": f"{number}-{began}",
            "source": "bench",
            "event_time": datetime.now(UTC),
            "provider": "openai",
            "model": "gpt-4o",
            "customer": customer,
            "input_tokens": tokens,
            "output_tokens": 0,
        }
        producer.send("bench", msgspec.json.encode(event))
    producer.flush()
    producer.close()


def ask(
    port: int, crossed: dict[str, float], refused: dict[str, float], over: threading.Event
) -> None:
    """Ask nginx as each customer that has crossed, until it refuses."""
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as client:
        while not over.wait(0.02):
            for customer in [name for name in list(crossed) if name not in refused]:
                headers = {"Authorization": f"Bearer key-of-{customer}"}
                client.request("GET", "/v1/models", headers=headers)
                answer = client.getresponse()
                answer.read()
                if answer.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                    refused[customer] = time.time()


def watch(kafka: ApacheKafka, seen: dict[str, float], over: threading.Event) -> None:
    """Note when the directive of each customer is read from the topic."""
    consumer = KafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, group_id=None, enable_auto_commit=False
    )
    place = TopicPartition("directives", 0)
    consumer.assign([place])
    consumer.seek_to_beginning(place)
    while not over.is_set():
        for found in consumer.poll(50).values():
            for record in found:
                body = json.loads(record.value or b"{}")
                if body.get("effect") == "throttle":
                    (customer,) = body["scope"]["customer"]["values"]
                    seen.setdefault(customer, time.time())
    consumer.close(autocommit=False)


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {"rules": rules, "reaction": reaction}

if __name__ == "__main__":
    sys.exit(report(PARTS, sys.argv[1:]))
