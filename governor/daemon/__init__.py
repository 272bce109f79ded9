"""The composition root: builds the daemon, runs it, takes it down."""

import gc
import resource
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import structlog

from governor import __version__, telemetry
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.adapters.probes import Pages, Probes
from governor.core.batches import Tally
from governor.daemon import receivers
from governor.daemon.acting import Acting
from governor.daemon.clocks import EventClock, WallClock
from governor.daemon.judging import Judges
from governor.daemon.parts import (
    connection_of,
    file_options,
    ingest_of,
    judging_of,
    price_book,
    pricing_of,
    watch_of,
)
from governor.daemon.pricing import tariffs_of
from governor.loops.ingest import Ingest
from governor.loops.watch import Watch
from governor.settings import Settings

__all__ = ["Summary", "WallClock", "connection_of", "file_options", "run"]

SWITCH_INTERVAL_S: Final = 0.0001
"""The store's thread gets the interpreter back this soon after each statement."""
JOIN_TIMEOUT_S: Final = 3.0
"""How long a stop waits for a thread that may wait for a broker that is gone."""
GC_THRESHOLD: Final = 100_000
"""Records in flight are no garbage: look for cycles after this many new objects, not after 700."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Summary:
    """What is stored when the daemon stops: sums over all partitions, by `Tally`."""

    totals: Tally
    partitions: int


def run(
    settings: Settings,
    *,
    drain: bool = False,
    follow_events: bool = False,
    wall: WallClock | None = None,
) -> Summary:
    """Run the daemon until SIGTERM or SIGINT, or with `drain` until the topics' ends are stored.

    Raise ConfigError or PermanentError where a person must act. All that was committed stays, and
    the next start reads on from there.
    """
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(_stopped_by_signals(stop))
        wall = wall or WallClock()
        clock = EventClock() if follow_events else wall
        now = partial(wall.at, None)
        catalogue, book = Catalogue(), price_book(settings)
        tariffs = tariffs_of(catalogue, book)
        store = Store(file_options(settings), RateTable(tariffs), now)
        stack.callback(store.close)
        connection = connection_of(settings)
        acting = None
        watch = watch_of(settings, connection, lambda: ingest.positions, now)
        if drain:
            ingest = ingest_of(settings, connection, store, clock, wall, judge=None)
        else:
            state, told = State(store, now), receivers.fixed(settings)
            judging = judging_of(
                settings,
                state,
                told,
                now,
                None if follow_events else lambda: watch.complete,
                follow_events=follow_events,
            )
            pricing = pricing_of(settings, catalogue, (book, tariffs), store, state, judging, now)
            judges = Judges([judging.lateness, judging.evaluate, pricing])
            ingest = ingest_of(settings, connection, store, clock, wall, judge=judges)
            acting = Acting(settings, connection, judging, pricing, state, ingest, now=now)
        if acting:
            _open_probes(stack, settings, _pages(ingest, watch, store, acting))
        _start_thread(stack, watch, stop)
        if acting:
            acting.open(stack, stop)
        stack.callback(stop.set)
        _spare_records_in_flight()
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
    _log.info("daemon.stopped", peak_rss_kb=_peak_rss_kb(), **asdict(summary.totals))
    return summary


def _open_probes(stack: ExitStack, settings: Settings, pages: Pages) -> None:
    probes = Probes(settings.http.host, settings.http.port, pages)
    stack.callback(probes.close)
    _log.info("probes.opened", host=settings.http.host, port=probes.port)


def _start_thread(stack: ExitStack, watch: Watch, stop: threading.Event) -> None:
    watcher = threading.Thread(target=watch.run, args=(stop,), name="watch", daemon=True)
    watcher.start()
    stack.callback(watcher.join, JOIN_TIMEOUT_S)


def _peak_rss_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _spare_records_in_flight() -> None:
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 50, 50)


def _pages(ingest: Ingest, watch: Watch, store: Store, acting: Acting) -> Pages:
    def unhealthy() -> list[str]:
        return [
            f"topic {place.topic} partition {place.partition} has records to read and has not"
            f" moved for {seconds:.0f} s"
            for place, seconds in watch.stalled.items()
        ]

    def unready() -> list[str]:
        return [*ingest.troubles, *unhealthy()]

    def troubles() -> list[str]:
        return [*unready(), *acting.troubles]

    def status() -> Mapping[str, Any]:
        return {
            "version": __version__,
            "ready": not unready(),
            "troubles": troubles(),
            "totals": asdict(_totals(store)),
            "enforcement": acting.enforcement,
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
