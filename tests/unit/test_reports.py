"""Reports: one for each local day in every zone, what they tell to the nano-dollar, and how."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import msgspec
import pytest

from governor import pages
from governor.actions import words
from governor.actions.slack.group import root
from governor.adapters.duckdb.outbox import Outbox
from governor.adapters.duckdb.reporting import Reporting
from governor.cli.showback import as_csv
from governor.core.bulletins import plan
from governor.core.errors import TransientError
from governor.core.periods import Every, Period
from governor.core.report_text import headline, notice_of_report, picture_of_report, sections
from governor.core.reports import (
    MAX_VALUES,
    BudgetLine,
    Report,
    ReportSpec,
    due,
)
from governor.core.routing import Grouping
from governor.core.scopes import Condition, Scope
from governor.demo.slack_limits import message_of
from governor.loops.report import MAX_WAIT, Reports
from governor.pictures.alert import chart
from tests.unit.site import NOON, Clock, Site, opened
from tests.unit.told import one

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
NANO = 10**9
DAILY = ReportSpec("daily", Every.DAY, "UTC", time(8), ("slack",))

# ---------------------------------------------------------------------------------- when


def changes(zone: str) -> list[datetime]:
    """Return when the clocks of a zone change from 2024 to 2030, to a day."""
    local = ZoneInfo(zone)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    found, offset = [], at.astimezone(local).utcoffset()
    while at < datetime(2031, 1, 1, tzinfo=UTC):
        now = at.astimezone(local).utcoffset()
        if now != offset:
            found.append(at)
        offset, at = now, at + DAY
    return found


ZONES = sorted(zone for zone in available_timezones() if not zone.startswith(("Etc/", "posix")))
CHANGES: dict[tuple[Any, ...], tuple[str, list[datetime]]] = {}
"""The zones that change, each once: many names have the same clocks."""


def zones_that_change() -> list[tuple[str, list[datetime]]]:
    for zone in ZONES:
        if (found := changes(zone)) and not CHANGES.get(clocks(zone, found)):
            CHANGES[clocks(zone, found)] = (zone, found)
    return list(CHANGES.values())


def clocks(zone: str, found: list[datetime]) -> tuple[Any, ...]:
    """Return what tells clocks apart: when they change, and what they show before and after."""
    local = ZoneInfo(zone)
    shown = [(at - DAY).astimezone(local).utcoffset() for at in found]
    return (*found, *shown, (found[-1] + DAY).astimezone(local).utcoffset())


MOMENTS = (time(0), time(0, 30), time(2, 30), time(8), time(23, 45))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(2))
def test_each_local_day_has_one_report_in_every_zone(part: int) -> None:
    """Around every change of the clocks from 2024 to 2030, at times that are skipped or repeated.

    A scheduler that looks each half hour makes one report for each local day and no other, never
    before the day is over; and the days are those of budgets, which leave no gap.
    """
    looked_at = 0
    for number, (zone, found) in enumerate(zones_that_change()[part::2]):
        spec = replace(DAILY, zone=zone, at=MOMENTS[number % len(MOMENTS)])
        for change in found:
            made: list[Period] = []
            at, last = change - 3 * DAY, None
            while at < change + 3 * DAY:
                for period in due(spec, at, last):
                    assert period.end <= spec.ready_at(period) <= at
                    made.append(period)
                    last = period.start
                at += timedelta(minutes=30)
            names = [date.fromisoformat(period.name) for period in made]
            assert names == [names[0] + n * DAY for n in range(len(names))]
            assert len(names) in {6, 7, 8}
            for one_, other in pairwise(made):
                assert one_.end == other.start
            looked_at += 1
    assert looked_at > 150


@pytest.mark.parametrize("every", list(Every)[1:])
def test_after_a_downtime_all_is_entered_and_the_newest_made(every: Every) -> None:
    """Days that governor slept through are known, in order, and once."""
    spec = replace(DAILY, every=every)
    (first,) = due(spec, NOON, None)
    later = NOON + 100 * DAY
    missed = due(spec, later, first.start)
    assert missed[0].start == first.end
    assert all(one_.end == other.start for one_, other in pairwise(missed))
    assert due(spec, later, missed[-1].start) == []
    assert missed[-1] == spec.before(spec.calendar.period(later))


def test_a_report_waits_for_its_time_of_day() -> None:
    start = datetime(2026, 3, 2, tzinfo=UTC)
    (made,) = due(DAILY, start + 7 * HOUR, None)
    assert made.name == "2026-02-28"
    (made,) = due(DAILY, start + 8 * HOUR, made.start)
    assert made.name == "2026-03-01"


def test_a_day_is_compared_with_its_weekday() -> None:
    """Also across a change of the clocks; a month with the one before."""
    berlin = replace(DAILY, zone="Europe/Berlin")
    day = berlin.calendar.period(datetime(2026, 3, 29, 12, tzinfo=UTC))
    assert (day.name, berlin.compared(day).name) == ("2026-03-29", "2026-03-22")
    assert (day.end - day.start, DAY) == (23 * HOUR, 24 * HOUR)
    month = replace(DAILY, every=Every.MONTH)
    assert month.compared(month.calendar.period(NOON)).name == "2026-10"


# ---------------------------------------------------------------------------------- what


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", [], Clock(NOON)) as made:
        yield made


def used(site: Site, draw: Random, days: int = 9) -> list[dict[str, Any]]:
    """Count events of some days at random; return what the oracle needs of each."""
    sent, events = [], []
    for back in range(days):
        for _ in range(40):
            at = NOON - back * DAY - draw.randrange(24 * 60) * timedelta(minutes=1)
            fields = {
                "customer": draw.choice([None, *(f"c{n}" for n in range(14))]),
                "feature": draw.choice(["chat", "search", None]),
                "team": draw.choice(["red", "blue"]),
                "user": draw.choice([None, "u1", "u2", "u3"]),
            }
            usd = draw.randrange(1, 30)
            sent.append({"at": at, "nano": usd * NANO, **fields})
            events.append(site.event(usd, at=at, **{k: v for k, v in fields.items() if v}))
    site.usage(events)
    return sent


def reports(site: Site, specs: list[ReportSpec], **other: Any) -> Reports:
    given = {
        "budgets": list,
        "enter": site.evaluate.reported,
        "ask": lambda call: call(),
        "now": lambda: site.clock.now,
        "complete": lambda: site.clock.now,
    }
    numbers = Reporting(site.store, lambda call: call())
    return Reports(lambda: specs, numbers, site.state, **(given | other))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "Asia/Kolkata"])
def test_a_report_adds_up(site: Site, zone: str) -> None:
    """All of it is recomputed from what was sent, in zones of whole hours and of half ones."""
    sent = used(site, Random(7))
    spec = replace(DAILY, zone=zone)
    (period,) = due(spec, NOON, None)
    report = reports(site, [spec]).make(spec, period)
    local = ZoneInfo(zone)
    day = date.fromisoformat(period.name)
    costs: dict[date, int] = defaultdict(int)
    for each in sent:
        costs[each["at"].astimezone(local).date()] += each["nano"]
    assert report.spend.cost == costs[day]
    assert report.spend.before == costs[day - 7 * DAY]
    first = (day + DAY - timedelta(days=1)).replace(day=1)
    assert report.month_to_date == sum(c for d, c in costs.items() if first <= d <= day)
    spans = [at.astimezone(local).date() for at, _ in report.days]
    assert spans == [day - n * DAY for n in range(13, -1, -1)]
    assert [cost for _, cost in report.days] == [costs[span] for span in spans]
    assert report.drivers is not None
    assert report.drivers.total == report.spend.more
    today = [each for each in sent if each["at"].astimezone(local).date() == day]
    for dimension in ("customer", "feature", "team"):
        expected: dict[str | None, int] = defaultdict(int)
        for each in today:
            expected[each[dimension]] += each["nano"]
        found = {named.value: named.amount.cost for named in report.by[dimension]}
        assert all(expected[value] == cost for value, cost in found.items())
        assert sum(found.values()) + report.others[dimension].cost == report.spend.cost
        assert len(found) <= MAX_VALUES
        assert report.unknown.unattributed[dimension] == expected[None]
    users = {(each["customer"], each["user"]) for each in today if each["user"]}
    assert report.economics.users == len(users)
    assert all(
        named.drivers.total == named.amount.more for named in report.movers[:3] if named.drivers
    )


def test_a_scope_is_a_report_of_that_alone(site: Site) -> None:
    """Of a customer, out of the events; what others used, and rules did, is no part of it."""
    sent = used(site, Random(3), days=2)
    scope = Scope((Condition("customer", frozenset(["c1"])),))
    spec = replace(DAILY, where=scope)
    (period,) = due(spec, NOON, None)
    report = reports(site, [spec]).make(spec, period)
    mine = [s for s in sent if s["customer"] == "c1" and period.holds(s["at"])]
    assert report.spend.cost == sum(each["nano"] for each in mine)
    assert report.scope == "customer c1"
    assert [named.value for named in report.by["customer"]] == ["c1"]
    assert "c2" not in msgspec.json.encode(report).decode()


def test_what_is_not_priced_is_named(site: Site) -> None:
    """It is no part of the spend, and its cap is said."""
    yesterday = NOON - DAY
    site.spend(5, at=yesterday, feature="chat")
    site.usage([site.event(7, at=yesterday) | {"provider": "x", "model": "unknown"}])
    (period,) = due(DAILY, NOON, None)
    report = reports(site, [DAILY]).make(DAILY, period)
    assert report.spend.cost == 5 * NANO
    assert report.unknown.events == 1
    told = dict(sections(report))
    assert "1 events without a price" in told["Not priced, not attributed"][0]


def test_revenue_is_as_it_was_told(site: Site) -> None:
    site.spend(25, at=NOON - DAY, user="u1")
    site.store.database.connection.execute(
        "INSERT INTO business_events BY NAME"
        " SELECT 'e1' AS event_id, 'crm' AS source, 'insert' AS op,"
        f" TIMESTAMPTZ '{NOON - 2 * DAY}' AS event_time, TIMESTAMPTZ '{NOON}' AS until,"
        f" 'revenue' AS measure, {200 * NANO} AS amount, 'usage' AS topic, 0 AS partition,"
        ' 1 AS "offset"'
    )
    (period,) = due(DAILY, NOON, None)
    economics = reports(site, [DAILY]).make(DAILY, period).economics
    assert economics.revenue == 100 * NANO
    assert economics.per_revenue == Decimal(25)
    assert economics.per_user == 25 * NANO


def test_nothing_at_all_is_a_report_too(site: Site) -> None:
    """A day without usage says so, and divides by nothing."""
    (period,) = due(DAILY, NOON, None)
    report = reports(site, [DAILY]).make(DAILY, period)
    assert headline(report) == "0.00 USD spent, as before against the same weekday a week before."
    assert "0.00 USD" in pages.report(report)


# ---------------------------------------------------------------------------------- the ledger


def ledger(site: Site) -> list[tuple[str, bool]]:
    return site.ask("SELECT period, body IS NOT NULL FROM report_ledger ORDER BY period_start")


def test_a_report_is_made_once_and_told(site: Site) -> None:
    """However often the scheduler ticks, and after a restart."""
    made = reports(site, [DAILY])
    for _ in range(3):
        made.tick()
    site.evaluate.begin()
    reports(site, [DAILY]).tick()
    assert ledger(site) == [("2026-11-23", True)]
    (notice,) = site.owed()
    assert (notice.kind, notice.to, notice.title) == (
        "report",
        ("slack",),
        "Daily report 2026-11-23",
    )
    body = site.ask("SELECT body FROM report_ledger")[0][0]
    assert msgspec.json.decode(body, type=Report).title == notice.title


def test_a_downtime_ends_in_one_report(site: Site) -> None:
    """It says how many were not made, and each of those is in the ledger."""
    reports(site, [DAILY]).tick()
    site.clock.now += 5 * DAY
    reports(site, [DAILY]).tick()
    assert [made for _, made in ledger(site)] == [True, False, False, False, False, True]
    assert len(site.owed()) == 2
    assert "4 reports before were not made" in (site.owed()[1].why or "")


def test_what_fails_is_made_at_the_next_tick(site: Site) -> None:
    """Whether before it is stored or in doubt of that: never twice."""
    failures = iter([TransientError("busy"), None, None])

    def enter(*words_: Any) -> None:
        failure = next(failures)
        if failure:
            raise failure
        site.evaluate.reported(*words_)

    made = reports(site, [DAILY], enter=enter)
    made.tick()
    assert ledger(site) == []
    assert made.trouble == "reports are not made: busy"
    made.tick()
    assert ledger(site) == [("2026-11-23", True)]
    assert made.trouble is None


def test_a_report_waits_for_all_usage_of_its_day(site: Site) -> None:
    """After a downtime the topic is read first; not for ever, and then it says what it may lack."""
    known: list[datetime | None] = [None]
    made = reports(site, [DAILY], complete=lambda: known[0])
    made.tick()
    known[0] = datetime(2026, 11, 23, 23, 59, tzinfo=UTC)
    made.tick()
    assert ledger(site) == []
    site.clock.now += MAX_WAIT
    made.tick()
    assert ledger(site) == [("2026-11-23", True)]
    assert "some of its usage may not be counted yet" in (site.owed()[0].why or "")


def test_reports_of_their_own(site: Site) -> None:
    """Each name has a ledger of its own; who gets it is its own, too."""
    others = [DAILY, replace(DAILY, name="weekly", every=Every.WEEK, to=("log",))]
    reports(site, others).tick()
    assert {period for period, _ in ledger(site)} == {"2026-11-23", "2026-W47"}
    assert [notice.title for notice in site.owed()] == ["Daily report 2026-11-23"]


# ---------------------------------------------------------------------------------- shown


def example(site: Site) -> Report:
    used(site, Random(1))
    (period,) = due(DAILY, NOON, None)
    spent, limit = "80.00 USD", "100 USD"
    line = BudgetLine(
        "month", "team=red", "2026-11", spent, limit, Decimal(80), "120 USD", "1 in 2"
    )
    return reports(site, [DAILY], budgets=lambda: [line]).make(DAILY, period)


def test_a_report_in_slack_fits(site: Site) -> None:
    """Within all of Slack's limits, however long names are; what has no room is counted."""
    report = example(site)
    message = root(one(notice_of_report(report, DAILY, "report-x")))
    assert message.text.startswith("📊 Daily report 2026-11-23")
    message_of({"text": message.text, "blocks": message.blocks})
    long = replace(
        report,
        by={
            f"{name}{n}": tuple(replace(each, value=f"{n} {'<x>' * 60}") for each in named)
            for n in range(9)
            for name, named in report.by.items()
        },
        others={f"{name}{n}": rest for n in range(9) for name, rest in report.others.items()},
    )
    message = root(one(notice_of_report(long, DAILY, "report-x")))
    message_of({"text": message.text, "blocks": message.blocks})
    assert "more sections: see its page" in json.dumps(message.blocks)


