"""Within what enforcement keeps, on a real store: who is touched, when it begins, when it ends."""

from dataclasses import fields, replace
from datetime import datetime, timedelta
from fractions import Fraction
from itertools import count
from pathlib import Path

import msgspec
import pytest

from governor.core.alerts import AlertKey, Ending, Health, step
from governor.core.allowing import Allow
from governor.core.decisions import AuditRow
from governor.core.delays import Delays
from governor.core.directives import OPERATOR, SWITCH_ID, Directive, Effect
from governor.core.early import Early
from governor.core.enforcement import Issue, directives_for
from governor.core.pricing import NANO_PER_USD
from governor.core.rules.actions import Action, Deed, Fail, Most, Rate, Until
from governor.core.rules.budget import Budget
from governor.core.rules.query import Query
from governor.core.rules.shared import Level, Mode, Threshold
from governor.core.rules.units import Unit
from governor.core.scopes import Condition, Scope
from tests.unit.site import NOON, Clock, Site, budget, opened

MINUTE = timedelta(minutes=1)
MIDNIGHT = NOON + timedelta(hours=12)


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


def acting(**changes: object) -> Action:
    """Return an action that slows down, with something else than usual."""
    action = Action(name="slow", rate=Rate(2, MINUTE), each="user")
    return replace(action, **changes)


def capped(action: Action, limit_usd: int = 10, **changes: object) -> Budget:
    """Return a budget of each customer that calls for an action at its limit."""
    rule = budget(limit_usd, at=(100,), name="cap", where={}, per=("customer",))
    marks = tuple(replace(mark, actions=("slow",), early=action.early) for mark in rule.thresholds)
    return replace(rule, actions={"slow": action}, thresholds=marks, **changes)


def order(action: str = "throttles.approve", who: str = "ann") -> AuditRow:
    return AuditRow(NOON, who, "socket", action, "x", "")


def active(site: Site) -> dict[str, Directive]:
    """Return what gates obey by customer, as it was published last."""
    newest: dict[str, Directive] = {}
    for directive in site.published:
        newest[directive.id] = directive
    return {
        next(iter(each.scope["customer"].values)): each
        for each in newest.values()
        if each.acts and not each.shadow
    }


def waiting(site: Site) -> list[Directive]:
    return [each for each in site.evaluate.directives if each.waits]


def customers(site: Site, many: int, usd: int = 1) -> None:
    site.usage([site.event(usd, customer=f"c{n}", user=f"u{n}") for n in range(many)])


# ---------------------------------------------------------------------------- the blast radius


@pytest.mark.parametrize("most", [Most("customer", share=Fraction(1, 4)), Most("customer", 5)])
def test_a_rule_stops_at_its_limit(path: Path, clock: Clock, most: Most) -> None:
    """A rule that would touch 60% of customers touches a quarter, says so, and waits."""
    with opened(path, [capped(acting(most=most))], clock) as site:
        customers(site, 20)
        site.usage([site.event(20 - n, customer=f"c{n}") for n in range(6)])  # greatest first
        site.usage([site.event(10, customer=f"c{n}") for n in range(6, 12)])
        assert sorted(active(site)) == ["c0", "c1", "c2", "c3", "c4"]
        assert len(waiting(site)) == 7
        (said,) = [each for each in site.owed() if each.message == "radius-cap"]
        assert "would act on 7 more than max_affected allows" in said.summary
        assert "governor throttles approve --rule cap" in said.summary
        told = next(each for each in site.owed() if dict(each.group) == {"customer": "c11"})
        assert told.waiting == 1
        assert "waits for approval: it would be 6 of 20 by customer" in told.throttles[0]


