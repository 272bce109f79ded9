"""What is stored of usage, to the minute and by dimensions, for those who replay it."""

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import duckdb

from governor.adapters.duckdb.file import open_file
from governor.adapters.duckdb.past import Past
from governor.adapters.duckdb.reaching import among, reaching
from governor.core.errors import ConfigError
from governor.core.rules.shared import Rule
from governor.core.totals import BUCKET_US, Mask, Sums

MINUTE_US: Final = 60_000_000
FETCHED_ROWS: Final = 20_000
MEMORY_LIMIT: Final = "1GB"
THREADS: Final = "2"

_MINUTES: Final = """
SELECT epoch_us(event_time) // {minute} * {minute} AS minute_us,
       minute_us // {bucket} * {bucket} AS bucket_us, {dimensions}
       sum(cap_nano)::HUGEINT, sum(requests)::BIGINT,
       sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::BIGINT
FROM (FROM events UNION ALL FROM late_events) e
WHERE event_time >= $1 AND event_time < $2{only}
GROUP BY ALL ORDER BY minute_us
"""


class History:
    """A store that no daemon has open, read-only."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise ConfigError(f"{path} is not there: there is no history to replay")
        config = {"memory_limit": MEMORY_LIMIT, "threads": THREADS}
        self._connection = open_file(path, config, read_only=True)
        self._connection.execute("SET TimeZone = 'UTC'")

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def past(self, until: datetime) -> Past:
        """Return what was known up to a time."""
        return Past(self._connection, until)

    def span(self) -> tuple[datetime, datetime] | None:
        """Return the first and the last event time; None where there is no usage."""
        found = self._connection.execute(
            "SELECT min(event_time), max(event_time)"
            " FROM (SELECT event_time FROM events UNION ALL SELECT event_time FROM late_events)"
        ).to_arrow_table()
        first, last = (found.column(number)[0].as_py() for number in range(2))
        return None if first is None else (first, last)

    def usage(
        self,
        masks: Sequence[Mask],
        start: datetime,
        end: datetime,
        rules: Iterable[Rule] = (),
    ) -> Iterator[tuple[int, Mapping[Mask, list[Sums]]]]:
        """Yield each minute of [`start`, `end`) with usage, in microseconds, with its sums.

        Where all `rules` are known, usage of groups that reach no threshold of theirs in a period
        is left out: nothing can come of it.
        """
        listed = list(rules)
        streams = [_stream(self._connection.cursor(), mask, start, end, listed) for mask in masks]
        merged = heapq.merge(*streams, key=itemgetter(0))
        for minute_us, found in groupby(merged, key=itemgetter(0)):
            yield minute_us, {mask: sums for _, mask, sums in found}


def _stream(
    cursor: duckdb.DuckDBPyConnection,
    mask: Mask,
    start: datetime,
    end: datetime,
    rules: Sequence[Rule],
) -> Iterator[tuple[int, Mask, list[Sums]]]:
    """Yield each minute with the sums of it, a list at a time."""
    dimensions = "".join(f'"{dimension}", ' for dimension in mask)
    held: tuple[int, list[Sums]] | None = None
    with closing(cursor):
        cursor.execute("SET TimeZone = 'UTC'")
        only = among(mask) if reaching(cursor, mask, rules, start, end) else ""
        query = _MINUTES.format(
            minute=MINUTE_US, bucket=BUCKET_US, dimensions=dimensions, only=only
        )
        cursor.execute(query, [start, end])
        while rows := cursor.fetchmany(FETCHED_ROWS):
            for minute_us, some in groupby(rows, key=itemgetter(0)):
                sums = [row[1:] for row in some]
                if held and held[0] == minute_us:
                    held[1].extend(sums)
                    continue
                if held:
                    yield held[0], mask, held[1]
                held = (minute_us, sums)
    if held:
        yield held[0], mask, held[1]
