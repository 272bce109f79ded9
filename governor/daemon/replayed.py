"""Events of a file, counted into a store of their own: for backtests."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.errors import ConfigError
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.daemon.clocks import WallClock
from governor.daemon.parts import file_options, price_book
from governor.daemon.pricing import tariffs_of
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from governor.settings import Settings

LINES: Final = 5_000
AGES: Final = timedelta(days=36_500)
_PLACE: Final = PartitionId("events", 0)


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a file as a record."""

    offset: int
    value: bytes
    partition: int = 0
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0


@contextmanager
def history(
    settings: Settings, events: Path | None, event_format: str, complain: Callable[[str], None]
) -> Iterator[Path]:
    """Give the store to replay: that of the settings, or one made of a file of events.

    `complain` hears of lines that are no usage. Raise ConfigError where the file cannot be read.
    """
    if events is None:
        yield settings.store.path
        return
    if event_format not in FORMATS:
        raise ConfigError(f"--format {event_format}: write {', '.join(sorted(FORMATS))}")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "history.duckdb"
        rejected = _count(settings, events, event_format, path)
        if rejected:
            left = "1 line" if len(rejected) == 1 else f"{len(rejected):,} lines"
            verb = "is" if len(rejected) == 1 else "are"
            complain(f"{left} of {events} {verb} left out, such as {rejected[0]}")
        yield path


def _count(settings: Settings, events: Path, event_format: str, path: Path) -> list[str]:
    now: partial[datetime] = partial(WallClock().at, None)
    rates = RateTable(tariffs_of(Catalogue(), price_book(settings)))
    store = Store(replace(file_options(settings), path=path, min_free_bytes=0), rates, now)
    rejected: list[str] = []
    try:
        store.resume({_PLACE: (Resumption(0, Start.NEW_TOPIC, 0), None)}, now())
        intake = Intake(
            formats={_PLACE.topic: FORMATS[event_format]({})},
            window=Window(AGES, AGES, AGES),
            clock=WallClock(),
            max_record_bytes=settings.ingest.max_record_bytes,
            watermarks={},
        )
        with events.open("rb") as file:
            lines = (Line(n, text.strip()) for n, text in enumerate(file) if text.strip())
            while some := list(itertools.islice(lines, LINES)):
                numbered = [replace(line, offset=n) for n, line in enumerate(some, _next(store))]
                end = numbered[-1].offset + 1
                start = Position(numbered[0].offset, None)
                batch = intake.batch(Polled({_PLACE: numbered}, {_PLACE: start}, {_PLACE: end}))
                for reject in batch.rejects:
                    line = some[reject.offset - start.next_offset].offset + 1
                    rejected.append(f"line {line}: {reject.reason}: {reject.detail}")
                store.append(batch)
    except OSError as error:
        raise ConfigError(f"{events} cannot be read ({error.strerror})") from error
    finally:
        store.close()
    return rejected


def _next(store: Store) -> int:
    return store.partitions[_PLACE].position.next_offset