def test_who_waits_begins_when_approved(path: Path, clock: Clock) -> None:
    """Nobody is touched over a restart; the approved begin, and an end of one makes room."""
    rule = capped(acting(most=Most("customer", 1)))
    with opened(path, [rule], clock) as site:
        customers(site, 3, usd=11)
        assert (len(active(site)), len(waiting(site))) == (1, 2)
    with opened(path, [rule], clock) as site:
        clock.now += timedelta(minutes=1)
        site.evaluate.tick()
        assert len(waiting(site)) == 2
        first, second = sorted(each.id for each in waiting(site))
        (begun,) = site.evaluate.approve([first, "unknown"], order())
        assert (begun.waits, begun.approved_by) == (None, "ann")
        assert site.published[-1] == begun
        assert site.evaluate.approve([first], order()) == []
        outcomes = site.ask("SELECT outcome FROM audit WHERE action = 'throttles.approve'")
        assert outcomes == [("approved 1",), ("not found",)]
        site.evaluate.reload([replace(rule, actions={"slow": acting(most=Most("customer", 3))})])
        assert waiting(site) == []
        assert second in {each.id for each in active(site).values()}
        (said,) = [each for each in site.owed() if each.message == "radius-cap"]
        assert said.resolved == "nothing waits any more"


def test_the_first_of_a_day_is_not_everybody(path: Path, clock: Clock) -> None:
    """The share is of those seen in the last seven days, not of those seen today."""
    with opened(path, [capped(acting(most=Most("customer", share=Fraction(1, 4))))], clock) as site:
        customers(site, 20)
        site.turn(MIDNIGHT + timedelta(hours=1))
        site.spend(11, customer="c3")
        assert sorted(active(site)) == ["c3"]


def test_a_group_counts_all_it_is_made_of(path: Path, clock: Clock) -> None:
    """A rule about a tier touches every customer of it, and none where those are too many."""
    rule = replace(
        budget(10, at=(100,), name="tier", where={"tier": "free"}),
        actions={"slow": acting(most=Most("customer", 3))},
    )
    rule = replace(rule, thresholds=tuple(replace(t, actions=("slow",)) for t in rule.thresholds))
    with opened(path, [rule], clock) as site:
        customers(site, 4, usd=3)
        assert site.published == []
        assert "it would be 4 of 4 by customer" in (waiting(site)[0].waits or "")


# --------------------------------------------------------------------------------- approval


def test_approval_by_hand(path: Path, clock: Clock) -> None:
    """Nothing begins by itself; what was approved stays so over a change of its rate."""
    rule = capped(acting(manual=True, announce=timedelta(minutes=15)))
    with opened(path, [rule], clock) as site:
        site.spend(11, customer="acme")
        assert site.published == []
        (held,) = waiting(site)
        clock.now += timedelta(hours=1)
        (begun,) = site.evaluate.approve([held.id], order())
        assert begun.starts_at == clock.now + timedelta(minutes=15)
        faster = acting(manual=True, announce=timedelta(minutes=15), rate=Rate(9, MINUTE))
        site.evaluate.reload([capped(faster)])
        changed = active(site)["acme"]
        assert (changed.rate_requests, changed.approved_by) == (9, "ann")
        assert changed.starts_at == begun.starts_at


def test_a_time_of_its_own_begins_with_the_approval(path: Path, clock: Clock) -> None:
    """What waited for hours is for as long as it says from then on, and is issued once before."""
    rule = capped(acting(manual=True, until=timedelta(hours=2)))
    with opened(path, [rule], clock) as site:
        site.spend(11, customer="acme")
        for hour in range(1, 6):
            site.turn(NOON + timedelta(hours=hour))
            site.spend(1, customer="acme")
        (held,) = waiting(site)
        assert site.state.max_version() == held.version
        (begun,) = site.evaluate.approve([held.id], order())
        assert begun.until == clock.now + timedelta(hours=2)


def test_from_shadow_to_enforce_within_the_bounds(path: Path, clock: Clock) -> None:
    """What was only counted so far is no precedent: limits hold as for anything new."""
    most = Most("customer", 1)
    with opened(path, [capped(acting(most=most), mode=Mode.SHADOW)], clock) as site:
        customers(site, 4, usd=11)
        assert len(site.published) == 4
        site.evaluate.reload([capped(acting(most=most))])
        assert (len(active(site)), len(waiting(site))) == (1, 3)
        site.evaluate.reload([capped(acting(most=most), mode=Mode.SHADOW)])
        assert active(site) == {}


