import tracemalloc
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from governor.core.periods import BUCKET, Calendar, Every, Period
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Threshold
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS, Condition, Key, Scope
from governor.core.totals import MAX_INDEXED_COMBINATIONS, SUMMED_COLUMNS, Sums, Total, Totals, sums

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
START = datetime(2026, 4, 3, 21, tzinfo=UTC)
"""Two nights before the clocks of Lord Howe go back by half an hour."""

READ = ("customer", "tier", "model")
ZONES = ("UTC", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "Pacific/Kiritimati")
CALENDARS = [Calendar(every, zone) for every in Every for zone in ZONES]

SCHEMA = pa.schema(
    [
        ("event_time", pa.timestamp("us", tz="UTC")),
        *((name, pa.string()) for name in DIMENSIONS),
        *((name, pa.int64()) for name in SUMMED_COLUMNS[-4:]),
    ]
)


@dataclass(frozen=True)
class Use:
    """One counted event, as a plain loop reads it."""

    at: datetime
    dimensions: tuple[str | None, ...]
    cost: int = 0
    requests: int = 1
    input_tokens: int | None = None
    output_tokens: int | None = None

    def value(self, dimension: str) -> str | None:
        return dict(zip(READ, self.dimensions, strict=True)).get(dimension)

    def amount(self, measure: Measure) -> int:
        tokens = (self.input_tokens or 0) + (self.output_tokens or 0)
        return {"cost": self.cost, "requests": self.requests, "tokens": tokens}[measure]


def table(uses: Sequence[Use]) -> pa.Table:
    columns = {
        "event_time": [use.at for use in uses],
        **{name: [use.value(name) for use in uses] for name in DIMENSIONS},
        "cap_nano": [use.cost for use in uses],
        "requests": [use.requests for use in uses],
        "input_tokens": [use.input_tokens for use in uses],
        "output_tokens": [use.output_tokens for use in uses],
    }
    return pa.table(columns, schema=SCHEMA)


def budget(
    name: str = "r",
    *,
    calendar: Calendar = CALENDARS[0],
    measure: Measure = Measure.REQUESTS,
    amounts: Sequence[int] = (10,),
    where: Sequence[Condition] = (),
    per: tuple[str, ...] = (),
) -> Budget:
    return Budget(
        id=name,
        owner="finops",
        summary="",
        measure=measure,
        limit=max(amounts),
        limit_text="",
        calendar=calendar,
        thresholds=tuple(Threshold(str(n), n, Level.WARNING) for n in amounts),
        where=Scope(tuple(where)),
        per=per,
    )


def cells_of(total: Total) -> list[tuple[datetime, tuple[int, int]]]:
    """Return start, amount and mark of each period in which a group used something."""
    return [
        (start, (cells.amounts[total.row], cells.marks[total.row]))
        for start, cells in total.book.periods.items()
        if cells.marks[total.row]
    ]


class Oracle:
    """Totals by plain loops: one number for each rule, group and period."""

    def __init__(self, rules: Sequence[Budget]) -> None:
        self.rules = rules
        self.amounts: Counter[tuple[str, Key, Period]] = Counter()
        self.next: dict[tuple[str, Key, Period], float] = {}

    def add(self, uses: Sequence[Use], only: Calendar | None = None) -> set[tuple[str, Key]]:
        touched = set()
        for use in uses:
            for rule in self.rules:
                if only not in (None, rule.calendar):
                    continue
                if all(c.holds(use.value(c.dimension)) for c in rule.where.conditions):
                    group = tuple(use.value(name) for name in rule.per)
                    cell = (rule.id, group, rule.calendar.period(use.at))
                    self.amounts[cell] += use.amount(rule.measure)
                    self.next.setdefault(cell, rule.thresholds[0].amount)
                    touched.add(cell)
        return {cell[:2] for cell in touched if self.amounts[cell] >= self.next[cell]}

    def forget(self, now: datetime) -> None:
        over = [cell for cell in self.amounts if cell[2].end <= now]
        for cell in over:
            del self.amounts[cell], self.next[cell]


def add(totals: Totals, uses: Sequence[Use], only: Calendar | None = None) -> set[tuple[str, Key]]:
    events = table(uses)
    reached = [
        total for mask in totals.masks for total in totals.add(mask, sums(events, mask), only)
    ]
    return {(total.rule.id, total.group) for total in reached}


def cells(totals: Totals) -> dict[tuple[str, Key, datetime], int]:
    return {
        (total.rule.id, total.group, start): cell[0]
        for total in totals
        for start, cell in cells_of(total)
    }


