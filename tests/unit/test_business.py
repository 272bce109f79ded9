"""Business events: from records to the day's ratios, on a real DuckDB file."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.store import Store
from governor.core.admission import Window
from governor.core.batches import Polled, Stored
from governor.core.decoded import Decoded
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import FEMTO_PER_USD, ModelKey, Price, Rates
from governor.core.usage import Reason
from governor.formats import FORMATS
from governor.loops.ingest import Intake
from tests.unit.shelf import rate_table

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
USAGE, BUSINESS = PartitionId("usage", 0), PartitionId("business", 0)
FLAT = ModelKey("acme", "flat")
MILLI = FEMTO_PER_USD // 1000  # 0.001 USD for a token


def told(event_id: str = "r1", **fields: Any) -> dict[str, Any]:
    """Return a statement of 100 USD of revenue on the day of NOW."""
    return {
        "event_id": event_id,
        "source": "crm",
        "event_time": "2026-11-24T09:00:00Z",
        "measure": "revenue",
        "value": "100",
    } | fields


def used(event_id: str, usd: str, at: str = "2026-11-24T09:00:00Z", **who: Any) -> dict[str, Any]:
    """Return usage that costs this much."""
    return {
        "event_id": event_id,
        "source": "app",
        "event_time": at,
        "provider": FLAT.provider,
        "model": FLAT.model,
        "input_tokens": int(Decimal(usd) * 1000),
    } | who


def decoded(*values: bytes | dict[str, Any]) -> Decoded:
    lines = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in values]
    records = [
        SimpleNamespace(partition=0, offset=n, value=line, headers=(), timestamp=0)
        for n, line in enumerate(lines)
    ]
    return FORMATS["business"]({})("business", records, 10_000)


@dataclass
class Books:
    """A store that takes usage and business events."""

    store: Store
    intake: Intake

    def take(self, place: PartitionId, *events: dict[str, Any]) -> Stored:
        """Store events in one batch."""
        first = self.store.partitions[place].position.next_offset
        records = [
            SimpleNamespace(
                partition=place.partition,
                offset=first + n,
                value=json.dumps(event).encode(),
                headers=(),
                timestamp=0,
            )
            for n, event in enumerate(events)
        ]
        ends = {place: first + len(records)}
        polled = Polled({place: records}, {place: Position(first, "id")}, ends)
        stored = self.store.append(self.intake.batch(polled))
        assert stored is not None
        return stored

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the file."""
        found: list[tuple[Any, ...]] = self.store.database.connection.execute(query).fetchall()
        return found

    def economics(self, day: str, customer: str | None = None) -> tuple[Any, ...]:
        """Return revenue, users, outcomes, and what one of each cost, of a day."""
        where = "customer IS NULL" if customer is None else f"customer = '{customer}'"
        (row,) = self.ask(
            "SELECT cost_usd, revenue_usd, active_users, outcomes, cost_per_revenue,"
            " cost_per_user_usd, cost_per_outcome_usd FROM unit_economics"
            f" WHERE day = '{day}' AND {where}"
        )
        return row


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    """Open a file with two topics."""
    yield from opened(tmp_path / "g.duckdb")


def opened(path: Path) -> Iterator[Books]:
    rates = rate_table(
        [Price(FLAT, Rates(input=MILLI, output=MILLI), "test")],
        lambda provider, model: FLAT if (provider, model) == FLAT else None,
        lambda provider: provider,
    )
    store = Store(FileOptions(path, 400_000_000, 1, 64_000_000, 0), rates, lambda: NOW)
    try:
        begun = {place: (Resumption(0, Start.NEW_TOPIC, 0), "id") for place in (USAGE, BUSINESS)}
        store.resume(begun, NOW)
        yield Books(
            store,
            Intake(
                formats={
                    "usage": FORMATS["native"]({}),
                    "business": FORMATS["business"]({}),
                },
                window=Window(timedelta(days=45), timedelta(hours=1), timedelta(hours=1)),
                clock=SimpleNamespace(at=lambda _: NOW),
                max_record_bytes=10_000,
                watermarks={},
            ),
        )
    finally:
        store.close()


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"value": None}, "value is missing; insert needs one"),
        ({"value": "1e10"}, "beyond 1,000,000,000 USD"),
        ({"value": "0.0000000001"}, "more than 9 decimals"),
        ({"value": "1.00000000000000000000000000000001"}, "more than 9 decimals"),
        ({"measure": "outcomes", "value": "1e400"}, "whole number from 0"),
        ({"value": "NaN"}, "not a number"),
        ({"measure": "active_users", "value": 1.5}, "whole number from 0"),
        ({"measure": "outcomes", "value": -1}, "whole number from 0"),
        ({"measure": "profit"}, "is not one of the known values"),
        ({"currency": "EUR"}, "is not one of the known values"),
        ({"op": "replace"}, "updated_at is missing; a replace needs"),
        ({"op": "delete", "value": None}, "updated_at is missing; a delete needs"),
        ({"until": "2026-11-24T09:00:00Z"}, "until must be after event_time"),
        ({"until": "2028-11-24T09:00:00Z"}, "until must be within 366 days"),
        ({"event_time": "2026-11-24T09:00:00"}, "end it with Z or an offset"),
        ({"custmer": "acme"}, "did you mean `customer`?"),
        ({"source": None}, "source"),
    ],
)
def test_what_is_no_statement_is_set_aside(fields: dict[str, Any], words: str) -> None:
    """Each fault is named with what to write instead, and the record counts once."""
    found = decoded(told(**fields))
    assert found.business == []
    (reject,) = found.rejects
    assert reject.reason is Reason.INVALID
    assert words in reject.detail


