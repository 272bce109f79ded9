"""Kafka goes away, freezes, loses, grows and starts over; the books say what became of it."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaProducer

from governor.demo.broker import EmbeddedBroker
from tests.brokers import ApacheKafka, Broker, GivenKafka
from tests.e2e.daemon import FULL, Daemon, drain, environment, group_offsets, sql
from tests.e2e.ledger import Ledger, Mix, books_of, producing, send

pytestmark = pytest.mark.kafka

OUTAGE_S = 60.0 if FULL else 8.0
FREEZE_S = 5.0
RECOVERY_S = 40.0
"""Within this long of a fault's end the daemon counts again."""
PARTITIONS = 3
SEED = 7
NO_WASTE = Mix(duplicate=0, malformed=0, absurd=0)

Kafka = ApacheKafka | GivenKafka


class Site:
    """A topic, what was sent to it, and where it is counted."""

    def __init__(self, broker: Broker, topic: str, folder: Path, *, partitions: int) -> None:
        broker.create_topic(topic, partitions)
        self.broker = broker
        self.topic = topic
        self.partitions = partitions
        self.ledger = Ledger(SEED, partitions=partitions)
        self.env = environment(folder, broker, topic)
        self.store = folder / "governor.duckdb"

    def send(self, count: int, ledger: Ledger | None = None) -> None:
        """Send more records, booked by the site's own ledger or another."""
        with producing(self.broker) as producer:
            send(producer, self.topic, (ledger or self.ledger).records(count))

    def resumptions(self, reason: str) -> list[tuple[Any, ...]]:
        """Return partition, from_offset, to_offset and missed_records of the stored resumptions."""
        return sql(
            self.store,
            'SELECT "partition", from_offset, to_offset, missed_records FROM resumptions'
            f" WHERE reason = '{reason}' ORDER BY 1",
        )


@pytest.fixture
def site(apache_kafka: Kafka, topic_name: str, tmp_path: Path) -> Site:
    """Return a new topic of the session's Apache Kafka."""
    return Site(apache_kafka, topic_name, tmp_path, partitions=PARTITIONS)


@pytest.fixture
def own_site(own_kafka: ApacheKafka, topic_name: str, tmp_path: Path) -> Site:
    """Return a new topic of a broker that may be stopped."""
    return Site(own_kafka, topic_name, tmp_path, partitions=PARTITIONS)


@pytest.fixture
def daemon(site: Site) -> Iterator[Daemon]:
    """Run the daemon on `site`, with 2,000 records counted."""
    yield from counting(site)


@pytest.fixture
def own_daemon(own_site: Site) -> Iterator[Daemon]:
    """Run the daemon on `own_site`, with 2,000 records counted."""
    yield from counting(own_site)


