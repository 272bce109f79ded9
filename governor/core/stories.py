"""Stories: what an alert says of itself in one sentence, what drove it, and who contributed.

The first line is the sentence; the lines after it are the drivers, in dollars that add up, and the
greatest contributors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

from governor.core.drivers import Drivers, Use, drivers
from governor.core.gauges.forecast import Ahead
from governor.core.gauges.mix_drift import Moved
from governor.core.gauges.spike import Excess
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.spike import Against, Spike
from governor.core.rules.units import MICRO, Measure, amount_text
from governor.core.scopes import Key

DAYS_BEFORE: Final = 7
"""Days that the hours of a spike are compared with, to say what drove it."""
MAX_CONTRIBUTORS: Final = 3
TELLING_PERCENT: Final = 20
"""Contributors are named that make up at least so much of a difference."""
_HOUR: Final = timedelta(hours=1)
_SECOND: Final = timedelta(seconds=1)
_DAY: Final = timedelta(days=1)
DAYS_IN_HOURS: Final = 2
"""Up to so many days are written in hours."""
MOST_SURE: Final = MICRO * 99 // 100
_ALWAYS_SURE: Final = 8.0


@dataclass(frozen=True, slots=True)
class Spans:
    """Two spans whose cost is compared: `start` to `end` with `since` to `start`.

    `before` is the latter in words. With `same_hours` only those hours of the days before count
    that the span has itself.
    """

    since: datetime
    start: datetime
    end: datetime
    before: str
    same_hours: bool = False

    @property
    def scale(self) -> Decimal:
        """How long the span is, in spans before it."""
        if self.same_hours:
            return 1 / Decimal((self.start - self.since) // _DAY)
        return Decimal((self.end - self.start) // _SECOND) / ((self.start - self.since) // _SECOND)


@dataclass(frozen=True, slots=True)
class Contributor:
    """What a value of a dimension cost more than before, in nano-dollars."""

    dimension: str
    value: str | None
    more: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """Usage by model of two spans, and who used more, the greatest first."""

    before: Mapping[str, Use]
    after: Mapping[str, Use]
    contributors: Sequence[Contributor]


@dataclass(frozen=True, slots=True)
class Story:
    """A sentence, and the spans whose comparison says more; None where none does."""

    sentence: str
    spans: Spans | None = None


# --------------------------------------------------------------------------------- the sentences


def of_spike(rule: Spike, group: Key, excess: Excess) -> Story:
    """Tell of usage that is far more than usual."""
    used, usual = (amount_text(rule.measure, amount) for amount in (excess.used, excess.usual))
    span = "today" if excess.hours is None else f"in {_hours(excess.hours)}"
    times = f" ({excess.used / excess.usual:,.1f} times)" if excess.usual > 0 else ""
    sentence = f"{_name(rule.per, group)} used {used} {span}, where {usual} is usual{times}"
    if rule.against is Against.LEARNED and excess.hours is not None:
        sentence += f"; so much is seen once in {_rarely(excess.rarity)} hours"
    elif rule.against is not Against.LEARNED:
        sentence += f", as {str(rule.against).replace('_', ' ')}"
    since = excess.start - timedelta(days=DAYS_BEFORE)
    before = f"the same hours of the {DAYS_BEFORE} days before"
    return Story(f"{sentence}.", Spans(since, excess.start, excess.end, before, same_hours=True))


def of_mix(rule: MixDrift, group: Key, moved: Moved) -> Story:
    """Tell of a share that moved."""
    what = f"{moved.name}: {_percent(moved.share)} of {rule.measure}"
    planned = "planned" if rule.target else "usual"
    instead = f"where {_percent(moved.usual)} is {planned}"
    if moved.fresh and not rule.target:
        instead = f"and not seen in the {rule.windows} windows before"
    where = f"{_name(rule.per, group)}: " if rule.per else ""
    points = rule.text(abs(moved.share - moved.usual))
    side = "more" if moved.share > moved.usual else "less"
    sentence = f"{where}{what} in {_hours(rule.window // _HOUR)}, {instead}, {points} {side}."
    windows = min(rule.windows, DAYS_BEFORE)
    since = moved.start - rule.window * windows
    return Story(sentence, Spans(since, moved.start, moved.end, f"the {windows} windows before"))


def of_outlook(rule: Forecast | Budget, group: Key, ahead: Ahead, now: datetime) -> Story:
    """Tell of where a period is heading."""
    likely, low, high, limit = (
        amount_text(rule.measure, amount)
        for amount in (ahead.likely, ahead.low, ahead.high, rule.limit)
    )
    name = f"{_name(rule.per, group)} is" if rule.per else "It is"
    sentence = f"{name} heading for {likely} (80% sure: {low} to {high}) of {limit}"
    if ahead.so_far > rule.limit:
        sentence += "; the limit is passed already"
    else:
        sentence += f"; the limit is passed with {odds(ahead.above)} probability"
        if ahead.exhausted is not None:
            sentence += f", likely on {ahead.exhausted:%Y-%m-%d}"
    if not ahead.sure:
        sentence += "; little is known yet, so this is a run-rate"
    start = now - timedelta(days=DAYS_BEFORE)
    before = f"the {DAYS_BEFORE} days before these {DAYS_BEFORE}"
    return Story(f"{sentence}.", Spans(start - timedelta(days=DAYS_BEFORE), start, now, before))


def odds(above: int) -> str:
    """Write a probability in millionths; nothing that is to come is certain."""
    if above > MOST_SURE:
        return "over 99%"
    return f"{above * 100 // MICRO}%" if above >= MICRO - MOST_SURE else "under 1%"


def _name(per: Sequence[str], group: Key) -> str:
    named = zip(per, group, strict=True)
    return ", ".join(f"{name} {value or '(none)'}" for name, value in named) or "All together"


def _hours(hours: int) -> str:
    if hours == 1:
        return "an hour"
    days, rest = divmod(hours, 24)
    return f"{hours} h" if rest or days <= DAYS_IN_HOURS else f"{days} days"


def _rarely(rarity: float) -> str:
    """Write how rare something is, to one digit, since it is an estimate."""
    if rarity >= _ALWAYS_SURE:
        return "millions of"
    times = 10**rarity
    digits = 10 ** int(rarity)
    return f"{round(times / digits) * digits:,}"


def _percent(share: int) -> str:
    return f"{Decimal(share) / (MICRO // 100):.1f}%"


# --------------------------------------------------------------------------- drivers and who did


def told(story: Story, comparison: Comparison | None) -> str:
    """Return a story as lines."""
    lines = [story.sentence]
    if comparison is not None and story.spans is not None and comparison.after:
        found = drivers(comparison.before, comparison.after, story.spans.scale)
        lines.append(driver_text(found, story.spans.before))
        lines += contributor_lines(comparison.contributors, found)
    return "\n".join(lines)


def driver_text(found: Drivers, before: str) -> str:
    """Write what drove a cost, the greatest first: `Cost +3 USD against ...: volume +3 USD`."""
    words = {
        "volume": found.volume,
        "model mix": found.mix,
        "tokens a request": found.tokens,
        "price": found.price,
    }
    parts = sorted(words.items(), key=lambda item: -abs(item[1]))
    text = ", ".join(f"{name} {_signed(amount)}" for name, amount in parts if _counts(amount))
    return f"Cost {_signed(found.total)} against {before}: {text or 'nothing that counts'}."


def contributor_lines(contributors: Sequence[Contributor], found: Drivers) -> list[str]:
    """Write who contributed most to a rise, one value of each dimension."""
    if found.total <= 0:
        return []
    best: dict[str, Contributor] = {}
    for each in contributors:
        telling = each.more * 100 >= found.total * TELLING_PERCENT and each.value is not None
        if telling and each.dimension not in best:
            best[each.dimension] = each
    named = [
        f"{each.dimension} {each.value} {_signed(each.more)}"
        for each in list(best.values())[:MAX_CONTRIBUTORS]
    ]
    return [f"Most of it: {', '.join(named)}."] if named else []


def _signed(nano: int) -> str:
    sign = "+" if nano >= 0 else "-"
    return f"{sign}{amount_text(Measure.COST, abs(nano))}"


def _counts(nano: int) -> bool:
    """Return whether an amount is worth naming: a cent."""
    return abs(nano) >= 10**7