def test_a_record_that_is_no_document_is_set_aside() -> None:
    """Half a record is malformed; it does not take the next one with it."""
    found = decoded(b'{"event_id": "r1", ', told("r2"))
    assert [reject.reason for reject in found.rejects] == [Reason.MALFORMED]
    assert [event.event_id for _, _, event in found.business] == ["r2"]


def test_fields_have_their_own_names() -> None:
    """The setting `fields` is refused."""
    with pytest.raises(ValueError, match="by their names"):
        FORMATS["business"]({"customer": "$.who"})


def test_money_is_exact_as_a_number_and_as_a_text(books: Books) -> None:
    """A JSON number is read digit by digit, not by way of a float; negative is a refund."""
    books.take(
        BUSINESS,
        told("text", value="0.100000001"),
        told("number", value=0.3),
        told("refund", value="-12.5"),
    )
    assert books.ask("SELECT event_id, amount, value FROM business ORDER BY event_id") == [
        ("number", 300_000_000, Decimal("0.3")),
        ("refund", -12_500_000_000, Decimal("-12.5")),
        ("text", 100_000_001, Decimal("0.100000001")),
    ]


def test_a_statement_sent_twice_counts_once(books: Books) -> None:
    """In one batch or later; the tally says so."""
    first = books.take(BUSINESS, told(), told()).tallies[BUSINESS]
    later = books.take(BUSINESS, told(), told(value="7")).tallies[BUSINESS]
    assert (first.events, first.counted, first.duplicates) == (2, 1, 1)
    assert (later.events, later.counted, later.duplicates) == (2, 0, 2)
    assert books.ask("SELECT count(*), sum(amount) FROM business") == [(1, 100 * 10**9)]


def test_a_correction_moves_the_ratio_of_a_past_day(books: Books) -> None:
    """Revenue of two months ago is replaced, then taken back; the ratio of then follows."""
    at = "2026-10-20T09:00:00Z"
    books.take(USAGE, used("u1", "30", at))
    books.take(BUSINESS, told(event_time=at))
    assert books.economics("2026-10-20")[1:5:3] == (100, Decimal("0.3"))
    correction = told(event_time=at, op="replace", value="60", updated_at="2026-11-24T10:00:00Z")
    books.take(BUSINESS, correction)
    assert books.economics("2026-10-20")[1:5:3] == (60, Decimal("0.5"))
    books.take(BUSINESS, told(op="delete", value=None, updated_at="2026-11-24T11:00:00Z"))
    assert books.economics("2026-10-20")[1:5:3] == (None, None)


def test_an_old_replacement_sent_again_does_not_undo_a_newer_one(books: Books) -> None:
    """What holds is the newest by `updated_at`, not the last to arrive."""
    old = told(op="replace", value="60", updated_at="2026-11-24T10:00:00Z")
    books.take(BUSINESS, told(), old)
    books.take(BUSINESS, told(op="replace", value="70", updated_at="2026-11-24T11:00:00Z"))
    assert books.take(BUSINESS, old, told()).tallies[BUSINESS].duplicates == 2
    assert books.ask("SELECT value, corrected FROM business") == [(70, True)]


def versions(random: Random) -> list[dict[str, Any]]:
    """Return the history of a few ids, each correction a minute after the one before."""
    history = []
    for number in range(4):
        history.append(told(f"r{number}", value=str(random.randrange(1000))))
        for minute in range(random.randrange(4)):
            op = random.choice(["replace", "replace", "delete"])
            value = None if op == "delete" else str(random.randrange(1000))
            at = f"2026-11-24T10:{minute:02}:00Z"
            history.append(told(f"r{number}", op=op, value=value, updated_at=at))
    return history


def holding(history: Sequence[dict[str, Any]]) -> list[tuple[str, int]]:
    """Return what holds after a history in its order, by hand."""
    state: dict[str, int | None] = {}
    for event in history:
        state[event["event_id"]] = None if event["op"] == "delete" else int(event["value"])
    return sorted((name, value) for name, value in state.items() if value is not None)


@pytest.mark.parametrize("seed", range(12))
def test_order_and_repetition_of_arrival_do_not_matter(seed: int, tmp_path: Path) -> None:
    """Any order, any batches, any record sent again: the same statements hold."""
    random = Random(seed)
    history = [{"op": "insert"} | event for event in versions(random)]
    arriving = [*history, *random.choices(history, k=6)]
    random.shuffle(arriving)
    for books in opened(tmp_path / "g.duckdb"):
        for batch in (arriving[at : at + 3] for at in range(0, len(arriving), 3)):
            books.take(BUSINESS, *batch)
        found = books.ask("SELECT event_id, value::BIGINT FROM business ORDER BY ALL")
    assert found == holding(history)


