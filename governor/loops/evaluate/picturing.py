"""Picturing: what an alert is about, as lines over time, from what is stored."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import numpy as np

from governor.core.gauges.forecast import Ahead, ForecastGauge
from governor.core.gauges.history import Wanted
from governor.core.gauges.mix_drift import MixGauge
from governor.core.gauges.shared import EPOCH
from governor.core.gauges.spike import SpikeGauge
from governor.core.periods import BUCKET
from governor.core.picture import Line, Mark, Picture, Span, Style
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.shared import Rule
from governor.core.rules.spike import Spike
from governor.core.scopes import Key
from governor.loops.evaluate.ledger import Sources
from governor.loops.evaluate.why import LOOKED_AHEAD

SPIKE_HOURS: Final = 24 * 8
MAX_CLASSES: Final = 6
"""Classes of a mix that are drawn, those with the greatest share; the rest is one line."""
OTHERS: Final = "all others"


def picture_of(
    ledger: Sources, rule: Rule, group: Key, at: datetime, marks: Sequence[Mark], why: str
) -> Picture | None:
    """Return the picture of a group of a rule at a time; None for kinds that have none."""
    only = dict(zip(rule.per, group, strict=True))
    if isinstance(rule, Spike):
        lines, band = _of_spike(ledger, rule, only, at), ()
    elif isinstance(rule, MixDrift):
        lines, band = _of_mix(ledger, rule, only, group, at), ()
    elif isinstance(rule, Forecast) or (
        isinstance(rule, Budget) and rule.calendar.every in LOOKED_AHEAD
    ):
        return _of_outlook(ledger, rule, group, at, marks, why)
    elif isinstance(rule, Budget):
        lines, band = _of_budget(ledger, rule, only, at), ()
    else:
        return None
    limits = _limits(rule) if isinstance(rule, Budget) else ()
    drawn = [line for line in lines if line.points]
    first = min((line.points[0][0] for line in drawn), default=at)
    seen = tuple(mark for mark in marks if mark.at >= first)
    return Picture(_title(rule, group), why, rule.unit, tuple(drawn), band, limits, seen)


def _title(rule: Rule, group: Key) -> str:
    named = ", ".join(
        f"{name} {value or '(none)'}" for name, value in zip(rule.per, group, strict=True)
    )
    return f"{rule.id}: {named}" if named else rule.id


def _limits(rule: Budget | Forecast) -> tuple[tuple[str, int], ...]:
    return tuple((step.at, step.amount) for step in rule.thresholds)


def _of_spike(
    ledger: Sources, rule: Spike, only: dict[str, str | None], at: datetime
) -> list[Line]:
    gauge = SpikeGauge(rule)
    blocks = ledger.histories(replace(gauge.wanted(at), only=only))
    trail = gauge.trail(blocks, at, SPIKE_HOURS, ledger.exemptions(rule.id))
    return [
        Line("usual in an hour", Style.USUAL, tuple((hour, usual) for hour, _, usual in trail)),
        Line("used in an hour", Style.USED, tuple((hour, used) for hour, used, _ in trail)),
    ]


def _of_mix(
    ledger: Sources, rule: MixDrift, only: dict[str, str | None], group: Key, at: datetime
) -> list[Line]:
    gauge = MixGauge(rule)
    gauge.take(ledger.histories(replace(gauge.wanted(at), only=only)))
    ends, shares = gauge.shares(group, at)
    greatest = sorted(shares, key=lambda name: -max(shares[name]))
    lines = [
        Line(name, Style.SHARE, tuple(zip(ends, shares[name], strict=True)))
        for name in greatest[:MAX_CLASSES]
    ]
    rest = [shares[name] for name in greatest[MAX_CLASSES:]]
    if rest:
        summed = [sum(each) for each in zip(*rest, strict=True)]
        lines.append(Line(OTHERS, Style.SHARE, tuple(zip(ends, summed, strict=True))))
    return lines


def _of_outlook(
    ledger: Sources,
    rule: Budget | Forecast,
    group: Key,
    at: datetime,
    marks: Sequence[Mark],
    why: str,
) -> Picture:
    gauge = ForecastGauge(rule)
    only = dict(zip(rule.per, group, strict=True))
    gauge.take(ledger.histories(replace(gauge.wanted(at), only=only)))
    period = rule.calendar.period(at)
    past = gauge.past(group, at)
    added = np.cumsum([amount for _, amount in past]).tolist()
    so_far = [(period.start, 0)]
    so_far += [(min(end, at), amount) for (end, _), amount in zip(past, added, strict=True)]
    lines = [Line("so far", Style.USED, tuple(so_far))]
    band: tuple[Span, ...] = ()
    ahead = gauge.ahead(group, at)
    if ahead is not None:
        lines.append(Line("likely", Style.AHEAD, (so_far[-1], (period.end, ahead.likely))))
        band = _fan(so_far[-1], period.end, ahead)
    seen = tuple(mark for mark in marks if mark.at >= period.start)
    title = f"{_title(rule, group)}, {period.name}"
    return Picture(title, why, rule.unit, tuple(lines), band, _limits(rule), seen)


def _fan(now: tuple[datetime, int], end: datetime, ahead: Ahead) -> tuple[Span, ...]:
    at, amount = now
    return (Span(at, amount, amount), Span(end, ahead.low, ahead.high))


def _of_budget(
    ledger: Sources, rule: Budget, only: dict[str, str | None], at: datetime
) -> list[Line]:
    period = rule.calendar.period(at)
    wanted = Wanted(rule.where, rule.per, period.start, BUCKET, (rule.measure,), only)
    points = [(period.start, 0)]
    for block in ledger.histories(wanted):
        cells, places = np.unique(block.cells, return_inverse=True)
        used = np.zeros(len(cells), np.int64)
        np.add.at(used, places, block.amounts[rule.measure])
        added = np.cumsum(used).tolist()
        ends = [EPOCH + (cell + 1) * BUCKET for cell in cells.tolist()]
        points += [(min(end, at), much) for end, much in zip(ends, added, strict=True)]
    return [Line("used", Style.USED, tuple(points))]
