"""Evaluation on a real store: what is told and done, through restarts, reloads and failures."""

import time
from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from governor.core.decisions import AuditRow, Decisions
from governor.core.directives import Effect
from governor.core.errors import TransientError
from governor.core.notifications import Notice
from governor.core.periods import Every
from governor.core.rules.shared import Level, Mode
from tests.unit.site import NOON, Clock, Site, budget, opened

MIDNIGHT = NOON + timedelta(hours=12)
ALL_THREE = [("info", "50%"), ("warning", "80%"), ("critical", "100%")]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


@pytest.fixture
def site(path: Path, clock: Clock) -> Iterator[Site]:
    with opened(path, [budget()], clock) as site:
        yield site


def asked(clock: Clock, who: str = "ann") -> AuditRow:
    return AuditRow(clock.now, who, "socket", "throttles.release", "x", "")


def test_each_threshold_once_and_in_order(site: Site) -> None:
    """Thresholds that are crossed one by one are told one by one, in one message."""
    for usd, level in ((49, None), (1, Level.INFO), (31, Level.WARNING), (30, Level.CRITICAL)):
        site.spend(usd)
        assert [notice.level for notice in site.owed()] == ([level] if level else [])
    assert site.crossings() == ALL_THREE
    (notice,) = site.owed()
    assert (notice.value, notice.limit, notice.revision) == ("111.00 USD", "100 USD", 3)
    assert len(notice.history) == 3


def test_a_jump_is_three_lines_and_one_message(site: Site) -> None:
    """One batch over all thresholds is three lines of history; a receiver hears the highest."""
    site.spend(120)
    assert site.crossings() == ALL_THREE
    (notice,) = site.owed()
    assert (notice.level, notice.revision) == (Level.CRITICAL, 1)
    (directive,) = site.standing()
    assert (directive.until, directive.version) == (MIDNIGHT, 1)
    assert notice.throttles == ("2/min for each user", "20.00 USD past 100% by then")
    assert site.published == [directive]


def test_a_cap_ends_with_its_period(site: Site) -> None:
    """At midnight the alert is over, the throttle released, and the new day begins from zero."""
    site.spend(120)
    site.turn(MIDNIGHT - timedelta(seconds=1))
    assert len(site.standing()) == 1
    site.turn(MIDNIGHT)
    assert site.published[-1].effect is Effect.RELEASE
    (notice,) = site.owed()
    assert notice.resolved == "the period ended"
    assert site.evaluate.directives == []
    site.spend(49)
    assert len(site.owed()) == 1
    site.spend(1)
    assert site.crossings() == [*ALL_THREE, ("info", "50%")]


def test_midnight_is_that_of_the_zone(path: Path, clock: Clock) -> None:
    """A day in New York ends at 05:00 UTC in November."""
    with opened(path, [budget(zone="America/New_York")], clock) as site:
        site.spend(120)
        site.turn(MIDNIGHT + timedelta(hours=4, minutes=59))
        assert len(site.standing()) == 1
        site.turn(MIDNIGHT + timedelta(hours=5))
        assert site.standing() == []


def test_a_closed_period_enforces_nothing(site: Site) -> None:
    """Late events of yesterday are counted for yesterday, and neither alert nor act today."""
    site.clock.now = MIDNIGHT + timedelta(minutes=5)
    site.evaluate.tick()
    site.spend(500, at=MIDNIGHT - timedelta(minutes=1))
    site.spend(10)
    assert (site.owed(), site.standing(), site.crossings()) == ([], [], [])
    assert site.ask("SELECT sum(cost_usd) FROM usage") == [(510,)]


def test_usage_ahead_belongs_to_the_next_period(site: Site) -> None:
    """An event of tomorrow, within what is accepted, counts from tomorrow on."""
    site.turn(MIDNIGHT - timedelta(minutes=10))
    site.spend(120, at=MIDNIGHT + timedelta(minutes=10))
    assert site.crossings() == []
    site.turn(MIDNIGHT)
    assert site.crossings() == ALL_THREE