def test_a_span_is_shared_out_to_the_last_nano_dollar(books: Books) -> None:
    """100 USD of a November are 30 days' shares that add up; a half day has half of a share."""
    books.take(
        BUSINESS,
        told("month", event_time="2026-11-01T00:00:00Z", until="2026-12-01T00:00:00Z"),
        told("noon", event_time="2026-10-01T12:00:00Z", until="2026-10-03T00:00:00Z", value=3),
        told("refund", event_time="2026-09-01T00:00:00Z", until="2026-09-08T00:00:00Z", value=-1),
    )
    daily = books.ask("SELECT day, amount FROM business_daily ORDER BY day")
    by_month = {
        month: [amount for day, amount in daily if day.month == month] for month in (9, 10, 11)
    }
    assert by_month[10] == [10**9, 2 * 10**9]
    assert (len(by_month[11]), sum(by_month[11])) == (30, 100 * 10**9)
    assert max(by_month[11]) - min(by_month[11]) <= 1
    assert (len(by_month[9]), sum(by_month[9])) == (7, -(10**9))


def test_users_of_a_span_are_the_same_on_each_day(books: Books) -> None:
    """Active users of a week are no sum over its days."""
    week = {"event_time": "2026-11-02T00:00:00Z", "until": "2026-11-05T00:00:00Z"}
    books.take(BUSINESS, told("u", measure="active_users", value=40, **week))
    assert books.ask("SELECT day, amount FROM business_daily ORDER BY day") == [
        (date(2026, 11, day), 40) for day in (2, 3, 4)
    ]


def test_unit_economics_by_customer_and_in_all(books: Books) -> None:
    """By hand: 30 USD of acme and 20 of beta against 100 and 50, three users, ten outcomes."""
    books.take(
        USAGE,
        used("a", "10", customer="acme", user="ann"),
        used("b", "20", customer="acme", user="bob"),
        used("c", "20", customer="beta", user="ann"),
    )
    books.take(
        BUSINESS,
        told("ra", customer="acme"),
        told("rb", customer="beta", value="50"),
        told("o", measure="outcomes", outcome="ticket_resolved", customer="acme", value=10),
    )
    day = "2026-11-24"
    assert books.economics(day, "acme") == (30, 100, 2, 10, Decimal("0.3"), 15, 3)
    assert books.economics(day, "beta") == (20, 50, 1, None, Decimal("0.4"), 20, None)
    assert books.economics(day)[:5] == (50, 150, 3, 10, Decimal("0.333333"))


def test_what_is_stated_of_all_goes_before_the_sum_of_customers(books: Books) -> None:
    """So that a total from the books and details of some customers do not add up to too much."""
    books.take(USAGE, used("a", "30", customer="acme", user="ann"))
    books.take(
        BUSINESS,
        told("ra", customer="acme"),
        told("all", value="300"),
        told("users", measure="active_users", value=7),
    )
    assert books.economics("2026-11-24")[:4] == (30, 300, 7, None)
    assert books.economics("2026-11-24", "acme")[:3] == (30, 100, 1)


def test_without_revenue_there_is_no_ratio(books: Books) -> None:
    """Nothing is divided by zero, and zero is not infinity."""
    books.take(USAGE, used("a", "30", customer="acme"))
    books.take(BUSINESS, told("r", customer="acme", value=0))
    assert books.economics("2026-11-24", "acme") == (30, 0, 0, None, None, None, None)


def test_an_address_in_place_of_a_customer_is_the_same_hash_as_in_usage(books: Books) -> None:
    """So the ratio of that customer is there, and the address is not."""
    books.take(USAGE, used("a", "30", customer="ann@example.com"))
    books.take(BUSINESS, told(customer="ann@example.com"))
    rows = books.ask("SELECT customer, cost_per_revenue FROM unit_economics WHERE scope <> 'all'")
    ((customer, ratio),) = rows
    assert customer.startswith("anon-")
    assert ratio == Decimal("0.3")


def test_usage_and_business_in_one_batch_are_counted_apart(books: Books) -> None:
    """Each partition has its own tally, and each event its own table."""
    places = {USAGE: used("a", "1"), BUSINESS: told()}
    polled = Polled(
        {
            place: [
                SimpleNamespace(
                    partition=0,
                    offset=0,
                    value=json.dumps(event).encode(),
                    headers=(),
                    timestamp=0,
                )
            ]
            for place, event in places.items()
        },
        {place: Position(0, "id") for place in places},
        dict.fromkeys(places, 1),
    )
    stored = books.store.append(books.intake.batch(polled))
    assert stored is not None
    assert [stored.tallies[place].counted for place in (USAGE, BUSINESS)] == [1, 1]
    assert books.ask("SELECT (SELECT count(*) FROM usage), (SELECT count(*) FROM business)") == [
        (1, 1)
    ]
