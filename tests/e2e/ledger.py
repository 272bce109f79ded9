"""The oracle: a producer that knows what it sent, and what an exact account of it must say.

Nothing here comes from governor: prices are a table of its own, money is plain integers.
"""

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from kafka import KafkaProducer

from tests.brokers import Broker
from tests.e2e.daemon import opened

SEND_TIMEOUT_S = 120
PRICES = {
    ("openai", "gpt-4o"): (25_000, 12_500, 100_000),
    ("openai", "gpt-4o-mini"): (1_500, 750, 6_000),
    ("google", "gemini-flash-1.5-8b"): (375, 100, 1_500),
}
"""Tenths of a nano-dollar for one token of plain input, cache read and output."""
UNPRICED = ("openai", "gpt-imaginary")


def half_even(tenths: int) -> int:
    """Round tenths to a whole, a half to the even neighbour."""
    whole, rest = divmod(tenths, 10)
    return whole + (rest > 5 or (rest == 5 and whole % 2 == 1))


def cost_nano(provider: str, model: str, plain: int, cached: int, output: int) -> int | None:
    """Return the cost in nano-dollars by this table; None where there is no price."""
    price = PRICES.get((provider, model))
    if price is None:
        return None
    return half_even(plain * price[0] + cached * price[1] + output * price[2])


class Sent(NamedTuple):
    """One record to send."""

    partition: int
    value: bytes | None


@dataclass(frozen=True)
class Mix:
    """The shares of what is not a plain new event."""

    duplicate: float = 0.05
    late: float = 0.05
    unpriced: float = 0.01
    malformed: float = 0.01
    absurd: float = 0.001


@dataclass
class Books:
    """Totals as the oracle expects them, or as a store holds them."""

    produced: int = 0
    counted: int = 0
    duplicates: int = 0
    rejected: int = 0
    late: int = 0
    unpriced: int = 0
    cost_nano: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    cost_by_team: Counter[str] = field(default_factory=Counter)


