"""From settings to the parts of the daemon: what each takes, secrets unwrapped for it alone."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from governor import pricebook
from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.lag import GroupOffsets
from governor.adapters.kafka.source import UsageSource
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.positions import PartitionId
from governor.core.tariffs import Tariffs
from governor.daemon.clocks import EventClock, WallClock
from governor.daemon.judging import Judging
from governor.daemon.pricing import Pricing
from governor.formats import FORMATS
from governor.loops.deliver import Receiver
from governor.loops.ingest import Ingest, Intake, Judge
from governor.loops.watch import Watch
from governor.settings import Prices, Settings


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


def ingest_of(
    settings: Settings,
    connection: Connection,
    store: Store,
    clock: WallClock | EventClock,
    wall: WallClock,
    *,
    judge: Judge | None,
) -> Ingest:
    """Return what moves records into the store, beginning at the stored positions."""
    return Ingest(
        _source_of(settings, connection, store),
        store,
        _intake_of(settings, store, clock),
        positions={
            place: state.position.next_offset
            for place, state in store.partitions.items()
            if place.topic in settings.topics
        },
        queue_batches=settings.ingest.queue_batches,
        wall=wall,
        judge=judge,
    )


def _source_of(settings: Settings, connection: Connection, store: Store) -> UsageSource:
    return UsageSource(
        connection,
        topics=list(settings.topics),
        positions={place: state.position for place, state in store.partitions.items()},
        policy=settings.kafka.auto_offset_reset,
        batch_records=settings.ingest.batch_records,
        batch_wait_ms=int(settings.ingest.batch_wait.total_seconds() * 1000),
    )


def _intake_of(settings: Settings, store: Store, clock: WallClock | EventClock) -> Intake:
    return Intake(
        formats={
            name: FORMATS[topic.format](topic.fields) for name, topic in settings.topics.items()
        },
        window=Window(
            back=settings.ingest.accept_back,
            ahead=settings.ingest.accept_ahead,
            late_after=settings.ingest.late_after,
        ),
        clock=clock,
        max_record_bytes=settings.ingest.max_record_bytes,
        watermarks={place: state.watermark_us for place, state in store.partitions.items()},
    )


def watch_of(
    settings: Settings,
    connection: Connection,
    positions: Callable[[], Mapping[PartitionId, int]],
    now: Callable[[], datetime],
) -> Watch:
    """Return what looks at lag and stalls, and copies positions to Kafka."""
    return Watch(
        GroupOffsets(connection, group_id=settings.kafka.group_id),
        positions,
        stall_after_s=settings.ingest.stall_after.total_seconds(),
        now=now,
    )


def pricing_of(
    settings: Settings,
    catalogue: Catalogue,
    prices: tuple[pricebook.PriceBook, Tariffs],
    store: Store,
    state: State,
    judging: Judging,
    now: Callable[[], datetime],
) -> Pricing:
    """Return what charges and tells of prices; `prices` are those in force."""
    book, tariffs = prices
    return Pricing(
        catalogue,
        book,
        tariffs,
        settings.prices.path,
        store,
        state,
        tell=judging.evaluate.tell,
        audit=judging.evaluate.audited,
        recount=judging.evaluate.recount,
        now=now,
        percent=settings.prices.disagreement_percent,
    )


def price_book(settings: Settings) -> pricebook.PriceBook:
    """Return the prices of the file, if there is one; raise ConfigError where it is wrong."""
    path = settings.prices.path
    absent = path == DEFAULT_PRICES and not path.exists()
    return pricebook.load(None if absent else path)


DEFAULT_PRICES: Final = Prices().path


def judging_of(
    settings: Settings,
    state: State,
    receivers: Sequence[Receiver],
    now: Callable[[], datetime],
    complete: Callable[[], datetime | None] | None,
    *,
    follow_events: bool,
) -> Judging:
    """Return what judges the rules of the files; raise ConfigError where those are wrong.

    `complete` says until when all usage is stored; None for always.
    """
    return Judging(
        state,
        rules=settings.rules.path,
        keep_at=Path(f"{settings.store.path}.rules"),
        receivers=[receiver.name for receiver in receivers],
        now=now,
        complete=complete,
        follow_events=follow_events,
        stale_after=settings.directives.stale_after,
    )
