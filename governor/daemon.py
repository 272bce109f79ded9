"""The composition root: builds the daemon, runs it, takes it down; the only clock."""

import gc
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from governor import __version__, telemetry
from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.lag import GroupOffsets
from governor.adapters.kafka.source import UsageSource
from governor.adapters.prices import Catalogue
from governor.adapters.probes import Pages, Probes
from governor.core.admission import Window, micros
from governor.core.batches import Tally
from governor.formats import FORMATS
from governor.loops.ingest import Ingest, Intake
from governor.loops.watch import Watch
from governor.settings import Settings

SWITCH_INTERVAL_S: Final = 0.0001
"""The store's thread gets the interpreter back this soon after each statement."""
JOIN_TIMEOUT_S: Final = 3.0
"""How long a stop waits for a thread that may wait for a broker that is gone."""
GC_THRESHOLD: Final = 100_000
"""Records in flight are no garbage: look for cycles after this many new objects, not after 700."""

_log = structlog.get_logger()


class WallClock:
    """The time it is."""

    def at(self, newest_us: int | None) -> datetime:  # noqa: ARG002  # the event clock needs it
        """Return now, UTC."""
        return datetime.now(UTC)


class EventClock:
    """The time the events say it is, for replays: the newest event time so far, never ahead of now.

    It never goes back. Before the first event it is now.
    """

    def __init__(self) -> None:
        self._newest: datetime | None = None

    def at(self, newest_us: int | None) -> datetime:
        """Move on to the newest event time, in microseconds, and return it."""
        now = datetime.now(UTC)
        if newest_us is not None:
            newest = datetime.fromtimestamp(0, UTC) + timedelta(
                microseconds=min(newest_us, micros(now))
            )
            self._newest = max(newest, self._newest or newest)
        return self._newest or now


@dataclass(frozen=True, slots=True)
class Summary:
    """What is stored when the daemon stops: sums over all partitions, by `Tally`."""

    totals: Tally
    partitions: int


