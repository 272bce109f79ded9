"""Logs by structlog and metrics by prometheus-client; every metric is named here."""

import logging
import math
import sys
from collections.abc import MutableMapping
from typing import Any, Final, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import generate_latest

REGISTRY: Final = CollectorRegistry()

EVENTS: Final = Counter(
    "governor_events",
    "Events, of business too, by what became of them: counted, duplicate or rejected.",
    ["outcome"],
    registry=REGISTRY,
)
REJECTS: Final = Counter(
    "governor_rejects", "Records set aside, by reason.", ["reason"], registry=REGISTRY
)
IGNORED: Final = Counter(
    "governor_ignored",
    "What records held beside usage, such as spans of agents and tools.",
    registry=REGISTRY,
)
LATE: Final = Counter(
    "governor_events_late", "Counted events that came late for their partition.", registry=REGISTRY
)
UNPRICED: Final = Counter(
    "governor_events_unpriced",
    "Counted events without a known price; caps count a stand-in for them.",
    registry=REGISTRY,
)
UNPRICED_MODELS: Final = Gauge(
    "governor_unpriced_models",
    "Models that people were told of for want of a price; up to 20, and one for all others.",
    registry=REGISTRY,
)
COST: Final = Counter(
    "governor_cost_usd",
    "Cost of the counted and priced events, for graphs; exact sums are in DuckDB.",
    registry=REGISTRY,
)
BATCH_SECONDS: Final = Histogram(
    "governor_batch_seconds",
    "Time to store one batch, from taking it up to its commit.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
BATCH_RECORDS: Final = Histogram(
    "governor_batch_records",
    "Events in one stored batch.",
    buckets=(1, 10, 100, 500, 1_000, 5_000, 10_000, 50_000),
    registry=REGISTRY,
)
LAST_STORED: Final = Gauge(
    "governor_last_stored_timestamp_seconds",
    "When the last batch was committed.",
    registry=REGISTRY,
)
PAUSED: Final = Gauge(
    "governor_ingest_paused",
    "1 while ingest waits for the store, as on a full disk.",
    registry=REGISTRY,
)
POSITION: Final = Gauge(
    "governor_partition_position_offset",
    "Offset of the next record that is not stored yet.",
    ["topic", "partition"],
    registry=REGISTRY,
)
LAG: Final = Gauge(
    "governor_partition_lag_records",
    "Records in the partition that are not stored yet.",
    ["topic", "partition"],
    registry=REGISTRY,
)
STALLED: Final = Gauge(
    "governor_partitions_stalled",
    "Partitions with lag whose position has stood still for `ingest.stall_after`.",
    registry=REGISTRY,
)
RESUMPTIONS: Final = Counter(
    "governor_resumptions",
    "Partitions that were not simply read on from their stored position, by reason.",
    ["reason"],
    registry=REGISTRY,
)
MISSED: Final = Counter(
    "governor_missed_records",
    "Records that were gone from Kafka before they could be read.",
    registry=REGISTRY,
)
KAFKA_ERRORS: Final = Counter(
    "governor_kafka_errors",
    "Passing errors of Kafka, by what we did.",
    ["doing"],
    registry=REGISTRY,
)
GROUP_COMMIT_FAILURES: Final = Counter(
    "governor_group_commit_failures",
    "Failed copies of our positions to the consumer group; nothing is lost by one.",
    registry=REGISTRY,
)

TRANSITIONS: Final = Counter(
    "governor_alert_transitions",
    "Lines of alert history, by what happened and the mode of the rule.",
    ["what", "mode"],
    registry=REGISTRY,
)
RULES_LOADED: Final = Gauge("governor_rules_loaded", "Rules in force.", registry=REGISTRY)
PRICES_REJECTED: Final = Gauge(
    "governor_prices_rejected",
    "1 while the price file is wrong and the last good prices are in force.",
    registry=REGISTRY,
)
RULES_REJECTED: Final = Gauge(
    "governor_rules_rejected",
    "1 while the rule files are wrong and the last good rules are in force.",
    registry=REGISTRY,
)
MESSAGES_TOLD: Final = Counter(
    "governor_messages_told",
    "Attempts to tell a receiver, by what became of them: told, failed or refused.",
    ["receiver", "outcome"],
    registry=REGISTRY,
)
MESSAGES_BEHIND: Final = Gauge(
    "governor_messages_behind",
    "Messages that a receiver is still to be told.",
    ["receiver"],
    registry=REGISTRY,
)
DIRECTIVES_PUBLISHED: Final = Counter(
    "governor_directives_published", "Directives acknowledged by Kafka.", registry=REGISTRY
)
DIRECTIVES_WAITING: Final = Gauge(
    "governor_directives_waiting",
    "Directives that are stored and not yet acknowledged by Kafka.",
    registry=REGISTRY,
)
EVENT_DELAY: Final = Gauge(
    "governor_event_delay_p99_seconds",
    "How old events are when they are stored, 99 in 100 at most; of the last minutes.",
    registry=REGISTRY,
)
DIRECTIVE_DELAY: Final = Histogram(
    "governor_event_to_directive_seconds",
    "From the newest event that brought a directive about to Kafka's having the directive.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
    registry=REGISTRY,
)
OVERSHOOT: Final = Gauge(
    "governor_overshoot_usd",
    "What those who are acted on spent past the threshold of the rule, in all, for graphs.",
    ["rule"],
    registry=REGISTRY,
)
DIRECTIVES_ACTING: Final = Gauge(
    "governor_directives_acting",
    "Directives by how they stand: acting, waiting for approval, shadow.",
    ["state"],
    registry=REGISTRY,
)
TOTALS_DRIFTED: Final = Counter(
    "governor_totals_drifted",
    "Totals in memory that the hourly audit found to differ from the store.",
    registry=REGISTRY,
)
ALERTS_OVERFLOWN: Final = Counter(
    "governor_alerts_overflown",
    "Groups that fired and had no room for an alert, for want of max_alerts.",
    registry=REGISTRY,
)
EVALUATIONS_FAILED: Final = Counter(
    "governor_evaluations_failed",
    "Evaluations of rules that came to an error, by rule.",
    ["rule"],
    registry=REGISTRY,
)


GATE_REGISTRY: Final = CollectorRegistry()
"""The metrics of the gate, which is a process of its own; a zero of the daemon would mislead."""

GATE_DECISIONS: Final = Counter(
    "governor_gate_decisions",
    "Decisions: allow, throttle_allowed, throttle_refused, downgrade or block.",
    ["decision"],
    registry=GATE_REGISTRY,
)
GATE_READY: Final = Gauge(
    "governor_gate_ready",
    "1 once the topic of directives was read to its end; before that everything is allowed.",
    registry=GATE_REGISTRY,
)
GATE_DIRECTIVES: Final = Gauge(
    "governor_gate_directives", "Directives that are obeyed now.", registry=GATE_REGISTRY
)
GATE_IGNORED: Final = Counter(
    "governor_gate_records_ignored",
    "Records of the topic that the gate cannot obey: unreadable, not_understood or full.",
    ["reason"],
    registry=GATE_REGISTRY,
)
GATE_LEASE_AGE: Final = Gauge(
    "governor_gate_lease_age_seconds",
    "How old the daemon's last heartbeat is, by our clock; not a number before the first.",
    registry=GATE_REGISTRY,
)
GATE_LEASE_AGE.set(math.nan)
GATE_DELAY: Final = Histogram(
    "governor_gate_event_to_gate_seconds",
    "From the newest event that brought a directive about to the gate's obeying it.",
    buckets=(0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300),
    registry=GATE_REGISTRY,
)
GATE_SHADOW: Final = Counter(
    "governor_gate_shadow_refused",
    "Requests that rules in shadow mode would have refused or downgraded, by rule.",
    ["rule"],
    registry=GATE_REGISTRY,
)
GATE_IDENTITY_FAILURES: Final = Counter(
    "governor_gate_identity_failures",
    "Requests without a good token, where one is asked for.",
    registry=GATE_REGISTRY,
)
GATE_SHARED_ERRORS: Final = Counter(
    "governor_gate_shared_errors",
    "Decisions for which the shared rates could not be asked; its own rates counted instead.",
    registry=GATE_REGISTRY,
)
GATE_BUCKETS: Final = Gauge(
    "governor_gate_buckets", "Token buckets in memory.", registry=GATE_REGISTRY
)
GATE_BUCKETS_FORGOTTEN: Final = Counter(
    "governor_gate_buckets_forgotten",
    "Token buckets forgotten for want of room before they were full again.",
    registry=GATE_REGISTRY,
)
GATE_KAFKA_ERRORS: Final = Counter(
    "governor_gate_kafka_errors",
    "Times the topic of directives could not be read; the gate tries again.",
    registry=GATE_REGISTRY,
)


def exposition(registry: CollectorRegistry = REGISTRY) -> bytes:
    """Return every metric of a registry in the Prometheus text format."""
    return generate_latest(registry)


def configure(level: str, style: Literal["auto", "json", "console"]) -> None:
    """Send structured logs to standard error; `auto` is console on a terminal, else JSON."""
    as_json = style == "json" or (style == "auto" and not sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    renderer: Any = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer()
    )
    structlog.configure(
        processors=[*shared, structlog.processors.format_exc_info, renderer]
        if as_json
        else [*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _configure_libraries(shared, renderer)


def _configure_libraries(shared: list[Any], renderer: Any) -> None:
    """Show what libraries log from WARNING up, in our style."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name, _as_library],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)


def _as_library(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    event["detail"] = event.pop("event")
    event["event"] = "library.logged"
    return event
