"""Rules of the kinds spike, mix_drift and forecast, from their YAML to what people are told."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor.core.decisions import AuditRow
from governor.core.gauges.history import Exemption, Wanted
from governor.core.gauges.spike import Excess
from governor.core.periods import Every
from governor.core.pricing import FEMTO_PER_USD, ModelKey, Price, Rates
from governor.core.rules.shared import Rule
from governor.core.rules.spike import Spike
from governor.core.rules.units import MICRO, Measure
from governor.core.scopes import Scope
from governor.core.stories import of_spike
from governor.daemon.explaining import explain_rule
from governor.loops.evaluate import reading_at
from governor.loops.evaluate.picturing import picture_of
from governor.loops.evaluate.why import outlooks_of
from governor.rulebook import load
from tests.unit.site import FLAT, FLAT_PRICE, NOON, Clock, Site, budget, opened

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
NANO = 10**9

SPIKE = """
  - id: feature-spike
    kind: spike
    owner: platform
    summary: "{{ group.feature }}: {{ value }}"
    per: [feature]
    thresholds: [{at: 10 USD, level: warning}, {at: 1000 USD, level: critical}]
"""
MIX = """
  - id: model-mix
    kind: mix_drift
    owner: platform
    summary: "{{ value }}"
    window: 24h
    against: {windows: 7}
    thresholds: [{at: 10pp, level: warning}]
"""
FORECAST = """
  - id: month-ahead
    kind: forecast
    owner: finance
    summary: "{{ value }} of {{ limit }}"
    limit: 3000 USD
    period: month
    thresholds: [{at: 100%, level: warning}, {at: 150%, level: critical}]
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "g.duckdb"


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


def rules(tmp_path: Path, *texts: str) -> list[Rule]:
    """Return rules of YAML texts."""
    folder = tmp_path / "rules"
    folder.mkdir(exist_ok=True)
    (folder / "a.yaml").write_text("version: 1\nrules:" + "".join(texts))
    return list(load(folder).rules)


def hourly(start: datetime, end: datetime, seed: int = 1) -> Iterator[tuple[datetime, float]]:
    """Yield hours, and about what is used in each: more by day, less on weekends."""
    draw = Random(seed)
    at = start
    while at < end:
        busy = 1.0 if 8 <= at.hour < 20 else 0.3
        yield at, busy * (0.5 if at.weekday() >= 5 else 1.0) * draw.uniform(0.9, 1.1)
        at += HOUR


def past(site: Site, start: datetime, end: datetime, usd: float = 20, **fields: Any) -> None:
    """Count usage of some weeks, four events an hour."""
    events = [
        site.event(f"{usd * much / 4:.3f}", at=at + part * 15 * MINUTE, **fields)
        for at, much in hourly(start, end)
        for part in range(4)
        if at + part * 15 * MINUTE < end
    ]
    site.take(events)


def told(site: Site) -> list[tuple[Any, ...]]:
    """Return what happened, in order."""
    return site.ask('SELECT what, threshold, "group" FROM alert_lines ORDER BY seq')


def whys(site: Site) -> list[str]:
    return [notice.why or "" for notice in site.owed()]


# --------------------------------------------------------------------------------------- spikes


def test_a_runaway_is_told_within_minutes(path: Path, clock: Clock, tmp_path: Path) -> None:
    """In the open hour, with a sentence, drivers and who did it; it is over when it is over."""
    clock.now = NOON - 28 * DAY
    with opened(path, [], clock) as site:
        clock.now = NOON
        past(site, NOON - 28 * DAY, NOON, feature="chat", customer="acme")
        past(site, NOON - 28 * DAY, NOON, feature="search", customer="acme")
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        for minute in range(12):
            site.spend(9, feature="chat", customer="beta")
            site.spend("0.3", feature="search", customer="acme")
            site.turn(NOON + minute * MINUTE)
        assert told(site)[0] == ("fired", "10 USD", '["chat"]')
        assert {line[0] for line in told(site)[1:]} == {"grew"}
        ((fired,),) = site.ask(
            "SELECT epoch(happened_at)::BIGINT FROM alert_lines WHERE what = 'fired'"
        )
        assert fired <= (NOON + 12 * MINUTE).timestamp()
        sentence, drivers, who = whys(site)[0].split("\n")
        assert sentence.startswith("feature chat used ")
        assert " in an hour, where " in sentence
        assert "volume +" in drivers
        assert who.startswith("Most of it: customer beta +")
        site.turn(NOON + HOUR)
        for at, much in hourly(NOON + HOUR, NOON + 27 * HOUR):
            for name in ("chat", "search"):
                usd = f"{20 * much:.3f}"
                site.spend(usd, feature=name, customer="acme", at=at + MINUTE)
            site.turn(at + 5 * MINUTE)
        assert told(site)[-1][:2] == ("resolved", None)


