"""The disk fills up, the file goes away or breaks; nothing is lost while Kafka still has it."""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from governor.demo.broker import EmbeddedBroker
from tests.e2e.daemon import Daemon, drain, environment, governor, sql
from tests.e2e.ledger import Books, Ledger, books_of, producing, send

pytestmark = pytest.mark.kafka

DISK = "64m"
LEFT_BYTES = 2_000_000
EVENTS = 3_000
PARTITIONS = 3
SEED = 11


class Site:
    """A topic of 3,000 records, and a store in a folder of its own."""

    def __init__(self, broker: EmbeddedBroker, topic: str, folder: Path, store: Path) -> None:
        broker.create_topic(topic, PARTITIONS)
        self._broker = broker
        self._topic = topic
        self.ledger = Ledger(SEED, partitions=PARTITIONS)
        self.store = store
        self.env = environment(folder, broker, topic, store__path=store)
        self.send(EVENTS)

    def send(self, count: int) -> None:
        with producing(self._broker) as producer:  # type: ignore[arg-type]
            send(producer, self._topic, self.ledger.records(count))


@pytest.fixture
def site(embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path) -> Site:
    """Return a topic and a store on the usual disk."""
    return Site(embedded_broker, topic_name, tmp_path, tmp_path / "store" / "governor.duckdb")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 64 MB, which takes root."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "governor-test", str(disk)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(disk: Path, left_bytes: int) -> Path:
    """Leave so much room on a disk; return the file to remove for more."""
    filler = disk / "filler"
    state = os.statvfs(disk)
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, state.f_bavail * state.f_frsize - left_bytes)
    return filler


def plain_line(text: str) -> str:
    """Return the only line of an output that is no log line."""
    (line,) = [line for line in text.splitlines() if not line.startswith("{")]
    return line


@pytest.mark.parametrize("min_free", ["0B", "8MB"])
def test_disk_full(
    embedded_broker: EmbeddedBroker,
    small_disk: Path,
    tmp_path: Path,
    topic_name: str,
    min_free: str,
) -> None:
    """On a full disk ingest waits and says so, and goes on by itself when there is room.

    With `store.min_free` it waits before the disk is full; without, DuckDB runs into the end.
    Either way nothing is lost and nothing is counted twice.
    """
    site = Site(embedded_broker, topic_name, tmp_path, small_disk / "governor.duckdb")
    site.env["GOVERNOR_STORE__CHECKPOINT_THRESHOLD"] = "1MB"
    with Daemon(site.env | {"GOVERNOR_STORE__MIN_FREE": min_free}) as daemon:
        daemon.await_ready()
        daemon.await_events(EVENTS)
        filler = fill(small_disk, LEFT_BYTES)
        site.send(20_000)
        waiting = daemon.await_log("store.waiting", timeout_s=30)
        daemon.until(lambda: daemon.get("/readyz")[0] == 503, "unreadiness", timeout_s=10)
        body = daemon.get("/readyz")[1]
        assert str(small_disk) in body
        if min_free != "0B":
            assert "below store.min_free" in waiting["error"]
        assert "governor_ingest_paused 1.0" in daemon.get("/metrics")[1]
        assert daemon.get("/healthz")[0] == 200
        time.sleep(1)
        filler.unlink()
        began = time.monotonic()
        daemon.await_events(EVENTS + 20_000, 40)
        print(f"counted {time.monotonic() - began:.1f} s after there was room")
        daemon.await_ready()
        assert daemon.stop() == 0
    assert books_of(site.store) == site.ledger.books


