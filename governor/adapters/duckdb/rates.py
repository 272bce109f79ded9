"""The rate table: every price as a row to join on, and what events call a model as its key."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from governor.core.admission import micros
from governor.core.pricing import RATE_NAMES, ModelKey, Price, Rates, fallbacks

MAX_MODEL_NAMES: Final = 100_000
"""How many distinct (provider, model) pairs are remembered before they are learnt anew."""

Resolve = Callable[[str, str], ModelKey | None]
"""From what an event calls a provider and a model to the catalogue's name for the model."""
ResolveProvider = Callable[[str], str | None]
"""From what an event calls a provider to the catalogue's name for it."""


class RateTable:
    """The temporary tables `rates` and `model_keys` of one connection."""

    def __init__(
        self, prices: Sequence[Price], resolve: Resolve, resolve_provider: ResolveProvider
    ) -> None:
        if not prices:
            raise ValueError("a rate table needs at least one price")
        self._prices = prices
        self._resolve = resolve
        self._resolve_provider = resolve_provider
        self._fallbacks = fallbacks(prices)
        self._keys = {key: number for number, key in enumerate(sorted({p.key for p in prices}))}
        self._known: set[tuple[str, str]] = set()

    def install(self, connection: duckdb.DuckDBPyConnection, now: datetime) -> None:
        """Fill the temporary tables of a fresh connection, and add new prices to `prices`."""
        self._known.clear()
        connection.register("catalogue", self._catalogue())
        connection.execute(
            "INSERT INTO prices BY NAME SELECT * EXCLUDE (key), $1 AS added_at FROM catalogue"
            " WHERE price_id NOT IN (SELECT price_id FROM prices)",
            [now],
        )
        connection.unregister("catalogue")
        connection.register("filled", self._filled())
        huge = ", ".join(f"{name}_rate::HUGEINT AS {name}_rate" for name in RATE_NAMES)
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE rates AS"  # noqa: S608  # our own column names
            f" SELECT * EXCLUDE ({', '.join(f'{name}_rate' for name in RATE_NAMES)}), {huge}"
            " FROM filled"
        )
        connection.unregister("filled")
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE model_keys"
            " (provider VARCHAR, model VARCHAR, key BIGINT, fallback_id BIGINT)"
        )

    def learn(
        self, connection: duckdb.DuckDBPyConnection, models: Iterable[tuple[str, str]]
    ) -> None:
        """Make sure that each (provider, model) of a batch has its row in `model_keys`."""
        new = [pair for pair in models if pair not in self._known]
        if not new:
            return
        if len(self._known) + len(new) > MAX_MODEL_NAMES:
            connection.execute("DELETE FROM model_keys")
            self._known.clear()
            new = list(models)
        rows = [(*pair, *self._key_and_fallback(*pair)) for pair in new]
        names = ("provider", "model", "key", "fallback_id")
        types = (pa.string(), pa.string(), pa.int64(), pa.int64())
        columns = [pa.array(c, t) for c, t in zip(zip(*rows, strict=True), types, strict=True)]
        connection.register("learnt", pa.table(columns, names=names))
        connection.execute("INSERT INTO model_keys SELECT * FROM learnt")
        connection.unregister("learnt")
        self._known.update(new)

    def _key_and_fallback(self, provider: str, model: str) -> tuple[int | None, int]:
        key = self._resolve(provider, model)
        known_provider = key.provider if key else self._resolve_provider(provider)
        fallback = self._fallbacks.get(known_provider or "", self._fallbacks[""])
        return (self._keys.get(key) if key else None), fallback.price_id

    def _catalogue(self) -> pa.Table:
        prices = self._prices
        return pa.table(
            {
                "price_id": pa.array([p.price_id for p in prices], pa.int64()),
                "key": pa.array([self._keys[p.key] for p in prices], pa.int64()),
                "provider": [p.key.provider for p in prices],
                "model": [p.key.model for p in prices],
                "source": [p.source for p in prices],
                "starts_at": pa.array([p.starts_at for p in prices], pa.timestamp("us", "UTC")),
                "ends_at": pa.array([p.ends_at for p in prices], pa.timestamp("us", "UTC")),
                "from_second": pa.array([p.from_second for p in prices], pa.int32()),
                "until_second": pa.array([p.until_second for p in prices], pa.int32()),
                "from_tokens": pa.array([p.from_tokens for p in prices], pa.int64()),
                "until_tokens": pa.array([p.until_tokens for p in prices], pa.int64()),
                **{
                    name: pa.array([getattr(p.rates, name) for p in prices], pa.int64())
                    for name in RATE_NAMES
                },
            }
        )

    def _filled(self) -> pa.Table:
        prices = self._prices
        charged = [_charged(p.rates) for p in prices]
        whole = self._catalogue().select(
            ["price_id", "key", "from_second", "until_second", "from_tokens", "until_tokens"]
        )
        columns = {
            "starts_us": pa.array([micros(p.starts_at) for p in prices], pa.int64()),
            "ends_us": pa.array([micros(p.ends_at) for p in prices], pa.int64()),
            "input": pa.array([rates.input for rates in charged], pa.int64()),
            "output": pa.array([rates.output for rates in charged], pa.int64()),
            **{
                f"{name}_rate": pa.array([getattr(r, name) or 0 for r in charged], pa.int64())
                for name in RATE_NAMES
            },
        }
        for name, column in columns.items():
            whole = whole.append_column(name, column)
        return whole


def _charged(rates: Rates) -> Rates:
    """Fill each missing rate from its parent; a model charged by the request has free tokens."""
    free = 0 if rates.request is not None else None
    charged_input = free if rates.input is None else rates.input
    output = free if rates.output is None else rates.output
    write_5m = charged_input if rates.cache_write_5m is None else rates.cache_write_5m
    return Rates(
        input=charged_input,
        cache_read=charged_input if rates.cache_read is None else rates.cache_read,
        cache_write_5m=write_5m,
        cache_write_1h=write_5m if rates.cache_write_1h is None else rates.cache_write_1h,
        output=output,
        reasoning=output if rates.reasoning is None else rates.reasoning,
        input_audio=charged_input if rates.input_audio is None else rates.input_audio,
        output_audio=output if rates.output_audio is None else rates.output_audio,
        request=rates.request,
        web_search=rates.web_search,
    )
