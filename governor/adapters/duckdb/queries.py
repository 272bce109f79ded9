"""The SQL of ingest as text, pure; `store.py` runs it."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from governor.core.rollups import ROLLUP_DIMENSIONS, ROLLUP_MEASURES
from governor.core.totals import BUCKET_US, Mask

MAX_TIME_RANGES: Final = 256
"""Into how many literal ranges the times of a batch are cut; each is looked up apart."""

INPUT_COLUMNS: Final = (
    "event_id",
    "source",
    "provider",
    "model",
    "service_tier",
    "buyer",
    "requests",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
    "output_images",
    "web_searches",
    "compute_ms",
)
"""What deduplication and pricing read of a batch, beside `time_us` and `row`.

`buyer` is who is charged, as `RateTable.buyers` numbers them.


The time goes in as whole microseconds: a filter on a time zone column that DuckDB hands down to
an Arrow scan needs a package (pytz) that nothing else here does.
"""

PRICED_COLUMNS: Final = {
    "price_id": pa.int64(),
    "cost_nano": pa.int64(),
    "cap_nano": pa.int64(),
    "list_nano": pa.int64(),
    "contradicts": pa.bool_(),
    "tier_unpriced": pa.bool_(),
}
"""What pricing adds to a batch."""

_BUCKETS: Final = """
amounts AS (
    SELECT row, provider, model, service_tier, buyer, time_us, requests,
           coalesce(input_tokens, 0) AS input,
           coalesce(cache_read_tokens, 0) AS cache_read,
           coalesce(cache_write_5m_tokens, 0) AS cache_write_5m,
           coalesce(cache_write_1h_tokens, 0) AS cache_write_1h,
           coalesce(input_audio_tokens, 0) AS input_audio,
           coalesce(output_tokens, 0) AS output,
           coalesce(reasoning_tokens, 0) AS reasoning,
           coalesce(output_audio_tokens, 0) AS output_audio,
           coalesce(web_searches, 0) AS web_search,
           coalesce(output_images, 0) AS image,
           coalesce(compute_ms, 0) AS compute,
           cache_read + cache_write_5m + cache_write_1h + input_audio AS inside_input,
           reasoning + output_audio AS inside_output
    FROM {rows}
), buckets AS (
    SELECT *,
           input < inside_input OR output < inside_output AS contradicts,
           CASE WHEN input < inside_input THEN input ELSE input - inside_input END AS plain_input,
           CASE WHEN output < inside_output THEN output ELSE output - inside_output END
               AS plain_output,
           plain_input + inside_input AS context_tokens,
           time_us // 1000000 % 86400 AS second
    FROM amounts
)"""

_COST: Final = """
femto AS (
    SELECT row, contradicts, k.list_key IS NOT NULL AS listed, {known} AS known,
           known AND k.tier <> 'standard' AND r.tier = 'standard' AS tier_unpriced,
           CASE WHEN known THEN r.price_id END AS price_id,
           plain_input * r.input_rate + b.cache_read * r.cache_read_rate
               + b.cache_write_5m * r.cache_write_5m_rate
               + b.cache_write_1h * r.cache_write_1h_rate
               + b.input_audio * r.input_audio_rate
               + plain_output * r.output_rate + b.reasoning * r.reasoning_rate
               + b.output_audio * r.output_audio_rate
               + requests * r.request_rate + b.web_search * r.web_search_rate
               + b.image * r.image_rate + b.compute * r.compute_rate AS femto
    FROM buckets b JOIN tariff_keys k ON k.provider = b.provider AND k.model = b.model
        AND k.service_tier IS NOT DISTINCT FROM b.service_tier AND k.buyer = b.buyer
    {join}
), split AS (
    SELECT *, femto // 1000000 AS nano, femto - nano * 1000000 AS rest FROM femto
)
SELECT row, price_id, contradicts, tier_unpriced, listed,
       CASE WHEN known THEN nano::BIGINT + CASE
           WHEN rest > 500000 OR (rest = 500000 AND nano::BIGINT & 1 = 1) THEN 1 ELSE 0
       END END AS nano
