"""The ingest loop: polled records to committed batches, fetching and storing side by side.

The storing thread owns the store. What else must read or write it is done between two batches:
rules are judged after each, and other threads `ask`.

One thread fetches and decodes, the other stores; SQL runs without the interpreter's lock, so
both cores work. Between them stands a short queue: when the store is slow or waits for disk
space the queue fills, fetching stops, and the records stay in Kafka.
"""

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Final, Protocol, TypeVar

import structlog

from governor import telemetry
from governor.core.batches import Batch, Polled, Stored
from governor.core.errors import PermanentError, TransientError
from governor.core.positions import PartitionId, Resumption, Start
from governor.core.pricing import NANO_PER_USD
from governor.loops.ingest.calls import Calls
from governor.loops.ingest.intake import Clock, Intake

__all__ = ["Clock", "Ingest", "Intake", "Judge", "Sink", "Source"]

REFRESH_S: Final = 10.0
FIRST_RETRY_S: Final = 0.5
LONGEST_RETRY_S: Final = 10.0
COMPACT_EVERY_S: Final = 3_600.0
PROGRESS_EVERY_S: Final = 10.0
JOIN_TIMEOUT_S: Final = 4.0
DRAIN_PATIENCE_S: Final = 60.0
"""How long a drain tries to reach Kafka before it gives up."""

TICK_EVERY_S: Final = 0.25
"""How often time itself is judged: periods that end, rules that wait."""

_LOUD: Final = (Start.RECREATED, Start.EXPIRED, Start.TRUNCATED)
_OUTCOMES: Final = {"counted": "counted", "duplicate": "duplicates", "rejected": "rejected"}

_T = TypeVar("_T")

_log = structlog.get_logger()

Resumptions = Mapping[PartitionId, tuple[Resumption, str | None]]


class Source(Protocol):
    """Where records come from; see `adapters.kafka.source`."""

    missing_topics: tuple[str, ...]

    @property
    def needs_refresh(self) -> bool:
        """Whether a partition has lost its place."""

    def refresh(self) -> Resumptions:
        """Look at the topics again; return the partitions that are read from elsewhere."""

    def poll(self) -> Polled:
        """Wait a little for records."""

    def ends(self) -> Mapping[PartitionId, int]:
        """Return the end offset of every assigned partition."""

    def close(self) -> None:
        """Let go."""


class Sink(Protocol):
    """Where batches go; see `adapters.duckdb.store`."""

    def append(self, batch: Batch) -> Stored | None:
        """Store a batch once."""

    def resume(self, resumptions: Resumptions, now: datetime) -> None:
        """Record positions that were not reached by reading."""

    def compact(self, now: datetime) -> None:
        """Fold old minutes into hours and drop what is past keeping."""


class Judge(Protocol):
    """What judges rules on what is stored; see `loops.evaluate`."""

    def begin(self) -> None:
        """Take up what is stored; may raise TransientError, and is then called again."""

    def stored(self, batch: Batch, stored: Stored) -> None:
        """Take up what a committed batch came to; cannot fail."""

    def missed(self, batch: Batch) -> None:
        """Add up anew: a batch is stored, and what it came to is not known.

        May raise TransientError, and is then called again.
        """

    def settle(self) -> None:
        """Judge what was taken up; may raise TransientError, and is then called again."""

    def tick(self) -> None:
        """Do what time brings; may raise TransientError, and is then called again."""


