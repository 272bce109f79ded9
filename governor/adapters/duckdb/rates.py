"""The rate table: every price in use as a row to join on, and what events name as its key.

A tariff is looked up when an event names it first, and its cells become rows of the temporary
table `rates` under a key; `tariff_keys` holds which names have which key.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from governor.core.pricing import (
    FIRST_INSTANT,
    LAST_INSTANT,
    RATE_NAMES,
    SECONDS_PER_DAY,
    UNBOUNDED_TOKENS,
    Buyer,
    Price,
)
from governor.core.tariffs import Tariffs
from governor.core.usage import micros

MAX_TARIFFS: Final = 100_000
"""How many distinct namings are remembered before they are learnt anew."""

NAMING: Final = ("provider", "model", "service_tier", "buyer")
"""What of an event decides its tariff; `buyer` numbers customer and team where a price asks."""

_KEYS: Final = pa.schema(
    [
        ("provider", pa.string()),
        ("model", pa.string()),
        ("service_tier", pa.string()),
        ("buyer", pa.int64()),
        ("tier", pa.string()),
        ("key", pa.int64()),
        ("list_key", pa.int64()),
        ("stand_in_key", pa.int64()),
    ]
)

_FLAGGED: Final = ("input", "output", "image", "compute", "web_search")
"""Rates of which pricing must know whether there is one."""


class _Cell(NamedTuple):
    """A row of `rates`; `anytime` says that it charges whenever and however much is used."""

    key: int
    price: Price
    anytime: bool


class RateTable:
    """The temporary tables `rates` and `tariff_keys` of one connection."""

    def __init__(self, tariffs: Tariffs) -> None:
        self._tariffs = tariffs
        self._known: set[tuple[Any, ...]] = set()
        self._keys: dict[tuple[int, ...], int] = {}
        self._stored: set[int] = set()
        self._spoiled = False

    def install(self, connection: duckdb.DuckDBPyConnection) -> None:
        """Make the temporary tables of a fresh connection, empty."""
        self._clear()
        stored = connection.execute("SELECT price_id FROM prices").to_arrow_table()
        self._stored = set(stored["price_id"].to_pylist())
        flags = ", ".join(f"has_{name} BOOLEAN" for name in _FLAGGED)
        rates = ", ".join(f"{name}_rate HUGEINT" for name in RATE_NAMES)
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE rates (key BIGINT, price_id BIGINT, tier VARCHAR,"
            " starts_us BIGINT, ends_us BIGINT, from_second INTEGER, until_second INTEGER,"
            f" from_tokens BIGINT, until_tokens BIGINT, {flags}, {rates});"
            "CREATE OR REPLACE TEMP TABLE tariff_keys (provider VARCHAR, model VARCHAR,"
            " service_tier VARCHAR, buyer BIGINT, tier VARCHAR, key BIGINT, list_key BIGINT,"
            " stand_in_key BIGINT)"
        )

    def replace(self, connection: duckdb.DuckDBPyConnection, tariffs: Tariffs) -> None:
        """Charge by other tariffs from now on."""
        self._tariffs = tariffs
        self.install(connection)

    def buyers(self, events: pa.Table) -> pa.Array:
        """Return a number for who is charged: 0 for all of whom no price asks."""
        named = (self._tariffs.customers, self._tariffs.teams)
        if not any(named):
            return pa.array(np.zeros(events.num_rows, np.int64))
        customers, teams = (
            _places(events[column], names)
            for column, names in zip(("customer", "team"), named, strict=True)
        )
        return pa.array(customers * (len(self._tariffs.teams) + 1) + teams)

    def learn(self, connection: duckdb.DuckDBPyConnection, events: pa.Table, now: datetime) -> None:
        """Make sure that each naming among `events` has its row, and its prices theirs."""
        named = events.select(NAMING).group_by(NAMING, use_threads=False).aggregate([])
        namings = list(zip(*(named[name].to_pylist() for name in NAMING), strict=True))
        new = [naming for naming in namings if naming not in self._known]
        if not new:
            return
        if self._spoiled:
            self.install(connection)
            new = namings
        self._spoiled = True  # until all is in the tables that is in memory
        if len(self._known) + len(new) > MAX_TARIFFS:
            connection.execute("DELETE FROM tariff_keys; DELETE FROM rates")
            self._clear()
            new = namings
        cells: list[_Cell] = []
        rows = [self._row(naming, cells) for naming in new]
        self._add_prices(connection, [cell.price for cell in cells], now)
        if cells:
            _insert(connection, "rates", _rate_rows(cells))
        _insert(connection, "tariff_keys", pa.Table.from_pylist(rows, _KEYS))
        self._known.update(new)
        self._spoiled = False

    def _clear(self) -> None:
        self._known.clear()
        self._keys.clear()

    def _row(self, naming: tuple[Any, ...], cells: list[_Cell]) -> dict[str, Any]:
        provider, model, service_tier, buyer = naming
        tariff = self._tariffs.find(provider, model, service_tier, self._buyer(buyer))
        listed = tariff.listed if tariff.overrides and tariff.listed else None
        return {
            "provider": provider,
            "model": model,
            "service_tier": service_tier,
            "buyer": buyer,
            "tier": tariff.tier,
            "key": self._key(tariff.cells, cells),
            "list_key": None if listed is None else self._key(listed, cells),
            "stand_in_key": self._key((tariff.stand_in,), cells, anytime=True),
        }

    def _key(self, prices: Sequence[Price], cells: list[_Cell], *, anytime: bool = False) -> int:
        named = (anytime, *(price.price_id for price in prices))
        key = self._keys.get(named)
        if key is None:
            key = self._keys[named] = len(self._keys)
            cells += [_Cell(key, price, anytime) for price in prices]
        return key

    def _buyer(self, number: int) -> Buyer:
        customer, team = divmod(number, len(self._tariffs.teams) + 1)
        return Buyer(
            self._tariffs.customers[customer - 1] if customer else None,
            self._tariffs.teams[team - 1] if team else None,
        )

    def _add_prices(
        self, connection: duckdb.DuckDBPyConnection, prices: Iterable[Price], now: datetime
    ) -> None:
        """Write down prices that were never used here; they stay, also where a batch does not."""
        new = {price.price_id: price for price in prices if price.price_id not in self._stored}
        if new:
            _insert(connection, "prices", _price_rows(list(new.values()), now))
            self._stored |= new.keys()


def _places(column: pa.ChunkedArray, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return 1 and up for the names, 0 for every other value and none."""
    found = pc.index_in(column, value_set=pa.array(names, pa.string()))
    return np.asarray(found.fill_null(-1)).astype(np.int64) + 1


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: pa.Table) -> None:
    connection.register("learnt", rows)
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM learnt")  # noqa: S608
    connection.unregister("learnt")


