"""`governor produce`: a file to a topic at full speed, at a rate, or in its own time."""

import itertools
import json
import statistics
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition

from governor.demo.broker import EmbeddedBroker
from tests.e2e.daemon import drain, environment, governor
from tests.e2e.ledger import Ledger, books_of

pytestmark = pytest.mark.kafka

START = datetime(2025, 3, 1, 12, tzinfo=UTC)


class Site:
    """An empty topic and the settings to reach it."""

    def __init__(self, broker: EmbeddedBroker, topic: str, folder: Path) -> None:
        broker.create_topic(topic, 3)
        self.broker = broker
        self.topic = topic
        self.folder = folder
        self.env = environment(folder, broker, topic)  # type: ignore[arg-type]

    def produce(self, *arguments: object) -> dict[str, Any]:
        """Run `governor produce --json`, expect code 0, and return what it printed."""
        done = governor("produce", *arguments, "--json", env=self.env)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def records(self, count: int) -> list[Any]:
        """Read this many records back, in the order of their timestamps."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.broker.bootstrap_servers,
            api_version=self.broker.api_version,
            enable_auto_commit=False,
        )
        found: list[Any] = []
        deadline = monotonic() + 20
        try:
            consumer.assign([TopicPartition(self.topic, number) for number in range(3)])
            consumer.seek_to_beginning()
            while len(found) < count and monotonic() < deadline:
                for records in consumer.poll(500).values():
                    found += records
        finally:
            consumer.close(autocommit=False)
        return sorted(found, key=lambda record: record.timestamp)


@pytest.fixture
def site(embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path) -> Site:
    return Site(embedded_broker, topic_name, tmp_path)


def gaps_of(records: list[Any]) -> list[int]:
    """Milliseconds from each record to the next, both as the producer stamped them."""
    return [after.timestamp - before.timestamp for before, after in itertools.pairwise(records)]


def spaced(path: Path, count: int, gap: timedelta) -> Path:
    """Write a file of events whose times are `gap` apart."""
    events = (
        {
            "event_id": f"e-{number}",
            "source": "spaced",
            "event_time": (START + number * gap).isoformat(),
            "provider": "openai",
            "model": "gpt-4o",
            "customer": f"customer-{number % 7}",
            "input_tokens": 1,
            "output_tokens": 1,
        }
        for number in range(count)
    )
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def test_every_line_as_it_is(site: Site) -> None:
    """Every line is sent, right or wrong, byte for byte, and then counted once."""
    ledger = Ledger(5, partitions=3)
    file = site.folder / "mix.ndjson"
    file.write_bytes(ledger.lines(2_000))
    lines = file.read_bytes().splitlines()
    said = site.produce(file)
    assert (said["topic"], said["events"]) == (site.topic, len(lines))
    assert sorted(record.value for record in site.records(len(lines))) == sorted(lines)
    drain(site.env)
    books, expected = books_of(site.folder / "governor.duckdb"), ledger.books
    assert (books.counted, books.duplicates) == (expected.counted, expected.duplicates)
    assert (books.rejected, books.reasons) == (expected.rejected, expected.reasons)
    assert books.cost_nano == expected.cost_nano


def test_sent_twice_counts_once(site: Site) -> None:
    """A file that is sent again adds duplicates and no spend."""
    ledger = Ledger(6, partitions=3)
    file = site.folder / "mix.ndjson"
    file.write_bytes(ledger.lines(1_000))
    site.produce(file)
    drain(site.env)
    before = books_of(site.folder / "governor.duckdb")
    site.produce(file)
    drain(site.env)
    after = books_of(site.folder / "governor.duckdb")
    assert (after.counted, after.cost_nano) == (before.counted, before.cost_nano)
    assert after.produced == 2 * before.produced


def test_rate(site: Site) -> None:
    """`--rate 200` sends 300 events in about 1.5 s, evenly."""
    file = spaced(site.folder / "even.ndjson", 300, timedelta(seconds=1))
    said = site.produce(file, "--rate", 200)
    assert said["seconds"] >= 1.4
    gaps = gaps_of(site.records(300))
    assert sum(gaps[:150]) >= 500, gaps
    assert sum(gaps[150:]) >= 500, gaps


def test_pace_of_the_events(site: Site) -> None:
    """`--pace event-time --speed 60` replays two minutes in two seconds, gaps kept."""
    file = spaced(site.folder / "paced.ndjson", 13, timedelta(seconds=10))
    said = site.produce(file, "--pace", "event-time", "--speed", 60)
    assert said["seconds"] >= 1.9
    records = site.records(13)
    assert [json.loads(record.value)["event_id"] for record in records] == [
        f"e-{number}" for number in range(13)
    ]
    # a busy machine holds single records up, and those after them catch up: not half of them
    assert 120 <= statistics.median(gaps_of(records)) <= 220


def test_shift_to_now(site: Site) -> None:
    """`--shift-to now` moves all times by the same span, so that the last event is now."""
    file = spaced(site.folder / "old.ndjson", 50, timedelta(seconds=2))
    site.produce(file, "--shift-to", "now")
    times = sorted(
        datetime.fromisoformat(json.loads(record.value)["event_time"])
        for record in site.records(50)
    )
    assert timedelta(0) <= datetime.now(UTC) - times[-1] < timedelta(seconds=20)
    assert {after - before for before, after in itertools.pairwise(times)} == {timedelta(seconds=2)}


def test_shift_with_pace(site: Site) -> None:
    """With `--pace` and `--shift-to now` the last event is sent at its own time."""
    file = spaced(site.folder / "old.ndjson", 5, timedelta(seconds=15))
    site.produce(file, "--pace", "event-time", "--speed", 30, "--shift-to", "now")
    last = site.records(5)[-1]
    event_time = datetime.fromisoformat(json.loads(last.value)["event_time"])
    assert abs(last.timestamp / 1000 - event_time.timestamp()) < 0.5


def test_line_without_time(site: Site) -> None:
    """With `--pace` a line without a time stops it before anything is sent, by file and line."""
    file = spaced(site.folder / "broken.ndjson", 3, timedelta(seconds=1))
    with file.open("a") as lines:
        lines.write('{"event_id": "no time"}\n{"event_time": "yesterday"}\n')
    done = governor("produce", file, "--pace", "event-time", env=site.env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{file}:4: no field 'event_time'" in line
    assert site.produce(file)["events"] == 5, "without --pace every line is sent as it is"


def test_time_that_is_none(site: Site) -> None:
    """A time that cannot be read is named by file and line too."""
    file = site.folder / "broken.ndjson"
    file.write_text('{"event_time": "2025-03-01T00:00:00Z"}\n\n{"event_time": "yesterday"}\n')
    done = governor("produce", file, "--shift-to", "now", env=site.env)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert f"{file}:3: no time to keep in 'event_time'" in line


def test_unknown_topic(site: Site) -> None:
    """A topic that does not exist is not made by accident: code 1, and how to make it."""
    file = spaced(site.folder / "one.ndjson", 1, timedelta(seconds=1))
    done = governor("produce", file, "--topic", "nowhere", env=site.env)
    assert done.returncode == 1
    assert done.stderr == (
        "governor: topic nowhere does not exist; make it: governor topics create\n"
    )


def test_missing_file(site: Site) -> None:
    """A file that is not there is named, with code 2."""
    done = governor("produce", "nowhere.ndjson", env=site.env)
    assert done.returncode == 2
    assert "nowhere.ndjson: No such file" in done.stderr


def test_key_field(site: Site) -> None:
    """`--key-field customer` keeps the events of a customer in one partition, in order."""
    file = spaced(site.folder / "keyed.ndjson", 210, timedelta(seconds=1))
    site.produce(file, "--key-field", "customer")
    partitions: dict[bytes, set[int]] = {}
    for record in site.records(210):
        assert record.key == json.loads(record.value)["customer"].encode()
        partitions.setdefault(record.key, set()).add(record.partition)
    assert len(partitions) == 7
    assert all(len(numbers) == 1 for numbers in partitions.values())


def test_text_for_people(site: Site) -> None:
    """Without --json it says in one line how many events went where."""
    file = spaced(site.folder / "some.ndjson", 20, timedelta(seconds=1))
    done = governor("produce", file, env=site.env)
    assert done.stderr == ""
    assert done.stdout.startswith(f"20 events to {site.topic} in ")
    assert done.stdout.endswith(" s, all acknowledged\n")
