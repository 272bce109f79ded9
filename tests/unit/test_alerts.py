from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from typing import Any

import pytest
from hypothesis import settings, stateful
from hypothesis import strategies as st

from governor.core.alerts import (
    Alert,
    AlertKey,
    Ending,
    Health,
    Phase,
    Transition,
    What,
    end,
    step,
)
from governor.core.periods import ALWAYS, Calendar, Every, Period
from governor.core.rules.budget import Budget
from governor.core.rules.query import Query
from governor.core.rules.shared import Level, Mode, Threshold, Unknown
from governor.core.rules.units import Measure, Unit

DAY = Calendar(Every.DAY, "UTC")
START = datetime(2026, 3, 2, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
KEY = AlertKey("growth", ("acme",), DAY.period(START))
HEARD = {What.FIRED, What.ESCALATED, What.EASED, What.MODE, What.RESOLVED}
USUAL = ((50, Level.INFO), (80, Level.WARNING), (100, Level.CRITICAL))

Steps = tuple[tuple[int, Level], ...]


def budget(
    limit: int = 100, steps: Steps = USUAL, mode: Mode = Mode.NOTIFY, hold: timedelta = 0 * MINUTE
) -> Budget:
    return Budget(
        id="growth",
        owner="finops",
        summary="",
        measure=Measure.REQUESTS,
        limit=limit,
        limit_text=f"{limit} requests",
        calendar=DAY,
        thresholds=tuple(
            Threshold(f"{percent}%", limit * percent // 100, level, (f"act-{percent}",))
            for percent, level in steps
        ),
        per=("customer",),
        mode=mode,
        hold=hold,
    )


def words(lines: tuple[Transition, ...]) -> list[str]:
    return [f"{line.what} {line.threshold or line.reason or ''}".strip() for line in lines]


def play(amounts: list[int | None], rule: Budget) -> tuple[Alert | None, list[list[str]]]:
    """Judge one amount a minute; return the last state and what was said each minute."""
    alert, said = None, []
    for minute, amount in enumerate(amounts):
        alert, lines = step(
            alert,
            KEY,
            Health.NO_DATA if amount is None else amount,
            rule,
            START + minute * MINUTE,
        )
        said.append(words(lines))
    return alert, said


def fired(rule: Budget, amount: int) -> Alert:
    alert, _ = step(None, KEY, amount, rule, START)
    assert alert is not None
    assert alert.phase is Phase.FIRING
    return alert


@pytest.mark.parametrize(
    ("hold_minutes", "amounts", "said"),
    [
        (0, [0, 49], [[], []]),
        (0, [None, None], [[], []]),
        (0, [49, 50, 79, 80, 100], [[], ["fired 50%"], [], ["escalated 80%"], ["escalated 100%"]]),
        (0, [1000, 2000], [["fired 50%", "escalated 80%", "escalated 100%"], []]),
        (0, [50, None, None, 50], [["fired 50%"], ["health no_data"], [], ["health ok"]]),
        (0, [50, None, 80], [["fired 50%"], ["health no_data"], ["health ok", "escalated 80%"]]),
        (0, [None, 80], [[], ["fired 50%", "escalated 80%"]]),
        (2, [50, 50, 50], [["pending"], [], ["fired 50%"]]),
        (2, [50, 80, 100], [["pending"], [], ["fired 50%", "escalated 80%", "escalated 100%"]]),
        (
            2,
            [50, None, None, None, 50, 50],
            [["pending"], ["health no_data"], [], [], ["health ok"], ["fired 50%"]],
        ),
        (1, [50, None, 50], [["pending"], ["health no_data"], ["health ok", "fired 50%"]]),
        (1, [50, None, None], [["pending"], ["health no_data"], []]),
    ],
)
def test_steps(hold_minutes: int, amounts: list[int | None], said: list[list[str]]) -> None:
    """Each threshold is said once, in order, after the hold; time without data does not count."""
    assert play(amounts, budget(hold=hold_minutes * MINUTE))[1] == said


def test_what_a_line_holds() -> None:
    """A threshold's line has its level, its text as written, the amount and the actions due."""
    _, lines = step(None, KEY, 85, budget(), START)
    assert lines == (
        Transition(START, What.FIRED, Level.INFO, "50%", 85, ("act-50",)),
        Transition(START, What.ESCALATED, Level.WARNING, "80%", 85, ("act-80",)),
    )


def test_no_data_resolves_nothing() -> None:
    """However long nothing is known, a firing alert stays as it was, but for its health."""
    before = fired(budget(), 85)
    alert, said = before, []
    for minute in range(1, 200):
        now = START + minute * MINUTE
        after, lines = step(alert, KEY, Health.NO_DATA, budget(limit=1000), now)
        assert after == replace(before, health=Health.NO_DATA, judged_at=now)
        alert, said = after, said + words(lines)
    assert said == ["health no_data"]


def test_an_edited_rule_keeps_the_hold_clock() -> None:
    """A reload with another limit, other thresholds, mode and summary begins no new wait."""
    alert, _ = step(None, KEY, 60, budget(hold=10 * MINUTE), START)
    edited = replace(
        budget(90, ((40, Level.INFO), (60, Level.WARNING)), Mode.ENFORCE, 9 * MINUTE), summary="new"
    )
    alert, lines = step(alert, KEY, 60, edited, START + 8 * MINUTE)
    assert alert is not None
    assert (alert.phase, alert.since) == (Phase.PENDING, START)
    assert words(lines) == ["mode notify to enforce"]
    _, lines = step(alert, KEY, 60, edited, START + 9 * MINUTE)
    assert words(lines) == ["fired 40%", "escalated 60%"]


@pytest.mark.parametrize(
    ("edited", "said", "level"),
    [
        (budget(), [], Level.WARNING),
        (budget(limit=90), ["escalated 100%"], Level.CRITICAL),
        (budget(limit=150), ["eased rule_changed"], Level.INFO),
        (budget(limit=1000), ["resolved rule_changed"], Level.WARNING),
        (budget(steps=USUAL[1:]), ["eased rule_changed"], Level.WARNING),
        (budget(steps=USUAL[:1]), ["eased rule_changed"], Level.INFO),
        (budget(steps=USUAL[2:]), ["resolved rule_changed"], Level.WARNING),
        (budget(steps=(*USUAL[:2], (90, Level.CRITICAL))), ["escalated 90%"], Level.CRITICAL),
        (budget(mode=Mode.ENFORCE), ["mode notify to enforce"], Level.WARNING),
        (
            budget(limit=90, mode=Mode.SHADOW),
            ["mode notify to shadow", "escalated 100%"],
            Level.CRITICAL,
        ),
    ],
)
def test_an_edited_rule_is_judged_at_once(edited: Budget, said: list[str], level: Level) -> None:
    """The known amount is judged by the rule as it is: it rises, eases or resolves."""
    alert, lines = step(fired(budget(), 90), KEY, 90, edited, START + MINUTE)
    assert words(lines) == said
    assert alert is not None
    assert (alert.level, alert.mode) == (level, edited.mode)


def test_a_threshold_whose_level_was_edited() -> None:
    """The level is that of the highest threshold as it is written now, and people hear of it."""
    mild, bad = budget(steps=((50, Level.INFO),)), budget(steps=((50, Level.CRITICAL),))
    before = fired(mild, 60)
    worse, lines = step(before, KEY, 60, bad, START + MINUTE)
    assert worse is not None
    assert (worse.level, worse.revision) == (Level.CRITICAL, before.revision + 1)
    assert words(lines) == ["escalated rule_changed"]
    better, lines = step(worse, KEY, 60, mild, START + 2 * MINUTE)
    assert better is not None
    assert (better.level, better.revision) == (Level.INFO, worse.revision + 1)
    assert words(lines) == ["eased rule_changed"]


def test_a_rule_made_tight_again_fires_again() -> None:
    """What was resolved by an edit fires anew in the same period, as another episode."""
    first = fired(budget(), 90)
    over, _ = step(first, KEY, 90, budget(limit=1000), START + MINUTE)
    again, lines = step(over, KEY, 90, budget(), START + 2 * MINUTE)
    assert over is not None
    assert again is not None
    assert words(lines) == ["fired 50%", "escalated 80%"]
    assert (first.episode, over.episode, again.episode) == (1, 1, 2)
    assert first.revision < over.revision < again.revision
    assert (again.ended_at, again.ending) == (None, None)


@pytest.mark.parametrize("ending", Ending)
def test_ends(ending: Ending) -> None:
    """A firing alert is resolved, a pending one cancelled, of which nobody hears."""
    alert = fired(budget(), 90)
    over, lines = end(alert, ending, START + MINUTE)
    assert lines == (
        Transition(START + MINUTE, What.RESOLVED, Level.WARNING, None, 90, (), ending),
    )
    assert over == replace(
        alert,
        phase=Phase.RESOLVED,
        revision=alert.revision + 1,
        ended_at=START + MINUTE,
        ending=ending,
    )
    waiting, _ = step(None, KEY, 90, budget(hold=5 * MINUTE), START)
    assert waiting is not None
    over, lines = end(waiting, ending, START + MINUTE)
    assert lines == (Transition(START + MINUTE, What.CANCELLED, None, None, 90, (), ending),)
    assert (over.is_open, over.revision, over.ending) == (False, 0, ending)


def test_what_is_over_stays_silent() -> None:
    """An alert that ended says nothing, whether its amount is known or not."""
    over, _ = end(fired(budget(), 90), Ending.PERIOD_ENDED, START + MINUTE)
    assert step(over, KEY, Health.NO_DATA, budget(), START + 2 * MINUTE) == (over, ())
    _, lines = step(over, KEY, 90, budget(limit=1000), START + 2 * MINUTE)
    assert lines == ()


def test_ids() -> None:
    """An id is the same in every process and release, and another for each rule, group, period."""
    assert KEY.id == "5baf03a1c489"
    tomorrow = DAY.period(KEY.period.end)
    others = [
        replace(KEY, rule="growth2"),
        replace(KEY, group=("ACME",)),
        replace(KEY, group=(None,)),
        replace(KEY, group=("None",)),
        replace(KEY, group=("",)),
        replace(KEY, group=()),
        replace(KEY, group=("ac", "me")),
        replace(KEY, group=('ac", "me',)),
        replace(KEY, period=tomorrow),
        replace(KEY, period=Calendar(Every.HOUR, "UTC").period(START)),
    ]
    for one, other in combinations([KEY, *others], 2):
        assert one.id != other.id
    renamed = Period(KEY.period.start, KEY.period.end, "another name")
    assert replace(KEY, period=renamed).id == KEY.id


ladders = st.builds(
    lambda percents, levels: tuple(zip(sorted(percents), sorted(levels), strict=False)),
    st.sets(st.sampled_from([20, 40, 50, 60, 80, 90, 100]), min_size=1, max_size=4),
    st.lists(st.sampled_from(Level), min_size=4, max_size=4),
)
limits = st.sampled_from([100, 150, 200, 300, 1000])
modes = st.sampled_from([Mode.SHADOW, Mode.NOTIFY, Mode.ENFORCE])
minutes = st.integers(0, 6)


class AlertLife(stateful.RuleBasedStateMachine):
    """One group of a rule, judged and edited in any order; every step is held to the promises."""

    def __init__(self) -> None:
        super().__init__()
        self.now = START
        self.limit, self.steps, self.mode, self.hold = 100, USUAL, Mode.NOTIFY, 0 * MINUTE
        self.begin(START)

    def begin(self, at: datetime) -> None:
        self.key = AlertKey("growth", ("acme",), DAY.period(at))
        self.alert: Alert | None = None
        self.amount = 0
        self.waited = 0 * MINUTE
        self.told: list[str] | None = []
        self.ups_and_downs: list[What] = []

    @property
    def rule(self) -> Budget:
        return budget(self.limit, self.steps, self.mode, self.hold)

    @stateful.rule(limit=limits)
    def edit_limit(self, limit: int) -> None:
        self.limit, self.told = limit, None

    @stateful.rule(steps=ladders)
    def edit_thresholds(self, steps: Steps) -> None:
        self.steps, self.told = steps, None

    @stateful.rule(mode=modes)
    def edit_mode(self, mode: Mode) -> None:
        self.mode = mode

    @stateful.rule(wait=minutes)
    def edit_hold(self, wait: int) -> None:
        self.hold = wait * MINUTE

    @stateful.rule(more=st.integers(0, 60), wait=minutes)
    def judge(self, more: int, wait: int) -> None:
        self.now += wait * MINUTE
        self.amount += more
        before = self.alert
        self.alert, lines = step(before, self.key, self.amount, self.rule, self.now)
        self.check_lines(before, lines)
        self.check_clock(before, wait * MINUTE)
        self.check_height(before, lines)

    @stateful.rule(wait=minutes)
    def judge_blind(self, wait: int) -> None:
        self.now += wait * MINUTE
        before = self.alert
        self.alert, lines = step(before, self.key, Health.NO_DATA, self.rule, self.now)
        self.check_lines(before, lines)
        assert all(line.what is What.HEALTH for line in lines)
        if before is None or not before.is_open:
            assert (self.alert, lines) == (before, ())
            return
        assert self.alert is not None
        blind = replace(
            before, health=Health.NO_DATA, since=self.alert.since, judged_at=self.alert.judged_at
        )
        assert self.alert == blind
        if before.phase is Phase.PENDING:
            assert self.now - self.alert.since == self.waited

    @stateful.precondition(lambda self: self.alert is not None and self.alert.is_open)
    @stateful.rule()
    def period_ends(self) -> None:
        assert self.alert is not None
        before = self.alert
        self.alert, lines = end(before, Ending.PERIOD_ENDED, self.now)
        self.check_lines(before, lines)
        assert not self.alert.is_open
        assert len(lines) == 1
        self.now = self.key.period.end
        self.begin(self.now)

    def check_lines(self, before: Alert | None, lines: tuple[Transition, ...]) -> None:
        """Hold a step to what its lines say: revisions, fires and resolves, modes, levels."""
        assert all(line.at == self.now for line in lines)
        whats = [line.what for line in lines]
        heard = sum(what in HEARD for what in whats)
        revision, episode = (before.revision, before.episode) if before else (0, 0)
        if self.alert is None:
            assert lines == ()
            return
        assert (self.alert.revision > revision) is (heard > 0)
        assert self.alert.revision - revision <= heard
        assert self.alert.episode - episode == whats.count(What.FIRED)
        self.ups_and_downs += [what for what in whats if what in {What.FIRED, What.RESOLVED}]
        turns = [What.FIRED, What.RESOLVED] * len(self.ups_and_downs)
        assert self.ups_and_downs == turns[: len(self.ups_and_downs)]
        firing = self.alert.phase is Phase.FIRING
        assert firing is bool(self.ups_and_downs and self.ups_and_downs[-1] is What.FIRED)
        assert (What.RESOLVED in whats) <= (before is not None and before.phase is Phase.FIRING)
        assert (What.CANCELLED in whats) <= (before is not None and before.phase is Phase.PENDING)

    def check_clock(self, before: Alert | None, passed: timedelta) -> None:
        """Hold a known amount to the time it has stood, whatever became of the rule meanwhile."""
        reached = self.rule.crossed(self.amount) > 0
        was_pending = before is not None and before.phase is Phase.PENDING
        was_firing = before is not None and before.phase is Phase.FIRING
        self.waited = self.waited + passed if was_pending else 0 * MINUTE
        if self.alert is None:
            assert not reached
            return
        if not reached:
            assert not self.alert.is_open
            return
        held = was_firing or self.waited >= self.hold
        assert self.alert.phase is (Phase.FIRING if held else Phase.PENDING)
        if not held:
            assert self.now - self.alert.since == self.waited
        if was_pending and before is not None:
            assert self.alert.since == before.since

    def check_height(self, before: Alert | None, lines: tuple[Transition, ...]) -> None:
        """Hold a known amount to the thresholds it has reached, each said once and in order."""
        said = [line for line in lines if line.threshold is not None]
        if self.alert is None or self.alert.phase is not Phase.FIRING:
            assert said == []
            return
        reached = self.rule.thresholds[: self.rule.crossed(self.amount)]
        assert (self.alert.crossed, self.alert.level) == (len(reached), reached[-1].level)
        assert self.alert.mode is self.mode
        assert (self.alert.amount, self.alert.health) == (self.amount, Health.OK)
        tail = reached[len(reached) - len(said) :]
        spoken = [(line.threshold, line.level, line.actions) for line in said]
        assert spoken == [(threshold.at, threshold.level, threshold.actions) for threshold in tail]
        if before is None or before.phase is not Phase.FIRING:
            self.told = []
        if self.told is not None:
            self.told += [threshold.at for threshold in tail]
            assert self.told == [threshold.at for threshold in reached]


def test_the_life_of_an_alert() -> None:
    """Whatever amounts, gaps and edits come in whatever order, each step keeps its promises."""
    stateful.run_state_machine_as_test(
        AlertLife, settings=settings(max_examples=120, stateful_step_count=40, deadline=None)
    )


# -------------------------------------------------------------------------- what can turn good

GAUGE = AlertKey("waste", ("acme",), ALWAYS)


def gauge(hold: int = 0, keep: int = 0, **changed: Any) -> Query:
    """Return a rule at 50 and 80 that holds down to 40 and 70, judged every minute."""
    return Query(
        id="waste",
        owner="sre",
        summary="",
        limit_text="50",
        per=("customer",),
        sql="",
        value="",
        unit_of=Unit.COUNT,
        window=MINUTE,
        every=MINUTE,
        hold=hold * MINUTE,
        keep=keep * MINUTE,
        thresholds=(
            Threshold("50", 50, Level.WARNING, clear=40),
            Threshold("80", 80, Level.CRITICAL, clear=70),
        ),
        **changed,
    )


G, N, E = Health.GUARDED, Health.NO_DATA, Health.ERROR
OVER = "resolved cleared"
BLIND = "health no_data"


@pytest.mark.parametrize(
    ("rule", "seen", "said"),
    [
        (gauge(), [50, 45, 40, 50, 39], ["fired 50", "", "", "", OVER]),
        (
            gauge(),
            [85, 75, 69, 80, 10],
            ["fired 50, escalated 80", "", "eased cleared", "escalated 80", OVER],
        ),
        (gauge(), [45, 50, 0, 50], ["", "fired 50", OVER, "fired 50"]),
        (
            gauge(keep=2),
            [50, 0, 50, 0, 0, 0],
            ["fired 50", "recovering", "relapsed", "recovering", "", OVER],
        ),
        (
            gauge(keep=2),
            [50, 0, N, N, 0, 0],
            ["fired 50", "recovering", BLIND, "", "health ok", OVER],
        ),
        (
            gauge(hold=2),
            [50, 0, 50, 50, 50],
            ["pending", "cancelled cleared", "pending", "", "fired 50"],
        ),
        (gauge(), [50, G], ["fired 50", f"health guarded, {OVER}"]),
        (gauge(), [50, N, E, 50], ["fired 50", BLIND, "health error", "health ok"]),
        (gauge(), [G, N, E], ["", "", ""]),
        (gauge(on_no_data=Unknown.OK), [50, N], ["fired 50", f"{BLIND}, {OVER}"]),
        (
            gauge(on_no_data=Unknown.FIRE),
            [N, 60],
            ["fired 50, escalated 80", "health ok, eased cleared"],
        ),
        (gauge(on_error=Unknown.FIRE), [N, E], ["", "fired 50, escalated 80"]),
    ],
)
def test_what_can_turn_good(rule: Query, seen: list[int | Health], said: list[str]) -> None:
    """Hysteresis, recovery, relapse, and policies for what is not known."""
    alert, found = None, []
    for minute, each in enumerate(seen):
        alert, lines = step(alert, GAUGE, each, rule, START + minute * MINUTE)
        found.append(", ".join(words(lines)))
    assert found == said


def test_time_in_which_nothing_was_judged_counts_for_no_clock() -> None:
    """A daemon that was down for an hour has not seen an hour of it."""
    for rule, first in ((gauge(hold=5), 60), (gauge(keep=5), 10)):
        alert, _ = step(None, GAUGE, 60, rule, START)
        alert, _ = step(alert, GAUGE, first, rule, START + MINUTE)
        assert alert is not None
        assert alert.waits
        alert, lines = step(alert, GAUGE, first, rule, START + 61 * MINUTE)
        assert lines == ()
        for minute in range(62, 70):
            alert, lines = step(alert, GAUGE, first, rule, START + minute * MINUTE)
            if lines:
                break
        assert minute in {64, 65}
