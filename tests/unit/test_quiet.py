"""Acknowledged, snoozed, silenced, escalated, handed over: what that holds back and what never."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from governor.adapters.duckdb.outbox import Outbox
from governor.core.alerts import Alert
from governor.core.bulletins import Bulletin
from governor.core.decisions import AuditRow, Decisions
from governor.core.notifications import Notice
from governor.core.routing import Addressee, Escalation, Heartbeat, Route, Routing, Silence
from governor.core.rules.shared import Level
from governor.core.scopes import Condition, Scope
from governor.daemon.wellbeing import Broken, Heart
from governor.loops.deliver import Deliver
from tests.unit.site import NOON, Clock, Site, budget, opened
from tests.unit.test_reports import DAILY, reports

HOUR = timedelta(hours=1)
RULES = [budget(100, at=(50, 80, 100))]
ONCALL = Routing(
    receivers=(Addressee(name="oncall"),),
    routes=(
        Route(Scope(), ("slack",), escalate=(Escalation(timedelta(minutes=30), ("oncall",)),)),
    ),
)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", RULES, Clock(NOON)) as made:
        yield made


def row(site: Site, who: str = "ann", note: str | None = None) -> AuditRow:
    return AuditRow(site.clock.now, who, "socket", "alerts.ack", "x", "noted", note)


def only(site: Site) -> Alert:
    ((alert, _),) = site.evaluate.alerts
    return alert


def ack(site: Site, *, hours: int = 24, snooze: bool = False, note: str = "looking") -> None:
    until = site.clock.now + hours * HOUR
    assert site.evaluate.ack(only(site).key.id, until, row(site, note=note), snooze=snooze)


def newest(site: Site, receiver: str = "slack") -> Notice:
    (notice,) = site.owed(receiver)
    return notice


def test_an_ack_is_shown_and_audited(site: Site) -> None:
    """Whoever reads the message sees who has seen the alert, and the audit has a row of it."""
    site.spend(60)
    before = newest(site)
    ack(site)
    after = newest(site)
    assert (before.acked, after.acked) == (None, "acknowledged by ann: looking")
    assert after.revision == before.revision + 1
    assert after.quiet_until == NOON + 24 * HOUR
    assert site.ask("SELECT who, action, outcome FROM audit") == [("ann", "alerts.ack", "noted")]


def test_an_ack_outlives_a_restart_and_ends(site: Site) -> None:
    site.spend(60)
    ack(site, hours=2)
    site.evaluate.begin()
    site.turn(NOON + HOUR)
    site.spend(10)
    assert newest(site).acked
    assert [found.who for found in site.state.acks(NOON + HOUR)] == ["ann"]
    assert site.state.acks(NOON + 3 * HOUR) == []


def test_what_gets_worse_is_told_as_if_nobody_had_seen_it(site: Site) -> None:
    """An ack is of what the alert was."""
    site.spend(60)
    ack(site)
    site.spend(30)
    assert (newest(site).level, newest(site).acked, newest(site).quiet_until) == (
        Level.WARNING,
        None,
        None,
    )


def test_a_snooze_holds_back_all_but_the_end(site: Site) -> None:
    """It is told when it ends while the alert lasts; and the end of the alert at once."""
    site.spend(60)
    ack(site, hours=1, snooze=True, note="")
    said = newest(site)
    assert said.acked == "snoozed by ann"
    before = only(site).revision
    site.turn(NOON + timedelta(minutes=30))
    assert newest(site) == said
    site.turn(NOON + timedelta(days=1))
    assert newest(site).resolved == "the period ended"
    assert newest(site).revision > before


def test_a_snooze_ends_where_it_gets_worse(site: Site) -> None:
    site.spend(60)
    ack(site, snooze=True)
    site.spend(50)
    assert newest(site).level is Level.CRITICAL
    assert newest(site).acked is None


def test_an_alert_that_is_over_cannot_be_acknowledged(site: Site) -> None:
    """A late press changes nothing, and the audit says so."""
    site.spend(60)
    name = only(site).key.id
    site.turn(NOON + timedelta(days=1))
    assert site.evaluate.ack(name, NOON + 48 * HOUR, row(site)) is None
    assert site.evaluate.ack("nothing", NOON + 48 * HOUR, row(site)) is None
    assert site.ask("SELECT outcome FROM audit") == [("not open",), ("not open",)]
    assert site.ask("SELECT count(*) FROM acks") == [(0,)]


def test_an_ack_is_taken_back(site: Site) -> None:
    site.spend(60)
    ack(site)
    site.clock.now += timedelta(minutes=1)
    assert site.evaluate.ack(only(site).key.id, site.clock.now, row(site, "bob"))
    assert newest(site).acked is None
    assert newest(site).quiet_until is None


def test_a_silence_that_is_ordered_holds_until_it_ends(site: Site) -> None:
    """It outlives a restart; ended early, what lasts is told."""
    silence = Silence(
        match=Scope((Condition("rule", frozenset([RULES[0].id])),)),
        since=NOON,
        until=NOON + 8 * HOUR,
        reason="load test",
        by="ann",
        id="s1",
    )
    site.evaluate.silence(silence, row(site))
    site.spend(60)
    assert site.owed() == []
    site.evaluate.begin()
    assert list(site.evaluate.silences) == ["s1"]
    decided = site.state.decided
    for _ in range(3):
        site.turn(site.clock.now + HOUR)
    assert site.owed() == []
    assert site.state.decided == decided  # what is held back costs no commit a tick
    site.evaluate.silence(replace(silence, until=site.clock.now), row(site))
    site.turn(site.clock.now + timedelta(seconds=1))
    assert newest(site).level is Level.INFO


def test_a_reload_keeps_what_was_ordered(site: Site) -> None:
    silence = Silence(Scope(), NOON + HOUR, "quiet please", "ann", NOON, "s1")
    site.evaluate.silence(silence, row(site))
    site.evaluate.reload(RULES, routing=Routing())
    site.spend(60)
    assert site.owed() == []


# ---------------------------------------------------------------------------------- escalation


def told(site: Site, receiver: str) -> list[Notice]:
    """Deliver to a receiver at once; return what it heard."""
    heard: list[Notice] = []

    class Ear:
        name = receiver
        apart = True

        def tell(self, bulletin: Bulletin) -> None:
            heard.extend(bulletin.notices)

    deliver = Deliver(
        Ear(),
        Outbox(site.store),
        ask=lambda call: call(),
        now=lambda: site.clock.now,
        grouping=lambda: site.evaluate.routing.grouping,
    )
    deliver._tell_due(threading.Event())  # noqa: SLF001
    return heard


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", RULES, Clock(NOON)) as made:
        made.evaluate.reload(RULES, routing=ONCALL)
        yield made


def test_what_nobody_sees_to_is_escalated(watched: Site) -> None:
    """Half an hour after it got critical, and not before; then on call hears how it goes on."""
    watched.spend(60)
    assert told(watched, "oncall") == []
    watched.turn(NOON + HOUR)
    assert told(watched, "oncall") == []  # it is not critical
    watched.spend(50)
    assert told(watched, "oncall") == []
    watched.turn(NOON + HOUR + timedelta(minutes=29))
    assert told(watched, "oncall") == []
    watched.turn(NOON + HOUR + timedelta(minutes=31))
    (heard,) = told(watched, "oncall")
    assert heard.level is Level.CRITICAL
    watched.turn(NOON + timedelta(days=1))
    (ended,) = told(watched, "oncall")
    assert ended.resolved


def test_what_is_acknowledged_is_not_escalated_before_that_ends(watched: Site) -> None:
    watched.spend(110)
    ack(watched, hours=2)
    watched.turn(NOON + HOUR)
    assert told(watched, "oncall") == []
    watched.turn(NOON + 2 * HOUR + timedelta(minutes=1))
    (heard,) = told(watched, "oncall")
    assert heard.resolved is None


def test_what_ends_before_is_not_escalated(watched: Site) -> None:
    """Who was told nothing is not told that it is over, and nothing stays owed."""
    watched.spend(110)
    told(watched, "slack")
    watched.evaluate.reload([], routing=ONCALL)
    told(watched, "slack")
    watched.turn(NOON + HOUR)
    assert told(watched, "oncall") == []
    owed = Outbox(watched.store).undelivered()
    assert "oncall" not in owed


# ---------------------------------------------------------------------------------- wellbeing


def test_a_receiver_that_is_broken_has_its_fallback_told(site: Site) -> None:
    """It hears of what lasts and is owed, once each, and that the other is broken; then the end."""
    routing = Routing(receivers=(Addressee(name="mail"),), fallback="mail")
    site.evaluate.reload(RULES, routing=routing)
    site.spend(60)
    told(site, "mail")
    outbox = Outbox(site.store)
    orphan = replace(newest(site), message="other-1", alert="other", revision=1, to=("slack",))
    site.state.commit(site.state.decided + 1, Decisions(notices=(orphan,)), ["slack", "mail"])
    site.state.recall()
    broken = Broken(
        "slack",
        lambda: site.evaluate.routing.fallback_of("slack"),
        site.state,
        outbox,
        ask=lambda call: call(),
        tell=site.evaluate.tell,
        now=lambda: site.clock.now,
    )
    for _ in range(3):
        broken("channel_not_found")
    heard = told(site, "mail")
    assert sorted(notice.alert for notice in heard) == ["other", "receiver-broken-slack"]
    assert "channel_not_found" in next(n.summary for n in heard if n.alert != "other")
    broken(None)
    (again,) = told(site, "mail")
    assert again.resolved == "slack is told again"
    broken(None)
    assert told(site, "mail") == []


def test_a_report_goes_to_the_fallback_too(site: Site) -> None:
    """It is over as soon as it is told, and is owed all the same."""
    reports(site, [DAILY]).tick()
    assert Outbox(site.store).hand_over("slack", "mail", site.clock.now) == 1
    assert [each.kind for each in told(site, "mail")] == ["report"]


def test_a_heart_beats_while_all_is_well(site: Site) -> None:
    """Every so often, as one message; not at all while something is wrong."""
    routing = Routing(heartbeat=Heartbeat(("slack",), HOUR))
    site.evaluate.reload(RULES, routing=routing)
    heart = Heart(
        site.state,
        lambda: site.evaluate.routing,
        list,
        ask=lambda call: call(),
        tell=site.evaluate.tell,
        now=lambda: site.clock.now,
    )
    heart.beat()
    heart.beat()
    (first,) = told(site, "slack")
    site.clock.now += HOUR
    heart.beat()
    (second,) = told(site, "slack")
    assert first.message == second.message
    assert (first.revision, second.revision) == (1, 2)
