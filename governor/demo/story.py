"""The demo's story: broker, daemon and load for some seconds, then governor's books beside ours."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

from governor.adapters.duckdb.query import Answer, ask
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.producer import EventProducer
from governor.adapters.prices import Catalogue
from governor.core.errors import PermanentError, TransientError
from governor.demo.broker import EmbeddedBroker
from governor.demo.company import Company
from governor.demo.ledger import Ledger
from governor.demo.process import DaemonProcess

TOPIC: Final = "usage"
PARTITIONS: Final = 8
MAX_EVENTS: Final = 30_000
"""The embedded broker forgets beyond about 5 MB a partition; this many stay well below."""
MAX_EVENTS_PER_S: Final = 1_200
CLOSING_S: Final = 4.0
"""Of the demo's seconds, what starting, catching up and stopping take."""
CATCH_UP_TIMEOUT_S: Final = 60.0
TICK_S: Final = 0.1
SEED: Final = 7
STORE_NAME: Final = "governor.duckdb"
SENT_NAME: Final = "sent.ndjson"

REPORTS: Final = {
    "Spend by team": (
        "SELECT team, sum(events)::BIGINT AS events, sum(cost_usd) AS cost_usd,"
        " sum(unpriced_events)::BIGINT AS unpriced FROM spend_daily GROUP BY team ORDER BY 3 DESC"
    ),
    "Spend by model": (
        "SELECT provider, model, sum(events)::BIGINT AS events, sum(cost_usd) AS cost_usd"
        " FROM spend_daily GROUP BY ALL ORDER BY 4 DESC NULLS LAST"
    ),
    "Spend by tier": (
        "SELECT tier, count(DISTINCT customer) AS customers, sum(cost_usd) AS cost_usd,"
        " (sum(cost_usd) / count(DISTINCT customer))::DECIMAL(18, 6) AS usd_per_customer"
        " FROM usage GROUP BY tier ORDER BY 3 DESC"
    ),
    "Unpriced is not free: no price is known, so caps count the provider's dearest": (
        "SELECT provider, model, count(*) AS events, sum(cost_usd) AS cost_usd,"
        " (sum(cap_nano) * 0.000000001::DECIMAL(9, 9))::DECIMAL(18, 6) AS caps_count_usd"
        " FROM usage WHERE price_status = 'unpriced' GROUP BY ALL"
    ),
    "Rejects by reason": (
        "SELECT reason, count(*) AS records, max(detail) AS for_example"
        " FROM rejects GROUP BY reason ORDER BY 2 DESC, 1"
    ),
}
"""What is asked at the end, each question as `governor sql` takes it."""


@dataclass(frozen=True, slots=True)
class Moment:
    """How far the story is: `totals` is the daemon's tally so far, `ledger` is ours."""

    seconds: float
    ledger: Ledger
    totals: dict[str, int]
    spend_usd: float


@dataclass(frozen=True, slots=True)
class Check:
    """One figure in both books."""

    what: str
    sent: Any
    counted: Any

    @property
    def agrees(self) -> bool:
        """Whether the books agree on it."""
        return bool(self.sent == self.counted)


Show = Callable[[Moment], None]


def play(folder: Path, *, seconds: float, every_s: float, show: Show) -> Ledger:
    """Run broker, daemon and load in `folder`, showing a moment every `every_s`.

    The store and what was sent stay in `folder`; broker and daemon are gone afterwards, also after
    an error. Raise PermanentError where something of the demo itself does not work.
    """
    ledger = Ledger(Catalogue())
    with EmbeddedBroker(topics={TOPIC: PARTITIONS}) as broker:
        variables = {
            "GOVERNOR_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "GOVERNOR_KAFKA__API_VERSION": ".".join(map(str, broker.api_version)),
            "GOVERNOR_TOPICS": f"{TOPIC}=native",
            "GOVERNOR_STORE__PATH": STORE_NAME,
        }
        with DaemonProcess(folder, variables) as daemon:
            watch = _Watch(daemon, ledger, show, every_s)
            with (folder / SENT_NAME).open("wb") as sent:
                _send(_connection(broker), ledger, watch, sent, seconds - CLOSING_S)
            watch.until_stored()
            code = daemon.close()
            if code:
                raise PermanentError(
                    f"the demo's daemon stopped with code {code}; its log ends with:"
                    f"\n{daemon.tail()}"
                )
    return ledger


