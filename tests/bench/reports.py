"""How long a daily report takes over many stored events, beside a plain scan of one day of them.

    python -m tests.bench.reports                      10 million events, about a minute
    python -m tests.bench.reports --events 100000000   100 million, some ten minutes, 6 GB of disk

The events are made by SQL, 30 days of them; the report is that of the last whole day, with what
moved and why. The ratio is to the sum of one column of that day, in the same run.
"""

import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import typer

from governor import pages
from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.reporting import Reporting
from governor.adapters.duckdb.store import Store
from governor.core.periods import Every
from governor.core.reports import ReportSpec, due
from governor.loops.report import Reports
from tests.unit.accountant import PRICES, resolve, resolve_provider
from tests.unit.shelf import rate_table

DAYS = 30
CHUNK = 5_000_000
NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
LIMIT_S = 5.0

_EVENTS = """
INSERT INTO events BY NAME
SELECT 'e' || i AS event_id, 'bench' AS source,
       $start::TIMESTAMPTZ + to_microseconds((i * $step_us)::BIGINT) AS event_time,
       'openai' AS provider, 'gpt-' || (hash(i) % 8) AS model, 'standard' AS service_tier,
       'c' || (hash(i * 3) % 2000) AS customer, 'u' || (hash(i * 5) % 200000) AS "user",
       ['free', 'pro', 'enterprise'][1 + (hash(i * 7) % 3)::INTEGER] AS tier,
       'f' || (hash(i * 11) % 12) AS feature, 't' || (hash(i * 13) % 9) AS team,
       (500 + hash(i * 17) % 4000)::BIGINT AS input_tokens,
       (100 + hash(i * 19) % 900)::BIGINT AS output_tokens, 1 AS requests,
       'usage' AS topic, 0 AS "partition", i AS "offset", 1 AS price_id,
       (input_tokens * 2500 + output_tokens * 10000)::BIGINT AS cost_nano, cost_nano AS cap_nano,
       false AS contradicts, false AS tier_unpriced, $start::TIMESTAMPTZ AS stored_at
FROM range($first, $last) r(i)
"""
_ROLLUPS = """
INSERT INTO rollup_hour BY NAME
SELECT time_bucket(INTERVAL 1 HOUR, event_time) AS bucket, tier, feature, team, provider, model,
       service_tier, count(*) AS events, sum(requests)::BIGINT AS requests,
       sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens,
       sum(cost_nano)::HUGEINT AS cost_nano, sum(cap_nano)::HUGEINT AS cap_nano,
       0 AS unpriced_events, 0 AS unpriced_tokens, 0::HUGEINT AS unpriced_nano
FROM events GROUP BY ALL
"""


def filled(path: Path, events: int) -> Store:
    """Return a store with so many events."""
    table = rate_table(PRICES, resolve, resolve_provider, {})
    store = Store(FileOptions(path, 10**9, 1, 2**26, 0), table, lambda: NOW)
    connection = store.database.connection
    start = NOW - timedelta(days=DAYS)
    step_us = DAYS * 86_400_000_000 / events
    for first in range(0, events, CHUNK):
        last = min(first + CHUNK, events)
        given = {"start": start, "step_us": step_us, "first": first, "last": last}
        connection.execute(_EVENTS, given)
        print(f"  {last:,} of {events:,} events", file=sys.stderr)
    connection.execute(_ROLLUPS)
    connection.execute("CHECKPOINT")
    return store


def timed(call: Any) -> tuple[float, Any]:
    """Return the seconds that a call takes, the second time, and what it returned."""
    call()
    started = time.monotonic()
    found = call()
    return time.monotonic() - started, found


def main(events: int = 10_000_000) -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder) / "governor.duckdb", events)
        spec = ReportSpec("daily", Every.DAY, "UTC", NOW.time(), ())
        (period,) = due(spec, NOW + timedelta(hours=12), None)
        ask = lambda call: call()  # noqa: E731
        reports = Reports(
            lambda: [spec],
            Reporting(store, ask),
            SimpleNamespace(),  # type: ignore[arg-type]  # nothing is entered into a ledger
            budgets=list,
            enter=lambda *_: None,
            ask=ask,
            now=lambda: NOW,
            complete=lambda: NOW,
        )
        scan = "SELECT sum(cost_nano) FROM events WHERE event_time >= $1 AND event_time < $2"
        bounds = [period.start, period.end]
        connection = store.database.connection
        scan_s, ((total,),) = timed(lambda: connection.execute(scan, bounds).fetchall())
        report_s, report = timed(lambda: reports.make(spec, period))
        page_s, page = timed(lambda: pages.report(report))
        store.close()
    assert report.spend.cost == total
    print(f"events stored                 {events:,}")
    print(f"of the reported day           {report.spend.requests:,}")
    print(f"report made                   {report_s:.2f} s (limit {LIMIT_S:.0f} s)")
    print(f"page drawn                    {page_s:.3f} s, {len(page):,} bytes")
    print(f"times the scan of one column  {report_s / scan_s:.0f}")
    if report_s + page_s > LIMIT_S:
        sys.exit("FAILED: over the limit")


if __name__ == "__main__":
    typer.run(main)