def test_what_waits_can_be_refused(path: Path, clock: Clock) -> None:
    """Released before it began, it does not come back in its period."""
    with opened(path, [capped(acting(manual=True))], clock) as site:
        site.spend(11, customer="acme")
        (held,) = waiting(site)
        assert site.evaluate.release(held.id, order("throttles.release")) is not None
        site.spend(11, customer="acme")
        site.turn(clock.now + timedelta(minutes=5))
        assert (waiting(site), active(site)) == ([], {})


# ------------------------------------------------------------------------------- when it ends


def test_a_time_of_its_own(path: Path, clock: Clock) -> None:
    """An action for 4 hours ends then and does not begin again, also not after a restart."""
    rule = capped(acting(until=timedelta(hours=4)))
    with opened(path, [rule], clock) as site:
        site.spend(11, customer="acme")
        assert active(site)["acme"].until == NOON + timedelta(hours=4)
        site.turn(NOON + timedelta(hours=5))
        site.spend(1, customer="acme")
        version = active(site)["acme"].version
    with opened(path, [rule], clock) as site:
        site.spend(1, customer="acme")
        site.evaluate.reload([rule])
        assert site.published == []
        assert site.state.max_version() == version
        site.turn(MIDNIGHT + timedelta(hours=1))
        site.spend(11, customer="acme")
        assert active(site)["acme"].until == MIDNIGHT + timedelta(hours=5)


def question(action: Action, mode: Mode = Mode.ENFORCE) -> Query:
    """Return a rule that asks what each customer cost in the last hour."""
    return Query(
        id="asked",
        owner="ops",
        summary="{{ value }}",
        limit_text="5 USD",
        thresholds=(
            Threshold("5 USD", 5 * NANO_PER_USD, Level.CRITICAL, ("slow",), 5 * NANO_PER_USD),
        ),
        per=("customer",),
        mode=mode,
        actions={"slow": action},
        sql="SELECT customer, sum(cost_usd) AS spent FROM usage"
        " WHERE event_time >= $from AND event_time < $to GROUP BY customer",
        value="spent",
        unit_of=Unit.COST,
        window=timedelta(hours=1),
        timeout=timedelta(seconds=5),
        every=timedelta(minutes=5),
    )


def test_a_rule_without_a_period_acts_while_it_lasts(path: Path, clock: Clock) -> None:
    """It ends a day ahead, is renewed halfway, released with its alert, and may begin again."""
    with opened(path, [question(acting(until=Until.RESOLVED))], clock) as site:
        site.spend(6, customer="acme")
        for minutes in range(0, 60, 5):
            site.turn(NOON + timedelta(minutes=minutes))
        first = active(site)["acme"]
        assert first.reason == "asked is at 6.00 USD, the limit is 5 USD"
        assert first.until == first.issued_at + timedelta(days=1)
        site.turn(NOON + timedelta(minutes=70))
        assert active(site) == {}
        site.spend(6, customer="acme")
        site.turn(NOON + timedelta(minutes=75))
        again = active(site)["acme"]
        assert (again.episode, again.released_by) == (2, None)
        for hour in range(2, 16):
            site.spend(6, customer="acme", at=NOON + timedelta(hours=hour))
            site.turn(NOON + timedelta(hours=hour, minutes=1))
        renewed = active(site)["acme"]
        assert renewed.version > again.version
        assert renewed.until > again.until


class Easing(Budget):
    """A rule with periods whose alerts can turn good before they end."""

    latched = False