def run(settings: Settings, *, drain: bool = False, follow_events: bool = False) -> Summary:
    """Run the daemon until SIGTERM or SIGINT, or with `drain` until the topics' ends are stored.

    Raise ConfigError or PermanentError where a person must act. All that was committed stays, and
    the next start reads on from there.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_signals(stop))
        wall = WallClock()
        clock = EventClock() if follow_events else wall
        catalogue = Catalogue()
        rates = RateTable(catalogue.prices(), catalogue.resolve, catalogue.resolve_provider)
        store = Store(file_options(settings), rates, lambda: wall.at(None))
        stack.callback(store.close)
        connection = connection_of(settings)
        ingest = Ingest(
            _source(settings, connection, store),
            store,
            _intake(settings, store, clock),
            positions={
                place: state.position.next_offset
                for place, state in store.partitions.items()
                if place.topic in settings.topics
            },
            queue_batches=settings.ingest.queue_batches,
            wall=wall,
        )
        watch = Watch(
            GroupOffsets(connection, group_id=settings.kafka.group_id),
            lambda: ingest.positions,
            stall_after_s=settings.ingest.stall_after.total_seconds(),
        )
        if not drain:
            pages = _pages(ingest, watch, store)
            probes = Probes(settings.http.host, settings.http.port, pages)
            stack.callback(probes.close)
            _log.info("probes.opened", host=settings.http.host, port=probes.port)
        watcher = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
        watcher.start()
        stack.callback(watcher.join, JOIN_TIMEOUT_S)
        stack.callback(stop.set)
        gc.collect()
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD, 50, 50)
        _log.info(
            "daemon.started",
            version=__version__,
            prices=catalogue.version,
            store=str(settings.store.path),
            topics=list(settings.topics),
            kafka=list(settings.kafka.bootstrap_servers),
        )
        ingest.run(stop, drain=drain)
        summary = Summary(totals=_totals(store), partitions=len(store.partitions))
    peak_rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _log.info("daemon.stopped", peak_rss_kb=peak_rss_kb, **asdict(summary.totals))
    return summary


def connection_of(settings: Settings) -> Connection:
    """Return how to reach the brokers, secrets unwrapped for the driver alone."""
    kafka = settings.kafka
    secrets = {
        name: value.get_secret_value() if (value := getattr(kafka, name)) else None
        for name in ("ssl_key_password", "sasl_password", "sasl_oauth_token")
    }
    version = (
        tuple(int(part) for part in kafka.api_version.split(".")) if kafka.api_version else None
    )
    return Connection(
        bootstrap_servers=kafka.bootstrap_servers,
        client_id=kafka.client_id,
        security_protocol=kafka.security_protocol,
        ssl_cafile=kafka.ssl_cafile,
        ssl_certfile=kafka.ssl_certfile,
        ssl_keyfile=kafka.ssl_keyfile,
        sasl_mechanism=kafka.sasl_mechanism,
        sasl_username=kafka.sasl_username,
        sasl_oauth_token_file=kafka.sasl_oauth_token_file,
        api_version=version,
        request_timeout_ms=int(kafka.request_timeout.total_seconds() * 1000),
        **secrets,
    )


def file_options(settings: Settings) -> FileOptions:
    """Return where the DuckDB file is and what it may use."""
    store = settings.store
    return FileOptions(
        path=Path(store.path),
        memory_limit_bytes=store.memory_limit,
        threads=store.threads,
        checkpoint_threshold_bytes=store.checkpoint_threshold,
        min_free_bytes=store.min_free,
    )


def _source(settings: Settings, connection: Connection, store: Store) -> UsageSource:
    return UsageSource(
        connection,
        topics=list(settings.topics),
        positions={place: state.position for place, state in store.partitions.items()},
        policy=settings.kafka.auto_offset_reset,
        batch_records=settings.ingest.batch_records,
        batch_wait_ms=int(settings.ingest.batch_wait.total_seconds() * 1000),
    )


def _intake(settings: Settings, store: Store, clock: WallClock | EventClock) -> Intake:
    return Intake(
        formats={name: FORMATS[topic.format] for name, topic in settings.topics.items()},
        window=Window(
            back=settings.ingest.accept_back,
            ahead=settings.ingest.accept_ahead,
            late_after=settings.ingest.late_after,
        ),
        clock=clock,
        max_record_bytes=settings.ingest.max_record_bytes,
        watermarks={place: state.watermark_us for place, state in store.partitions.items()},
    )


def _pages(ingest: Ingest, watch: Watch, store: Store) -> Pages:
    def unhealthy() -> list[str]:
        return [
            f"topic {place.topic} partition {place.partition} has records to read and has not"
            f" moved for {seconds:.0f} s"
            for place, seconds in watch.stalled.items()
        ]

    def unready() -> list[str]:
        return [*ingest.troubles, *unhealthy()]

    def status() -> Mapping[str, Any]:
        return {
            "version": __version__,
            "ready": not unready(),
            "troubles": unready(),
            "totals": asdict(_totals(store)),
            "partitions": [
                {
                    "topic": place.topic,
                    "partition": place.partition,
                    "next_offset": state.position.next_offset,
                    "lag_records": watch.lag.get(place),
                    **asdict(state.tally),
                }
                for place, state in sorted(store.partitions.items())
            ],
        }

    return Pages(unhealthy, unready, status, telemetry.exposition)


def _totals(store: Store) -> Tally:
    tallies = [asdict(state.tally) for state in store.partitions.values()]
    return Tally(**{name: sum(tally[name] for tally in tallies) for name in asdict(Tally())})


@contextmanager
def _stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` on SIGTERM and SIGINT; a second SIGINT interrupts at once."""

    def ask(number: int, _: object) -> None:
        _log.info("daemon.stopping", signal=signal.Signals(number).name)
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