@pytest.mark.slow
def test_a_spike_goes_on_over_a_restart(path: Path, clock: Clock, tmp_path: Path) -> None:
    """State comes from what is stored: nothing fires twice, twice the size is told again."""
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        past(site, NOON - 21 * DAY, NOON, feature="chat")
    for part, usd in enumerate((150, 60, 600)):
        with opened(path, rules(tmp_path, SPIKE), clock) as site:
            site.turn(NOON + part * 5 * MINUTE + MINUTE)
            site.spend(usd, feature="chat")
            site.turn(NOON + part * 5 * MINUTE + 2 * MINUTE)
            assert [line[0] for line in told(site)] == ["fired", "grew"][: 1 + part // 2]
    with opened(path, [], clock) as site:
        amounts = [int(row[0]) for row in site.ask("SELECT amount FROM alert_lines ORDER BY seq")]
        assert amounts[1] >= 2 * amounts[0]


@pytest.mark.slow
def test_quiet_weeks_are_quiet(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Nothing is told of usage that is as it always was, live from the first hour on."""
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        for at, much in hourly(NOON, NOON + 12 * DAY, seed=5):
            site.spend(f"{20 * much:.3f}", feature="chat", at=at)
            site.turn(at + 30 * MINUTE)
        assert told(site) == []


@pytest.mark.slow
def test_a_topic_that_is_replayed_is_learned_from(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Weeks that come at once while it runs count as if it had begun with them."""
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        site.turn(NOON)
        past(site, NOON - 21 * DAY, NOON, feature="chat")
        for seconds in (10, 45, 70):
            site.turn(NOON + timedelta(seconds=seconds))
        site.spend(150, feature="chat")
        site.turn(NOON + 3 * MINUTE)
        assert [line[0] for line in told(site)] == ["fired"]


def exempt(site: Site, start: datetime, end: datetime, *, planned: bool) -> None:
    now = site.clock.now
    site.evaluate.exempt(
        Exemption("feature-spike", ("chat",), start, end, planned, "launch", "ann"),
        AuditRow(now, "ann", "socket", "spikes.exempt", "feature-spike", "stored"),
    )


@pytest.mark.slow
def test_a_planned_event_is_not_told(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Nor does it teach; what comes after it is judged as ever, over a restart too."""
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        past(site, NOON - 21 * DAY, NOON, feature="chat")
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        exempt(site, NOON, NOON + 2 * HOUR, planned=True)
        site.spend(900, feature="chat")
        site.turn(NOON + 10 * MINUTE)
        assert told(site) == []
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        site.turn(NOON + 20 * MINUTE)
        assert told(site) == []
        for at, much in hourly(NOON + HOUR, NOON + 60 * HOUR):
            site.spend(f"{20 * much:.3f}", feature="chat", at=at)
            site.turn(at + MINUTE)
        before = len(told(site))
        site.spend(900, feature="chat", at=NOON + 60 * HOUR)
        site.turn(NOON + 60 * HOUR + MINUTE)
        assert [line[0] for line in told(site)[before:]] == ["fired"]


@pytest.mark.slow
def test_forgiving_undoes_what_was_learned(path: Path, clock: Clock, tmp_path: Path) -> None:
    """A burst of a week hides the next one, unless somebody says that it was not normal."""
    with opened(path, rules(tmp_path, SPIKE), clock) as site:
        past(site, NOON - 28 * DAY, NOON - 14 * DAY, feature="chat")
        past(site, NOON - 14 * DAY, NOON - 9 * DAY, 400, feature="chat")
        past(site, NOON - 9 * DAY, NOON, feature="chat")
    found = {}
    for forgiven in (False, True):
        with opened(path, rules(tmp_path, SPIKE), clock) as site:
            site.take([site.event(1, feature="new")])  # columns for groups to come
            if forgiven:
                exempt(site, NOON - 14 * DAY, NOON - 9 * DAY, planned=False)
            site.take([site.event(90, feature="chat", at=NOON)])
            site.turn(NOON + 30 * MINUTE)
            rows = site.ask("SELECT count(*) FROM alert_lines WHERE what = 'fired'")
            found[forgiven] = rows[0][0]
            site.store.database.connection.execute(
                "DELETE FROM events WHERE event_time >= '2026-11-24 12:00:00Z';"
                "DELETE FROM late_events WHERE event_time >= '2026-11-24 12:00:00Z';"
                "DELETE FROM rollup_minute WHERE bucket >= '2026-11-24 12:00:00Z'"
            )
        clock.now = NOON
    assert found == {False: 0, True: 1}


@pytest.mark.slow
def test_the_greatest_take_the_room(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Where more spike than may be told, those with the most dollars are, and the rest is said."""
    few = rules(tmp_path, SPIKE + "    max_alerts: 2\n")
    with opened(path, few, clock) as site:
        for number in range(6):
            past(site, NOON - 21 * DAY, NOON, feature=f"f{number}")
    with opened(path, few, clock) as site:
        for number in range(6):
            site.spend(100 + 50 * number, feature=f"f{number}")
        site.turn(NOON + MINUTE)
        assert sorted(line[2] for line in told(site)) == ['["f4"]', '["f5"]']
        assert any("4 more groups fire" in notice.summary for notice in site.owed())


@pytest.mark.slow
def test_a_small_spike_gives_way_to_a_great_one(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Where there is no room, one of twice the dollars takes the place of the least, once."""
    one = rules(tmp_path, SPIKE + "    max_alerts: 1\n")
    with opened(path, one, clock) as site:
        for name in ("a", "b", "c"):
            past(site, NOON - 21 * DAY, NOON, feature=name)
    with opened(path, one, clock) as site:
        for minute, (name, usd) in enumerate((("a", 100), ("b", 130), ("c", 400)), 1):
            site.spend(usd, feature=name)
            site.turn(NOON + minute * MINUTE)
        site.turn(NOON + 5 * MINUTE)
        happened = [(line[0], line[2]) for line in told(site)]
        assert happened == [("fired", '["a"]'), ("resolved", '["a"]'), ("fired", '["c"]')]
        reasons = site.ask("SELECT reason FROM alert_lines WHERE what = 'resolved'")
        assert reasons == [("gave_way",)]


@pytest.mark.parametrize("method", ["yesterday", "last_week"])
def test_plain_baselines(path: Path, clock: Clock, tmp_path: Path, method: str) -> None:
    """Twice as much as then is told, by an hour in the middle of the day."""
    text = SPIKE + f"    baseline: {{method: {method}, times: 2x, window: 6h}}\n"
    with opened(path, rules(tmp_path, text), clock) as site:
        past(site, NOON - 14 * DAY, NOON, feature="chat")
    with opened(path, rules(tmp_path, text), clock) as site:
        site.spend(60, feature="chat")
        site.turn(NOON + MINUTE)
        assert told(site) == []
        site.spend(120, feature="chat")
        site.turn(NOON + 2 * MINUTE)
        assert [line[0] for line in told(site)] == ["fired"]
        assert f"as {method.replace('_', ' ')}" in whys(site)[0]


# ------------------------------------------------------------------------------------------ mix

LARGE = ModelKey("acme", "large")
PRICES = (*FLAT_PRICE, Price(LARGE, Rates(input=FEMTO_PER_USD // 100), "test"))


def requests(
    site: Site, start: datetime, hours: int, shares: dict[str, float], many: int = 60, seed: int = 3
) -> None:
    draw = Random(seed)
    names, weights = list(shares), list(shares.values())
    site.take(
        [
            site.event("0.01", at=start + hour * HOUR + n * 30 * timedelta(seconds=1), model=model)
            for hour in range(hours)
            for n, model in enumerate(draw.choices(names, weights, k=many))
        ]
    )


def test_a_model_switch_is_told(path: Path, clock: Clock, tmp_path: Path) -> None:
    """By whom it moved, how far, and that it is mix which makes it dearer."""
    with opened(path, [], clock, prices=PRICES) as site:
        requests(site, NOON - 9 * DAY, 8 * 24, {"flat": 0.9, "large": 0.1})
    with opened(path, rules(tmp_path, MIX), clock, prices=PRICES) as site:
        site.turn(NOON)
        assert told(site) == []
        requests(site, NOON - DAY, 24, {"flat": 0.5, "large": 0.5}, seed=4)
        site.turn(NOON + 16 * MINUTE)
        assert told(site) == [("fired", "10pp", "[]")]
        sentence, drivers, *_ = whys(site)[0].split("\n")
        assert sentence.startswith(("large: ", "flat: "))
        assert "% is usual" in sentence
        assert drivers.split(": ")[1].startswith("model mix +")
        requests(site, NOON, 25, {"flat": 0.9, "large": 0.1}, seed=5)
        clock.now = NOON + 25 * HOUR
        site.turn(NOON + 26 * HOUR)
        assert told(site)[-1][0] == "resolved"


@pytest.mark.slow
def test_a_plan_of_classes(path: Path, clock: Clock, tmp_path: Path) -> None:
    """Classes are told by patterns; what no class names is told too, unless kept."""
    text = MIX.replace("against: {windows: 7}", "against: {target: {small: 60%, big: 40%}}")
    text += "    classes: {small: ['fl*'], big: [large]}\n"
    with opened(path, [], clock, prices=PRICES) as site:
        requests(site, NOON - 9 * DAY, 9 * 24, {"flat": 0.6, "large": 0.4})
    with opened(path, rules(tmp_path, text), clock, prices=PRICES) as site:
        site.turn(NOON + 15 * MINUTE)
        assert told(site) == []
    with opened(path, [], clock, prices=PRICES) as site:
        requests(site, NOON - DAY, 24, {"other": 1.0}, many=40, seed=6)
    moved = {}
    for word in ("keep", "fire"):
        (rule,) = rules(tmp_path, text + f"    unlisted: {word}\n")
        with opened(path, [rule], clock) as site:
            (moved[word],) = reading_at(site.state, rule, NOON + MINUTE).groups.values()
            site.turn(NOON + 35 * MINUTE)
            assert whys(site)[0].startswith("small: 3")
            assert "where 60.0% is planned" in whys(site)[0]
    assert 220_000 < moved["keep"] < 300_000
    assert 380_000 < moved["fire"] < 420_000


def test_few_requests_say_nothing(path: Path, clock: Clock, tmp_path: Path) -> None:
    """A window with too few requests is guarded: it neither fires nor ends what fires."""
    with opened(path, [], clock, prices=PRICES) as site:
        requests(site, NOON - 9 * DAY, 8 * 24, {"flat": 0.9, "large": 0.1}, many=10)
        requests(site, NOON - DAY, 24, {"large": 1.0}, many=10)
    with opened(path, rules(tmp_path, MIX), clock, prices=PRICES) as site:
        site.turn(NOON + 16 * MINUTE)
        assert told(site) == []


def test_mix_is_kept_up_live(path: Path, clock: Clock, tmp_path: Path) -> None:
    """What is added while it runs is judged as what is found at a start."""
    at = NOON + 16 * MINUTE
    (rule,) = rules(tmp_path, MIX)
    with opened(path, [rule], clock, prices=PRICES) as site:
        requests(site, NOON - 9 * DAY, 8 * 24, {"flat": 0.9, "large": 0.1})
        requests(site, NOON - DAY, 24, {"flat": 0.5, "large": 0.5}, seed=4)
        site.turn(at)
        ((alert, _),) = site.evaluate.alerts
        assert reading_at(site.state, rule, at).groups == {(): alert.amount}


# ------------------------------------------------------------------------------------- forecasts


def days(site: Site, start: datetime, many: int, usd: float, seed: int = 2, **fields: Any) -> None:
    draw = Random(seed)
    site.take(
        [
            site.event(f"{usd * draw.uniform(0.9, 1.1):.2f}", at=start + n * DAY, **fields)
            for n in range(many)
        ]
    )


def test_a_month_is_told_before_it_is_over(path: Path, clock: Clock, tmp_path: Path) -> None:
    """At 100 USD a day nothing is said of 3,000; at 180 it is, weeks before, with date and odds."""
    start = datetime(2026, 10, 1, 1, tzinfo=UTC)
    clock.now = datetime(2026, 11, 10, tzinfo=UTC)
    with opened(path, rules(tmp_path, FORECAST), clock, ahead=60 * DAY) as site:
        days(site, start, 40, 90)
        site.turn(clock.now + MINUTE)
        assert told(site) == []
        for day in range(10, 16):
            site.spend(280, at=datetime(2026, 11, day, 2, tzinfo=UTC))
            site.turn(datetime(2026, 11, day, 3, tzinfo=UTC))
        assert told(site)[0][:2] == ("fired", "100%")
        sentence = whys(site)[-1].split("\n")[0]
        assert sentence.startswith("It is heading for ")
        assert "likely on 2026-11-" in sentence
    with opened(path, rules(tmp_path, FORECAST), clock, ahead=60 * DAY) as site:
        before = len(told(site))
        site.turn(datetime(2026, 12, 1, 0, 1, tzinfo=UTC))
        ends = told(site)[before:]
        assert ends[0][0] == "resolved"
        reasons = site.ask("SELECT reason FROM alert_lines WHERE what = 'resolved'")
        assert reasons == [("period_ended",)]


@pytest.mark.slow
def test_a_young_group_is_not_looked_ahead_for(path: Path, clock: Clock, tmp_path: Path) -> None:
    """With less than its `min_history` it is guarded, however much it uses."""
    clock.now = datetime(2026, 11, 10, tzinfo=UTC)
    text = FORECAST + "    per: [feature]\n"
    for history, fired in (("14d", 0), ("5d", 1)):
        changed = text + f"    min_history: {history}\n"
        with opened(path, [], clock) as site:
            days(site, datetime(2026, 11, 2, tzinfo=UTC), 8, 900, feature=f"f{history}")
        with opened(path, rules(tmp_path, changed), clock) as site:
            site.turn(clock.now + 16 * MINUTE)
            groups = {line[2] for line in told(site)}
            assert (f'["f{history}"]' in groups) is bool(fired)


@pytest.mark.slow
def test_live_and_begun_forecasts_agree(path: Path, clock: Clock, tmp_path: Path) -> None:
    """In a zone of its own, by group: days as they come, and as they are stored."""
    text = FORECAST.replace("period: month", "period: week\n    timezone: Asia/Kolkata")
    text += "    per: [feature]\n"
    text = text.replace("100%", "0.01 USD").replace("150%", "0.02 USD")
    (rule,) = rules(tmp_path, text)
    start = datetime(2026, 9, 20, tzinfo=UTC)
    clock.now = start
    draw = Random(3)
    with opened(path, [rule], clock) as site:
        for day in range(40):
            clock.now = start + day * DAY
            for name in ("a", "b"):
                at = clock.now + timedelta(hours=draw.uniform(0, 23))
                site.take([site.event(f"{draw.uniform(1, 9):.2f}", at=at, feature=name)])
            site.turn(clock.now + 23 * HOUR)
        live = {a.key.group: a.amount for a, _ in site.evaluate.alerts if a.is_open}
        assert reading_at(site.state, rule, clock.now).groups == live
        assert len(live) == 2


def test_a_month_s_budget_says_where_it_is_heading(path: Path, clock: Clock) -> None:
    """An alert of a budget over a month carries the outlook, one of a day does not."""
    clock.now = datetime(2026, 11, 20, tzinfo=UTC)
    month = budget(2000, every=Every.MONTH, name="month")
    with opened(path, [month, budget(50, name="day")], clock) as site:
        days(site, datetime(2026, 10, 7, tzinfo=UTC), 44, 60)
        site.spend(60)
        told_of = {notice.rule: notice.why for notice in site.owed()}
    assert told_of["day"] is None
    assert (told_of["month"] or "").startswith("It is heading for ")
    assert "of 2,000.00 USD" in (told_of["month"] or "")


# ------------------------------------------------------------------------------------- the price


@pytest.mark.slow
def test_a_price_change_is_called_one(path: Path, clock: Clock, tmp_path: Path) -> None:
    """The same usage at three times the price: the spike says price, and nothing else."""
    dear = Rates(input=3 * FEMTO_PER_USD // 1000, output=3 * FEMTO_PER_USD // 1000)
    cheap = FLAT_PRICE[0].rates
    change = (
        Price(FLAT, cheap, "test", ends_at=NOON),
        Price(FLAT, dear, "test", starts_at=NOON),
    )
    clock.now = NOON + 3 * HOUR
    with opened(path, [], clock, prices=change) as site:
        past(site, NOON - 21 * DAY, NOON + 3 * HOUR, feature="chat")
    with opened(path, rules(tmp_path, SPIKE), clock, prices=change) as site:
        site.turn(NOON + 3 * HOUR + MINUTE)
        assert told(site)[0][0] == "fired"
        drivers = whys(site)[0].split("\n")[1]
        assert drivers.split(": ")[1].startswith("price +")
        price = float(drivers.split("price +")[1].split(" USD")[0])
        total = float(drivers.split("Cost +")[1].split(" USD")[0])
        assert price == pytest.approx(total, rel=0.15)


# ------------------------------------------------------------------------------------ explaining


@pytest.mark.slow
def test_rules_of_all_three_kinds_are_explained(path: Path, clock: Clock, tmp_path: Path) -> None:
    """`rules explain` shows their number, whether it is reached, and SQL that can be asked."""
    with opened(path, [], clock, prices=PRICES) as site:
        past(site, NOON - 21 * DAY, NOON, feature="chat")
        requests(site, NOON - 9 * DAY, 9 * 24, {"flat": 0.9, "large": 0.1})
        site.spend(200, feature="chat")
        with site.state.numbers() as numbers:
            for rule in rules(tmp_path, SPIKE, MIX, FORECAST):
                found = explain_rule(numbers, rule, {}, NOON + MINUTE)
                assert found["groups"], rule.id
                assert site.ask(f"SELECT count(*) FROM ({found['sql']})")[0][0] > 0
                value, reached = (found["groups"][0][name] for name in ("value", "reached"))
                assert (value, reached) != (None, None)
                if rule.kind == "spike":
                    assert reached == "10 USD"
                    assert "beyond the usual" in value


def test_of_many_groups_the_greatest_are_taken_up(path: Path, clock: Clock) -> None:
    """A history is bounded: of more groups than are wanted, those that used most."""
    with opened(path, [], clock) as site:
        site.take([site.event(n, feature=f"f{n}", at=NOON - HOUR) for n in range(1, 9)])
        wanted = Wanted(Scope(), ("feature",), NOON - DAY, HOUR, (Measure.COST,), most=3)
        (block,) = site.state.histories(wanted)
        assert [key[0] for key in block.keys] == ["f8", "f7", "f6"]
        assert block.amounts[Measure.COST].sum() == 21 * NANO
        (part,) = site.state.histories(replace(wanted, cell=15 * MINUTE, only={"feature": "f2"}))
        assert part.keys == [("f2",)]


def test_a_group_of_today_is_a_run_rate(path: Path, clock: Clock) -> None:
    """Of a group that is not a day old its rate of today is all there is, and nothing is sure."""
    month = budget(300, every=Every.MONTH, name="month", where={}, per=("feature",))
    with opened(path, [month], clock) as site:
        site.spend(12, feature="new")
        (ahead,) = outlooks_of(site.state, month, NOON, 9).values()
        assert ahead.so_far == 12 * NANO
        assert ahead.low > ahead.so_far  # six days and a half are to come, 24 USD each
        assert ahead.low < (12 + 24 * 6.5) * NANO < ahead.high
        assert not ahead.sure
        assert 0 < ahead.above < MICRO


def test_the_picture_of_a_day_ends_now(path: Path, clock: Clock) -> None:
    """What was used is drawn up to the present, not to the end of its quarter of an hour."""
    day = budget(100, name="day", where={})
    with opened(path, [day], clock) as site:
        site.spend(30, at=NOON - HOUR)
        site.spend(20)
        picture = picture_of(site.state, day, (), NOON + MINUTE, [], "")
        assert picture is not None
        (line,) = picture.lines
        assert line.points[-1] == (NOON + MINUTE, 50 * NANO)
        assert [amount for _, amount in picture.limits] == [50 * NANO, 80 * NANO, 100 * NANO]


def test_a_day_is_not_said_to_be_rare_by_the_hour() -> None:
    """How rare a day is, is not known as that of an hour is: its sentence does not say."""
    rule = Spike(id="s", owner="o", summary="s", limit_text="1 USD", thresholds=())
    start = NOON - 12 * HOUR
    for hours, told_of in ((6, True), (None, False)):
        found = Excess(hours, start, NOON, used=90 * NANO, usual=30 * NANO, rarity=3.5)
        sentence = of_spike(rule, (), found).sentence
        assert ("is seen once in 3,000 hours" in sentence) is told_of
        assert "where 30.00 USD is usual (3.0 times)" in sentence
