"""What events cost: each by the price in force, by the list, and by the stand-in where unpriced."""

from datetime import datetime

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from governor.adapters.duckdb import queries
from governor.adapters.duckdb.file import registered
from governor.adapters.duckdb.rates import RateTable


def charged_input(rates: RateTable, events: pa.Table) -> pa.Table:
    """Return of events what deduplication and pricing read, with `buyer`, `time_us` and `row`."""
    with_buyer = events.append_column("buyer", rates.buyers(events))
    return (
        with_buyer.select(queries.INPUT_COLUMNS)
        .append_column("time_us", events["event_time"].cast(pa.int64()))
        .append_column("row", pa.array(np.arange(events.num_rows)))
    )


def charges(connection: duckdb.DuckDBPyConnection, read: pa.Table) -> pa.Table:
    """Return `PRICED_COLUMNS` for the rows of `charged_input`, in their order.

    The tariffs of the rows must have been learnt.
    """
    with registered(connection, batch_input=read):
        found = connection.execute(queries.PRICE).to_arrow_table()
    cap, price_id = found["nano"].combine_chunks(), found["price_id"].combine_chunks()
    if cap.null_count:
        unpriced = cap.is_null()
        with registered(connection, batch_unpriced=read.filter(unpriced)):
            stand_in = connection.execute(queries.STAND_IN).to_arrow_table()
        price_id = _filled(price_id, unpriced, stand_in["price_id"])
        cap = _filled(cap, unpriced, stand_in["nano"])
    listed = pa.nulls(len(cap), pa.int64())
    overridden = found["listed"].combine_chunks()
    if pc.any(overridden).as_py():
        with registered(connection, batch_overridden=read.filter(overridden)):
            by_list = connection.execute(queries.LISTED).to_arrow_table()
        listed = _filled(listed, overridden, by_list["nano"])
    return pa.table(
        {
            "price_id": price_id,
            "cost_nano": found["nano"],
            "cap_nano": cap,
            "list_nano": listed,
            "contradicts": found["contradicts"],
            "tier_unpriced": found["tier_unpriced"],
        }
    )


def learn(
    connection: duckdb.DuckDBPyConnection, rates: RateTable, read: pa.Table, now: datetime
) -> None:
    """Make sure that the tariffs of the rows of `charged_input` are known."""
    if read.num_rows:
        rates.learn(connection, read, now)


def _filled(column: pa.Array, where: pa.Array, values: pa.ChunkedArray) -> pa.Array:
    return pc.replace_with_mask(column, where, values.combine_chunks())
