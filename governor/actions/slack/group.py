"""A bulletin as Slack messages: that of its thread, and the line below it for what changed."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from governor.actions.slack.message import (
    MAX_HEADER,
    MAX_LINE,
    MAX_LINES,
    MAX_LIST,
    MAX_SUMMARY,
    MAX_TEXT,
    MAX_WHY,
    Message,
    amounts,
    code,
    compose,
    date,
    marked,
    plain,
    shown,
    sign,
)
from governor.core.bulletins import Bulletin, News
from governor.core.notifications import Notice
from governor.core.rules.shared import Level

MAX_NAMED: Final = 15
"""Alerts that are named in a message of several; the others are counted."""


def root(bulletin: Bulletin, remark: str | None = None) -> Message:
    """Write how a thread stands; `remark` is a line of our own about the message itself."""
    if bulletin.total == 1 and not bulletin.storm:
        return compose(bulletin.notices[0], remark)
    named = bulletin.notices[:MAX_NAMED]
    lines = [_standing(notice) for notice in named]
    if (rest := bulletin.total - len(named)) > 0:
        lines.append(f"… and {rest:,} more: governor alerts list")
    header = f"{sign(bulletin.level, over=not bulletin.open)} {_heading(bulletin)}"
    summary = _summary(bulletin)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": shown(header, MAX_HEADER)}},
        *([plain(summary, MAX_SUMMARY)] if summary else []),
        plain("\n".join(lines), MAX_LIST),
    ]
    if why := _why(bulletin):
        blocks.append(plain(why, MAX_WHY))
    elements = [marked(f"since {date(bulletin.opened_at)}"), *_rules(bulletin)]
    if remark:
        elements.insert(0, marked(shown(remark, MAX_LINE)))
    blocks.append({"type": "context", "elements": elements})
    told = [header, *([remark] if remark else []), summary, *lines]
    return Message(text=shown("\n".join(filter(None, told)), MAX_TEXT), blocks=blocks)


def reply(bulletin: Bulletin) -> Message | None:
    """Write what changed, for below the message; None where there is nothing to say."""
    if bulletin.repeats:
        lasts = f"{sign(bulletin.level, over=False)} {bulletin.open:,} still open"
        lines = [f"{lasts}: {_name(bulletin)}"]
        lines += [_standing(each) for each in bulletin.notices[:MAX_LINES] if not each.resolved]
    elif not bulletin.is_first:
        lines = [line for news in bulletin.news[:MAX_LINES] for line in _changes(news, bulletin)]
        rest = bulletin.more_news + len(bulletin.news) - MAX_LINES
        if rest > 0:
            lines.append(f"… and {rest:,} more changes")
        if not bulletin.open and bulletin.total > 1:
            lines.append(f"{sign(bulletin.level, over=True)} All {bulletin.total:,} are over.")
    else:
        return None
    text = "\n".join(line[:MAX_LINE] for line in lines)
    if not text:
        return None
    return Message(text=shown(text, MAX_TEXT), blocks=[plain(text, MAX_LIST)])


def _heading(bulletin: Bulletin) -> str:
    counted = f"{bulletin.open:,} of {bulletin.total:,} alerts open"
    if not bulletin.open:
        return f"Resolved: {_name(bulletin)}, all {bulletin.total:,} alerts"
    return f"{str(bulletin.level).capitalize()}: {_name(bulletin)}, {counted}"


def _name(bulletin: Bulletin) -> str:
    titles = list(dict.fromkeys(" ".join(notice.title.split()) for notice in bulletin.notices))
    if len(titles) == 1 and not bulletin.storm:
        return titles[0]
    return "many at once" if bulletin.storm else f"{titles[0]} and others"


def _summary(bulletin: Bulletin) -> str:
    if not bulletin.storm:
        return ""
    return (
        "Too much began at once, or while Slack did not answer, to be told one by one."
        " Here are those with the most at stake; nothing is left out of the list:"
        " governor alerts list"
    )


def _why(bulletin: Bulletin) -> str | None:
    """Return how the worst alert came about."""
    worst = bulletin.notices[0]
    return f"{_group(worst)}: {worst.why}" if worst.why and not bulletin.storm else None


def _rules(bulletin: Bulletin) -> Sequence[dict[str, Any]]:
    rules = list(dict.fromkeys(notice.rule for notice in bulletin.notices))
    more = f" and {len(rules) - 3} more" if len(rules) > 3 else ""  # noqa: PLR2004
    owners = list(dict.fromkeys(notice.owner for notice in bulletin.notices))[:3]
    return [
        marked(f"rules {', '.join(code(rule) for rule in rules[:3])}{more}"),
        marked(f"owners {', '.join(code(owner) for owner in owners)}"),
    ]


def _standing(notice: Notice) -> str:
    """Write one alert in a line."""
    mark = sign(notice.level, over=notice.resolved is not None)
    over = f", over: {notice.resolved}" if notice.resolved is not None else ""
    told = amounts(notice) if notice.limit else notice.summary
    return f"{mark} {_group(notice)}: {' '.join(told.split())}{over}"[:MAX_LINE]


def _group(notice: Notice) -> str:
    group = ", ".join(f"{name} = {value}" for name, value in notice.group)
    return " ".join((f"{notice.title}, {group}" if group else notice.title).split())


def _changes(news: News, bulletin: Bulletin) -> Iterator[str]:
    """Write what changed of one alert."""
    notice = news.notice
    name = f"{_group(notice)}: " if bulletin.total > 1 else ""
    if notice.resolved is not None:
        yield f"{sign(Level.INFO, over=True)} {name}over: {notice.resolved}"
    elif news.lines:
        yield f"{sign(notice.level, over=False)} {name}{'; '.join(news.lines[-3:])}"
    elif news.first:
        yield _standing(notice)
    else:
        yield f"{sign(notice.level, over=False)} {name}{_aside(notice)}"


def _aside(notice: Notice) -> str:
    """Say what may have changed of an alert that crossed no threshold."""
    if notice.throttles:
        return "; ".join(notice.throttles[:3])
    return f"{notice.level} at {notice.value}" if notice.value else notice.summary