class Ingest:
    """Runs the two threads; `positions` and `troubles` are for others to look at."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        intake: Intake,
        *,
        positions: Mapping[PartitionId, int],
        queue_batches: int,
        wall: Clock,
        judge: Judge | None = None,
    ) -> None:
        self._source = source
        self._sink = sink
        self._intake = intake
        self._wall = wall
        self._judge = judge
        self._calls = Calls()
        self._failure: Exception | None = None
        self._ticked = 0.0
        self._queue: queue.Queue[Batch | Resumptions | _Targets | Exception] = queue.Queue(
            maxsize=queue_batches
        )
        self._targets: Mapping[PartitionId, int] | None = None
        self._progress: Counter[str] = Counter()
        self._progress_logged = time.monotonic()
        self._compacted = -COMPACT_EVERY_S
        self.positions: Mapping[PartitionId, int] = dict(positions)
        self._said_missing: tuple[str, ...] = ()
        self._fetch_trouble: str | None = "not connected to Kafka yet"
        self._store_trouble: str | None = None

    @property
    def idle_s(self) -> float:
        """Seconds since rules were last judged."""
        return time.monotonic() - self._ticked

    def ask(self, call: Callable[[], _T]) -> _T:
        """Have `call` done by the thread that owns the store, between two batches."""
        return self._calls.ask(call)

    def fail(self, error: Exception) -> None:
        """End `run` by raising `error` there."""
        self._failure = error

    @property
    def troubles(self) -> list[str]:
        """Why no batch is being stored right now, in plain lines; empty when all is well."""
        return [trouble for trouble in (self._fetch_trouble, self._store_trouble) if trouble]

    def run(self, stop: threading.Event, *, drain: bool) -> None:
        """Move records until `stop` is set, or with `drain` until the ends of now are stored.

        Raise PermanentError or ConfigError where a person must act; all that was committed stays.
        """
        over = threading.Event()
        fetcher = threading.Thread(
            target=self._fetch_until,
            args=(stop, over),
            kwargs={"drain": drain},
            name="fetch",
            daemon=True,
        )
        fetcher.start()
        try:
            if self._judge:
                self._store(stop, self._judge.begin)
            while not stop.is_set() and not self._drained():
                if self._failure is not None:
                    raise self._failure
                self._calls.answer()
                if self._judge and self.idle_s >= TICK_EVERY_S:
                    self._store(stop, self._judge.tick)
                    self._ticked = time.monotonic()
                try:
                    item = self._queue.get(timeout=0.02)
                except queue.Empty:
                    self._store(stop, self._compact_if_due)
                else:
                    self._take(stop, item)
            if self._targets is not None:
                _log.info("ingest.drained", partitions=len(self._targets))
        finally:
            over.set()
            self._calls.close()
            fetcher.join(JOIN_TIMEOUT_S)  # it may wait for a broker that is gone
            self._log_progress(every_s=0)

    def _fetch_until(self, stop: threading.Event, over: threading.Event, *, drain: bool) -> None:
        retry_s = FIRST_RETRY_S
        began = time.monotonic()
        refreshed: float | None = None
        try:
            while not (stop.is_set() or over.is_set()):
                try:
                    if self._refresh_is_due(refreshed):
                        self._refresh(stop, over, drain=drain and refreshed is None)
                        refreshed = time.monotonic()
                    polled = self._source.poll()
                    if polled.ends:
                        self._put(self._intake.batch(polled), stop, over)
                    retry_s = FIRST_RETRY_S
                except TransientError as error:
                    if drain and refreshed is None and time.monotonic() - began > DRAIN_PATIENCE_S:
                        raise
                    self._fetch_trouble = str(error)
                    telemetry.KAFKA_ERRORS.labels("fetch").inc()
                    _log.warning("kafka.failed", error=str(error), retry_s=retry_s)
                    over.wait(retry_s)
                    retry_s = min(2 * retry_s, LONGEST_RETRY_S)
        except Exception as error:  # noqa: BLE001  # handed to the thread that can stop the process
            self._put(error, stop, over)
        finally:
            self._source.close()

    def _refresh_is_due(self, refreshed: float | None) -> bool:
        if refreshed is None or self._source.needs_refresh:
            return True
        return time.monotonic() - refreshed >= REFRESH_S

    def _refresh(self, stop: threading.Event, over: threading.Event, *, drain: bool) -> None:
        moved = self._source.refresh()
        if moved:
            self._put(moved, stop, over)
        missing = self._source.missing_topics
        self._fetch_trouble = None
        if missing:
            self._fetch_trouble = f"no topic {', '.join(missing)}; run: governor topics create"
            if missing != self._said_missing:
                _log.warning("topics.missing", topics=missing, advice="governor topics create")
        self._said_missing = missing
        if drain:
            self._put(_Targets(self._source.ends(), missing), stop, over)

    def _put(
        self,
        item: "Batch | Resumptions | _Targets | Exception",
        stop: threading.Event,
        over: threading.Event,
    ) -> None:
        while not (stop.is_set() or over.is_set()):
            try:
                self._queue.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def _take(
        self, stop: threading.Event, item: "Batch | Resumptions | _Targets | Exception"
    ) -> None:
        match item:
            case Exception():
                raise item
            case _Targets():
                if item.missing:
                    raise PermanentError(
                        f"topic {', '.join(item.missing)} does not exist, so there is nothing to"
                        " drain; make it: governor topics create"
                    )
                self._targets = item.ends
            case Batch():
                self._store(stop, lambda: self._append(item))
                if self._judge:
                    self._store(stop, self._judge.settle)
            case _:
                self._store(stop, lambda: self._resume(item))

    def _store(self, stop: threading.Event, step: Callable[[], None]) -> None:
        """Do one step on the store; wait and do it again for as long as the store is not ready."""
        retry_s = FIRST_RETRY_S
        while True:
            try:
                step()
            except TransientError as error:
                self._store_trouble = str(error)
                telemetry.PAUSED.set(1)
                _log.warning("store.waiting", error=str(error), retry_s=retry_s)
                if stop.wait(retry_s):
                    return
                retry_s = min(2 * retry_s, LONGEST_RETRY_S)
            else:
                self._store_trouble = None
                telemetry.PAUSED.set(0)
                return

    def _append(self, batch: Batch) -> None:
        began = time.monotonic()
        stored = self._sink.append(batch)
        ends = {span.partition: span.end for span in batch.spans}
        self.positions = {**self.positions, **ends}
        if stored is None:
            _log.info("batch.known", spans=len(batch.spans))
            if self._judge:
                self._judge.missed(batch)
            return
        if self._judge:
            self._judge.stored(batch, stored)
        seconds = time.monotonic() - began
        _measure(batch, stored, seconds)
        telemetry.LAST_STORED.set(self._wall.at(None).timestamp())
        for tally in stored.tallies.values():
            self._progress.update(asdict(tally))
        _log.debug("batch.stored", events=batch.events.num_rows, seconds=round(seconds, 4))
        self._log_progress(every_s=PROGRESS_EVERY_S)

    def _resume(self, resumptions: Resumptions) -> None:
        moved = {p: r for p, r in resumptions.items() if r[0].start is not Start.STORED}
        if moved:
            self._sink.resume(moved, self._wall.at(None))
        self.positions = {
            **self.positions,
            **{partition: resumption.offset for partition, (resumption, _) in resumptions.items()},
        }
        for (topic, partition), (resumption, _) in sorted(resumptions.items()):
            loud = resumption.missed_records or resumption.start in _LOUD
            telemetry.RESUMPTIONS.labels(resumption.start.value).inc()
            telemetry.MISSED.inc(resumption.missed_records)
            (_log.error if loud else _log.info)(
                "partition.resumed",
                topic=topic,
                partition=partition,
                reason=resumption.start.value,
                offset=resumption.offset,
                missed_records=resumption.missed_records,
            )

    def _compact_if_due(self) -> None:
        if time.monotonic() - self._compacted >= COMPACT_EVERY_S:
            self._compacted = time.monotonic()
            self._sink.compact(self._wall.at(None))

    def _drained(self) -> bool:
        targets = self._targets
        if targets is None:
            return False
        return all(self.positions.get(place, 0) >= end for place, end in targets.items())

    def _log_progress(self, *, every_s: float) -> None:
        now = time.monotonic()
        if self._progress and now - self._progress_logged >= every_s:
            _log.info("ingest.progressed", **self._progress)
            self._progress.clear()
            self._progress_logged = now


def _measure(batch: Batch, stored: Stored, seconds: float) -> None:
    telemetry.BATCH_SECONDS.observe(seconds)
    telemetry.BATCH_RECORDS.observe(sum(span.events for span in batch.spans))
    for outcome, name in _OUTCOMES.items():
        count = sum(getattr(tally, name) for tally in stored.tallies.values())
        telemetry.EVENTS.labels(outcome).inc(count)
    for reason, count in Counter(reject.reason.value for reject in batch.rejects).items():
        telemetry.REJECTS.labels(reason).inc(count)
    telemetry.IGNORED.inc(batch.ignored)
    telemetry.LATE.inc(sum(tally.late for tally in stored.tallies.values()))
    telemetry.UNPRICED.inc(sum(tally.unpriced for tally in stored.tallies.values()))
    cost_nano = sum(stored.deltas["cost_nano"].drop_null().to_pylist())
    telemetry.COST.inc(float(cost_nano) / NANO_PER_USD)
    for span in batch.spans:
        telemetry.POSITION.labels(*map(str, span.partition)).set(span.end)


@dataclass(frozen=True, slots=True)
class _Targets:
    ends: Mapping[PartitionId, int]
    missing: tuple[str, ...]