def test_groups_have_limits_of_their_own(path: Path, clock: Clock) -> None:
    """With `per` each group has its alert and its throttle, also the one without a value."""
    with opened(path, [budget(per=("customer",))], clock) as site:
        site.usage([site.event(120, customer="a"), site.event(60, customer="b"), site.event(130)])
        levels = {notice.group: notice.level for notice in site.owed()}
        assert levels == {
            (("customer", "a"),): Level.CRITICAL,
            (("customer", "b"),): Level.INFO,
            (("customer", "(none)"),): Level.CRITICAL,
        }
        assert len(site.standing()) == 2


def test_shadow_tells_and_does_nothing(path: Path, clock: Clock) -> None:
    """A rule in shadow has lines with the actions it would take; then, enforcing, it acts."""
    with opened(path, [budget(mode=Mode.SHADOW)], clock) as site:
        site.spend(120)
        assert site.crossings() == ALL_THREE
        assert site.ask("SELECT actions FROM alert_lines ORDER BY seq")[-1] == (["slow"],)
        (would,) = site.standing()
        assert (site.owed(), would.shadow) == ([], True)
        site.evaluate.reload([budget()])
        assert [notice.level for notice in site.owed()] == [Level.CRITICAL]
        (acts,) = site.standing()
        assert (acts.shadow, acts.version > would.version) == (False, True)
        site.evaluate.reload([budget(mode=Mode.NOTIFY)])
        assert site.standing() == []
        assert site.crossings() == ALL_THREE


def test_a_rule_that_is_removed(path: Path, clock: Clock) -> None:
    """Its alert is over because a person took it away; people hear that, and nobody is slowed."""
    with opened(path, [budget()], clock) as site:
        site.spend(120)
        site.evaluate.reload([])
        (notice,) = site.owed()
        assert notice.resolved == "the rule was removed or switched off"
        assert site.standing() == []
    with opened(path, [budget()], clock) as site:
        assert len(site.crossings()) == 6, "put back, it fires again"
        assert len(site.standing()) == 1


def test_a_limit_that_is_raised(site: Site) -> None:
    """Raised above what is spent the alert ends and frees; raised a little it eases."""
    site.spend(120)
    site.evaluate.reload([budget(140)])
    assert [(n.level, n.resolved) for n in site.owed()] == [(Level.WARNING, None)]
    assert site.standing() == []
    site.evaluate.reload([budget(1000)])
    assert [n.resolved for n in site.owed()] == ["the rule was changed"]
    site.evaluate.reload([budget(100)])
    assert sorted(n.message[-1] for n in site.owed()) == ["1", "2"], "a new episode"
    assert len(site.standing()) == 1


def test_where_that_is_changed(site: Site) -> None:
    """A rule that speaks of other usage ends the alerts that are no longer its own."""
    site.spend(120)
    site.evaluate.reload([budget(where={"tier": "trial"})])
    assert [n.resolved for n in site.owed()] == ["the rule was changed"]
    assert site.standing() == []


def test_an_unknown_amount_ends_nothing(path: Path, clock: Clock) -> None:
    """Where the usage behind an alert is gone from the store, the alert stays as it is."""
    with opened(path, [budget()], clock) as site:
        site.spend(120)
        site.ask("DELETE FROM events")
    with opened(path, [budget()], clock) as site:
        assert [alert.phase for alert, _ in site.evaluate.alerts] == ["firing"]
        assert len(site.standing()) == 1
        assert site.ask("SELECT health FROM alerts") == [("no_data",)]


def test_hold(path: Path, clock: Clock) -> None:
    """An amount must stand for as long as the rule says; a reload does not set the clock back."""
    rule = budget(hold=timedelta(minutes=10))
    with opened(path, [rule], clock) as site:
        site.spend(120)
        assert site.owed() == []
        site.turn(NOON + timedelta(minutes=6))
        site.evaluate.reload([rule])
        site.turn(NOON + timedelta(minutes=9))
        assert site.owed() == []
        site.turn(NOON + timedelta(minutes=10))
        assert site.crossings() == ALL_THREE


