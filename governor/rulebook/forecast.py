"""The kind `forecast`: what a week or month will have cost when it ends, against a limit."""

from datetime import timedelta
from typing import Final

from governor.core.periods import Calendar, Every
from governor.core.rules.forecast import Forecast
from governor.core.rules.shared import MAX_ALERTS
from governor.core.rules.units import MICRO, Measure
from governor.documents.sections import Section, choice
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import Amount, amount, duration, share, threshold, zone

KEYS: Final = (
    *common.KEYS,
    *common.GAUGE_KEYS,
    "limit",
    "period",
    "timezone",
    "confidence",
    "min_history",
)
PERIODS: Final = (Every.WEEK, Every.MONTH)
CLEARS_PERCENT: Final = 95
MIN_CONFIDENCE: Final = MICRO // 2
MAX_CONFIDENCE: Final = MICRO * 99 // 100
MAX_HISTORY: Final = timedelta(days=70)

_EVERY: Final = choice({str(every): every for every in PERIODS})
_NO_LIMIT: Final = Amount(Measure.COST, 1)


def read(section: Section) -> Forecast:
    """Read a forecast; what is wrong is reported."""
    limit = section.take("limit", amount, None, "10000 USD")
    every = section.take("period", _EVERY, Every.MONTH, "month")
    deeds = actions(section, latched=False, ends=True)
    reading = Reading(lambda text: threshold(text, limit), "100%", CLEARS_PERCENT)
    steps = thresholds(section, reading, deeds)
    return Forecast(
        **common.common(section, acts=True),
        **common.judged(section, timedelta(minutes=15)),
        limit_text=section.written("limit"),
        thresholds=steps,
        actions=deeds,
        measure=(limit or _NO_LIMIT).measure,
        limit=(limit or _NO_LIMIT).amount,
        calendar=Calendar(every, section.take("timezone", zone, "UTC")),
        confidence=section.take("confidence", _confidence, MICRO * 8 // 10),
        min_history=section.take("min_history", _history, timedelta(days=14)),
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


def _confidence(text: str) -> int:
    found = share(text)
    if not MIN_CONFIDENCE <= found <= MAX_CONFIDENCE:
        raise ValueError("must be from 50% to 99%")
    return found


def _history(text: str) -> timedelta:
    found = duration(text)
    if not timedelta(days=1) <= found <= MAX_HISTORY or found % timedelta(days=1):
        raise ValueError(f"must be whole days, from 1d to {MAX_HISTORY.days}d")
    return found
