"""A till: events priced by the whole path into a DuckDB file, and what was charged for each."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from governor import pricebook
from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.admission import Window
from governor.core.batches import Polled
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.tariffs import Tariffs
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.unit.samples import Sample
from tests.unit.site import NOON, Clock

FIELDS: Mapping[str, str] = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "reasoning": "reasoning_tokens",
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "request": "requests",
    "web_search": "web_searches",
}
"""What a rate is called, and the field of an event that it is on."""
BATCH = 5_000
AGES = timedelta(days=4_000)


def charged(
    path: Path, events: Sequence[Mapping[str, Any]], *, corrected: bool = True
) -> list[dict[str, Any]]:
    """Return what was charged for each event, in their order; ids and sources are given here."""
    book = pricebook.load(None)
    overrides = book.overrides if corrected else ()
    rates = RateTable(Tariffs(Catalogue(), overrides, book.providers))
    place = PartitionId("usage", 0)
    store = Store(FileOptions(path, 400_000_000, 1, 64_000_000, 0), rates, lambda: NOON)
    try:
        store.resume({place: (Resumption(0, Start.NEW_TOPIC, 0), "id")}, NOON)
        intake = Intake(
            formats={"usage": FORMATS["native"]({})},
            window=Window(AGES, AGES, AGES),
            clock=Clock(NOON),
            max_record_bytes=100_000,
            watermarks={},
        )
        for first in range(0, len(events), BATCH):
            lines = [
                Sample(_line(first + n, event), (), first + n)
                for n, event in enumerate(events[first : first + BATCH])
            ]
            ends = {place: first + len(lines)}
            batch = intake.batch(Polled({place: lines}, {place: Position(first, "id")}, ends))
            assert batch.rejects == ()
            store.append(batch)
        found: list[dict[str, Any]] = (
            store.database.connection.execute(
                "SELECT cost_nano, cap_nano, contradicts, tier_unpriced, p.source, p.tier,"
                " p.provider, p.model FROM usage u JOIN prices p USING (price_id)"
                ' ORDER BY "offset"'
            )
            .to_arrow_table()
            .to_pylist()
        )
        assert len(found) == len(events)
        return found
    finally:
        store.close()


def _line(number: int, event: Mapping[str, Any]) -> bytes:
    told = {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in event.items()
        if value is not None
    }
    return json.dumps({"event_id": f"e{number}", "source": "till", **told}).encode()