def test_a_report_is_no_alert_in_words(site: Site) -> None:
    """It is not called resolved, and it is a message of its own in a storm."""
    bulletin = one(notice_of_report(example(site), DAILY, "report-x"))
    assert words.heading(bulletin) == "Daily report 2026-11-23"


def test_a_page_needs_nothing_and_believes_nobody(site: Site) -> None:
    """No address of another, no script; names are shown letter by letter."""
    report = example(site)
    hostile = "<script>alert(1)</script>"
    (first, *rest) = report.by["customer"]
    bad = replace(report, by={**report.by, "customer": (replace(first, value=hostile), *rest)})
    page = pages.report(bad)
    assert hostile not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "month, team=red, 2026-11: 80.00 USD of 100 USD (80%); heading for 120 USD, odds" in page


def test_a_report_is_drawn(site: Site) -> None:
    """Its last days, in a picture of the same making as those of alerts."""
    picture = picture_of_report(example(site))
    (line,) = picture.lines
    assert len(line.points) == 14
    assert picture.title == "Daily report 2026-11-23"
    assert chart(picture).to_dict()["title"]["text"] == picture.title


def test_a_report_survives_being_json(site: Site) -> None:
    """What the control API answers is what the command shows."""
    report = example(site)
    again = msgspec.convert(json.loads(json.dumps(msgspec.to_builtins(report))), Report)
    assert again == report
    assert pages.report(again) == pages.report(report)


