"""The kill campaign: SIGKILL at any moment, and still every event counts once."""

import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.brokers import ApacheKafka, GivenKafka
from tests.e2e.daemon import FULL, Daemon, drain, environment, sql
from tests.e2e.ledger import Ledger, books_of, check_agreement, producing, send

KILLS, EVENTS = (200, 1_000_000) if FULL else (20, 100_000)
PARTITIONS = 6
CHUNK = 500
SECONDS_A_KILL = 1.6
"""Less than a round of the campaign takes, so that the producer stays ahead."""


@pytest.mark.soak
@pytest.mark.timeout(7_200 if FULL else 300)
def test_kills(apache_kafka: ApacheKafka | GivenKafka, tmp_path: Path, topic_name: str) -> None:
    """However often the daemon is killed, its books are the producer's, to the nano-dollar.

    After each kill the tables of the file agree with one another: positions, events, late events,
    rejects and rollups. Half of the kills fall into the first 1.5 s, into start-up and the replay
    of the write-ahead log; the log is cut every megabyte, so that others hit a checkpoint.
    """
    seed = random.randrange(2**32)
    print(f"\nseed {seed}: {KILLS} kills, {EVENTS:,} events")
    apache_kafka.create_topic(topic_name, PARTITIONS)
    env = environment(
        tmp_path,
        apache_kafka,
        topic_name,
        store__checkpoint_threshold="1MB",
        ingest__batch_records=500,
        ingest__batch_wait="50ms",
    )
    ledger = Ledger(seed, partitions=PARTITIONS)
    load = Load(apache_kafka, topic_name, ledger)
    load.start()
    try:
        hits = kill_often(Daemon(env), random.Random(seed), tmp_path / "governor.duckdb", load)
    finally:
        load.hurry.set()
        load.join()
    assert load.failure is None, load.failure
    print(f"killed {dict(hits)}; draining {EVENTS:,} events")
    totals = drain(env)
    assert totals["events"] == ledger.books.produced == EVENTS
    assert books_of(tmp_path / "governor.duckdb") == ledger.books
    resumed = sql(
        tmp_path / "governor.duckdb", "SELECT reason, count(*) FROM resumptions GROUP BY 1"
    )
    assert resumed == [("new_topic", PARTITIONS)], (
        "no partition was read from elsewhere than stored"
    )


def kill_often(daemon: Daemon, draw: random.Random, store: Path, load: "Load") -> Counter[str]:
    """Start and kill the daemon; check the file after each kill; return when the kills hit."""
    hits: Counter[str] = Counter()
    for number in range(1, KILLS + 1):
        early = draw.random() < 0.5
        delay_s = draw.uniform(0, 1.5) if early else draw.uniform(1.5, 4)
        daemon.start()
        time.sleep(delay_s)
        if not early and draw.random() < 0.3:
            daemon.terminate()
            time.sleep(draw.uniform(0, 0.4))
        daemon.kill()
        phase = phase_of(daemon)
        hits[phase] += 1
        wal = store.with_name(f"{store.name}.wal")
        wal_bytes = wal.stat().st_size if wal.exists() else 0
        stored = check(store)
        print(
            f"kill {number:3} after {delay_s:.2f} s in {phase:9} wal {wal_bytes:9,} B,"
            f" stored {stored:9,} of {load.acknowledged:9,}",
            flush=True,
        )
    return hits


def phase_of(daemon: Daemon) -> str:
    """Say how far the daemon had come, by its log."""
    events = {line.get("event") for line in daemon.log()}
    phases = {
        "daemon.stopping": "shutdown",
        "partition.resumed": "reading",
        "daemon.started": "connect",
    }
    return next((phase for event, phase in phases.items() if event in events), "start-up")


def check(store: Path) -> int:
    """Check a copy of what the kill left; return how many events it accounts for."""
    if not store.exists():
        return 0
    copies = store.parent / "copy"
    copies.mkdir(exist_ok=True)
    for path in store.parent.glob(f"{store.name}*"):
        if path.is_file():
            shutil.copy(path, copies)
    check_agreement(copies / store.name)
    ((stored,),) = sql(copies / store.name, "SELECT coalesce(sum(events), 0) FROM positions")
    shutil.rmtree(copies)
    return int(stored)


class Load(threading.Thread):
    """Sends the events, spread over the time the kills will take, until told to hurry."""

    def __init__(self, broker: ApacheKafka | GivenKafka, topic: str, ledger: Ledger) -> None:
        super().__init__(name="load")
        self._broker = broker
        self._topic = topic
        self._ledger = ledger
        self.hurry = threading.Event()
        self.acknowledged = 0
        self.failure: Exception | None = None

    def run(self) -> None:
        pause_s = KILLS * SECONDS_A_KILL * CHUNK / EVENTS
        try:
            with producing(self._broker) as producer:
                while self.acknowledged < EVENTS:
                    records = self._ledger.records(min(CHUNK, EVENTS - self.acknowledged))
                    self.acknowledged += send(producer, self._topic, records)
                    self.hurry.wait(pause_s)
        except Exception as error:  # noqa: BLE001  # the test must fail, not the thread
            self.failure = error