FROM split ORDER BY row
"""

_IN_FORCE: Final = """LEFT JOIN rates r ON r.key = k.{key}
        AND time_us >= r.starts_us AND time_us < r.ends_us
        AND second >= r.from_second AND second < r.until_second
        AND context_tokens >= r.from_tokens AND context_tokens < r.until_tokens"""

_KNOWN: Final = """r.price_id IS NOT NULL
               AND (r.has_input OR context_tokens = 0)
               AND (r.has_output OR plain_output + inside_output = 0)
               AND (r.has_image OR b.image = 0) AND (r.has_compute OR b.compute = 0)
               AND (r.has_web_search OR b.web_search = 0)"""


def _priced(rows: str, join: str, known: str) -> str:
    return "WITH " + _BUCKETS.format(rows=rows) + "," + _COST.format(join=join, known=known)


PRICE: Final = _priced("batch_input", _IN_FORCE.format(key="key"), _KNOWN)
"""Row, price, cost, doubts and whether a list price was overridden, of each row of `batch_input`.

`price_id` and `nano` are NULL where no price is known. Parts are taken out of their totals first,
so that no token is charged twice; parts that exceed their total are charged on top of it. The
femto-dollar sum is exact in HUGEINT and is rounded half to even once, without a float and without
`round_even`, which would go through one. `tier_unpriced` says that the standard price was charged
for want of one of the tier.
"""

STAND_IN: Final = _priced("batch_unpriced", "JOIN rates r ON r.key = k.stand_in_key", "true")
"""The same by the stand-in price, for the rows of `batch_unpriced`."""

LISTED: Final = _priced("batch_overridden", _IN_FORCE.format(key="list_key"), _KNOWN)
"""The same by the list price, for the rows of `batch_overridden`."""

ROLLUP_COLUMNS: Final = (
    "event_time",
    *ROLLUP_DIMENSIONS,
    "requests",
    "input_tokens",
    "cache_read_tokens",
    "output_tokens",
    "reported_cost_nano",
    "cost_nano",
    "cap_nano",
)

APPEND_DELTAS: Final = f"""
INSERT INTO rollup_minute BY NAME
SELECT time_bucket(INTERVAL 1 MINUTE, event_time) AS bucket, {", ".join(ROLLUP_DIMENSIONS)},
       {", ".join(f"{total} AS {name}" for name, total in ROLLUP_MEASURES.items())}
FROM batch_priced GROUP BY ALL
RETURNING *
"""

_SUMS: Final = """
SELECT epoch_us({time}) // {bucket} * {bucket} AS bucket_us, {dimensions}
       sum(cap_nano)::HUGEINT AS cost,
       sum(requests)::BIGINT AS requests,
       sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))::BIGINT AS tokens
FROM {rows} GROUP BY ALL HAVING count(*) > 0 -- over no rows at all, not one of NULL
"""

_PRICED_FROM: Final = ", ".join(
    f'"{name}"'
    for name in dict.fromkeys(
        [
            *("topic", "partition", "offset", "event_time", "customer", "team"),
            *(name for name in INPUT_COLUMNS if name != "buyer"),
            *ROLLUP_COLUMNS,
            *("price_id", "cost_nano", "cap_nano", "list_nano", "tier_unpriced"),
        ]
    )
)

RERATED: Final = f"""
SELECT rowid AS number, {_PRICED_FROM} FROM {{table}}
WHERE rowid >= $1 AND rowid < $2 AND event_time >= $3 AND event_time < $4
ORDER BY rowid
"""
"""The rows of a slice, with all that pricing and the rollups read."""

ADJUST: Final = """
INSERT INTO adjustments BY NAME
SELECT $1 AS run, $2 AS made_at, source, event_id, event_time, provider, model, customer,
       topic, "partition", "offset", old_price_id, new_price_id, old_cost_nano, new_cost_nano,
       old_cap_nano, new_cap_nano, old_list_nano, new_list_nano