def test_reports_share_no_message(site: Site) -> None:
    """Three at once, late or not: each is a thread of its own."""
    reports(site, [replace(DAILY, name=name) for name in ("a", "b", "c")]).tick()
    site.clock.now += HOUR
    owed, threads, _ = Outbox(site.store).owed("slack", site.clock.now, apart=False)

    assert [step.storm for step in plan(owed, threads, Grouping(), site.clock.now).steps] == [
        False
    ] * 3


# ---------------------------------------------------------------------------------- showback


def test_a_showback_adds_up_and_keeps_tenants_apart(site: Site) -> None:
    """By local day, feature and model; one alone holds nothing of another."""
    sent = used(site, Random(5))
    spec = replace(DAILY, every=Every.MONTH, zone="Asia/Kolkata")
    period = spec.calendar.period(NOON)
    numbers = Reporting(site.store, lambda call: call())
    rows = numbers.showback(spec, "customer", period)
    local = ZoneInfo(spec.zone)
    expected: dict[tuple[Any, ...], int] = defaultdict(int)
    for each in sent:
        day = each["at"].astimezone(local).date()
        if period.holds(each["at"]):
            expected[(each["customer"], day, each["feature"])] += each["nano"]
    found = {(row["name"], row["day"], row["feature"]): row["cost_nano"] for row in rows}
    assert found == expected
    mine = Scope((Condition("customer", frozenset(["c1"])),))
    alone = numbers.showback(replace(spec, where=mine), "customer", period)
    assert {row["name"] for row in alone} == {"c1"}
    assert alone == [row for row in rows if row["name"] == "c1"]


def test_a_showback_is_no_formula() -> None:
    """A name that a spreadsheet would carry out is text; money is exact to the nano-dollar."""
    row = {
        "day": "2026-11-01",
        "feature": "=cmd|' /C calc'!A0",
        "model": None,
        "requests": 1,
        "tokens": 2,
        "cost_nano": 1_234_567_890_123,
        "unpriced_events": 0,
    }
    (_, line) = as_csv([row]).splitlines()
    assert line == "2026-11-01,'=cmd|' /C calc'!A0,,1,2,1234.567890123,0"
    page = pages.showback("<b>acme</b>", "2026-11", "UTC", [row])
    assert "&lt;b&gt;acme" in page
    assert "1,234.57 USD" in page