def test_until_the_period_ends_or_the_alert_does() -> None:
    """`period_end` stays though the number turned good; `resolved` ends with the alert."""
    period = budget().calendar.period(NOON)
    for until, kept in ((Until.PERIOD_END, True), (Until.RESOLVED, False)):
        cap = capped(acting(until=until))
        rule = Easing(**{each.name: getattr(cap, each.name) for each in fields(cap)})
        key = AlertKey("cap", ("acme",), period)
        firing, _ = step(None, key, 11 * NANO_PER_USD, rule, NOON)
        assert firing is not None
        standing = directives_for(firing, rule, [], Issue(count(1), NOON, {}))
        good, _ = step(firing, key, NANO_PER_USD, rule, NOON + MINUTE)
        assert good is not None
        assert good.ending is Ending.CLEARED
        issued = directives_for(good, rule, standing, Issue(count(2), NOON + MINUTE, {}))
        assert [each.effect for each in issued] == ([] if kept else [Effect.RELEASE])


def test_nothing_begins_without_a_number() -> None:
    """A rule that fires because nothing is known tells people, and begins nothing."""
    rule = capped(acting())
    key = AlertKey("cap", ("acme",), rule.calendar.period(NOON))
    firing, _ = step(None, key, 11 * NANO_PER_USD, rule, NOON)
    assert firing is not None
    blind = replace(firing, health=Health.NO_DATA)
    assert directives_for(blind, rule, [], Issue(count(1), NOON, {})) == []


# ----------------------------------------------------------------------------- when it begins


def test_announced(path: Path, clock: Clock) -> None:
    """It is on the topic at once, begins later, says so, and is over where its reason is."""
    with opened(path, [capped(acting(announce=timedelta(minutes=15)))], clock) as site:
        site.spend(11, customer="acme")
        directive = active(site)["acme"]
        begins = NOON + timedelta(minutes=15)
        assert directive.starts_at == begins
        lease = begins + timedelta(days=1)
        assert not directive.holds_at(begins - MINUTE, lease)
        assert directive.holds_at(begins, lease)
        (notice,) = site.owed()
        assert notice.throttles[0].endswith("from 2026-11-24 12:15 UTC on")


def test_closed_begins_only_under_a_lease(path: Path, clock: Clock) -> None:
    """What is held without a daemon is never born without one."""
    action = acting(announce=timedelta(minutes=15), fail=Fail.CLOSED)
    with opened(path, [capped(action)], clock) as site:
        site.spend(11, customer="acme")
        directive = active(site)["acme"]
        begins, later = NOON + timedelta(minutes=15), NOON + timedelta(hours=3)
        assert not directive.holds_at(later, lease_until=begins - MINUTE)
        assert not directive.holds_at(later, lease_until=None)
        assert directive.holds_at(later, lease_until=begins + MINUTE)


def test_nothing_begins_on_stale_usage(path: Path, clock: Clock) -> None:
    """Where usage is stored minutes late nothing new begins; what stands stays, or ends."""
    known: list[datetime | None] = [NOON]
    with opened(path, [capped(acting())], clock, complete=lambda: known[0]) as site:
        site.spend(11, customer="before")
        clock.now += timedelta(minutes=6)
        site.spend(11, customer="late")
        assert sorted(active(site)) == ["before"]
        assert site.evaluate.stale
        site.evaluate.tick()
        assert sorted(active(site)) == ["before"]
        known[0] = clock.now
        site.evaluate.tick()
        assert sorted(active(site)) == ["before", "late"]
        known[0] = None
        site.evaluate.reload([])
        assert active(site) == {}


def test_early_by_pace_and_delay(path: Path, clock: Clock) -> None:
    """It acts before the cap by what will be spent until it bites, and is not lost again."""
    rule = capped(acting(early=True), limit_usd=100)
    with opened(path, [rule], clock, lag_s=lambda: 30.0) as site:
        site.spend(80, customer="acme")
        for second in range(1, 40):
            clock.now = NOON + timedelta(seconds=second)
            site.spend("0.40", customer="acme")
            site.evaluate.tick()
            if active(site):
                break
        (spent,) = [alert.amount for alert, _ in site.evaluate.alerts]
        assert 87 * NANO_PER_USD <= spent <= 89 * NANO_PER_USD  # 12 are spent in 30 s
        site.turn(clock.now + timedelta(minutes=20))
        site.spend("0.01", customer="acme")
        assert list(active(site)) == ["acme"]
    with opened(path, [rule], clock, lag_s=lambda: 30.0) as site:
        assert [each.acts for each in site.evaluate.directives] == [True]


