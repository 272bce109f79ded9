"""A daemon without Kafka: a real store and its rules, on a clock that the test turns."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.core.admission import Window
from governor.core.batches import Batch, Polled, Stored
from governor.core.directives import Directive
from governor.core.notifications import Notice
from governor.core.periods import Calendar, Every
from governor.core.positions import PartitionId, Position, Resumption, Start
from governor.core.pricing import FEMTO_PER_USD, NANO_PER_USD, ModelKey, Price, Rates
from governor.core.rules.actions import Action, Fail, Rate
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Mode, Rule, Threshold
from governor.core.rules.units import Measure
from governor.core.scopes import Condition, Scope
from governor.formats import FORMATS
from governor.loops.evaluate import Evaluate, Ledger
from governor.loops.ingest import Intake
from tests.unit.shelf import rate_table

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLACE = PartitionId("usage", 0)
FLAT = ModelKey("acme", "flat")
FLAT_PRICE = (
    Price(FLAT, Rates(input=FEMTO_PER_USD // 1000, output=FEMTO_PER_USD // 1000), "test"),
)
SLOW = Action(name="slow", rate=Rate(2, timedelta(minutes=1)), each="user", fail=Fail.OPEN)
LEVELS = (Level.INFO, Level.WARNING, Level.CRITICAL)


def budget(
    limit_usd: int = 100,
    *,
    at: Sequence[int] = (50, 80, 100),
    name: str = "free-tier",
    where: dict[str, str] | None = None,
    per: tuple[str, ...] = (),
    mode: Mode = Mode.ENFORCE,
    every: Every = Every.DAY,
    zone: str = "UTC",
    rate: int = 2,
    hold: timedelta = timedelta(0),
) -> Budget:
    """Return a budget with thresholds at percents; the last one throttles."""
    named = {"tier": "free"} if where is None else where
    last = len(at) - 1
    return Budget(
        id=name,
        owner="growth",
        summary="{{ value }} of {{ limit }}",
        measure=Measure.COST,
        limit=limit_usd * NANO_PER_USD,
        limit_text=f"{limit_usd} USD",
        calendar=Calendar(every, zone),
        thresholds=tuple(
            Threshold(
                f"{percent}%",
                percent * limit_usd * NANO_PER_USD // 100,
                LEVELS[min(place, 2)],
                ("slow",) if place == last else (),
            )
            for place, percent in enumerate(at)
        ),
        where=Scope(tuple(Condition(n, frozenset({value})) for n, value in named.items())),
        per=per,
        mode=mode,
        hold=hold,
        actions={
            "slow": Action(
                name="slow", rate=Rate(rate, SLOW.rate.span), each="user", fail=Fail.OPEN
            )
        },
    )


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def at(self, _: int | None) -> datetime:
        """Return what it shows."""
        return self.now


@dataclass
class Site:
    """Store, state and evaluation on one file."""

    path: Path
    clock: Clock
    store: Store
    state: State
    evaluate: Evaluate
    published: list[Directive]
    _intake: Intake
    _sent: int

    def spend(self, usd: int | str, *, at: datetime | None = None, **fields: Any) -> None:
        """Count one event that costs this much, of the free tier if nothing else is said."""
        self.usage([self.event(usd, at=at, **fields)])

    def event(self, usd: int | str, *, at: datetime | None = None, **fields: Any) -> dict[str, Any]:
        """Return an event that costs this much."""
        self._sent += 1
        return {
            "event_id": f"e{self._sent}-{len(self.published)}-{self.clock.now.timestamp()}",
            "source": "test",
            "event_time": (at or self.clock.now).isoformat(),
            "provider": FLAT.provider,
            "model": FLAT.model,
            "tier": "free",
            "input_tokens": int(Decimal(usd) * 1000),
            **fields,
        }

    def usage(self, events: Sequence[dict[str, Any]]) -> None:
        """Count a batch of events, and judge what it reached."""
        self.take(events)
        self.evaluate.settle()

    def take(self, events: Sequence[dict[str, Any]]) -> Stored:
        """Count a batch of events; judge nothing yet."""
        batch = self.batch(events)
        stored = self.store.append(batch)
        assert stored is not None
        self.evaluate.stored(batch, stored)
        return stored

    def batch(self, events: Sequence[dict[str, Any]]) -> Batch:
        """Return the batch that follows what is stored."""
        first = self.store.partitions[PLACE].position.next_offset
        lines = [json.dumps(event).encode() for event in events]
        records = [Line(first + n, line) for n, line in enumerate(lines)]
        end = first + len(records)
        return self._intake.batch(
            Polled({PLACE: records}, {PLACE: Position(first, "id")}, {PLACE: end})
        )

    def turn(self, now: datetime) -> None:
        """Set the clock and let time do its work."""
        self.clock.now = now
        self.evaluate.tick()

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the file, through the store's own connection."""
        found: list[tuple[Any, ...]] = self.store.database.connection.execute(query).fetchall()
        return found

    def crossings(self) -> list[tuple[Any, ...]]:
        """Return level and threshold of every crossing, in order."""
        query = "SELECT level, threshold FROM alert_lines WHERE threshold IS NOT NULL ORDER BY seq"
        return self.ask(query)

    def owed(self, receiver: str = "slack") -> list[Notice]:
        """Return what a receiver is to be told now."""
        found = self.ask(
            f"SELECT body FROM messages WHERE receiver = '{receiver}' AND told < wanted"
            " ORDER BY wanted_at, message"
        )
        return [msgspec.json.decode(body, type=Notice) for (body,) in found]

    def standing(self) -> list[Directive]:
        """Return the directives that throttle."""
        return [d for d in self.evaluate.directives if d.effect == "throttle"]


