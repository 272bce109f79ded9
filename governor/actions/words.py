"""A bulletin in words, for receivers that show text: nothing here is escaped or marked up."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Final

from governor.core.bulletins import Bulletin, News
from governor.core.notifications import Notice
from governor.core.rules.shared import Level

MAX_LINE: Final = 200
MAX_WORD: Final = 150
"""Characters of a name, an amount, a value of a dimension."""
MAX_PERCENT: Final = Decimal(999_999)
MAX_CHANGES: Final = 10
"""Changes that are named; the others are counted."""
MAX_NAMED: Final = 15
"""Alerts that are named; likewise."""

_SIGNS: Final = {
    Level.INFO: "\N{INFORMATION SOURCE}\ufe0f",
    Level.WARNING: "\N{WARNING SIGN}\ufe0f",
}
_WORST: Final = "\N{POLICE CARS REVOLVING LIGHT}"
_OVER: Final = "\N{WHITE HEAVY CHECK MARK}"


def sign(level: Level, *, over: bool) -> str:
    """Return the picture that says how bad it is, or that it is over."""
    return _OVER if over else _SIGNS.get(level, _WORST)


def heading(bulletin: Bulletin) -> str:
    """Return how a thread stands, in a line without a picture."""
    if bulletin.notices[0].kind == "report":
        return name(bulletin)
    if bulletin.total == 1:
        state = str(bulletin.level).capitalize() if bulletin.open else "Resolved"
        return f"{state}: {name(bulletin)}"
    if not bulletin.open:
        return f"Resolved: {name(bulletin)}, all {bulletin.total:,} alerts"
    counted = f"{bulletin.open:,} of {bulletin.total:,} alerts open"
    return f"{str(bulletin.level).capitalize()}: {name(bulletin)}, {counted}"


def name(bulletin: Bulletin) -> str:
    """Return what a thread is about."""
    titles = list(dict.fromkeys(" ".join(notice.title.split()) for notice in bulletin.notices))
    if bulletin.storm:
        return "many at once"
    return titles[0] if len(titles) == 1 else f"{titles[0]} and others"


def standing(bulletin: Bulletin) -> list[str]:
    """Return a line for each of its worst alerts, and one for those that are not named."""
    named = bulletin.notices[:MAX_NAMED]
    one = not bulletin.storm and len({notice.title for notice in bulletin.notices}) == 1
    lines = [_line(notice, titled=not (one and notice.group)) for notice in named]
    if (rest := bulletin.total - len(named)) > 0:
        lines.append(f"… and {rest:,} more: governor alerts list")
    return lines


def changes(bulletin: Bulletin) -> list[str]:
    """Return what changed, or for a repeat what lasts; nothing for the first of a thread."""
    if bulletin.repeats:
        lasts = f"{sign(bulletin.level, over=False)} {bulletin.open:,} still open"
        open_ = [each for each in bulletin.notices[:MAX_CHANGES] if each.resolved is None]
        return [f"{lasts}: {name(bulletin)}", *map(_line, open_)]
    if bulletin.is_first:
        return []
    told = [news for news in bulletin.news if news.notice.kind != "heartbeat"]
    lines = [line for news in told[:MAX_CHANGES] for line in _changed(news, bulletin)]
    rest = bulletin.more_news + len(told) - MAX_CHANGES
    if rest > 0:
        lines.append(f"… and {rest:,} more changes")
    if not bulletin.open and bulletin.total > 1:
        lines.append(f"{sign(bulletin.level, over=True)} All {bulletin.total:,} are over.")
    return [line[:MAX_LINE] for line in lines]


def group(notice: Notice, *, titled: bool = True) -> str:
    """Return what an alert is about, in a line."""
    values = [f"{dimension} = {value}" for dimension, value in notice.group]
    return " ".join(", ".join([*([notice.title] if titled else []), *values]).split())


def amounts(notice: Notice) -> str:
    """Return what an alert came to, and what that is compared with."""
    if not notice.limit:
        return notice.summary
    value, limit = notice.value[:MAX_WORD], notice.limit[:MAX_WORD]
    if notice.percent is None:
        return f"{value} (told from {limit} on)"
    return f"{value} of {limit} ({percent_text(notice.percent)})"


def percent_text(percent: Decimal) -> str:
    """Write a share, rounded down: 99.96 is not 100%."""
    if percent > MAX_PERCENT:
        return f"over {MAX_PERCENT:,}%"
    tenths = int(max(Decimal(0), percent) * 10)
    return f"{tenths // 10:,}.{tenths % 10}%" if tenths % 10 else f"{tenths // 10:,}%"


def _line(notice: Notice, *, titled: bool = True) -> str:
    over = f", over: {notice.resolved}" if notice.resolved is not None else ""
    acked = f", {notice.acked}" if notice.acked and not over else ""
    mark = sign(notice.level, over=notice.resolved is not None)
    told = " ".join(amounts(notice).split())
    return f"{mark} {group(notice, titled=titled)}: {told}{over}{acked}"[:MAX_LINE]


def _changed(news: News, bulletin: Bulletin) -> Iterator[str]:
    """Write what changed of one alert."""
    notice = news.notice
    named = f"{group(notice)}: " if bulletin.total > 1 else ""
    if notice.resolved is not None:
        yield f"{sign(Level.INFO, over=True)} {named}over: {notice.resolved}"
    elif news.lines:
        yield f"{sign(notice.level, over=False)} {named}{'; '.join(news.lines[-3:])}"
    elif news.first:
        yield _line(notice)
    else:
        yield f"{sign(notice.level, over=False)} {named}{_aside(notice)}"


def _aside(notice: Notice) -> str:
    """Say what may have changed of an alert that crossed no threshold."""
    if notice.acked:
        return notice.acked
    if notice.throttles:
        return "; ".join(notice.throttles[:3])
    return f"{notice.level} at {notice.value}" if notice.value else notice.summary
