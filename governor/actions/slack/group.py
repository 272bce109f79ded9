"""A bulletin as Slack messages: that of its thread, and the line below it for what changed."""

from collections.abc import Sequence
from typing import Any, Final

from governor.actions import words
from governor.actions.slack.message import (
    MAX_HEADER,
    MAX_LINE,
    MAX_LIST,
    MAX_SUMMARY,
    MAX_TEXT,
    MAX_WHY,
    Message,
    code,
    compose,
    date,
    marked,
    plain,
    shown,
)
from governor.core.bulletins import Bulletin

MANY: Final = (
    "Too much began at once, or while Slack did not answer, to be told one by one. Here are those"
    " with the most at stake; nothing is left out of the list: governor alerts list"
)
MAX_RULES: Final = 3
"""Rules and owners that are named of a message of several."""


def root(bulletin: Bulletin, remark: str | None = None) -> Message:
    """Write how a thread stands; `remark` is a line of our own about the message itself."""
    if bulletin.total == 1 and not bulletin.storm:
        return compose(bulletin.notices[0], remark)
    sign = words.sign(bulletin.level, over=not bulletin.open)
    header = f"{sign} {words.heading(bulletin)}"
    lines = words.standing(bulletin)
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": shown(header, MAX_HEADER)}},
        *([plain(MANY, MAX_SUMMARY)] if bulletin.storm else []),
        plain("\n".join(lines), MAX_LIST),
    ]
    worst = bulletin.notices[0]
    if worst.why and not bulletin.storm:
        blocks.append(plain(f"{words.group(worst)}: {worst.why}", MAX_WHY))
    elements = [marked(f"since {date(bulletin.opened_at)}"), *_rules(bulletin)]
    if remark:
        elements.insert(0, marked(shown(remark, MAX_LINE)))
    blocks.append({"type": "context", "elements": elements})
    told = [header, *([remark] if remark else []), *([MANY] if bulletin.storm else []), *lines]
    return Message(text=shown("\n".join(told), MAX_TEXT), blocks=blocks)


def reply(bulletin: Bulletin) -> Message | None:
    """Write what changed, for below the message; None where there is nothing to say."""
    text = "\n".join(words.changes(bulletin))
    if not text:
        return None
    return Message(text=shown(text, MAX_TEXT), blocks=[plain(text, MAX_LIST)])


def _rules(bulletin: Bulletin) -> Sequence[dict[str, Any]]:
    rules = list(dict.fromkeys(notice.rule for notice in bulletin.notices))
    owners = list(dict.fromkeys(notice.owner for notice in bulletin.notices))
    more = f" and {len(rules) - MAX_RULES} more" if len(rules) > MAX_RULES else ""
    return [
        marked(f"rules {', '.join(code(rule) for rule in rules[:MAX_RULES])}{more}"),
        marked(f"owners {', '.join(code(owner) for owner in owners[:MAX_RULES])}"),
    ]
