"""The kind `spike`: a group uses far more than its own past makes likely."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Final

from governor.core.rules.shared import MAX_ALERTS
from governor.core.rules.spike import Against, Spike
from governor.core.rules.units import MICRO, Measure
from governor.core.series import Asked
from governor.documents.sections import Read, Section, choice
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.ratio import SUCH_AS, of_measure
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import duration, share, zone

KEYS: Final = (
    *common.KEYS,
    *common.GAUGE_KEYS,
    "metric",
    "baseline",
    "sensitivity",
    "guards",
    "cool_down",
    "lookback",
    "timezone",
)
GUARDS: Final = ("min_increase", "min_day_share")
BASELINE: Final = ("method", "times", "window")
SENSITIVITY: Final = {"low": 4.0, "medium": 3.3, "high": 2.8}
"""The negative decimal logarithm of how rare an hour must be that is told."""
WINDOWS: Final = {"1h": 1, "6h": 6, "24h": 24}
CLEARS_PERCENT: Final = 50
MIN_LOOKBACK: Final = timedelta(days=14)
MAX_LOOKBACK: Final = timedelta(days=90)
MAX_COOL_DOWN: Final = timedelta(days=7)

METRIC: Final = choice({str(measure): measure for measure in Measure})
_METHOD: Final = choice({str(method): method for method in Against})
_SENSITIVITY: Final = choice(SENSITIVITY)
_WINDOW: Final = choice(WINDOWS)
_TIMES: Final = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,2})?x", re.ASCII)


def read(section: Section) -> Spike:
    """Read a spike; what is wrong is reported."""
    measure = section.take("metric", METRIC, Measure.COST)
    deeds = actions(section, latched=False, ends=False)
    reading = Reading(of_measure(measure, "metric"), SUCH_AS[measure], CLEARS_PERCENT)
    steps = thresholds(section, reading, deeds)
    against, times, wide = _baseline(section)
    asked = replace(
        _guards(section),
        least=min((step.amount for step in steps), default=0),
        cool_hours=section.take("cool_down", _cool_down, timedelta(days=1)) // timedelta(hours=1),
    )
    if against is Against.LEARNED:
        asked = replace(
            asked, score=section.take("sensitivity", _SENSITIVITY, SENSITIVITY["medium"])
        )
    else:
        asked = replace(asked, score=times, young=0.0, relief=times / 4, times=1.0, day_share=0.0)
    return Spike(
        **common.common(section, acts=True),
        **common.judged(section, timedelta(minutes=1)),
        limit_text=steps[0].at if steps else "",
        thresholds=steps,
        actions=deeds,
        measure=measure,
        against=against,
        asked=asked,
        zone=section.take("timezone", zone, "UTC"),
        lookback=section.take("lookback", _lookback, timedelta(days=42)),
        wide=timedelta(hours=wide),
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


def _baseline(section: Section) -> tuple[Against, float, int]:
    """Read what usage is compared with: how many times that is told, over which hours."""
    entry = section.entries.get("baseline")
    if entry is None:
        return Against.LEARNED, 0.0, 1
    baseline = Section("baseline", entry.node, BASELINE, section.report)
    against = baseline.take("method", _METHOD, Against.LEARNED, "last_week")
    times = baseline.take("times", _times, 2.0)
    wide = baseline.take("window", _WINDOW, 1)
    if against is not Against.LEARNED:
        if "sensitivity" in section.entries:
            node = section.entries["sensitivity"].node
            section.report.add(
                node, f"sensitivity: method {against} has none; write times, such as 2x"
            )
        if baseline.lacks("times"):
            baseline.needs("times", "2x")
    elif baseline.written("method") == str(against):
        for key in ("times", "window"):
            if key in baseline.entries:
                why = f"{key}: method learned has none; its windows are 1, 6 and 24 hours"
                section.report.add(baseline.entries[key].node, why)
    return against, times, wide


def _guards(section: Section) -> Asked:
    entry = section.entries.get("guards")
    if entry is None:
        return Asked()
    guards = Section("guards", entry.node, GUARDS, section.report)
    return Asked(
        times=1 + guards.take("min_increase", share, 300_000) / MICRO,
        day_share=guards.take("min_day_share", share, 50_000) / MICRO,
    )


def _times(text: str) -> float:
    if not _TIMES.fullmatch(text) or float(text[:-1]) <= 1:
        raise ValueError("must be how many times, more than 1, such as 2x or 1.5x")
    return float(text[:-1])


def _span(least: timedelta, most: timedelta, words: str) -> Read[timedelta]:
    def read(text: str) -> timedelta:
        found = duration(text)
        if not least <= found <= most or found % timedelta(hours=1):
            raise ValueError(f"must be whole hours, from {words}")
        return found

    return read


_cool_down: Final[Callable[[str], timedelta]] = _span(timedelta(hours=1), MAX_COOL_DOWN, "1h to 7d")
_lookback: Final[Callable[[str], timedelta]] = _span(MIN_LOOKBACK, MAX_LOOKBACK, "14d to 90d")
