"""Windows, and the rules that are judged from time to time: ratio, absence, query."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.adapters.duckdb.business import append_business
from governor.core.business import BUSINESS_SCHEMA
from governor.core.errors import TransientError
from governor.core.periods import Calendar, Every
from governor.core.rules.absence import Absence
from governor.core.rules.query import Query
from governor.core.rules.ratio import Against, Ratio
from governor.core.rules.shared import Level, Rule, Threshold, Unknown
from governor.core.rules.units import MICRO, Measure, Unit
from governor.core.windows import Sightings, Spending
from governor.loops.evaluate import Ledger
from tests.unit.site import NOON, Clock, Site, budget, opened

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NANO = 10**9


def us(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


# ------------------------------------------------------------------------------------- windows

USES = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.integers(0, 60),
        st.integers(0, 10**12),
    ),
    max_size=60,
)


@given(USES, st.integers(1, 12), st.integers(0, 60))
def test_a_window_is_the_sum_of_its_cells(
    uses: list[tuple[str, int, int]], width: int, back: int
) -> None:
    """However usage comes, late or ahead, a window holds what a list of it all would add up to."""
    spending = Spending(HOUR, 24)
    newest = 0
    kept: dict[tuple[str, int], int] = defaultdict(int)
    for name, hour, amount in uses:
        if hour <= newest - 24:
            continue
        newest = max(newest, hour)
        spending.add((name,), us(NOON + hour * HOUR) + 123, amount)
        kept[name, hour] += amount
    for name, hour, amount in uses:
        if hour <= newest - 24:
            spending.add((name,), us(NOON + hour * HOUR), amount)  # too late, and left out
    start, end = NOON + (newest - back) * HOUR, NOON + (newest - back + width) * HOUR
    expected: dict[Any, int] = defaultdict(int)
    for (name, hour), amount in kept.items():
        if start <= NOON + hour * HOUR < end and hour > newest - 24:
            expected[name,] += amount
    assert spending.sums(start, end) == {
        name: amount for name, amount in expected.items() if amount
    }
    spending.forget()
    assert spending.sums(start, end) == {
        name: amount for name, amount in expected.items() if amount
    }


def test_many_groups_find_room() -> None:
    """More groups than there was room for at first, and again after those without use are gone."""
    spending = Spending(HOUR, 4)
    for hour in range(12):
        for number in range(100 * hour, 100 * hour + 300):
            spending.add((f"g{number}",), us(NOON + hour * HOUR), 1)
        spending.forget()
    found = spending.sums(NOON + 8 * HOUR, NOON + 12 * HOUR)
    assert len(found) == 600
    assert sum(found.values()) == 4 * 300


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9), st.integers(0, 40)), max_size=80),
    st.integers(0, 40),
)
def test_each_user_counts_once(seen: list[tuple[str, int, int]], since: int) -> None:
    """The distinct users of a window that ends now, exactly, in whatever order they came."""
    sightings = Sightings(HOUR)
    for name, user, hour in seen:
        sightings.add((name,), f"u{user}", us(NOON + hour * HOUR) + 7)
    start = NOON + since * HOUR
    expected = {
        (name,): len({user for other, user, hour in seen if other == name and hour >= since})
        for name, _, _ in seen
    }
    assert sightings.counts(start) == expected
    sightings.forget(start)
    assert sightings.counts(start) == {name: many for name, many in expected.items() if many}


# --------------------------------------------------------------------------------------- rules


def steps(*ats: tuple[str, int, Level], clear: int = 90) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(at, amount, level, clear=amount * clear // 100) for at, amount, level in ats
    )


def ratio(**changed: Any) -> Ratio:
    fields: dict[str, Any] = {
        "id": "margin",
        "owner": "finance",
        "summary": "{{ value }}",
        "limit_text": "25%",
        "numerator": Measure.COST,
        "denominator": Against.REVENUE,
        "window": 7 * DAY,
        "min_denominator": 100 * NANO,
        "max_age": 36 * HOUR,
        "thresholds": steps(
            ("25%", MICRO // 4, Level.WARNING), ("50%", MICRO // 2, Level.CRITICAL)
        ),
        "every": HOUR,
    }
    return Ratio(**(fields | changed))


def absence(**changed: Any) -> Absence:
    fields: dict[str, Any] = {
        "id": "quiet",
        "owner": "sre",
        "summary": "{{ value }}",
        "limit_text": "15m",
        "per": ("feature",),
        "thresholds": steps(("15m", 900, Level.WARNING), ("1h", 3600, Level.CRITICAL), clear=100),
    }
    return Absence(**(fields | changed))


def query(**changed: Any) -> Query:
    fields: dict[str, Any] = {
        "id": "waste",
        "owner": "sre",
        "summary": "{{ value }}",
        "limit_text": "20 USD",
        "per": ("customer",),
        "sql": "SELECT customer, sum(cost_usd) AS wasted FROM usage"
        " WHERE event_time >= $from AND event_time < $to AND status = 'error' GROUP BY customer",
        "value": "wasted",
        "unit_of": Unit.COST,
        "window": HOUR,
        "thresholds": steps(("20 USD", 20 * NANO, Level.WARNING), clear=50),
    }
    return Query(**(fields | changed))


@contextmanager
def running(path: Path, rules: list[Rule], clock: Clock, **how: Any) -> Iterator[Site]:
    with opened(path, rules, clock, **how) as site:
        yield site


def tell(
    site: Site, usd: int | None, start: datetime, until: datetime | None, **fields: Any
) -> None:
    """Have a business event stored."""
    row = {
        "event_id": fields.pop("event_id", f"b{us(start)}-{fields}"),
        "source": "billing",
        "event_time": start,
        "measure": "revenue",
        "op": "insert",
        "amount": usd * NANO,
        "currency": "USD",
        "until": until,
        "topic": "business",
        "partition": 0,
        "offset": us(start) % 10**9,
        **fields,
    }
    connection = site.store.database.connection
    append_business(connection, pa.Table.from_pylist([row], schema=BUSINESS_SCHEMA), site.clock.now)


def lines(site: Site) -> list[tuple[Any, ...]]:
    """Return what happened, as people would tell it."""
    query = "SELECT rule, what, coalesce(threshold, reason), amount FROM alert_lines ORDER BY seq"
    return [(name, what, why, int(amount)) for name, what, why, amount in site.ask(query)]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


def test_cost_per_revenue(path: Path, clock: Clock) -> None:
    """Both over the same span, which ends where revenue is known; it fires, eases and resolves."""
    midnight = NOON + DAY / 2
    with running(path, [ratio()], clock) as site:
        site.spend(300)
        tell(site, 1000, midnight - DAY, midnight)
        site.turn(midnight + HOUR)
        assert lines(site) == [("margin", "fired", "25%", 300_000)]
        clock.now = midnight + 2 * HOUR
        site.spend(5_000)  # on a day whose revenue nobody told yet
        site.turn(midnight + 3 * HOUR)
        assert len(lines(site)) == 1
        tell(site, 20_000, midnight, midnight + DAY)
        site.turn(midnight + DAY + HOUR)
        assert lines(site)[1:] == []  # 5,300 of 21,000 is 25.2 %
        tell(site, 5_000, midnight + DAY, midnight + 2 * DAY)
        site.turn(midnight + 2 * DAY + HOUR)
        assert lines(site)[1:] == [("margin", "resolved", "cleared", 203_846)]
        (notice,) = site.owed()
        assert (notice.resolved, notice.value) == ("all is well again", "20.4%")


def test_what_is_told_is_corrected_and_shared_out(path: Path, clock: Clock) -> None:
    """A correction stands in the place of what it corrects; of a span the part in it counts."""
    midnight = NOON + DAY / 2
    with running(path, [ratio(window=DAY)], clock) as site:
        site.spend(300)
        tell(site, 9000, midnight - DAY, midnight, event_id="x")
        tell(site, 2000, midnight - 2 * DAY, midnight, event_id="y")  # half of it is in
        site.turn(midnight + HOUR)
        assert lines(site) == []  # 300 of 10,000
        tell(site, 0, midnight - DAY, midnight, event_id="x", op="replace", updated_at=midnight)
        site.turn(midnight + 2 * HOUR)
        assert lines(site) == [("margin", "fired", "25%", 300_000)]


def test_nothing_turns_green_without_revenue(path: Path, clock: Clock) -> None:
    """Revenue that is too old, through a restart too, leaves an alert as it is."""
    midnight = NOON + DAY / 2
    with running(path, [ratio()], clock) as site:
        site.spend(300)
        tell(site, 1000, midnight - DAY, midnight)
        site.turn(midnight + HOUR)
        site.turn(midnight + 2 * DAY)
        assert lines(site)[1:] == [("margin", "health", "no_data", 300_000)]
    with running(path, [ratio()], clock) as site:
        site.turn(midnight + 9 * DAY)
        assert [line[1] for line in lines(site)] == ["fired", "health"]
        tell(site, 10_000, midnight + 8 * DAY, midnight + 9 * DAY)
        site.turn(midnight + 9 * DAY + HOUR)
        assert [line[1:3] for line in lines(site)[2:]] == [
            ("health", "ok"),
            ("resolved", "cleared"),
        ]


@pytest.mark.parametrize("policy", Unknown)
def test_policies_for_no_data(path: Path, clock: Clock, policy: Unknown) -> None:
    """What is not known is left alone, or taken for good, or fires, as the rule says."""
    with running(path, [ratio(on_no_data=policy)], clock) as site:
        site.turn(NOON + HOUR)
        fired = policy is Unknown.FIRE
        found = [("margin", "fired", "25%", 0), ("margin", "escalated", "50%", 0)] if fired else []
        assert lines(site) == found


def test_too_little_to_judge(path: Path, clock: Clock) -> None:
    """Below `min_denominator` nothing fires, and what fires ends as guarded; 0 divides nothing."""
    midnight = NOON + DAY / 2
    rule = ratio(per=("customer",), window=DAY)
    with running(path, [rule], clock) as site:
        site.spend(300, customer="acme")
        site.spend(300, customer="none")
        site.spend(90, customer="small")
        tell(site, 1000, midnight - DAY, midnight, customer="acme")
        tell(site, 99, midnight - DAY, midnight, customer="small")
        site.turn(midnight + HOUR)
        assert [line[1] for line in lines(site)] == ["fired"]
        tell(site, 10, midnight, midnight + DAY, customer="acme")
        site.turn(midnight + DAY + HOUR)
        assert [line[1:3] for line in lines(site)[1:]] == [
            ("health", "guarded"),
            ("resolved", "cleared"),
        ]


def test_all_of_it_is_what_is_stated_of_all(path: Path, clock: Clock) -> None:
    """For all together, what names no customer counts, where there is such; else the sum."""
    midnight = NOON + DAY / 2
    with running(path, [ratio(window=DAY)], clock) as site:
        site.spend(300)
        for customer in ("a", "b"):
            tell(site, 500, midnight - DAY, midnight, customer=customer)
        site.turn(midnight + HOUR)
        assert lines(site) == [("margin", "fired", "25%", 300_000)]
        tell(site, 550, midnight - DAY, midnight, event_id="all")
        site.turn(midnight + 2 * HOUR)
        assert lines(site)[1:] == [("margin", "escalated", "50%", 545_454)]


def test_cost_of_an_active_user(path: Path, clock: Clock) -> None:
    """Each user counts once, however often seen, in memory and after a restart."""
    rule = ratio(
        denominator=Against.ACTIVE_USERS,
        window=DAY,
        per=("tier",),
        min_denominator=3,
        max_age=None,
        thresholds=steps(("2 USD", 2 * NANO, Level.WARNING)),
    )
    with running(path, [rule], clock) as site:
        for user in ("ann", "bob", "ann", "eve", "ann"):
            site.spend(1, user=user)
        site.spend(1)  # by nobody in particular
        site.turn(NOON + HOUR)
        assert lines(site) == [("margin", "fired", "2 USD", 2 * NANO)]
    with running(path, [rule], clock) as site:
        for number in range(9):
            site.spend("0.01", user=f"u{number}")
        site.turn(NOON + 2 * HOUR)
        assert [line[1] for line in lines(site)] == ["fired", "resolved"]
        assert lines(site)[-1][3] == (6 * NANO + 9 * NANO // 100) // 12


def test_less_is_worse(path: Path, clock: Clock) -> None:
    """A rule that looks for too little fires there, and shows its numbers as they are."""
    rule = ratio(
        denominator=Against.REQUESTS,
        window=HOUR,
        min_denominator=1,
        max_age=None,
        below=True,
        thresholds=(
            Threshold("0.50 USD", -NANO // 2, Level.INFO, clear=-6 * NANO // 10),
            Threshold("0.10 USD", -NANO // 10, Level.WARNING, clear=-2 * NANO // 10),
        ),
        every=MINUTE,
    )
    with running(path, [rule], clock) as site:
        site.spend(1)
        site.turn(NOON + MINUTE)
        assert lines(site) == []
        for _ in range(3):
            site.spend("0.05")
        site.turn(NOON + 2 * MINUTE)
        assert lines(site) == [("margin", "fired", "0.50 USD", -287_500_000)]
        assert [notice.value for notice in site.owed()] == ["0.29 USD a request"]


def test_a_ratio_of_a_calendar_period(path: Path, clock: Clock) -> None:
    """It begins anew with the period, which ends its alerts."""
    rule = ratio(
        window=None,
        calendar=Calendar(Every.DAY, "America/New_York"),
        denominator=Against.REQUESTS,
        max_age=None,
        min_denominator=1,
        thresholds=steps(("1 USD", NANO, Level.WARNING)),
    )
    midnight = NOON + 17 * HOUR  # in New York
    with running(path, [rule], clock) as site:
        site.spend(3)
        site.turn(NOON + HOUR)
        site.turn(midnight - MINUTE)
        assert [line[1] for line in lines(site)] == ["fired"]
        site.turn(midnight)
        assert [line[1:3] for line in lines(site)] == [
            ("fired", "1 USD"),
            ("resolved", "period_ended"),
        ]
        site.spend("0.50")
        site.turn(midnight + 2 * HOUR)
        assert len(lines(site)) == 2


def test_a_group_falls_silent(path: Path, clock: Clock) -> None:
    """From its newest event on, and not from when it was counted; the first event ends it."""
    with running(path, [absence()], clock) as site:
        site.spend(1, feature="chat", at=NOON - 10 * MINUTE)
        site.turn(NOON + 4 * MINUTE)
        assert lines(site) == []
        site.turn(NOON + 5 * MINUTE)
        assert lines(site) == [("quiet", "fired", "15m", 900)]
    with running(path, [absence()], clock) as site:
        site.turn(NOON + 50 * MINUTE)
        assert lines(site)[1:] == [("quiet", "escalated", "1h", 3600)]
        site.spend(1, feature="chat")
        site.turn(NOON + 51 * MINUTE)
        assert lines(site)[2:] == [("quiet", "resolved", "cleared", 60)]


def test_who_is_never_seen(path: Path, clock: Clock) -> None:
    """A group that is known is missed though it never came; one that is gone for long is not."""
    rule = absence(known=(("chat",),), forget_after=DAY)
    with running(path, [rule], clock) as site:
        site.spend(1, feature="search")
        site.turn(NOON + MINUTE)
        assert {line[1:3] for line in lines(site)} == {("fired", "15m"), ("escalated", "1h")}
        site.turn(NOON + HOUR)
        site.turn(NOON + DAY + HOUR)
        assert lines(site)[-1][1:3] == ("resolved", "group_gone")
        assert [a.key.group for a, _ in site.evaluate.alerts if a.is_open] == [("chat",)]


def test_silence_of_the_daemon_is_not_that_of_others(path: Path, clock: Clock) -> None:
    """Usage that is not stored yet is no evidence; the clock stops where all is known."""
    known: list[datetime | None] = [NOON]
    with running(path, [absence()], clock, complete=lambda: known[0]) as site:
        site.spend(1, feature="chat")
        site.turn(NOON + HOUR)
        assert lines(site) == []
        known[0] = NOON + HOUR
        site.turn(NOON + HOUR + MINUTE)
        assert [line[1] for line in lines(site)] == ["fired", "escalated"]
        known[0] = None
        site.turn(NOON + 2 * HOUR)
        assert lines(site)[-1][1:3] == ("health", "no_data")


def test_a_question_in_sql(path: Path, clock: Clock) -> None:
    """Its rows are groups, its column the number; a group without a row has come to nothing."""
    with running(path, [query()], clock) as site:
        site.spend(30, customer="acme", status="error")
        site.spend(30, customer="beta", status="ok")
        site.turn(NOON + 5 * MINUTE)
        assert lines(site) == [("waste", "fired", "20 USD", 30 * NANO)]
        site.turn(NOON + 2 * HOUR)
        assert lines(site)[1:] == [("waste", "resolved", "cleared", 0)]


WINDOW = "FROM usage WHERE event_time >= $from AND event_time < $to"


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        (f"SELECT customer, 1 AS wasted {WINDOW} AND error('no') IS NULL", "fails"),
        (f"SELECT customer, 1 AS wasted {WINDOW} UNION ALL SELECT 'acme', 2", "has two rows"),
    ],
)
def test_a_question_that_fails(path: Path, clock: Clock, sql: str, why: str) -> None:
    """An error is no answer: nothing fires or ends, unless the rule says so, and others go on."""
    rules: list[Rule] = [
        query(sql=sql),
        query(sql=sql, id="loud", per=(), on_error=Unknown.FIRE),
        replace(budget(10), id="cap"),
    ]
    with running(path, rules, clock) as site:
        site.spend(30, customer="acme")
        site.turn(NOON + 5 * MINUTE)
        found = {line[0] for line in lines(site)}
        assert found == {"cap", "loud"}, why


class Busy:
    """A ledger that is not ready for the first questions."""

    def __init__(self, ledger: Ledger, refusals: int) -> None:
        self._ledger = ledger
        self._refusals = refusals

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._ledger, name, value)

    def answer(self, *asked: Any) -> Any:
        """Refuse, then answer."""
        self._refusals -= 1
        if self._refusals >= 0:
            raise TransientError("not ready")
        return self._ledger.answer(*asked)


def test_one_question_at_a_time(path: Path, clock: Clock) -> None:
    """A tick asks one; one that found no ear is asked again at the next, and none is left out."""
    rules: list[Rule] = [query(id=f"q{number}") for number in range(3)]
    how: dict[str, Any] = {"questions": 1, "wrapped": lambda ledger: Busy(ledger, 2)}
    with running(path, rules, clock, **how) as site:
        site.spend(30, customer="acme", status="error")
        for _ in range(2):
            with pytest.raises(TransientError):
                site.turn(NOON + 5 * MINUTE)
        for many in (1, 2, 3, 3):
            site.turn(NOON + 5 * MINUTE)
            assert len(lines(site)) == many


def test_a_question_that_never_ends(path: Path, clock: Clock) -> None:
    """It is given up in time, and the store goes on."""
    many = ", ".join(f"usage u{number}" for number in range(5))
    sql = (
        f"SELECT u0.customer AS customer, count(*) AS wasted FROM {many}"
        " WHERE u0.event_time >= $from AND u1.event_time < $to GROUP BY ALL"
    )
    rule = query(sql=sql, timeout=timedelta(seconds=1), on_error=Unknown.FIRE)
    with running(path, [rule], clock) as site:
        site.usage([site.event(1, customer=f"c{number}") for number in range(900)])
        site.turn(NOON + 5 * MINUTE)
        site.spend(1)
        assert lines(site) == []
        assert site.ask("SELECT count(*) FROM usage") == [(901,)]


def test_overflow_keeps_the_greatest(path: Path, clock: Clock) -> None:
    """Beyond `max_alerts` the greatest have alerts, and people are told of the rest, once."""
    rule = query(max_alerts=3)
    with running(path, [rule], clock) as site:
        site.usage([site.event(100 + n, customer=f"c{n}", status="error") for n in range(10)])
        for minutes in (5, 10, 15):
            site.turn(NOON + minutes * MINUTE)
        assert sorted(a.key.group for a, _ in site.evaluate.alerts) == [("c7",), ("c8",), ("c9",)]
        notices = [notice for notice in site.owed() if notice.alert == "overflow-waste"]
        (notice,) = notices
        assert "7 more groups fire" in notice.summary
        site.turn(NOON + 2 * HOUR)
        (notice,) = [notice for notice in site.owed() if notice.alert == "overflow-waste"]
        assert notice.resolved == "there is room again"


def test_overflow_of_a_budget(path: Path, clock: Clock) -> None:
    """Those that fire at once are taken greatest first; what fires stays."""
    rule = replace(budget(10, per=("customer",)), max_alerts=2)
    with running(path, [rule], clock) as site:
        site.usage([site.event(20 + n, customer=f"c{n}") for n in range(5)])
        assert sorted(a.key.group for a, _ in site.evaluate.alerts) == [("c3",), ("c4",)]
        site.spend(500, customer="c0")
        assert sorted(a.key.group for a, _ in site.evaluate.alerts) == [("c3",), ("c4",)]


def test_a_rule_that_is_renamed(path: Path, clock: Clock) -> None:
    """Its alert goes on under the new id, fires no second time, and its throttle stands."""
    with running(path, [budget(10)], clock) as site:
        site.spend(20)
        renamed = replace(budget(10, name="fresh"), renamed_from=("free-tier",))
        site.evaluate.reload([renamed])
        found = [(line[0], line[1]) for line in lines(site)]
        assert found[3:] == [("free-tier", "resolved")]
        (alert,) = [a for a, _ in site.evaluate.alerts if a.is_open]
        assert (alert.key.rule, alert.crossed, alert.episode) == ("fresh", 3, 1)
        assert [d.rule for d in site.standing()] == ["fresh"]
    with running(path, [renamed], clock) as site:
        assert len(lines(site)) == 4


# --------------------------------------------------------------------------------- the amounts


def test_what_is_left_is_carried_over(path: Path, clock: Clock) -> None:
    """At most `carries`, from the period before alone, in memory as after a restart."""
    rule = replace(budget(100), carries=30 * NANO)
    with running(path, [rule], clock) as site:
        site.spend(60)  # 40 are left, of which 30 are carried
        clock.now = NOON + DAY
        site.evaluate.tick()
        site.spend(125)
        assert site.evaluate.drift() == []
        assert [line[2] for line in lines(site) if line[1] != "resolved"] == ["50%", "50%", "80%"]
        site.spend(5)
        assert lines(site)[-1][1:] == ("escalated", "100%", 100 * NANO)
        clock.now = NOON + 2 * DAY  # nothing was left
        site.evaluate.tick()
        site.spend(100)
        assert lines(site)[-1][2] == "100%"
    clock.now = NOON + 3 * DAY
    with running(path, [rule], clock) as site:
        site.spend(100)
        assert lines(site)[-1][2] == "100%"


@pytest.mark.slow
def test_carried_over_through_restarts(tmp_path: Path) -> None:
    """A daemon that is restarted at random moments comes to the same lines as one that is not."""
    random = Random(5)
    rule = replace(budget(100, per=("customer",)), carries=50 * NANO)
    uses = sorted(
        (NOON + random.random() * 5 * DAY, random.randint(1, 30), random.choice("abc"))
        for _ in range(120)
    )
    found = []
    for restarts in (False, True):
        path, clock = tmp_path / f"{restarts}.duckdb", Clock(NOON)
        pending = list(uses)
        while pending:
            with running(path, [rule], clock) as site:
                many = random.randint(1, 20) if restarts else len(pending)
                for at, usd, customer in pending[:many]:
                    site.turn(at)
                    site.spend(usd, customer=customer)
                assert site.evaluate.drift() == []
                found_now = site.ask(
                    'SELECT rule, "group", period, what, threshold, amount FROM alert_lines'
                    ' ORDER BY happened_at, "group", threshold'
                )
                pending = pending[many:]
        found.append(sorted(map(str, found_now)))
    assert found[0] == found[1]


def test_amounts_from_a_day_on(path: Path, clock: Clock) -> None:
    """Another limit holds for the periods that begin on its day or later."""
    later = NOON.date() + DAY
    rule = replace(budget(100), later=((later, budget(10)),))
    with running(path, [rule], clock) as site:
        site.spend(10)
        assert lines(site) == []
        site.turn(NOON + DAY)
        site.spend(10)
        assert [line[2] for line in lines(site)] == ["50%", "80%", "100%"]
        assert [notice.limit for notice in site.owed()] == ["10 USD"]
    with running(path, [rule], clock) as site:
        assert site.evaluate.rules["free-tier"].limit_text == "10 USD"