class Ledger:
    """Makes records by a seed and keeps the books on them.

    The first record of each partition is on time, so that whatever is late is late anywhere.
    """

    def __init__(self, seed: int, *, partitions: int, mix: Mix | None = None) -> None:
        self._random = random.Random(seed)
        self._source = f"oracle-{seed}"
        self._partitions = partitions
        self._mix = mix or Mix()
        self._now = datetime.now(UTC) - timedelta(minutes=5)
        self._number = 0
        self._recent: list[bytes] = []
        self._opening = list(range(partitions))
        self.books = Books()

    def records(self, count: int) -> Iterator[Sent]:
        """Make this many records and book each as sent."""
        for _ in range(count):
            self.books.produced += 1
            yield self._next()

    def lines(self, count: int) -> bytes:
        """Make records as lines of a file; tombstones are left out of the file and the books."""
        mix = [sent.value for sent in self.records(count)]
        tombstones = mix.count(None)
        self.books.produced -= tombstones
        self.books.rejected -= tombstones
        self.books.reasons["empty"] -= tombstones
        self.books.reasons += Counter()
        return b"".join(value + b"\n" for value in mix if value is not None)

    def _next(self) -> Sent:
        if self._opening:
            return Sent(self._opening.pop(), self._event(self._time()))
        partition = self._random.randrange(self._partitions)
        at = self._random.random()
        for share, make in (
            (self._mix.duplicate, self._duplicate),
            (self._mix.late, self._late),
            (self._mix.malformed, self._malformed),
            (self._mix.absurd, self._absurd),
        ):
            if at < share:
                return Sent(partition, make())
            at -= share
        return Sent(partition, self._event(self._time()))

    def _time(self) -> datetime:
        self._now += timedelta(microseconds=self._random.randrange(1, 200))
        return self._now

    def _event(self, event_time: datetime) -> bytes:
        value, team, nano = self._document(event_time)
        self.books.counted += 1
        self.books.unpriced += nano is None
        self.books.cost_nano += nano or 0
        self.books.cost_by_team[team] += nano or 0
        if len(self._recent) < 20_000:
            self._recent.append(value)
        else:
            self._recent[self._random.randrange(20_000)] = value
        return value

    def _document(self, event_time: datetime) -> tuple[bytes, str, int | None]:
        draw = self._random
        self._number += 1
        provider, model = draw.choice(list(PRICES))
        if draw.random() < self._mix.unpriced:
            provider, model = UNPRICED
        plain, cached, output = draw.randrange(5_000), 0, draw.randrange(1, 900)
        if draw.random() < 0.3:
            cached = draw.randrange(2_000)
        team = f"team-{draw.randrange(5)}"
        event = {
            "event_id": f"e-{self._number}",
            "source": self._source,
            "event_time": event_time.isoformat(),
            "provider": provider,
            "model": model,
            "team": team,
            "customer": f"customer-{draw.randrange(500)}",
            "input_tokens": plain + cached,
            "cache_read_tokens": cached,
            "output_tokens": output,
        }
        value = json.dumps(event, separators=(",", ":")).encode()
        return value, team, cost_nano(provider, model, plain, cached, output)

    def _duplicate(self) -> bytes:
        self.books.duplicates += 1
        return self._random.choice(self._recent)

    def _late(self) -> bytes:
        self.books.late += 1
        age = timedelta(hours=2) + self._random.random() * timedelta(days=40, hours=-3)
        return self._event(self._time() - age)

    def _malformed(self) -> bytes | None:
        good = self._document(self._time())[0]
        event = json.loads(good)
        without_usage = {k: v for k, v in event.items() if not k.endswith("_tokens")}
        reason, value = self._random.choice(
            (
                ("malformed", good[:-3]),
                ("malformed", b"\xff\x00 not json"),
                ("invalid", json.dumps(event | {"inputtokens": 1}).encode()),
                ("invalid", json.dumps(event | {"output_tokens": -1}).encode()),
                ("invalid", json.dumps(event | {"event_time": "2024-01-01 00:00"}).encode()),
                ("no_usage", json.dumps(without_usage).encode()),
                ("empty", None),
            )
        )
        self._reject(reason)
        return value

    def _absurd(self) -> bytes:
        old = self._random.random() < 0.5
        self._reject("too_old" if old else "too_new")
        return self._document(datetime(1970 if old else 2099, 1, 1, tzinfo=UTC))[0]

    def _reject(self, reason: str) -> None:
        self.books.rejected += 1
        self.books.reasons[reason] += 1


def books_of(path: Path) -> Books:
    """Return the books of a store that no daemon has open, after a check that they agree."""
    with opened(path) as connection:
        disagreements = _disagreements(connection)
        assert not disagreements, disagreements
        (tallies,) = connection.execute(
            "SELECT sum(events), sum(counted), sum(duplicates), sum(rejected), sum(late),"
            " sum(unpriced) FROM positions"
        ).fetchall()
        reasons = dict(
            connection.execute("SELECT reason, count(*) FROM rejects GROUP BY 1").fetchall()
        )
        teams = connection.execute("SELECT team, sum(cost_nano) FROM usage GROUP BY 1").fetchall()
        ((nano,),) = connection.execute("SELECT sum(cost_nano) FROM usage").fetchall()
    return Books(
        *map(int, (*tallies, nano)),
        reasons=Counter(reasons),
        cost_by_team=Counter({team: int(sum_nano) for team, sum_nano in teams}),
    )


def check_agreement(path: Path) -> None:
    """Fail where the tables of a store do not agree with one another."""
    with opened(path) as connection:
        disagreements = _disagreements(connection)
        assert not disagreements, disagreements


_SUMS = """(SELECT (sum(events), sum(requests), sum(input_tokens), sum(cache_read_tokens),
    sum(output_tokens), sum(cost_nano), sum(cap_nano), sum(unpriced))::VARCHAR FROM ({rows}))"""