values = st.sampled_from([None, "", "a", "ab", "b"])
conditions = st.builds(
    Condition,
    st.just("customer"),
    st.frozensets(st.sampled_from(["", "a", "ab", "b", "c"]), max_size=3),
    st.lists(st.sampled_from(["*", "a*", "?", "[!a]"]), max_size=2).map(tuple),
    st.booleans(),
)
plain = st.builds(
    Condition, st.just("tier"), st.frozensets(st.sampled_from(["", "a", "ab"]), min_size=1)
)
wheres = st.builds(
    lambda drawn, dimensions: [
        replace(condition, dimension=name)
        for condition, name in zip(drawn, dimensions, strict=False)
    ],
    st.lists(conditions | plain, max_size=2),
    st.permutations(READ),
)
rules = st.lists(
    st.builds(
        budget,
        calendar=st.sampled_from(CALENDARS),
        measure=st.sampled_from(Measure),
        amounts=st.lists(
            st.sampled_from([1, 2, 3, 5, 100, 2**62, 2**64, 2**65]),
            min_size=1,
            max_size=3,
            unique=True,
        ).map(sorted),
        where=wheres,
        per=st.lists(st.sampled_from(READ), max_size=2, unique=True).map(tuple),
    ),
    min_size=1,
    max_size=5,
).map(lambda drawn: [replace(rule, id=f"r{place}") for place, rule in enumerate(drawn)])
times = st.builds(
    lambda quarters, micros: START + quarters * BUCKET + micros * MICROSECOND,
    st.integers(0, 60 * 4),
    st.sampled_from([0, 1, 10**6, 899_999_999]),
)
tokens = st.none() | st.integers(0, 100) | st.just(2**40)
uses = st.builds(
    Use,
    times,
    st.tuples(values, values, values),
    st.integers(0, 5) | st.integers(0, 2**62) | st.just(2**62),
    st.integers(0, 3),
    tokens,
    tokens,
)
batches = st.lists(st.lists(uses, max_size=12), max_size=4)


@settings(deadline=None, max_examples=100)
@given(rules, batches)
def test_amounts_are_those_of_plain_loops(rules: list[Budget], batches: list[list[Use]]) -> None:
    """Whatever the rules, zones and gaps: amounts by group and period are exact, in any batches."""
    totals, oracle = Totals(rules), Oracle(rules)
    for batch in batches:
        assert add(totals, batch) == oracle.add(batch)
    expected = {(name, group, p.start): n for (name, group, p), n in oracle.amounts.items()}
    assert cells(totals) == expected
    for (name, group, period), amount in oracle.amounts.items():
        total = totals.get(name, group)
        assert total is not None
        assert total.amount(period) == amount
    assert len(totals) == len({cell[:2] for cell in expected})


@settings(deadline=None, max_examples=80)
@given(rules, st.lists(st.tuples(st.lists(uses, max_size=8), times, st.booleans()), max_size=5))
def test_what_is_judged_and_what_is_forgotten(
    rules: list[Budget], stages: list[tuple[list[Use], datetime, bool]]
) -> None:
    """A total is reported until it is marked, then from the next threshold on; so after `forget`.

    What is over is dropped, and usage that comes after all for such a period begins from zero.
    """
    totals, oracle = Totals(rules), Oracle(rules)
    for batch, now, judged in stages:
        reached = add(totals, batch)
        assert reached == oracle.add(batch)
        for name, group, period in list(oracle.amounts) if judged else ():
            total = totals.get(name, group)
            assert total is not None
            crossed = total.rule.crossed(total.amount(period))
            total.mark(period, crossed)
            above = [threshold.amount for threshold in total.rule.thresholds[crossed:]]
            oracle.next[name, group, period] = above[0] if above else float("inf")
        totals.forget(now)
        oracle.forget(now)
        expected = {(name, group, p.start): n for (name, group, p), n in oracle.amounts.items()}
        assert cells(totals) == expected
        assert len(totals) == len({cell[:2] for cell in expected})


@settings(deadline=None, max_examples=40)
@given(rules, st.lists(uses, max_size=12), st.lists(uses, max_size=12))
def test_usage_handed_in_by_calendar(
    rules: list[Budget], before: list[Use], after: list[Use]
) -> None:
    """History is read back for one calendar at a time; each takes only what is its own."""
    totals, oracle = Totals(rules), Oracle(rules)
    for calendar in {rule.calendar for rule in rules}:
        assert add(totals, before, calendar) == oracle.add(before, calendar)
    assert add(totals, after) == oracle.add(after)
    expected = {(name, group, p.start): n for (name, group, p), n in oracle.amounts.items()}
    assert cells(totals) == expected