def _price_rows(prices: Sequence[Price], now: datetime) -> pa.Table:
    instant = pa.timestamp("us", "UTC")
    return pa.table(
        {
            "price_id": pa.array([p.price_id for p in prices], pa.int64()),
            "provider": [p.key.provider for p in prices],
            "model": [p.key.model for p in prices],
            "tier": [p.tier for p in prices],
            "source": [p.source for p in prices],
            "starts_at": pa.array([p.starts_at for p in prices], instant),
            "ends_at": pa.array([p.ends_at for p in prices], instant),
            "from_second": pa.array([p.from_second for p in prices], pa.int32()),
            "until_second": pa.array([p.until_second for p in prices], pa.int32()),
            "from_tokens": pa.array([p.from_tokens for p in prices], pa.int64()),
            "until_tokens": pa.array([p.until_tokens for p in prices], pa.int64()),
            **{
                name: pa.array([getattr(p.rates, name) for p in prices], pa.int64())
                for name in RATE_NAMES
            },
            "added_at": pa.array([now] * len(prices), instant),
        }
    )


def _rate_rows(cells: Sequence[_Cell]) -> pa.Table:
    prices = [cell.price for cell in cells]
    charged = [price.rates.charged() for price in prices]

    def bound(name: str, otherwise: int) -> pa.Array:
        values = [otherwise if c.anytime else getattr(c.price, name) for c in cells]
        return pa.array(values, pa.int64())

    def moment(name: str, otherwise: datetime) -> pa.Array:
        values = [otherwise if c.anytime else getattr(c.price, name) for c in cells]
        return pa.array([micros(value) for value in values], pa.int64())

    return pa.table(
        {
            "key": pa.array([cell.key for cell in cells], pa.int64()),
            "price_id": pa.array([p.price_id for p in prices], pa.int64()),
            "tier": [p.tier for p in prices],
            "starts_us": moment("starts_at", FIRST_INSTANT),
            "ends_us": moment("ends_at", LAST_INSTANT),
            "from_second": bound("from_second", 0),
            "until_second": bound("until_second", SECONDS_PER_DAY),
            "from_tokens": bound("from_tokens", 0),
            "until_tokens": bound("until_tokens", UNBOUNDED_TOKENS),
            **{f"has_{n}": [getattr(r, n) is not None for r in charged] for n in _FLAGGED},
            **{
                f"{name}_rate": pa.array([getattr(r, name) or 0 for r in charged], pa.int64())
                for name in RATE_NAMES
            },
        }
    )