def test_kill_on_a_full_disk(
    embedded_broker: EmbeddedBroker, small_disk: Path, tmp_path: Path, topic_name: str
) -> None:
    """A daemon killed on a full disk, and started on it again, counts all once there is room."""
    site = Site(embedded_broker, topic_name, tmp_path, small_disk / "governor.duckdb")
    site.env["GOVERNOR_STORE__CHECKPOINT_THRESHOLD"] = "1MB"
    with Daemon(site.env) as daemon:
        daemon.await_events(EVENTS)
        filler = fill(small_disk, LEFT_BYTES)
        site.send(20_000)
        daemon.await_log("store.waiting", timeout_s=30)
        daemon.kill()
        daemon.start()
        time.sleep(3)
        daemon.kill()
        print(f"on the full disk the second start said: {daemon.log()[-1:]}")
        filler.unlink()
    drain(site.env)
    assert books_of(site.store) == site.ledger.books


def test_store_removed_while_running(site: Site) -> None:
    """A store file removed under a running daemon ends it with one line that says what to do.

    A fresh start counts everything again from Kafka, to the same books.
    """
    with Daemon(site.env) as daemon:
        daemon.await_events(EVENTS)
        site.store.unlink()
        site.send(500)
        assert daemon.wait(30) == 1
        line = plain_line(daemon.log_text())
    assert str(site.store) in line
    assert "taken away" in line
    assert "start again without it" in line
    drain(site.env)
    assert books_of(site.store) == site.ledger.books


def test_store_removed_without_its_log(site: Site) -> None:
    """A log left behind by a removed store file is never mixed into the new one."""
    with Daemon(site.env) as daemon:
        daemon.await_events(EVENTS)
        daemon.kill()
    log = site.store.with_name(f"{site.store.name}.wal")
    assert log.stat().st_size > 0
    site.store.unlink()
    done = governor("run", "--drain", env=site.env)
    if done.returncode:
        line = plain_line(done.stderr)
        assert str(log) in line
        log.unlink()
        drain(site.env)
    assert books_of(site.store) == site.ledger.books


def garbage(store: Path) -> None:
    store.write_bytes(os.urandom(500_000))


def half(store: Path) -> None:
    os.truncate(store, store.stat().st_size // 2)


def hole(store: Path) -> None:
    with store.open("r+b") as file:
        file.seek(3 * 4096)
        file.write(os.urandom(store.stat().st_size - 4 * 4096))


def empty(store: Path) -> None:
    os.truncate(store, 0)


def test_store_damaged(site: Site) -> None:
    """A damaged file ends the start with code 1 and one line that says what to do, and it helps."""
    drain(site.env)
    whole = site.store.read_bytes()
    for damage in (half, hole, empty, garbage):
        site.store.write_bytes(whole)
        damage(site.store)
        done = governor("run", "--drain", env=site.env)
        assert done.returncode == 1, f"{damage.__name__}: {done.stderr[-3000:]}"
        line = plain_line(done.stderr)
        assert str(site.store) in line
        assert "aside and start governor again" in line
    site.store.unlink()
    drain(site.env)
    assert books_of(site.store) == site.ledger.books


def test_log_damaged(site: Site) -> None:
    """A damaged log of the store costs no event: refused with a plain line, or cut and reread."""
    with Daemon(site.env) as daemon:
        daemon.await_events(EVENTS)
        daemon.kill()
    log = site.store.with_name(f"{site.store.name}.wal")
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(os.urandom(2_000))
    done = governor("run", "--drain", env=site.env)
    if done.returncode:
        assert done.returncode == 1, done.stderr[-3000:]
        assert str(site.store) in plain_line(done.stderr)
        log.unlink()
        site.store.unlink()
        drain(site.env)
    assert books_of(site.store) == site.ledger.books


def test_torn_log(site: Site) -> None:
    """A log whose end was never written is read as far as it goes, and the rest from Kafka."""
    with Daemon(site.env) as daemon:
        daemon.await_events(EVENTS)
        daemon.kill()
    log = site.store.with_name(f"{site.store.name}.wal")
    os.truncate(log, log.stat().st_size * 2 // 3)
    drain(site.env)
    books: Books = books_of(site.store)
    assert books == site.ledger.books
    assert sql(site.store, "SELECT DISTINCT reason FROM resumptions") in ([("new_topic",)], [])
