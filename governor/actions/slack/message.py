"""A notice as a Slack message: blocks within every limit of Slack, and the same as plain text.

All text that is not our own is escaped, so that no customer's name can mention a channel or show
a link. Lengths are code points of the escaped text. Limits of Slack:
https://docs.slack.dev/reference/block-kit/blocks
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlsplit

from governor.actions import words
from governor.actions.words import MAX_WORD
from governor.core.notifications import Notice

MAX_HEADER: Final = 150
MAX_TEXT: Final = 3_500
"""Characters of the plain text; `chat.update` refuses more than 4,000."""
MAX_SUMMARY: Final = 1_500
MAX_WHY: Final = 800
"""Characters of what is said of how it came about."""
MAX_LINE: Final = 200
MAX_LINES: Final = 10
"""Lines of history, of throttles, and dimensions that are shown."""
MAX_LIST: Final = 2_000
"""Characters of all lines; with these limits the blocks have at most 12,800, where Slack takes
about 13,000."""
MAX_REPORT: Final = 9_000
"""Characters of the sections of a report."""
MAX_SECTIONS: Final = 40
MAX_LINK: Final = 1_000
BAR_CELLS: Final = 20

_QUOTE: Final = "\N{MODIFIER LETTER GRAVE ACCENT}"

_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
_UNSHOWN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, those that turn the direction of text around, halves of characters."""
_UNLINKED: Final = re.compile(r"[\s<>|\x00-\x1f\x7f\ud800-\udfff]")

Block = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """What is posted: blocks, and text for notifications and for when blocks are refused."""

    text: str
    blocks: list[Block]


def compose(notice: Notice, remark: str | None = None) -> Message:
    """Write a notice as a message; `remark` is a line of our own about the message itself."""
    if notice.kind == "report":
        return _report(notice)
    blocks = [
        {
            "type": "header",
            "text": {"type": "plain_text", "text": shown(_heading(notice), MAX_HEADER)},
        },
        plain(notice.summary, MAX_SUMMARY),
    ]
    if notice.why:
        blocks.append(plain(notice.why, MAX_WHY))
    if notice.limit:  # what is not about a budget has none
        blocks.append({"type": "section", "text": marked(_spent(notice))})
    blocks.append({"type": "section", "fields": _fields(notice)})
    if notice.throttles:
        rest = len(notice.throttles) - MAX_LINES
        lines = _cut(notice.throttles[:MAX_LINES])
        more = [f"… and {rest} more"] if rest > 0 else []
        blocks.append(plain("\n".join(["Enforcement:", *lines, *more]), MAX_LIST))
    if notice.history:
        rest = len(notice.history) - MAX_LINES
        lines = _cut(notice.history[-MAX_LINES:])
        more = [f"… after {rest} earlier"] if rest > 0 else []
        blocks.append(plain("\n".join(["What happened:", *more, *lines]), MAX_LIST))
    elements = _context(notice)
    if notice.acked and notice.quiet_until:
        seen = f"{shown(notice.acked, MAX_LINE)} until {date(notice.quiet_until)}"
        elements.insert(0, marked(seen))
    if remark:
        elements.insert(0, marked(shown(remark, MAX_LINE)))
    blocks.append({"type": "context", "elements": elements})
    return Message(text=_text(notice, remark), blocks=blocks)


def _report(notice: Notice) -> Message:
    """Write a report: its sections, as far as there is room; all of it is in the file."""
    header = f"\N{BAR CHART} {' '.join(notice.title.split())}"
    blocks: list[Block] = [
        {"type": "header", "text": {"type": "plain_text", "text": shown(header, MAX_HEADER)}},
        plain(notice.summary, MAX_SUMMARY),
    ]
    room = MAX_REPORT
    left_out = 0
    for section in (notice.why or "").split("\n\n"):
        block = plain(section, MAX_LIST)
        room -= len(block["text"]["text"])
        if section and room > 0 and len(blocks) < MAX_SECTIONS:
            blocks.append(block)
        else:
            left_out += bool(section)
    rest = f"; {left_out} more sections: see its page" if left_out else ""
    blocks.append({"type": "context", "elements": [marked(f"made {date(notice.at)}{rest}")]})
    text = "\n".join([header, notice.summary, notice.why or ""])
    return Message(text=shown(text, MAX_TEXT), blocks=blocks)


def addressed(who: str) -> Block:
    """Return a line that calls somebody by name; `who` is of `routing.yaml`, in Slack's markup."""
    return {"type": "context", "elements": [marked(who)]}


def shown(text: str, limit: int) -> str:
    """Return foreign text as Slack shows it letter by letter, escaped and cut to `limit`."""
    lines = "\n".join(text.splitlines()).strip()
    kept = _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", lines)
    pieces = [_ESCAPES.get(character, character) for character in kept[: limit + 1]]
    length = sum(map(len, pieces))
    if length > limit:
        while length > limit - 1:
            length -= len(pieces.pop())
        pieces.append("…")
    return "".join(pieces) or "-"  # Slack refuses an empty text