def test_a_release_sticks(site: Site) -> None:
    """What a person frees stays free for the period, is told, and is in the audit."""
    site.spend(120)
    (directive,) = site.standing()
    assert site.evaluate.release("no-such", asked(site.clock)) is None
    freed = site.evaluate.release(directive.id, asked(site.clock))
    assert freed is not None
    assert (freed.version, freed.released_by) == (2, "ann")
    (notice,) = site.owed()
    assert notice.throttles == ("slow: released by ann",)
    site.spend(50)
    site.evaluate.reload([budget(rate=1)])
    assert site.standing() == []
    assert site.ask("SELECT who, outcome FROM audit") == [("ann", "not found"), ("ann", "released")]


def test_another_rate_is_issued_anew(site: Site) -> None:
    """A changed rate is a new version of the same directive."""
    site.spend(120)
    site.evaluate.reload([budget(rate=1)])
    assert [(d.version, d.rate_requests) for d in site.published] == [(1, 2), (2, 1)]
    site.evaluate.reload([budget(rate=1)])
    assert len(site.published) == 2


def test_unpriced_usage_counts(site: Site) -> None:
    """An unknown model enters the cap at the stand-in price, and is never free."""
    site.spend(120, model="unheard-of")
    assert site.crossings() == ALL_THREE


def test_no_directive_before_the_topic_was_read(path: Path, clock: Clock) -> None:
    """Until it is known what the topic holds nothing is issued; then versions go on from there."""
    with opened(path, [budget()], clock, adopted=False) as site:
        site.spend(120)
        assert (len(site.owed()), site.standing()) == (1, [])
        with pytest.raises(TransientError, match="not been read yet"):
            site.evaluate.release("x", asked(clock))
        assert site.evaluate.adopt([], 41) == []
        assert [d.version for d in site.standing()] == [42]
        (notice,) = site.owed()
        assert notice.throttles, "people hear of the throttle that came later"


def test_a_lost_file(path: Path, tmp_path: Path, clock: Clock) -> None:
    """What a lost file decided is taken up from the topic and kept until it ends."""
    with opened(path, [budget()], clock) as site:
        site.spend(120)
        on_topic = site.published
    with opened(tmp_path / "new.duckdb", [budget()], clock, adopted=False) as site:
        assert site.evaluate.adopt(on_topic, 7) == []
        assert site.standing() == on_topic
        site.spend(120)
        assert site.standing() == on_topic, "the same throttle, not another"
        site.turn(MIDNIGHT)
        assert site.standing() == []


def test_what_the_topic_lacks(path: Path, clock: Clock) -> None:
    """A directive that was stored and not published before a crash is handed back to publish."""
    with opened(path, [budget()], clock) as site:
        site.spend(120)
        (directive,) = site.standing()
    with opened(path, [budget()], clock, adopted=False) as site:
        older = replace(directive, version=0)
        assert site.evaluate.adopt([older], 0) == [directive]
    with opened(path, [budget()], clock, adopted=False) as site:
        assert site.evaluate.adopt([directive], 1) == []
        assert site.published == []


def test_drift_is_found(site: Site) -> None:
    """The audit sees a total that differs from the store, and the next tick adds up anew."""
    site.spend(40)
    assert site.evaluate.drift() == []
    site.turn(NOON)
    (total,) = list(site.evaluate._totals)  # noqa: SLF001  # nothing else could make it wrong
    next(iter(total.book.periods.values())).amounts[total.row] -= 1
    assert len(site.evaluate.drift()) == 1
    site.turn(NOON + timedelta(hours=2))
    assert site.evaluate.drift() == []