_AGREEMENTS = {
    "events = counted + duplicates + rejected": """
        SELECT coalesce(sum(events), 0), coalesce(sum(counted + duplicates + rejected), 0)
        FROM positions""",
    "counted = rows of events and late_events": """
        SELECT (SELECT coalesce(sum(counted), 0) FROM positions),
               (SELECT count(*) FROM events) + (SELECT count(*) FROM late_events)""",
    "late = rows of late_events": """
        SELECT (SELECT coalesce(sum(late), 0) FROM positions),
               (SELECT count(*) FROM late_events)""",
    "rejected = rows of rejects": """
        SELECT (SELECT coalesce(sum(rejected), 0) FROM positions),
               (SELECT count(*) FROM rejects)""",
    "unpriced = events without cost": """
        SELECT (SELECT coalesce(sum(unpriced), 0) FROM positions),
               (SELECT count(*) FROM usage WHERE cost_nano IS NULL)""",
    "each cost is what its price says, and caps miss nobody": """
        SELECT count(*) FILTER (
                   abs(cap_nano::HUGEINT * 1000000 - femto) > 500000
                   OR cap_nano <> coalesce(cost_nano, cap_nano) OR femto IS NULL), 0
        FROM (SELECT cap_nano, cost_nano,
                     (input_tokens - coalesce(cache_read_tokens, 0))::HUGEINT * p.input
                     + coalesce(cache_read_tokens, 0)::HUGEINT * coalesce(p.cache_read, p.input)
                     + output_tokens::HUGEINT * p.output AS femto
              FROM usage LEFT JOIN prices AS p USING (price_id))""",
    "each identity once": """
        SELECT count(*), count(DISTINCT (source, event_id, event_time)) FROM usage""",
    "each place in the log once, unless a topic was made again": """
        SELECT count(*), count(DISTINCT (topic, "partition", "offset")) FROM usage
        WHERE topic NOT IN (SELECT topic FROM resumptions WHERE reason = 'recreated')""",
    "nothing stored from beyond the positions, unless a topic was made again": """
        SELECT count(*), 0
        FROM (SELECT topic, "partition", "offset" FROM usage
              UNION ALL SELECT topic, "partition", "offset" FROM rejects) AS stored
        JOIN positions AS p ON p.topic = stored.topic AND p."partition" = stored."partition"
        WHERE stored."offset" >= p.next_offset
          AND p.topic NOT IN (SELECT topic FROM resumptions WHERE reason = 'recreated')""",
    "rollups = sums of events": "SELECT "
    + _SUMS.format(
        rows="SELECT * RENAME (unpriced_events AS unpriced)"
        " FROM (FROM rollup_minute UNION ALL FROM rollup_hour)"
    )
    + ", "
    + _SUMS.format(rows="SELECT *, 1 AS events, (cost_nano IS NULL)::INT AS unpriced FROM usage"),
}


def _disagreements(connection: Any) -> dict[str, tuple[Any, ...]]:
    found = {name: connection.execute(query).fetchone() for name, query in _AGREEMENTS.items()}
    return {name: pair for name, pair in found.items() if pair[0] != pair[1]}


@contextmanager
def producing(broker: Broker, **options: Any) -> Iterator[KafkaProducer]:
    """Give a producer that loses, repeats and reorders nothing, as far as the broker lets it."""
    producer = KafkaProducer(
        bootstrap_servers=broker.bootstrap_servers,
        api_version=broker.api_version,
        enable_idempotence=broker.api_version is None,
        acks="all",
        linger_ms=20,
        batch_size=64 * 1024,
        compression_type="lz4",
        allow_auto_create_topics=False,
        **options,
    )
    try:
        yield producer
    finally:
        producer.close(timeout=5)


def send(producer: KafkaProducer, topic: str, records: Iterable[Sent]) -> int:
    """Send records to the partitions they name, wait until all are acknowledged, count them."""
    pending = [
        producer.send(topic, value, key=None if value else b"tombstone", partition=partition)
        for partition, value in records
    ]
    producer.flush(timeout=SEND_TIMEOUT_S)
    for sent in pending:
        sent.get(timeout=0)
    return len(pending)
