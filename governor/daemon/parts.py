"""From settings to the parts of the daemon: what each takes, secrets unwrapped for it alone."""

from pathlib import Path

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.store import Store
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.source import UsageSource
from governor.core.admission import Window
from governor.daemon.clocks import EventClock, WallClock
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from governor.settings import Settings


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


def source_of(settings: Settings, connection: Connection, store: Store) -> UsageSource:
    """Return where records come from, beginning at the stored positions."""
    return UsageSource(
        connection,
        topics=list(settings.topics),
        positions={place: state.position for place, state in store.partitions.items()},
        policy=settings.kafka.auto_offset_reset,
        batch_records=settings.ingest.batch_records,
        batch_wait_ms=int(settings.ingest.batch_wait.total_seconds() * 1000),
    )


def intake_of(settings: Settings, store: Store, clock: WallClock | EventClock) -> Intake:
    """Return what makes batches of records."""
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