FROM rerated
"""

REPRICE: Final = """
UPDATE {table} SET price_id = r.new_price_id, cost_nano = r.new_cost_nano,
       cap_nano = r.new_cap_nano, list_nano = r.new_list_nano, tier_unpriced = r.new_tier_unpriced
FROM rerated r WHERE {table}.rowid = r.number AND {table}.rowid >= $1 AND {table}.rowid < $2
"""

ADJUST_ROLLUPS: Final = f"""
INSERT INTO rollup_minute BY NAME
SELECT time_bucket(INTERVAL 1 MINUTE, event_time) AS bucket, {", ".join(ROLLUP_DIMENSIONS)},
       0 AS events, 0 AS requests,
       (sum(coalesce(new_cost_nano, 0)) - sum(coalesce(old_cost_nano, 0)))::HUGEINT AS cost_nano,
       (sum(new_cap_nano) - sum(old_cap_nano))::HUGEINT AS cap_nano,
       count(*) FILTER (new_cost_nano IS NULL) - count(*) FILTER (old_cost_nano IS NULL)
           AS unpriced_events,
       coalesce(sum(tokens) FILTER (new_cost_nano IS NULL), 0)
           - coalesce(sum(tokens) FILTER (old_cost_nano IS NULL), 0) AS unpriced_tokens,
       coalesce(sum(new_cap_nano) FILTER (new_cost_nano IS NULL), 0)
           - coalesce(sum(old_cap_nano) FILTER (old_cost_nano IS NULL), 0) AS unpriced_nano,
       CASE WHEN count(reported_cost_nano) > 0 THEN
           coalesce(sum(reported_cost_nano) FILTER (new_cost_nano IS NOT NULL), 0)
           - coalesce(sum(reported_cost_nano) FILTER (old_cost_nano IS NOT NULL), 0)
       END AS reported_nano,
       CASE WHEN count(reported_cost_nano) > 0 THEN
           coalesce(sum(new_cost_nano) FILTER (reported_cost_nano IS NOT NULL), 0)
           - coalesce(sum(old_cost_nano) FILTER (reported_cost_nano IS NOT NULL), 0)
       END AS compared_nano
FROM (SELECT *, coalesce(input_tokens, 0) + coalesce(output_tokens, 0) AS tokens FROM rerated)
GROUP BY ALL
"""
"""The differences of changed rows, appended like those of a batch; they stand for no event."""

COMPACT: Final = f"""
INSERT INTO rollup_hour BY NAME
SELECT time_bucket(INTERVAL 1 HOUR, bucket) AS bucket, {", ".join(ROLLUP_DIMENSIONS)},
       {", ".join(f"sum({name}) AS {name}" for name in ROLLUP_MEASURES)}
FROM rollup_minute WHERE bucket < $1 GROUP BY ALL
"""


_ROLLUPS: Final = "(FROM rollup_minute UNION ALL BY NAME FROM rollup_hour)"

UNPRICED_SINCE: Final = f"""
SELECT provider, model, sum(unpriced_events)::BIGINT AS events,
       sum(unpriced_tokens)::BIGINT AS tokens, sum(unpriced_nano)::HUGEINT AS nano
FROM {_ROLLUPS} WHERE bucket >= date_trunc('hour', $1::TIMESTAMPTZ)
GROUP BY ALL HAVING sum(unpriced_events) > 0
"""

COMPARED_SINCE: Final = f"""
SELECT (bucket AT TIME ZONE 'UTC')::DATE AS day, provider, model,
       sum(reported_nano)::HUGEINT AS reported, sum(compared_nano)::HUGEINT AS ours