@dataclass(frozen=True, slots=True)
class Line:
    """A record as Kafka hands it over."""

    offset: int
    value: bytes
    partition: int = 0


@contextmanager
def opened(
    path: Path,
    rules: Sequence[Rule],
    clock: Clock,
    *,
    begun: bool = True,
    adopted: bool = True,
    wrapped: Any = None,
    ahead: timedelta = timedelta(hours=1),
    wall: Clock | None = None,
    complete: Callable[[], datetime | None] | None = None,
    lag_s: Callable[[], float] = lambda: 0.0,
    questions: int = 1_000,
    prices: Sequence[Price] = FLAT_PRICE,
) -> Iterator[Site]:
    """Open the file with rules in force; `wrapped` may put something around the ledger.

    Not `begun`, nothing is taken up yet; not `adopted`, the topic has not been read yet. With a
    `wall`, the clock is that of the events of a replay.
    """
    present = wall or clock
    known = {price.key for price in prices}
    rates = rate_table(
        prices,
        lambda provider, model: key if (key := ModelKey(provider, model)) in known else None,
        lambda provider: provider,
    )
    options = FileOptions(path, 400_000_000, 1, 64_000_000, 0)
    store = Store(options, rates, lambda: clock.now)
    try:
        if PLACE not in store.partitions:
            store.resume({PLACE: (Resumption(0, Start.NEW_TOPIC, 0), "id")}, clock.now)
        state = State(store, lambda: clock.now)
        published: list[Directive] = []
        ledger: Ledger = wrapped(state) if wrapped else state
        evaluate = Evaluate(
            ledger,
            rules,
            now=lambda: present.now,
            follow_events=wall is not None,
            receivers=["log", "slack"],
            publish=published.extend,
            complete=complete,
            questions=questions,
            lag_s=lag_s,
        )
        window = Window(timedelta(days=45), ahead, timedelta(hours=1))
        watermarks = {place: s.watermark_us for place, s in store.partitions.items()}
        intake = Intake(
            formats={PLACE.topic: FORMATS["native"]({})},
            window=window,
            clock=clock,
            max_record_bytes=100_000,
            watermarks=watermarks,
        )
        sent = store.partitions[PLACE].position.next_offset
        site = Site(path, clock, store, state, evaluate, published, intake, sent)
        if begun:
            evaluate.begin()
            published += evaluate.adopt([], 0) if adopted else []
        yield site
    finally:
        store.close()
