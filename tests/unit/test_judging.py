"""Evaluation held to plain loops over all that was used: through edits, restarts and failures."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from governor.core.decisions import AuditRow, Decisions
from governor.core.errors import TransientError
from governor.core.periods import Every
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode
from tests.unit.site import NOON, Clock, Site, budget, opened

SEEDS = range(40) if os.environ.get("GOVERNOR_TEST_SIZE") == "full" else (7,)
"""Seed 7 edits a rule so that its alert stands under another `where`."""
MIDNIGHT = NOON + timedelta(hours=12)
MINUTE = timedelta(minutes=1)
ALL_THREE = [("info", "50%"), ("warning", "80%"), ("critical", "100%")]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


def asked(at: datetime) -> AuditRow:
    return AuditRow(at, "ann", "socket", "throttles.release", "x", "")


# ---------------------------------------------------------------------------------- the oracle

EDITS: Mapping[str, Sequence[partial[Budget] | None]] = {
    "a": (
        partial(budget, per=("customer",)),
        partial(budget, 140, per=("customer",)),
        partial(budget, 1000, per=("customer",)),
        partial(budget, at=(40, 90), per=("customer",)),
        partial(budget, per=("customer",), mode=Mode.NOTIFY),
        partial(budget, per=("customer",), mode=Mode.SHADOW),
        partial(budget, per=("customer",), mode=Mode.OFF),
        partial(budget, per=("customer", "tier")),
        partial(budget),
        None,
    ),
    "b": (
        partial(budget, 60, where={}, every=Every.HOUR),
        partial(budget, 60, where={}, every=Every.HOUR, zone="Asia/Kathmandu"),
        partial(budget, 300, where={}, zone="America/New_York"),
        partial(budget, 60, where={"tier": "pro"}, every=Every.HOUR),
        partial(budget, 900, where={}, every=Every.MONTH, mode=Mode.NOTIFY),
        None,
    ),
    "c": (
        partial(budget, 40, where={"customer": "b"}, hold=20 * MINUTE),
        partial(budget, 40, where={"customer": "b"}, hold=35 * MINUTE),
        partial(budget, 40, where={"customer": "b"}),
    ),
}
LABELS = {Every.HOUR: "%Y-%m-%dT%H", Every.DAY: "%Y-%m-%d", Every.MONTH: "%Y-%m"}


class Use(NamedTuple):
    """What an event came to."""

    at: datetime
    usd: int
    customer: str | None
    tier: str


class About(NamedTuple):
    """A rule, a group and a period by its local name."""

    rule: str
    group: tuple[str | None, ...]
    label: str
    zone: str
    every: Every


@dataclass(slots=True)
class Case:
    """How an alert should stand."""

    rule: Budget
    waits_since: datetime | None
    crossed: int = 0
    is_open: bool = True


@dataclass(slots=True)
class Oracle:
    """Every amount counted anew at every look, in plain loops over all that was ever used."""

    rules: Sequence[Budget] = ()
    uses: list[Use] = field(default_factory=list)
    cases: dict[About, Case] = field(default_factory=dict)
    said: dict[tuple[Any, ...], list[tuple[str, str | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    freed: set[About] = field(default_factory=set)

    def judge(self, now: datetime) -> None:
        """Look at every group of every rule that used something in the present period."""
        amounts = self.amounts(now)
        rules = {rule.id: rule for rule in self.rules}
        for about, case in self.cases.items():
            if not case.is_open:
                continue
            if label(now, about.every, about.zone) != about.label:
                self.close(about, case, "period_ended")
            elif about.rule not in rules or rules[about.rule].mode is Mode.OFF:
                self.close(about, case, "rule_removed")
            elif about not in amounts:
                self.close(about, case, "rule_changed")
        for about, usd in amounts.items():
            self.look(about, usd, rules[about.rule], now)

    def amounts(self, now: datetime) -> dict[About, int]:
        found: dict[About, int] = defaultdict(int)
        for rule in self.rules:
            zone, every = rule.calendar.zone, rule.calendar.every
            present = label(now, every, zone)
            for use in self.uses:
                wanted = {c.dimension: next(iter(c.values)) for c in rule.where.conditions}
                fits = all(getattr(use, name) == value for name, value in wanted.items())
                if rule.mode is not Mode.OFF and fits and label(use.at, every, zone) == present:
                    group = tuple(getattr(use, name) for name in rule.per)
                    found[About(rule.id, group, present, zone, every)] += use.usd
        return found

    def look(self, about: About, usd: int, rule: Budget, now: datetime) -> None:
        percents = [int(threshold.at[:-1]) for threshold in rule.thresholds]
        limit_usd = int(rule.limit_text.split()[0])
        reached = sum(usd * 100 >= percent * limit_usd for percent in percents)
        case = self.cases.get(about)
        if case is None or not case.is_open:
            if not reached:
                return
            case = self.cases[about] = Case(rule, now)
        case.rule = rule
        if not reached:
            self.close(about, case, "rule_changed")
        elif case.waits_since is None or now - case.waits_since >= rule.hold:
            case.waits_since = None
            for percent in percents[case.crossed : reached]:
                self.say(about, "crossed", f"{percent}%")
            case.crossed = reached

    def close(self, about: About, case: Case, why: str) -> None:
        self.say(about, "resolved" if case.waits_since is None else "cancelled", why)
        case.is_open = False

    def say(self, about: About, what: str, more: str) -> None:
        self.said[about[:3]].append((what, more))

    def firing(self) -> dict[About, Case]:
        return {a: c for a, c in self.cases.items() if c.is_open and c.waits_since is None}

    def throttled(self) -> list[tuple[Any, ...]]:
        return sorted(
            (about.rule, str(about.group))
            for about, case in self.firing().items()
            if case.rule.mode is Mode.ENFORCE
            and case.crossed == len(case.rule.thresholds)
            and about not in self.freed
        )


def label(at: datetime, every: Every, zone: str) -> str:
    return at.astimezone(ZoneInfo(zone)).strftime(LABELS[every])


# ---------------------------------------------------------------------------------- the rough run


class Unreliable:
    """A ledger whose commits fail, before or after they are made."""

    def __init__(self, ledger: Any, luck: Callable[[], float]) -> None:
        self._ledger = ledger
        self._luck = luck

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    def commit(self, number: int, decisions: Decisions, receivers: Sequence[str]) -> None:
        luck = self._luck()
        if luck < 0.2:
            raise TransientError("nothing was stored")
        before = self._ledger.decided
        self._ledger.commit(number, decisions, receivers)
        if luck < 0.4:
            self._ledger.decided = before
            raise TransientError("it was stored, and nobody knows")


def until_done(step: Callable[[], Any]) -> Any:
    """Do a step again until it succeeds, as the loop does."""
    for _ in range(200):
        try:
            return step()
        except TransientError:
            continue
    raise AssertionError("it never succeeds")


@dataclass(slots=True)
class Run:
    """Draws what happens, does it, and lets the oracle know."""

    draw: Random
    clock: Clock
    oracle: Oracle
    spoken: dict[str, Any] = field(default_factory=dict)

    def edit(self) -> Sequence[Budget]:
        made = [
            variant(name=name)
            for name, variants in EDITS.items()
            if (variant := self.draw.choice(variants)) is not None
        ]
        self.oracle.rules = made
        return made

    def events(self, site: Site) -> list[dict[str, Any]]:
        hours = (0, 0, 0, 0, -1, -3, -26, 0.9)
        made = []
        for _ in range(self.draw.randrange(6)):
            at = self.clock.now + timedelta(hours=self.draw.choice(hours))
            usd, tier = self.draw.randrange(1, 40), self.draw.choice(("free", "free", "pro"))
            customer = self.draw.choice(("a", "b", None))
            model = self.draw.choice(("flat", "unheard-of"))
            event = site.event(usd, at=at, customer=customer, tier=tier, model=model)
            made += [event] * self.draw.choice((1, 1, 2))
            self.oracle.uses.append(Use(at, usd, customer, tier))
        return made

    def batch(self, site: Site) -> None:
        """Count a batch, half of the time without learning what it came to."""
        events = self.events(site)
        if self.draw.random() < 0.8:
            site.take(events)
        else:
            batch = site.batch(events)
            site.store.append(batch)
            until_done(lambda: site.evaluate.missed(batch))

    def free(self, site: Site) -> None:
        """Have one that is throttled released by a person."""
        for about, case in self.oracle.firing().items():
            alert = next(
                (
                    alert
                    for alert, _ in site.evaluate.alerts
                    if (alert.key.rule, alert.key.group) == about[:2] and alert.is_open
                ),
                None,
            )
            if alert and case.rule.mode is Mode.ENFORCE and self.draw.random() < 0.3:
                stands = f"{alert.key.id}-slow" in {d.id for d in site.standing()}
                until_done(
                    lambda: site.evaluate.release(f"{alert.key.id}-slow", asked(self.clock.now))  # noqa: B023
                )
                if stands:
                    self.oracle.freed.add(about)
                return

    def steps(self, site: Site) -> Iterator[None]:
        """Do things until the process is killed."""
        while True:
            self.clock.now += timedelta(minutes=self.draw.choice((0, 1, 7, 16, 40)))
            if self.draw.random() < 0.3:
                until_done(site.evaluate.tick)
                self.oracle.judge(self.clock.now)
                self.check(site)
            self.batch(site)
            if self.draw.random() < 0.9:
                until_done(site.evaluate.settle)
            if self.draw.random() < 0.1:
                return
            until_done(site.evaluate.tick)
            self.oracle.judge(self.clock.now)
            self.check(site)
            if self.draw.random() < 0.1:
                self.free(site)
                self.check(site)
            if self.draw.random() < 0.15:
                rules = self.edit()
                until_done(partial(site.evaluate.reload, rules))
                self.oracle.judge(self.clock.now)
                self.check(site)
            yield

    def check(self, site: Site) -> None:
        """Compare all there is."""
        rows = site.ask(
            'SELECT rule, "group", period, what, coalesce(threshold, reason) FROM alert_lines'
            " WHERE threshold IS NOT NULL OR what IN ('resolved', 'cancelled') ORDER BY seq"
        )
        said = defaultdict(list)
        for rule, group, period, what, more in rows:
            crossed = what in {"fired", "escalated"}
            said[rule, group, period[:13]].append(("crossed" if crossed else what, more))
        wanted = {
            (rule, as_json(group), period): lines
            for (rule, group, period), lines in self.oracle.said.items()
        }
        assert dict(said) == wanted
        groups = {alert.key.id: str(alert.key.group) for alert, _ in site.evaluate.alerts}
        assert (
            sorted((d.rule, groups.get(d.alert or "", "?")) for d in site.standing())
            == self.oracle.throttled()
        )
        self.check_told(site)
        assert site.evaluate.drift() == []

    def check_told(self, site: Site) -> None:
        """People hear of every alert that may be told, at its height, and of none that is over."""
        firing = {
            (about.rule, tuple("(none)" if v is None else v for v in about.group)): case
            for about, case in self.oracle.firing().items()
        }
        red = {
            (notice.rule, tuple(value for _, value in notice.group)): notice
            for notice in site.owed()
            if notice.resolved is None
        }
        assert red.keys() <= firing.keys()
        for name, case in firing.items():
            if case.rule.mode in {Mode.NOTIFY, Mode.ENFORCE}:
                assert red[name].level is case.rule.thresholds[case.crossed - 1].level
                freed = {about[:2] for about in self.oracle.freed if about in self.oracle.cases}
                if case.rule.mode is Mode.ENFORCE and not freed:
                    slowed = case.crossed == len(case.rule.thresholds)
                    assert any("each user" in line for line in red[name].throttles) is slowed


def as_json(group: tuple[str | None, ...]) -> str:
    return "[" + ", ".join("null" if value is None else f'"{value}"' for value in group) + "]"


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens(path: Path, seed: int) -> None:
    """Edits, restarts, lost answers and failed commits change nothing of what should be so.

    History, throttles and what people hear are those of plain loops over all usage.
    """
    draw = Random(seed)
    run = Run(draw, Clock(NOON + timedelta(hours=6)), Oracle())
    rules = run.edit()
    steps = 0
    while steps < 40:
        wrapped = partial(Unreliable, luck=draw.random)
        with opened(path, rules, run.clock, begun=False, wrapped=wrapped) as site:
            until_done(site.evaluate.begin)
            run.oracle.judge(run.clock.now)
            until_done(partial(site.evaluate.adopt, site.evaluate.directives, 0))
            until_done(site.evaluate.tick)
            run.check(site)
            for _ in run.steps(site):
                steps += 1
        rules = run.oracle.rules
    assert run.oracle.said