def test_early_never_below_four_fifths(path: Path, clock: Clock) -> None:
    """However fast it goes, an action comes with its cap or at most a fifth below it."""
    with opened(path, [capped(acting(early=True), 100)], clock, lag_s=lambda: 3600.0) as site:
        for second in range(0, 70, 3):
            clock.now = NOON + timedelta(seconds=second)
            site.spend(3, customer="acme")
            site.evaluate.tick()
        assert active(site) == {}
        for second in range(70, 95, 2):
            clock.now = NOON + timedelta(seconds=second)
            site.spend(2, customer="acme")
            site.evaluate.tick()
        (alert,) = [alert for alert, _ in site.evaluate.alerts]
        assert alert.amount >= 80 * NANO_PER_USD
        assert list(active(site)) == ["acme"]


def test_a_pace_needs_time() -> None:
    """Two looks in one second are no pace."""
    early, rule = Early(lambda: 60.0), capped(acting(early=True), 100)
    amount = 90 * NANO_PER_USD
    assert early.lead(rule, ("a",), amount, NOON) == 0
    assert early.lead(rule, ("a",), amount + NANO_PER_USD, NOON + timedelta(seconds=1)) == 0
    lead = early.lead(rule, ("a",), amount + 2 * NANO_PER_USD, NOON + timedelta(seconds=6))
    assert lead == 2 * NANO_PER_USD * 60 // 6
    assert early.lead(rule, ("a",), 101 * NANO_PER_USD, NOON + timedelta(seconds=7)) == 0
    assert list(early) == []


# ------------------------------------------------------------------------- what people order


def allowing(name: str, until: datetime = NOON + timedelta(days=2)) -> Directive:
    return Directive(
        id=name,
        version=0,
        effect=Effect.ALLOW,
        rule=OPERATOR,
        action="allow",
        reason="launch",
        scope={},
        issued_at=NOON,
        until=until,
        fail=Fail.CLOSED,
    )


def test_the_switch_outlives_everything(path: Path, clock: Clock) -> None:
    """Ordered once it is on the topic and in the store, over restarts, reloads and midnight."""
    with opened(path, [capped(acting())], clock) as site:
        done = site.evaluate.direct(allowing(SWITCH_ID), order("enforcement.off"))
        assert site.published[-1] == done
        site.evaluate.reload([])
        site.turn(MIDNIGHT + timedelta(hours=1))
    with opened(path, [], clock) as site:
        (still,) = site.evaluate.directives
        assert (still, site.published) == (done, [done])
        released = site.evaluate.release(SWITCH_ID, order("enforcement.on"))
        assert released is not None
        assert released.effect is Effect.RELEASE
        assert site.published[-1] == released


def test_a_shorter_version_is_not_outlived_by_a_longer_one(path: Path, clock: Clock) -> None:
    """Off for ten years, then for two hours: after those it is over, after a restart, too."""
    with opened(path, [capped(acting())], clock) as site:
        years = allowing(SWITCH_ID, until=NOON + timedelta(days=3_650))
        hours = allowing(SWITCH_ID, until=NOON + timedelta(hours=2))
        for each in (years, hours):
            site.evaluate.direct(each, order("enforcement.off"))
    clock.now = NOON + timedelta(hours=5)
    with opened(path, [capped(acting())], clock) as site:
        assert (list(site.evaluate.directives), site.published) == ([], [])


