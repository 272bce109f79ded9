"""A hundred thousand lives of alerts, at random: what must be so whatever happens.

5,000 here, 100,000 in `make soak`.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from random import Random

import pytest

from governor.core.alerts import Alert, AlertKey, Ending, Health, Phase, Seen, What, step
from governor.core.periods import ALWAYS
from governor.core.rules.shared import Level, Rule, Threshold, Unknown
from tests.unit.site import NOON, budget
from tests.unit.test_gauges import query

FULL = os.environ.get("GOVERNOR_TEST_SIZE") == "full"
LIVES = 100_000 if FULL else 5_000
MINUTE = timedelta(minutes=1)
HEARD = {What.FIRED, What.ESCALATED, What.EASED, What.RESOLVED}


def drawn(draw: Random) -> Rule:
    """Return a rule, latched or not, with clocks and policies at random."""
    ats = sorted(draw.sample(range(10, 100), draw.randint(1, 4)))
    levels = sorted(draw.choices(list(Level), k=len(ats)))
    latched = draw.random() < 0.3
    thresholds: list[Threshold] = []
    floor = 0
    for at, level in zip(ats, levels, strict=True):
        clear = None if latched else max(floor, draw.randint(at // 2, at))
        floor = clear or 0
        thresholds.append(Threshold(str(at), at, level, clear=clear))
    base: Rule = budget(100, per=("customer",)) if latched else query()
    return replace(
        base,
        thresholds=tuple(thresholds),
        hold=draw.choice([0, 0, 2, 5]) * MINUTE,
        keep=timedelta(0) if latched else draw.choice([0, 0, 3]) * MINUTE,
        every=timedelta(0) if latched else MINUTE,
        on_no_data=Unknown.KEEP if latched else draw.choice([Unknown.KEEP, Unknown.KEEP, *Unknown]),
        on_error=Unknown.KEEP if latched else draw.choice([Unknown.KEEP, Unknown.FIRE]),
    )


def observed(draw: Random, before: int, rule: Rule) -> Seen:
    """Return a number, or why there is none; what is used in a period only grows."""
    if draw.random() < 0.2:
        why = [Health.NO_DATA, Health.ERROR, *([] if rule.latched else [Health.GUARDED])]
        return draw.choice(why)
    return max(before if rule.latched else 0, before + draw.randint(-40, 45))


def is_known(seen: Seen, rule: Rule) -> bool:
    """Return whether there is evidence: a number, too small a one, or that none is good news."""
    policies = {Health.NO_DATA: rule.on_no_data, Health.ERROR: rule.on_error}
    return not isinstance(seen, Health) or policies.get(seen) in {None, Unknown.OK}


def live(seed: int) -> int:
    """Play one life and check every step of it; return how many transitions it had."""
    draw = Random(seed)
    rule = drawn(draw)
    key = AlertKey(rule.id, ("acme",), rule.period(NOON) if rule.latched else ALWAYS)
    alert: Alert | None = None
    amount, now, said = 0, NOON, 0
    for _ in range(draw.randint(5, 40)):
        now += draw.choice([1, 1, 1, 1, 9]) * MINUTE
        seen = observed(draw, amount, rule)
        amount = amount if isinstance(seen, Health) else seen
        before = alert
        alert, lines = step(alert, key, seen, rule, now)
        again, more = step(alert, key, seen, rule, now)
        said += len(lines)
        whats = [line.what for line in lines]
        _check_evidence(before, seen, rule, whats)
        if alert is None:
            assert before is None
            continue
        assert alert.key == key
        _check_told(before, alert, whats)
        _check_state(before, alert, rule, whats)
        if not (rule.keep or rule.hold) and not isinstance(seen, Health):
            assert not more, "the same again said something new"
            assert again == alert
    return said


def _check_evidence(before: Alert | None, seen: Seen, rule: Rule, whats: Sequence[What]) -> None:
    """Nothing ends but by evidence."""
    if before is not None and before.is_open and not is_known(seen, rule):
        assert not {What.RESOLVED, What.CANCELLED} & set(whats), "no data turned it green"


def _check_state(before: Alert | None, alert: Alert, rule: Rule, whats: Sequence[What]) -> None:
    """Let no budget go, and nothing fire before its time."""
    if rule.latched and before is not None and before.phase is Phase.FIRING:
        assert alert.phase is Phase.FIRING, "a budget let go"
        assert alert.crossed >= before.crossed
    if What.FIRED in whats:
        since = before.since if before and before.is_open else alert.judged_at
        assert alert.judged_at - since >= rule.hold, "it fired before its time"
    if alert.is_open and alert.crossed:
        assert alert.level is rule.thresholds[alert.crossed - 1].level


def _check_told(before: Alert | None, alert: Alert, whats: Sequence[What]) -> None:
    """Each change that people hear of is one revision, each firing one episode, no more."""
    old = (before.revision, before.episode) if before else (0, 0)
    assert alert.episode - old[1] == whats.count(What.FIRED) <= 1
    assert alert.revision - old[0] <= len([what for what in whats if what in HEARD])
    assert (alert.revision > old[0]) == bool(HEARD & set(whats))
    was_open = before is not None and before.is_open
    if What.RESOLVED in whats:
        assert was_open
        assert before is not None
        assert before.phase in {Phase.FIRING, Phase.RECOVERING}
        assert alert.ending in {Ending.CLEARED, Ending.RULE_CHANGED}
    if was_open and before is not None and before.phase is not Phase.PENDING and alert.is_open:
        assert alert.episode == before.episode, "one episode became two"


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_lives_of_alerts() -> None:
    """No data never resolves, levels latch, an episode is one, a change is told once."""
    lengths = [live(seed) for seed in range(LIVES)]
    assert sum(length > 3 for length in lengths) > LIVES // 3  # they were no idle lives
