"""A page of the local Slack: what stands in its channels, as people would see it.

It shows the blocks that the stand-in takes and no others; for demo and screenshots.
"""

import html
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from governor.demo.slack_workspace import Message

_HEAD: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Slack (stand-in)</title><style>
body { margin: 0; background: #fff; color: #1d1c1d; font: 15px/1.46 Lato, system-ui, sans-serif; }
main { max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.1rem; border-bottom: 1px solid #ddd; padding-bottom: .5rem; }
article { display: grid; grid-template-columns: 2.25rem 1fr; gap: 0 .6rem; margin: 1.1rem 0; }
.face { width: 2.25rem; height: 2.25rem; border-radius: .3rem; background: #3b6ea5; color: #fff;
        display: grid; place-items: center; font-weight: 700; }
.who { font-weight: 700; } .when, .context { color: #616061; font-size: .82rem; }
.header { font-size: 1.12rem; font-weight: 700; margin: .2rem 0; }
.text { white-space: pre-wrap; overflow-wrap: anywhere; margin: .25rem 0; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: .35rem 1rem; margin: .35rem 0; }
.context { display: flex; flex-wrap: wrap; gap: 0 .8rem; margin: .3rem 0; }
.buttons { display: flex; flex-wrap: wrap; gap: .4rem; margin: .5rem 0; }
.buttons span { border: 1px solid #bbb; border-radius: .25rem; padding: .2rem .7rem;
                font-weight: 700; font-size: .84rem; }
.buttons .primary { background: #007a5a; color: #fff; border-color: #007a5a; }
.buttons .danger { color: #c01343; border-color: #c01343; }
.thread { grid-column: 2; border-left: 3px solid #ddd; padding-left: .8rem; margin-top: .4rem; }
code { background: #f4f4f4; border: 1px solid #e2e2e2; border-radius: .2rem; padding: 0 .2rem;
       font-size: .85em; color: #c01343; }
</style></head><body><main>
"""
_DATE: Final = re.compile(r"&lt;!date\^(\d+)\^[^|]*\|([^&]*)&gt;")
_LINK: Final = re.compile(r"&lt;(https?://[^|&]*(?:&amp;[^|&]*)*)\|([^&]*)&gt;")
_MENTION: Final = re.compile(r"&lt;(!here|!channel|@\w+|!subteam\^\w+)&gt;")
_CODE: Final = re.compile(r"`([^`\n]+)`")
_BOLD: Final = re.compile(r"\*([^*\n]+)\*")


def page(
    channels: Mapping[str, Sequence[Message]], replies: Mapping[str, Sequence[Message]]
) -> str:
    """Return a page of all channels, the newest message first, each with its thread."""
    parts = [_HEAD]
    for channel, messages in channels.items():
        parts.append(f"<h1># {html.escape(channel.lower())}</h1>")
        for message in reversed(messages):
            below = [each for each in replies[channel] if each.thread == message.ts]
            parts.append(_message(message, below))
    parts.append("</main></body></html>")
    return "\n".join(parts)


def _message(message: Message, below: Iterable[Message]) -> str:
    thread = "".join(f'<div class="text">{_said(each)}</div>' for each in below)
    threaded = f'<div class="thread">{thread}</div>' if thread else ""
    at = datetime.fromtimestamp(float(message.ts), UTC)
    edited = " (edited)" if len(message.versions) > 1 else ""
    return (
        '<article><div class="face">g</div><div><span class="who">governor</span>'
        f' <span class="when">{at:%H:%M} UTC{edited}</span>{_said(message)}</div>'
        f"{threaded}</article>"
    )


def _said(message: Message) -> str:
    blocks = message.now.blocks
    if not blocks:
        return f'<div class="text">{_marked(message.now.text)}</div>'
    return "".join(_block(block) for block in blocks)


def _block(block: Mapping[str, Any]) -> str:
    kind = block["type"]
    if kind == "header":
        return f'<div class="header">{_text(block["text"])}</div>'
    if kind == "actions":
        buttons = "".join(
            f'<span class="{each.get("style", "")}">{_text(each["text"])}</span>'
            for each in block["elements"]
        )
        return f'<div class="buttons">{buttons}</div>'
    if kind == "context":
        parts = "".join(f"<span>{_text(each)}</span>" for each in block["elements"])
        return f'<div class="context">{parts}</div>'
    text = f'<div class="text">{_text(block["text"])}</div>' if "text" in block else ""
    fields = "".join(f'<div class="text">{_text(each)}</div>' for each in block.get("fields", ()))
    return text + (f'<div class="fields">{fields}</div>' if fields else "")


def _text(text: Mapping[str, Any]) -> str:
    raw = str(text["text"])
    if text["type"] == "mrkdwn":
        return _marked(raw)
    return html.escape(html.unescape(raw), quote=True)


def _marked(raw: str) -> str:
    """Show the little of Slack's markup that governor writes."""
    safe = html.escape(raw, quote=True).replace("&amp;amp;", "&amp;")
    safe = safe.replace("&amp;lt;", "&lt;").replace("&amp;gt;", "&gt;")
    safe = _DATE.sub(lambda found: found[2], safe)
    safe = _LINK.sub(lambda found: f'<a href="{found[1]}">{found[2]}</a>', safe)
    safe = _MENTION.sub(lambda found: f"<b>{found[1].replace('!', '@')}</b>", safe)
    safe = _CODE.sub(lambda found: f"<code>{found[1]}</code>", safe)
    return _BOLD.sub(lambda found: f"<b>{found[1]}</b>", safe)
