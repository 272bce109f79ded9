"""Stage 4, rollups: sums by the minute and by the dimensions with few values.

Sums of a batch are appended as deltas and never updated; a reader adds them up. Customer, user and
api_key have too many values for every minute, so their sums come from the events.
"""

from typing import Final

ROLLUP_DIMENSIONS: Final = (
    "tier",
    "segment",
    "feature",
    "team",
    "project",
    "environment",
    "provider",
    "model",
    "operation",
    "service_tier",
    "region",
)

ROLLUP_MEASURES: Final = {
    "events": "count(*)",
    "requests": "sum(requests)::BIGINT",
    "input_tokens": "sum(input_tokens)::BIGINT",
    "cache_read_tokens": "sum(cache_read_tokens)::BIGINT",
    "output_tokens": "sum(output_tokens)::BIGINT",
    "cost_nano": "sum(cost_nano)::HUGEINT",
    "cap_nano": "sum(cap_nano)::HUGEINT",
    "unpriced_events": "count(*) FILTER (cost_nano IS NULL)",
    "unpriced_tokens": "coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0))"
    " FILTER (cost_nano IS NULL), 0)::BIGINT",
    "unpriced_nano": "coalesce(sum(cap_nano) FILTER (cost_nano IS NULL), 0)::HUGEINT",
    "reported_nano": "sum(reported_cost_nano) FILTER (cost_nano IS NOT NULL)::HUGEINT",
    "compared_nano": "sum(cost_nano) FILTER (reported_cost_nano IS NOT NULL)::HUGEINT",
}
"""Each measure and the sum over events that it is."""