def checks(store: Path, ledger: Ledger) -> list[Check]:
    """Put the load maker's books beside what the store holds."""
    stored = _one(store, "SELECT count(*), count(*) FILTER (cost_nano IS NULL) FROM usage")
    rejects = dict(_rows(store, "SELECT reason, count(*) FROM rejects GROUP BY reason"))
    duplicates = _one(store, "SELECT sum(duplicates)::BIGINT FROM positions")
    spend = dict(_rows(store, "SELECT team, coalesce(sum(cost_nano), 0) FROM usage GROUP BY team"))
    return [
        Check("distinct events", ledger.distinct, stored[0]),
        Check("duplicates", ledger.repeats, duplicates[0]),
        Check("rejects", dict(ledger.rejects), rejects),
        Check("unpriced", ledger.unpriced, stored[1]),
        Check("nano-dollars by team", dict(ledger.nano_of_team), spend),
    ]


def reports(store: Path) -> Iterator[tuple[str, Answer]]:
    """Yield each question's title and its answer."""
    for title, query in REPORTS.items():
        yield title, ask(store, query, limit=100)


class _Watch:
    """Asks the daemon how far it is, and shows it when it is time."""

    def __init__(self, daemon: DaemonProcess, ledger: Ledger, show: Show, every_s: float) -> None:
        self._daemon = daemon
        self._ledger = ledger
        self._show = show
        self._every_s = every_s
        self._began = self._shown = time.monotonic()
        self._pause = threading.Event()

    def until(self, due: float) -> None:
        """Show what is due to be shown, then wait until `due` (monotonic)."""
        if time.monotonic() - self._shown >= self._every_s:
            self._look()
        self._pause.wait(max(0.0, due - time.monotonic()))

    def until_stored(self) -> None:
        """Wait until the daemon has stored all that was sent."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while self._look() < self._ledger.sent:
            if time.monotonic() > deadline:
                raise PermanentError(
                    f"not all is stored {CATCH_UP_TIMEOUT_S:.0f} s after the last event was sent;"
                    f" the daemon's log ends with:\n{self._daemon.tail()}"
                )
            self._pause.wait(TICK_S)

    def _look(self) -> int:
        """Ask; show it where it is time or all is stored; return how many events are stored."""
        try:
            totals = self._daemon.status()["totals"]
            spend_usd = self._daemon.spend_usd()
        except TransientError:
            return -1
        now = time.monotonic()
        stored: int = totals["events"]
        if now - self._shown >= self._every_s or stored == self._ledger.sent:
            self._shown = now
            self._show(Moment(now - self._began, self._ledger, totals, spend_usd))
        return stored


def _send(
    connection: Connection, ledger: Ledger, watch: _Watch, sent: BinaryIO, seconds: float
) -> None:
    company = Company(SEED)
    rate = min(MAX_EVENTS_PER_S, MAX_EVENTS / seconds)
    began = time.monotonic()
    with EventProducer(connection, TOPIC) as producer:
        while (elapsed := time.monotonic() - began) < seconds:
            due = int(elapsed * rate) - ledger.sent
            for message in company.messages(datetime.now(UTC), due):
                producer.send(message.value, message.key)
                sent.write(message.value + b"\n")
                ledger.enter(message)
            watch.until(began + elapsed + TICK_S)
        producer.flush()
    if producer.acknowledged != ledger.sent:
        raise PermanentError(
            f"the demo's broker acknowledged {producer.acknowledged:,} of {ledger.sent:,} records:"
            f" {producer.first_failure}"
        )


def _connection(broker: EmbeddedBroker) -> Connection:
    return Connection(
        bootstrap_servers=broker.bootstrap_servers.split(","),
        client_id="governor-demo",
        api_version=broker.api_version,
    )


def _one(store: Path, query: str) -> tuple[Any, ...]:
    return _rows(store, query)[0]


def _rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    return ask(store, query, limit=1_000).rows
