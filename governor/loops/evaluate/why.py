"""Why: what alerts say of how their numbers came about, asked for only where one is told."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from governor.core import stories
from governor.core.errors import GovernorError, TransientError
from governor.core.gauges.forecast import Ahead, ForecastGauge
from governor.core.periods import Every
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.shared import Mode, Rule
from governor.core.scopes import Key
from governor.core.stories import Story
from governor.loops.evaluate.gauging import Gauging
from governor.loops.evaluate.ledger import Sources

MAX_EXPLAINED: Final = 20
"""Alerts of one look that are explained with what drove them; others have their sentence."""
LOOKED_AHEAD: Final = (Every.WEEK, Every.MONTH)
"""Periods of budgets that are long enough to be looked ahead for."""

_log = structlog.get_logger()


class Why:
    """Says why, of alerts that are judged at one time; what is said once is not asked again."""

    def __init__(self, ledger: Sources, gauges: Gauging, now: datetime) -> None:
        self._ledger = ledger
        self._gauges = gauges
        self._now = now
        self._asked = 0

    def __call__(self, rule: Rule, group: Key) -> str | None:
        """Return a sentence and lines of detail; None where there is nothing to say."""
        if rule.mode is Mode.OFF:
            return None
        story = self._story(rule, group)
        if story is None:
            return None
        if story.spans is not None:  # the window's last hour is not over yet
            spans = replace(story.spans, end=min(story.spans.end, self._now))
            story = replace(story, spans=spans)
        return stories.told(story, self._compared(rule, group, story))

    def _story(self, rule: Rule, group: Key) -> Story | None:
        if not isinstance(rule, Budget):
            return self._gauges.story(rule, group, self._now)
        if rule.calendar.every not in LOOKED_AHEAD or self._asked >= MAX_EXPLAINED:
            return None
        ahead = outlook_of(self._ledger, rule, group, self._now)
        return stories.of_outlook(rule, group, ahead, self._now) if ahead else None

    def _compared(self, rule: Rule, group: Key, story: Story) -> stories.Comparison | None:
        if story.spans is None or self._asked >= MAX_EXPLAINED:
            return None
        self._asked += 1
        try:
            return self._ledger.comparison(rule, group, story.spans)
        except TransientError:
            raise
        except GovernorError as error:
            _log.warning("alert.unexplained", rule=rule.id, error=str(error))
            return None


def outlook_of(ledger: Sources, rule: Budget, group: Key, now: datetime) -> Ahead | None:
    """Return where the period of a budget is heading, for one group."""
    gauge = ForecastGauge(rule)
    only = dict(zip(rule.per, group, strict=True))
    gauge.take(ledger.histories(replace(gauge.wanted(now), only=only)))
    return gauge.ahead(group, now)


def outlooks_of(
    ledger: Sources, rule: Budget | Forecast, now: datetime, most: int
) -> Mapping[Key, Ahead]:
    """Return where the period of a rule is heading, for the groups that used most lately."""
    gauge = ForecastGauge(rule)
    gauge.take(ledger.histories(replace(gauge.wanted(now), most=most)))
    return gauge.every(now)