@settings(deadline=None, max_examples=100)
@given(st.lists(uses, max_size=20), st.lists(st.sampled_from(READ), unique=True).map(tuple))
def test_sums(uses: list[Use], mask: tuple[str, ...]) -> None:
    """Each quarter of an hour and combination of values comes once, with all that is of it."""
    expected: dict[tuple[object, ...], list[int]] = {}
    for use in uses:
        bucket = (use.at - EPOCH) // BUCKET * (BUCKET // MICROSECOND)
        row = expected.setdefault((bucket, *(use.value(name) for name in mask)), [0, 0, 0])
        for place, measure in enumerate(Measure):
            row[place] += use.amount(measure)
    found = sums(table(uses), mask)
    assert sorted(map(repr, found)) == sorted(repr((*k, *v)) for k, v in expected.items())


def test_sums_beyond_64_bits() -> None:
    """A thousand events of the greatest cost there is are summed up exactly."""
    costs = [2**63 - 1 - n for n in range(1000)]
    found = sums(table([Use(START, ("a", None, None), cost) for cost in costs]), ())
    assert [row[1] for row in found] == [sum(costs)]


def test_sums_of_tables_in_chunks() -> None:
    """A table of many chunks, or of none, is read like any other."""
    one = table([Use(START, ("a", None, None), 5)])
    bucket = (START - EPOCH) // MICROSECOND
    assert sums(pa.concat_tables([one, one, one.slice(1)]), ("customer",)) == [
        (bucket, "a", 10, 2, 0)
    ]
    assert sums(SCHEMA.empty_table(), ("customer",)) == []


@pytest.mark.parametrize(
    ("where", "value", "counted"),
    [
        (Condition("tier", frozenset({"free"})), None, False),
        (Condition("tier", frozenset({""})), None, False),
        (Condition("tier", frozenset({""})), "", True),
        (Condition("tier", frozenset({"free"}), negated=True), None, True),
        (Condition("tier", patterns=("*",)), None, False),
        (Condition("tier", patterns=("*",), negated=True), None, True),
        (Condition("tier", frozenset(map(str, range(MAX_INDEXED_COMBINATIONS + 1)))), "7", True),
        (Condition("tier", frozenset(map(str, range(MAX_INDEXED_COMBINATIONS + 1)))), "x", False),
    ],
)
def test_missing_values_and_long_lists(
    where: Condition, value: str | None, *, counted: bool
) -> None:
    """A missing value is none of those listed; a list too long to be indexed is still read."""
    totals = Totals([budget(where=[where], per=("customer",))])
    add(totals, [Use(START, (None, value, None))])
    total = totals.get("r", (None,))
    assert (total is not None) is counted
    assert total is None or total.amount(CALENDARS[0].period(START)) == 1


def test_marks() -> None:
    """A total is reported at a threshold, and again only at the one after those it was marked."""
    rule = budget(amounts=(2, 4))
    totals = Totals([rule])
    period = rule.calendar.period(START)
    row: Sums = ((START - EPOCH) // MICROSECOND, 0, 1, 0)
    said = []
    for _ in range(6):
        reached = totals.add((), [row])
        said.append(bool(reached))
        for total in reached:
            total.mark(period, rule.crossed(total.amount(period)))
    assert said == [False, True, False, True, False, False]


def test_a_mark_before_any_usage() -> None:
    """A group may be marked for a period of which nothing is known yet."""
    rule = budget(amounts=(1, 3), calendar=Calendar(Every.HOUR, "UTC"))
    totals = Totals([rule])
    add(totals, [Use(START, (None, None, None))])
    total = totals.get("r", ())
    assert total is not None
    later = START + timedelta(hours=1)
    assert total.amount(rule.calendar.period(later)) == 0
    total.mark(rule.calendar.period(later), 1)
    assert add(totals, [Use(later, (None, None, None))] * 2) == set()
    assert add(totals, [Use(later, (None, None, None))]) == {("r", ())}


def test_masks_are_shared() -> None:
    """Rules that read the same dimensions share one mask, in whatever order they name them."""
    totals = Totals(
        [
            budget("a", per=("model", "tier")),
            budget("b", per=("tier",), where=[Condition("model", frozenset({"x"}))]),
            budget("c"),
        ]
    )
    assert totals.masks == (("tier", "model"), ())


@pytest.mark.slow
def test_a_user_costs_little_memory() -> None:
    """A monthly limit of requests by user: at most 300 bytes a user, its name included."""
    rule = budget(where=[Condition("tier", frozenset({"free"}))], per=("customer",))
    totals = Totals([rule])
    (mask,) = totals.masks
    now_us = (START - EPOCH) // BUCKET * (BUCKET // MICROSECOND)
    users = 100_000
    tracemalloc.start()
    for number in range(users):
        values = {"customer": f"customer-{number:07}", "tier": "free"}
        totals.add(mask, [(now_us, *(values[name] for name in mask), 0, 1, 100)])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(totals) == users
    assert held / users <= 300