class Failing:
    """A ledger whose commits fail, before or after they are made."""

    def __init__(self, ledger: Any, draw: Random) -> None:
        self._ledger = ledger
        self._draw = draw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def commit(self, number: int, decisions: Decisions, receivers: list[str]) -> None:
        luck = self._draw.random()
        if luck < 0.3:
            raise TransientError("before")
        self._ledger.commit(number, decisions, receivers)
        if luck < 0.6:
            self._ledger.decided = number - 1
            raise TransientError("after, and who knows")


def until_done(step: Any, *given: Any) -> None:
    """Do a step again until it succeeds, as the loop does."""
    for _ in range(200):
        try:
            step(*given)
        except TransientError:
            continue
        return
    raise AssertionError("it never succeeds")


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_failures_and_restarts_change_nothing(tmp_path: Path, seed: int) -> None:
    """Whatever fails and restarts, history and standing throttles are those of a quiet run."""
    draw = Random(seed)
    rules = [
        budget(per=("customer",)),
        budget(200, name="all", where={}, every=Every.HOUR),
        budget(30, name="b", where={"customer": "b"}, mode=Mode.NOTIFY),
    ]
    plan = [(draw.choice("abc"), draw.randrange(1, 60), draw.random()) for _ in range(40)]
    seen = []
    for name, rough in (("quiet", False), ("rough", True)):
        clock, luck = Clock(NOON), Random(seed + 1)
        path = tmp_path / f"{name}.duckdb"
        steps = iter(plan)
        over = False
        while not over:
            wrapped = partial(Failing, draw=luck) if rough else None
            with opened(path, rules, clock, begun=False, wrapped=wrapped) as site:
                until_done(site.evaluate.begin)
                until_done(site.evaluate.adopt, site.evaluate.directives, 0)
                for customer, usd, chance in steps:
                    clock.now += timedelta(minutes=1)
                    site.take([site.event(usd, customer=customer)])
                    if rough and chance < 0.2:
                        break  # killed before it is judged
                    until_done(site.evaluate.settle)
                    until_done(site.evaluate.tick)
                else:
                    over = True
                if over:
                    crossings = site.ask(
                        'SELECT rule, "group", level, threshold FROM alert_lines'
                        ' WHERE threshold IS NOT NULL ORDER BY rule, "group", period, seq'
                    )
                    standing = sorted((d.id, d.until) for d in site.standing())
                    seen.append((crossings, standing, sorted(map(told, site.owed()))))
                    assert site.evaluate.drift() == []
                    versions = site.ask("SELECT version FROM directive_versions ORDER BY version")
                    assert len(versions) == len(set(versions))
    assert seen[0][0], "the plan crosses something"
    assert seen[0] == seen[1]


def told(notice: Notice) -> tuple[Any, ...]:
    return (notice.message, notice.level, notice.resolved)


def test_thousands_of_groups_at_once(path: Path, clock: Clock) -> None:
    """Thousands of groups that cross in one batch are all told and throttled."""
    with opened(path, [budget(1, per=("customer",))], clock) as site:
        began = time.monotonic()
        site.usage([site.event(2, customer=f"c{n}") for n in range(3_000)])
        print(f"{time.monotonic() - began:.1f} s")
        assert len(site.standing()) == 3_000
        assert len(site.owed()) == 3_000


def test_nothing_used_yet(path: Path, clock: Clock) -> None:
    """A rule for everything begins on an empty store, and after a restart without usage."""
    for _ in range(2):
        with opened(path, [budget(where={}, every=Every.MONTH)], clock) as site:
            assert (site.evaluate.groups, site.owed()) == (0, [])


def test_a_narrower_where_goes_on_being_told(path: Path, clock: Clock) -> None:
    """An alert that still stands under an edited `where` rises and acts as before."""
    with opened(path, [budget(where={})], clock) as site:
        site.usage([site.event(60), site.event(1, tier="pro")])
        site.evaluate.reload([budget()])
        site.spend(60)
        (notice,) = site.owed()
        assert (notice.level, notice.value) == (Level.CRITICAL, "120.00 USD")
        assert notice.throttles == ("2/min for each user", "20.00 USD past 100% by then")