FROM {_ROLLUPS} WHERE bucket >= $1::TIMESTAMP AT TIME ZONE 'UTC'
GROUP BY ALL HAVING sum(reported_nano) IS NOT NULL
"""


def stored_sums(mask: Mask) -> str:
    """Return the query for what is stored of [$1, $2), as if used at $1; rows as `totals.Sums`."""
    return _sums(mask, "event_time >= $1 AND event_time < $2", time="$1")


def sums_ahead(mask: Mask) -> str:
    """Return the query for what is stored from $1 on, by quarter of an hour; rows likewise."""
    return _sums(mask, "event_time >= $1", time="event_time")


def sums_since(mask: Mask, cell_us: int, *, until: bool = False) -> str:
    """Return the query for what is stored from $1 on, by cells of a length; rows likewise.

    With `until` it ends before $2.
    """
    which = "event_time >= $1" + (" AND event_time < $2" if until else "")
    return _sums(mask, which, time="event_time", bucket_us=cell_us)


def seen_since(mask: Mask, *, until: bool = False) -> str:
    """Return the query for when combinations of values were last seen, from $1 on; before $2."""
    which = "event_time >= $1" + (" AND event_time < $2" if until else "")
    dimensions = "".join(f'"{dimension}", ' for dimension in mask)
    tables = " UNION ALL ".join(
        f"SELECT {dimensions}event_time FROM {table} WHERE {which}"
        for table in ("events", "late_events")
    )
    newest = f"SELECT {dimensions}epoch_us(max(event_time)) FROM ({tables}) GROUP BY ALL"
    return f"{newest} HAVING count(*) > 0"


def _sums(mask: Mask, which: str, *, time: str, bucket_us: int = BUCKET_US) -> str:
    dimensions = "".join(f'"{dimension}", ' for dimension in mask)
    columns = f"{dimensions}event_time, cap_nano, requests, input_tokens, output_tokens"
    tables = " UNION ALL ".join(
        f"SELECT {columns} FROM {table} WHERE {which}" for table in ("events", "late_events")
    )
    return _SUMS.format(time=time, bucket=bucket_us, dimensions=dimensions, rows=f"({tables})")


def duplicates(times_us: npt.NDArray[np.int64]) -> str:
    """Return the query for the rows of `batch_input` that are stored already.

    `times_us` are the event times of the batch. Identity holds the time, so only stored events of
    those very times can match. `events` is nearly in time order, so each literal range touches a
    few row groups; one scan a range, since DuckDB tests all ranges of an OR on every row. The
    late events are in no order, and few.
    """
    first, last = int(times_us.min()), int(times_us.max())
    wanted = [("events", *bounds) for bounds in time_ranges(times_us)]
    stored = " UNION ALL ".join(
        f"SELECT event_id, source, epoch_us(event_time) AS time_us FROM {table}"
        f" WHERE event_time BETWEEN {_literal(start)} AND {_literal(end)}"
        for table, start, end in [*wanted, ("late_events", first, last)]
    )
    return (
        f"SELECT row FROM batch_input SEMI JOIN ({stored}) AS stored"
        " USING (time_us, event_id, source)"
    )


def time_ranges(times_us: npt.NDArray[np.int64]) -> Sequence[tuple[int, int]]:
    """Cut times at their widest gaps into at most MAX_TIME_RANGES closed ranges."""
    ordered = np.sort(times_us)
    gaps = np.diff(ordered)
    widest = np.argsort(gaps)[-(MAX_TIME_RANGES - 1) :]
    cuts = np.sort(widest[gaps[widest] > _MIN_GAP_US])
    firsts = ordered[np.concatenate(([0], cuts + 1))]
    lasts = ordered[np.concatenate((cuts, [len(ordered) - 1]))]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


_MIN_GAP_US: Final = 60_000_000


def _literal(time_us: int) -> str:
    return f"TIMESTAMPTZ '{np.datetime64(time_us, 'us')}+00'"