def _heading(notice: Notice) -> str:
    title = " ".join(notice.title.split())
    mark = words.sign(notice.level, over=notice.resolved is not None)
    state = str(notice.level).capitalize() if notice.resolved is None else "Resolved"
    return f"{mark} {state}: {title}"


def _spent(notice: Notice) -> str:
    value, limit = shown(notice.value, MAX_WORD), shown(notice.limit, MAX_WORD)
    if notice.percent is None:
        return f"*{value}*, told from {limit} on"
    amounts = f"*{value}* of {limit}"
    return f"`{_bar(notice.percent)}`  *{words.percent_text(notice.percent)}*\n{amounts}"


def _bar(percent: Decimal) -> str:
    cells = int(max(Decimal(0), min(percent, Decimal(100))) * BAR_CELLS / 100)
    return "█" * cells + "░" * (BAR_CELLS - cells)


def _fields(notice: Notice) -> list[Block]:
    """Return pairs of a label and a text; Slack shows at most ten, two in a row."""
    named: dict[str, str] = {}
    if notice.limit:
        group = [code(f"{name} = {value}") for name, value in notice.group[:MAX_LINES]]
        named["For"] = "\n".join(group) or "everything"
        if notice.period:
            named["Period"] = shown(notice.period, MAX_WORD)
            named["Period ends"] = date(notice.period_end)
    named["Owner"] = shown(notice.owner, MAX_WORD)
    named["Since"] = date(notice.fired_at)
    if notice.resolved is not None:
        named["Resolved"] = f"{shown(notice.resolved, MAX_LINE)}, {date(notice.at)}"
    return [marked(f"*{label}*\n{text}") for label, text in named.items()]


def _context(notice: Notice) -> list[Block]:
    elements = [
        marked(f"rule {code(notice.rule)}, mode {notice.mode}"),
        marked(f"alert {code(notice.alert)}"),
        marked("`governor alerts list`"),
    ]
    if notice.runbook and _is_link(notice.runbook):
        elements.insert(0, marked(f"<{shown(notice.runbook, MAX_LINK)}|Runbook>"))
    return elements


def _text(notice: Notice, remark: str | None) -> str:
    """Write all of it without blocks, the most needed first."""
    lines = [_heading(notice)[:MAX_LINE]]
    if notice.resolved is not None:
        lines.append(f"Over: {notice.resolved[:MAX_LINE]}.")
    lines.append(notice.summary[:MAX_SUMMARY])
    if notice.acked:
        lines.append(notice.acked[:MAX_LINE])
    if notice.why:
        lines.append(notice.why[:MAX_WHY])
    if notice.limit:
        named = (f"{name} = {value[:MAX_WORD]}" for name, value in notice.group[:MAX_LINES])
        lines.append(f"{words.amounts(notice)}, for {', '.join(named) or 'everything'}")
        if notice.period:
            lines.append(f"Period {notice.period[:MAX_WORD]}, ends {_utc(notice.period_end)}.")
    lines.append(
        f"Owner {notice.owner[:MAX_WORD]}, rule {notice.rule[:MAX_WORD]}, alert {notice.alert}."
    )
    if remark:
        lines.append(remark)
    if notice.throttles:
        lines += ["Enforcement:", *(line[:MAX_LINE] for line in notice.throttles[:MAX_LINES])]
    return shown("\n".join(lines), MAX_TEXT)


def plain(text: str, limit: int) -> Block:
    """Return a section whose text is shown as it is: no markup, no link, no mention."""
    return {"type": "section", "text": {"type": "plain_text", "text": shown(text, limit)}}


def marked(text: str) -> Block:
    """Return text of our own with markup; `verbatim` keeps Slack from making links of names."""
    return {"type": "mrkdwn", "text": text, "verbatim": True}


def code(text: str) -> str:
    """Show foreign text among our markup: between backquotes nothing is markup but a backquote."""
    return f"`{shown(' '.join(text.replace('`', _QUOTE).split()), MAX_WORD)}`"


def _cut(lines: Sequence[str]) -> list[str]:
    return [f"• {' '.join(line.split())[:MAX_LINE]}" for line in lines]


def date(at: datetime) -> str:
    """Write a time that Slack shows in the reader's zone."""
    return f"<!date^{int(at.timestamp())}^{{date_short_pretty}} {{time}}|{_utc(at)}>"


def _utc(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _is_link(link: str) -> bool:
    """Say whether it is a web address that cannot end its own markup."""
    if len(link.replace("&", "&amp;")) > MAX_LINK or _UNLINKED.search(link):
        return False
    try:
        parts = urlsplit(link)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.netloc)