@pytest.fixture
def leaving(own_site: Site, own_daemon: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """Run another daemon on `own_site`, with a store of its own."""
    folder = tmp_path / "leaving"
    folder.mkdir()
    env = environment(folder, own_site.broker, own_site.topic, kafka__group_id="leaving")
    with Daemon(env) as daemon:
        daemon.await_events(2_000)
        yield daemon


def counting(site: Site) -> Iterator[Daemon]:
    site.send(2_000)
    with Daemon(site.env) as daemon:
        daemon.await_ready()
        daemon.await_events(2_000)
        yield daemon


def finish(site: Site, daemon: Daemon, began: float) -> None:
    """Wait until all that was sent is counted, say how long it took, stop, compare the books."""
    daemon.await_events(site.ledger.books.produced, RECOVERY_S)
    print(f"counted {time.monotonic() - began:.1f} s after the fault's end")
    assert daemon.stop() == 0
    assert books_of(site.store) == site.ledger.books


def test_broker_away(
    own_kafka: ApacheKafka, own_site: Site, own_daemon: Daemon, leaving: Daemon
) -> None:
    """A broker that is away for a while costs nothing but time, and /healthz stays well.

    Another daemon that is asked to stop meanwhile ends within 10 s.
    """
    own_kafka.stop()
    try:
        time.sleep(OUTAGE_S)
        assert own_daemon.get("/healthz") == (200, "ok\n")
        assert leaving.stop() == 0
    finally:
        own_kafka.start()
    began = time.monotonic()
    own_site.send(2_000)
    finish(own_site, own_daemon, began)


@pytest.mark.parametrize("away_s", [0.0, *([20.0] if FULL else [])])
def test_broker_killed(
    own_kafka: ApacheKafka, own_site: Site, own_daemon: Daemon, away_s: float
) -> None:
    """A broker that dies by SIGKILL and comes back on its data costs nothing but time."""
    own_kafka.stop(kill=True)
    time.sleep(away_s)
    own_kafka.start()
    began = time.monotonic()
    own_site.send(2_000)
    finish(own_site, own_daemon, began)


def test_broker_frozen(
    own_kafka: ApacheKafka, own_site: Site, own_daemon: Daemon, leaving: Daemon
) -> None:
    """A broker that keeps its connections and answers nothing for a while loses nothing.

    Another daemon that is asked to stop meanwhile ends within 10 s.
    """
    own_kafka.pause()
    began = time.monotonic()
    try:
        assert leaving.stop() == 0
        time.sleep(max(0.0, FREEZE_S - (time.monotonic() - began)))
    finally:
        own_kafka.resume()
    began = time.monotonic()
    own_site.send(2_000)
    finish(own_site, own_daemon, began)


def test_topic_made_again_while_running(apache_kafka: Kafka, site: Site, daemon: Daemon) -> None:
    """A topic deleted and made again with fewer records is counted from its new beginning, loudly.

    What was counted of the old one stays counted.
    """
    apache_kafka.delete_topic(site.topic)
    time.sleep(1)
    apache_kafka.create_topic(site.topic, PARTITIONS)
    began = time.monotonic()
    site.send(500)
    daemon.await_log("partition.resumed", reason="recreated", level="error", timeout_s=RECOVERY_S)
    finish(site, daemon, began)
    assert [row[2:] for row in site.resumptions("recreated")] == [(0, 0)] * PARTITIONS


def test_topic_made_again_and_again(apache_kafka: Kafka, site: Site, daemon: Daemon) -> None:
    """However often its topic is made again, the daemon goes on, and reads the last to its end."""
    for _ in range(4):
        apache_kafka.delete_topic(site.topic)
        apache_kafka.create_topic(site.topic, PARTITIONS)
        site.send(50)
        time.sleep(1.5)

    def at_the_end() -> bool:
        return sum(partition["next_offset"] for partition in daemon.status()["partitions"]) == 50

    daemon.until(at_the_end, "position at the end", timeout_s=RECOVERY_S)
    assert daemon.stop() == 0
    books_of(site.store)


def test_topic_made_again_while_down(apache_kafka: Kafka, site: Site) -> None:
    """A topic made again while no daemon ran is counted from its beginning at the next start."""
    site.send(2_000)
    drain(site.env)
    apache_kafka.delete_topic(site.topic)
    time.sleep(1)
    apache_kafka.create_topic(site.topic, PARTITIONS)
    site.send(500)
    with Daemon(site.env) as daemon:
        line = daemon.await_log("partition.resumed", reason="recreated")
        assert (line["level"], line["offset"], line["missed_records"]) == ("error", 0, 0)
        finish(site, daemon, time.monotonic())
    assert [row[2:] for row in site.resumptions("recreated")] == [(0, 0)] * PARTITIONS


def test_records_expired_while_down(apache_kafka: Kafka, topic_name: str, tmp_path: Path) -> None:
    """Records that expired before they were read are missed loudly, and their number is exact."""
    site = Site(apache_kafka, topic_name, tmp_path, partitions=1)
    site.send(1_000)
    drain(site.env)
    site.send(300, Ledger(99, partitions=1))
    apache_kafka.delete_records(site.topic, 0, 1_300)
    site.send(700)
    with Daemon(site.env) as daemon:
        line = daemon.await_log("partition.resumed", reason="expired")
        assert (line["level"], line["offset"], line["missed_records"]) == ("error", 1_300, 300)
        daemon.await_events(1_700)
        assert "governor_missed_records_total 300.0" in daemon.get("/metrics")[1]
        daemon.stop()
    assert site.resumptions("expired") == [(0, 1_000, 1_300, 300)]
    assert books_of(site.store) == site.ledger.books


def test_partitions_added(apache_kafka: Kafka, site: Site, daemon: Daemon) -> None:
    """Partitions added to a topic while the daemon runs are read from their beginning."""
    with apache_kafka.admin() as admin:
        admin.create_partitions({site.topic: PARTITIONS + 3})
    more = Ledger(SEED + 1, partitions=PARTITIONS + 3, mix=NO_WASTE)
    began = time.monotonic()
    site.send(2_000, more)
    daemon.await_events(4_000, RECOVERY_S)
    print(f"counted {time.monotonic() - began:.1f} s after the partitions were added")
    assert daemon.stop() == 0
    assert [row[2:] for row in site.resumptions("new_partition")] == [(0, 0)] * 3
    books = books_of(site.store)
    assert books.counted == site.ledger.books.counted + more.books.counted
    assert books.cost_nano == site.ledger.books.cost_nano + more.books.cost_nano


def test_coordinator_moves(tmp_path: Path, topic_name: str) -> None:
    """A group coordinator that moves holds up no counting, and the offsets reach the new one."""
    with EmbeddedBroker(brokers=2) as broker:
        site = Site(broker, topic_name, tmp_path, partitions=PARTITIONS)
        for daemon in counting(site):
            group = site.env["GOVERNOR_KAFKA__GROUP_ID"]
            broker.move_coordinator(group)
            site.send(2_000)
            finish(site, daemon, time.monotonic())
            stored = dict(sql(site.store, 'SELECT "partition", next_offset FROM positions'))
            assert group_offsets(broker, group, topic_name, PARTITIONS) == stored


def test_topic_comes_late(apache_kafka: Kafka, tmp_path: Path, topic_name: str) -> None:
    """A daemon started before its topic exists says so, and counts it once it is made."""
    env = environment(tmp_path, apache_kafka, topic_name)
    with Daemon(env) as daemon:
        line = daemon.await_log("topics.missing")
        assert line["topics"] == [topic_name]
        assert "governor topics create" in line["advice"]
        site = Site(apache_kafka, topic_name, tmp_path, partitions=2)
        site.send(500)
        finish(site, daemon, time.monotonic())


def test_records_expired_while_running(
    apache_kafka: Kafka, topic_name: str, tmp_path: Path
) -> None:
    """Records that expire under a daemon that lags are missed loudly too, and it reads on."""
    site = Site(apache_kafka, topic_name, tmp_path, partitions=1)
    carried = Ledger(98, partitions=1)
    for daemon in counting(site):
        assert daemon.process is not None
        daemon.process.send_signal(signal.SIGSTOP)
        site.send(1, carried)  # a fetch that waits on the broker may bring it along, and no more
        site.send(300, Ledger(99, partitions=1))
        apache_kafka.delete_records(site.topic, 0, 2_301)
        site.send(700)
        daemon.process.send_signal(signal.SIGCONT)
        line = daemon.await_log("partition.resumed", reason="expired", timeout_s=RECOVERY_S)
        assert (line["level"], line["offset"]) == ("error", 2_301)
        daemon.await_events(3_001 - line["missed_records"], RECOVERY_S)
        assert daemon.stop() == 0
    books, expected = books_of(site.store), site.ledger.books
    ((_, read_until, _, missed),) = site.resumptions("expired")
    assert (read_until, missed) in ((2_000, 301), (2_001, 300))
    assert books.produced == 3_001 - missed
    with_carried = read_until - 2_000
    assert books.counted == expected.counted + with_carried
    assert books.cost_nano == expected.cost_nano + with_carried * carried.books.cost_nano


def test_policy_none(apache_kafka: Kafka, tmp_path: Path, topic_name: str) -> None:
    """With `auto_offset_reset: none` a new topic stops the daemon; one line says how to go on."""
    site = Site(apache_kafka, topic_name, tmp_path, partitions=1)
    site.send(100)
    with Daemon(site.env | {"GOVERNOR_KAFKA__AUTO_OFFSET_RESET": "none"}) as daemon:
        assert daemon.wait(30) == 1
        (line,) = [text for text in daemon.log_text().splitlines() if not text.startswith("{")]
    assert "GOVERNOR_KAFKA__AUTO_OFFSET_RESET=earliest" in line
    drain(site.env)
    assert books_of(site.store) == site.ledger.books


def test_topics_of_the_past(apache_kafka: Kafka, tmp_path: Path, topic_name: str) -> None:
    """Stored topics that were deleted, or are read no more, do not hide the lag of the others.

    Nor do they make the daemon unwell, though one of them goes on growing.
    """
    names = {part: f"{topic_name}-{part}" for part in ("kept", "deleted", "dropped")}
    sites = {part: Site(apache_kafka, name, tmp_path, partitions=1) for part, name in names.items()}
    env = sites["kept"].env | {
        "GOVERNOR_TOPICS": ",".join(f"{name}=native" for name in names.values()),
        "GOVERNOR_INGEST__STALL_AFTER": "1s",
    }
    for site in sites.values():
        site.send(100)
    drain(env)
    apache_kafka.delete_topic(names["deleted"])
    sites["dropped"].send(100)
    env["GOVERNOR_TOPICS"] = f"{names['kept']}=native,{names['deleted']}=native"
    with Daemon(env) as daemon:
        lag = f'governor_partition_lag_records{{partition="0",topic="{names["kept"]}"}} 0.0'
        daemon.until(lambda: lag in daemon.get("/metrics")[1], "lag", timeout_s=12)
        time.sleep(6)
        assert daemon.get("/healthz") == (200, "ok\n")
        assert not daemon.log("watch.failed")
        assert daemon.stop() == 0


def test_transactions(apache_kafka: Kafka, site: Site) -> None:
    """Of transactions only what was committed counts, and a drain steps over their markers."""
    aborted = Ledger(99, partitions=PARTITIONS)
    producer = KafkaProducer(
        bootstrap_servers=apache_kafka.bootstrap_servers, transactional_id=site.topic
    )
    try:
        producer.init_transactions()
        for ledger, end in (
            (site.ledger, producer.commit_transaction),
            (aborted, producer.abort_transaction),
            (site.ledger, producer.commit_transaction),
        ):
            producer.begin_transaction()
            send(producer, site.topic, ledger.records(500))
            end()
    finally:
        producer.close(timeout=5)
    drain(site.env)
    assert books_of(site.store) == site.ledger.books
    ((read,),) = sql(site.store, "SELECT sum(next_offset) FROM positions")
    assert read > 1_500, "records that were aborted, and markers, are stepped over"
