"""Four weeks of usage made of the Azure traces: their real requests, by a daily rhythm.

Every event is written straight into a store, priced by the rates that are written beside it; the
ledger that is returned is added up apart, from the same requests.
"""

import csv
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa

from governor import __version__
from governor.adapters.duckdb.file import SCHEMA_VERSION, registered, schema
from governor.core.rollups import ROLLUP_DIMENSIONS, ROLLUP_MEASURES

TRACE: Final = Path(__file__).parents[1] / "data" / "azure_llm_2023"
FILES: Final = {
    "code": "AzureLLMInferenceTrace_code.csv",
    "chat": "AzureLLMInferenceTrace_conv.csv",
}
START: Final = datetime(2026, 3, 2, tzinfo=UTC)
DAYS: Final = 28
SMALL: Final = "gpt-4o-mini"
LARGE: Final = "gpt-4o"
RATES: Final = {SMALL: (150, 600), LARGE: (2_500, 10_000)}
"""Nano-dollars for a token in and out."""


@dataclass(frozen=True, slots=True)
class Story:
    """What happens beside the usual: spans from the start, in hours."""

    runaway: tuple[int, int] | None = None
    switch: int | None = None
    dearer: int | None = None


@cache
def requests(feature: str) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Return tokens in and out of each real request of a trace."""
    with (TRACE / FILES[feature]).open(newline="") as rows:
        found = [(int(r["ContextTokens"]), int(r["GeneratedTokens"])) for r in csv.DictReader(rows)]
    return np.array(found, np.int64)


def build(path: Path, story: Story, seed: int) -> Mapping[tuple[str, str], int]:
    """Write a store; return its ledger: what each feature and model cost, in nano-dollars."""
    rng = np.random.default_rng(seed)
    columns: dict[str, list[object]] = defaultdict(list)
    ledger: dict[tuple[str, str], int] = defaultdict(int)
    for feature, hourly in (("chat", 130), ("code", 60)):
        trace = requests(feature)
        for hour in range(24 * DAYS):
            for customer, model, many in _drawn(feature, hourly, hour, story, rng):
                picked = trace[rng.integers(0, len(trace), many)]
                _write(columns, ledger, (feature, customer, model), hour, picked, story, rng)
    _store(path, columns)
    return ledger


def _drawn(
    feature: str, hourly: int, hour: int, story: Story, rng: np.random.Generator
) -> list[tuple[str, str, int]]:
    """Return customer, model and number of requests of an hour."""
    of_day, weekend = hour % 24, hour // 24 % 7 >= 5
    rhythm = (1 + 0.6 * np.cos((of_day - 14) * np.pi / 12)) * (0.55 if weekend else 1.0)
    large = 0.1
    if story.switch is not None and feature == "chat" and hour >= story.switch:
        large = 0.6
    found = []
    for customer, share in (("acme", 0.5), ("beta", 0.3), ("gamma", 0.2)):
        times = 1.0
        if story.runaway and customer == "acme" and feature == "code":
            times = 12.0 if story.runaway[0] <= hour < story.runaway[1] else 1.0
        rate = hourly * rhythm * share * rng.lognormal(0, 0.08) * times
        found += [
            (customer, model, int(rng.poisson(rate * part)))
            for model, part in ((SMALL, 1 - large), (LARGE, large))
        ]
    return found


def _write(
    columns: dict[str, list[object]],
    ledger: dict[tuple[str, str], int],
    who: tuple[str, str, str],
    hour: int,
    picked: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    story: Story,
    rng: np.random.Generator,
) -> None:
    feature, customer, model = who
    dear = story.dearer is not None and hour >= story.dearer and model == LARGE
    rates = [rate * (4 if dear else 1) for rate in RATES[model]]
    seconds = np.sort(rng.uniform(0, 3600, len(picked)))
    for (tokens_in, tokens_out), second in zip(picked.tolist(), seconds.tolist(), strict=True):
        cost = tokens_in * rates[0] + tokens_out * rates[1]
        columns["event_time"].append(START + timedelta(hours=hour, seconds=second))
        columns["feature"].append(feature)
        columns["customer"].append(customer)
        columns["provider"].append("openai")
        columns["model"].append(model)
        columns["environment"].append("prod")
        columns["input_tokens"].append(tokens_in)
        columns["output_tokens"].append(tokens_out)
        columns["requests"].append(1)
        columns["price_id"].append({SMALL: 1, LARGE: 2}[model] + (10 if dear else 0))
        columns["cost_nano"].append(cost)
        columns["cap_nano"].append(cost)
        ledger[feature, model] += cost


def _store(path: Path, columns: Mapping[str, list[object]]) -> None:
    with duckdb.connect(path) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(schema())
        connection.execute("INSERT INTO meta VALUES ($1, $2)", [SCHEMA_VERSION, __version__])
        with registered(connection, fresh=pa.table(dict(columns)).sort_by("event_time")):
            connection.execute("INSERT INTO events BY NAME FROM fresh")
        dimensions = ", ".join(ROLLUP_DIMENSIONS)
        measures = ", ".join(f"{total} AS {name}" for name, total in ROLLUP_MEASURES.items())
        connection.execute(
            "INSERT INTO rollup_hour BY NAME SELECT time_bucket(INTERVAL 1 HOUR, event_time)"
            f" AS bucket, {dimensions}, {measures} FROM events GROUP BY ALL"
        )
        for model, (into, out) in RATES.items():
            for times in (1, 4):
                connection.execute(
                    "INSERT INTO prices (price_id, provider, model, input, output)"
                    " VALUES ($1, 'openai', $2, $3, $4)",
                    [
                        {SMALL: 1, LARGE: 2}[model] + (10 if times > 1 else 0),
                        model,
                        into * times * 10**6,
                        out * times * 10**6,
                    ],
                )