def test_the_allow_list_of_the_files(path: Path, clock: Clock) -> None:
    """Who is named there is let through over restarts, until a day, and no more once taken out."""
    acme = Scope((Condition("customer", frozenset({"acme"})),))
    listed = Allow(acme, "contract", NOON + timedelta(days=3))
    with opened(path, [capped(acting())], clock) as site:
        site.evaluate.reload([capped(acting())], allows=[listed])
        (let,) = site.published
        assert (let.effect, let.reason, let.until) == (Effect.ALLOW, "contract", listed.until)
        assert let.holds_at(NOON, lease_until=None)
        site.evaluate.reload([capped(acting())], allows=[listed])
        assert site.published == [let]
        site.evaluate.reload([capped(acting())], allows=[replace(listed, reason="a new contract")])
        assert [each.reason for each in site.published] == ["contract", "a new contract"]
    with opened(path, [capped(acting())], clock) as site:
        newest = max(site.published, key=lambda each: each.version)
        assert newest.effect is Effect.RELEASE  # it was taken out meanwhile
        clock.now += timedelta(days=4)
        site.evaluate.reload([], allows=[listed])
        assert max(each.version for each in site.published) == newest.version


# -------------------------------------------------------------------------- shadow, overshoot


def test_shadow_is_on_the_topic_and_told_to_nobody(path: Path, clock: Clock) -> None:
    """Gates count what it would do; no person is told, and no limit stops it."""
    action = acting(most=Most("customer", 1), manual=True)
    with opened(path, [capped(action, mode=Mode.SHADOW)], clock) as site:
        customers(site, 3, usd=11)
        assert [each.shadow for each in site.published] == [True] * 3
        assert (site.owed(), waiting(site)) == ([], [])
        site.evaluate.reload([capped(acting(), mode=Mode.ENFORCE)])
        assert len(active(site)) == 3


def test_overshoot_is_told(path: Path, clock: Clock) -> None:
    """What was spent past the threshold is in the alert and in what is shown, by rule."""
    with opened(path, [capped(acting())], clock) as site:
        site.spend(11, customer="a")
        site.spend(13, customer="b")
        notices = {dict(each.group)["customer"]: each for each in site.owed()}
        assert notices["b"].throttles == ("2/min for each user", "3.00 USD past 100% by then")
        site.spend(2, customer="a")
        site.turn(clock.now + timedelta(seconds=11))
        (shown,) = site.evaluate.overshoot
        assert (shown.groups, shown.past_nano, shown.worst_nano) == (
            2,
            6 * NANO_PER_USD,
            3 * NANO_PER_USD,
        )


def test_deeds_of_every_kind(path: Path, clock: Clock) -> None:
    """A block and a downgrade are issued with what gates need, and read back the same."""
    cheaper = Action(name="slow", do=Deed.DOWNGRADE, models=(("gpt-4o", "gpt-4o-mini"),))
    for action, said in (
        (Action(name="slow", do=Deed.BLOCK), "blocked"),
        (cheaper, "gpt-4o to gpt-4o-mini"),
    ):
        with opened(path.with_suffix(f".{action.do}"), [capped(action)], clock) as site:
            site.spend(11, customer="acme")
            (directive,) = site.published
            assert directive.deed == said
            assert msgspec.json.decode(msgspec.json.encode(directive), type=Directive) == directive
            assert site.owed()[0].throttles[0] == said


# ------------------------------------------------------------------------------------- delays


def test_delays_are_of_the_last_minutes() -> None:
    """Quantiles are right to an eighth, forget after ten minutes, and leave out what is late."""
    delays = Delays()
    assert delays.quantile(0.5, NOON) is None
    delays.add([n / 100 for n in range(1, 101)] + [90_000.0], NOON)
    for part in (0.5, 0.99):
        found = delays.quantile(part, NOON)
        assert found is not None
        assert part <= found <= part * 1.13
    assert delays.quantile(0.5, NOON + timedelta(minutes=9)) is not None
    assert delays.quantile(0.5, NOON + timedelta(minutes=21)) is None
    delays.add([-3.0], NOON + timedelta(minutes=21))
    assert delays.quantile(1.0, NOON + timedelta(minutes=21)) == pytest.approx(0.001)
