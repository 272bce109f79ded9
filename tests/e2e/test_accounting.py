"""Every record ends in one of three places, and the daemon says where it stands."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest

from tests.brokers import Broker
from tests.e2e.daemon import Daemon, drain, environment, governor, group_offsets, sql
from tests.e2e.ledger import Ledger, books_of, producing, send

pytestmark = pytest.mark.kafka

EVENTS = 20_000
PARTITIONS = 5
SEED = 20_240_611


on_one_broker = pytest.mark.parametrize("broker", ["embedded"], indirect=True)
"""For what does not depend on the broker."""


@dataclass
class Site:
    """A topic with a known content, and where it is counted."""

    broker: Broker
    topic: str
    ledger: Ledger
    env: dict[str, str]
    store: Path

    @property
    def group(self) -> str:
        return self.env["GOVERNOR_KAFKA__GROUP_ID"]

    def send(self, count: int) -> None:
        """Send this many more records of the mix."""
        with producing(self.broker) as producer:
            assert send(producer, self.topic, self.ledger.records(count)) == count


@pytest.fixture
def site(broker: Broker, tmp_path: Path, topic_name: str) -> Site:
    """Return a topic with one mix of everything a topic may hold, not counted yet."""
    broker.create_topic(topic_name, PARTITIONS)
    ledger = Ledger(SEED, partitions=PARTITIONS)
    env = environment(tmp_path, broker, topic_name)
    return Site(broker, topic_name, ledger, env, tmp_path / "governor.duckdb")


@pytest.fixture
def running(site: Site) -> Iterator[Daemon]:
    """Return a daemon that is ready and has counted 2,000 records of the site."""
    site.send(2_000)
    with Daemon(site.env) as daemon:
        daemon.await_ready()
        daemon.await_events(2_000)
        yield daemon


def test_every_record_is_accounted_for(site: Site) -> None:
    """Counted + duplicates + rejected is what was produced, and the spend is the oracle's.

    Late events count in full, absurd times and malformed records are set aside for the reason the
    oracle expects, and a second drain finds nothing more to do.
    """
    site.send(EVENTS)
    totals = drain(site.env)
    books = books_of(site.store)
    assert books == site.ledger.books
    assert totals["counted"] + totals["duplicates"] + totals["rejected"] == EVENTS
    assert drain(site.env) == totals
    assert books_of(site.store) == books


def test_a_replay_under_the_event_clock_counts_the_same(site: Site) -> None:
    """`--clock event-time` on events of today comes to the same books as the wall clock."""
    site.send(EVENTS // 4)
    drain(site.env, "--clock", "event-time")
    assert books_of(site.store) == site.ledger.books


def test_counting_while_records_come(running: Daemon, site: Site) -> None:
    """A daemon that runs counts what comes, ends within 10 s of SIGTERM, and goes on later.

    After it has ended the group's offsets on the broker are the positions in the store.
    """
    site.send(EVENTS // 2)
    running.await_events(site.ledger.books.produced)
    began = monotonic()
    assert running.stop() == 0
    assert monotonic() - began < 10
    assert books_of(site.store) == site.ledger.books
    stored = dict(sql(site.store, 'SELECT "partition", next_offset FROM positions'))
    assert sum(stored.values()) == site.ledger.books.produced
    assert group_offsets(site.broker, site.group, site.topic, PARTITIONS) == stored
    site.send(1_000)
    drain(site.env)
    assert books_of(site.store) == site.ledger.books


@on_one_broker
def test_probes_answer(running: Daemon, site: Site) -> None:
    """/healthz, /readyz, /status and /metrics tell of a daemon that is well; others are 404."""
    assert running.get("/healthz") == (200, "ok\n")
    assert running.get("/readyz") == (200, "ok\n")
    code, body = running.get("/status")
    status = json.loads(body)
    assert (code, status["ready"], status["troubles"]) == (200, True, [])
    assert len(status["partitions"]) == PARTITIONS
    books = site.ledger.books
    assert status["totals"] == {
        "events": books.produced,
        "counted": books.counted,
        "duplicates": books.duplicates,
        "rejected": books.rejected,
        "late": books.late,
        "unpriced": books.unpriced,
    }
    code, metrics = running.get("/metrics")
    assert code == 200
    assert f'governor_events_total{{outcome="counted"}} {books.counted:.1f}' in metrics
    assert f'governor_events_total{{outcome="rejected"}} {books.rejected:.1f}' in metrics
    assert f"governor_events_late_total {books.late:.1f}" in metrics
    assert running.get("/secrets")[0] == 404


@on_one_broker
def test_exit_codes_of_status(running: Daemon, site: Site) -> None:
    """`governor status` ends with 0 while the daemon is ready, and with 69 where none answers."""
    port = running.await_log("probes.opened")["port"]
    env = site.env | {"GOVERNOR_HTTP__PORT": str(port)}
    shown = governor("status", "--json", env=env)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["totals"]["events"] == site.ledger.books.produced
    table = governor("status", env=env)
    assert (table.returncode, table.stderr) == (0, "")
    assert "2,000" in table.stdout
    assert running.stop() == 0
    gone = governor("status", env=env)
    assert gone.returncode == 69
    assert f"no governor answers at http://127.0.0.1:{port}" in gone.stderr
    assert "Traceback" not in gone.stderr


def test_status_of_a_daemon_that_waits(tmp_path: Path) -> None:
    """`governor status` ends with 1 while no broker answers, and names what is waited for."""
    env = environment(tmp_path, None, "usage", kafka__bootstrap_servers="127.0.0.1:9")
    with Daemon(env) as daemon:
        port = daemon.await_log("probes.opened")["port"]
        waiting = governor("status", env=env | {"GOVERNOR_HTTP__PORT": str(port)})
        assert waiting.returncode == 1, waiting.stderr
        assert "not ready: " in waiting.stdout
        assert "Kafka" in waiting.stdout
        code, troubles = daemon.get("/readyz")
        assert code == 503
        assert "Kafka" in troubles
        assert daemon.get("/healthz") == (200, "ok\n")
        assert daemon.stop() == 0


@on_one_broker
def test_sql_waits_for_the_daemon(running: Daemon, site: Site) -> None:
    """`governor sql` says that a daemon has the file, with code 2, and answers once it is gone."""
    query = "SELECT sum(cost_nano)::BIGINT AS nano FROM usage"
    in_use = governor("sql", query, "--json", env=site.env)
    assert in_use.returncode == 2
    assert f"is in use by process {running.process.pid}" in in_use.stderr  # type: ignore[union-attr]
    assert len(in_use.stderr.splitlines()) == 1
    running.stop()
    answer = governor("sql", query, "--json", env=site.env)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == [{"nano": site.ledger.books.cost_nano}]


@on_one_broker
def test_one_daemon_owns_the_file(running: Daemon, site: Site) -> None:
    """A second daemon on the same file ends at once, with code 2 and one plain line."""
    second = governor("run", "--drain", env=site.env)
    assert second.returncode == 2
    assert "only one governor may own it" in second.stderr
    assert "Traceback" not in second.stderr
    assert running.get("/readyz")[0] == 200
