"""Business events in the file: each version stored once; the views tell which one holds."""

from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from governor.adapters.duckdb.file import registered

_FRESH: Final = """
SELECT DISTINCT ON (source, event_id, op, CASE WHEN op <> 'insert' THEN updated_at END) b.*
FROM batch_business b
ANTI JOIN business_events s ON s.source = b.source AND s.event_id = b.event_id AND s.op = b.op
    AND (b.op = 'insert' OR s.updated_at = b.updated_at)
ORDER BY topic, "partition", "offset"
"""
"""The versions that are not stored yet. An insert of a known id says nothing new."""

_APPEND: Final = "INSERT INTO business_events BY NAME SELECT *, $1 AS stored_at FROM fresh"


def append_business(
    connection: duckdb.DuckDBPyConnection, events: pa.Table, now: datetime
) -> pa.Table:
    """Append business events (`BUSINESS_SCHEMA`); return those that are new."""
    if not events.num_rows:
        return events
    with registered(connection, batch_business=events):
        fresh = connection.execute(_FRESH).to_arrow_table()
    if fresh.num_rows:
        with registered(connection, fresh=fresh):
            connection.execute(_APPEND, [now])
    return fresh
