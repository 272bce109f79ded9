"""The Slack bot: one message for alerts that belong together, edited in place until all are over.

Slack has no key that makes a post happen once. So each message carries the id of its thread as
metadata, and after an attempt whose end is not known we look for it before we post again.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog

from governor.actions.slack.buttons import Press, block
from governor.actions.slack.connection import TOO_MUCH, Client, RefusalError, call
from governor.actions.slack.group import reply, root
from governor.actions.slack.message import MAX_TEXT, Message, addressed, shown
from governor.core.bulletins import Bulletin
from governor.core.errors import GovernorError, PermanentError, TransientError
from governor.core.notifications import Notice
from governor.core.rules.shared import Level

EVENT_TYPE: Final = "governor_alert"
LOOK_BACK: Final = timedelta(hours=1)
"""How long before a thread was opened its message is looked for: clocks differ."""
PAGE_MESSAGES: Final = 100
MAX_PAGES: Final = 10
"""Pages of history that are looked through; a message deeper down is posted again."""

MAX_TITLE: Final = 100
"""Characters of the title of a picture."""
UNEDITABLE: Final = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
"""Refusals of an edit; a new message takes the place of the old one."""
OUT_OF_REACH: Final = frozenset({"channel_not_found", "is_archived", "not_in_channel"})
"""The same, where the message is in another channel than the one that is set now."""

REPLACES: Final = "This replaces an earlier message that can no longer be edited."

_log = structlog.get_logger()


class SlackBot:
    """Posts to one channel and edits what it posted; see docs/how-to/tell-slack.md for scopes."""

    def __init__(
        self,
        *,
        token: str,
        channel: str,
        base_url: str,
        timeout_s: float,
        name: str = "slack",
        mention: Mapping[Level, str] | None = None,
        buttons: bool = False,
        draw: Callable[[str], bytes | None] = lambda _: None,
        page: Callable[[str], str | None] = lambda _: None,
        later: Callable[[Callable[[], None]], None] = lambda job: job(),
    ) -> None:
        self.name: Final = name
        self.apart: Final = False
        self._client = Client(token=token, base_url=base_url, timeout_s=timeout_s)
        self._channel = channel
        self._blind = False
        self._mention = mention or {}
        self._buttons = buttons
        self._draw = draw
        self._page = page
        self._later = later

    def __repr__(self) -> str:
        return f"SlackBot(channel={self._channel!r})"

    def answer(self, press: Press, text: str) -> None:
        """Say something to whoever pressed a button, and to them alone; raise as `tell` does."""
        call(
            self._client.chat_postEphemeral,
            self._client.host,
            channel=press.channel,
            user=press.user,
            thread_ts=press.ts or None,
            text=shown(text, MAX_TEXT),
            parse="none",
        )

    def tell(self, bulletin: Bulletin) -> str:
        """Bring the message of a thread up to date; return its reference, `channel:ts`.

        An open message is edited, and what changed is a line below it. Without one: if `unsure`, a
        message that an earlier attempt may have left is looked for and edited, else a new one is
        posted. TransientError leaves open whether it was posted, so the next attempt is `unsure`.
        """
        remark = None
        for channel, ts in self._standing(bulletin):
            try:
                found = self._send(self._client.chat_update, bulletin, channel=channel, ts=ts)
            except RefusalError as refusal:
                if not self._is_lost(channel, refusal.code):
                    raise
                _log.info("slack.replaced", thread=bulletin.thread, reason=refusal.code)
                remark = REPLACES
            else:
                self._say_below(bulletin, channel, ts)
                return found
        posted = self._send(
            self._client.chat_postMessage,
            bulletin,
            remark=remark,
            channel=self._channel,
            unfurl_links=False,
            unfurl_media=False,
        )
        if bulletin.is_first and bulletin.open:
            self._later(lambda: self._share_chart(bulletin, posted))
        elif bulletin.notices[0].kind == "report":
            self._later(lambda: self._share_page(bulletin.notices[0], posted))
        return posted

    def _say_below(self, bulletin: Bulletin, channel: str, ts: str) -> None:
        """Say what changed below the message, and in the channel too where people are to notice."""
        message = reply(bulletin)
        if message is None or (bulletin.unsure and self._is_said(message, channel, ts)):
            return
        self._call(
            self._client.chat_postMessage,
            self._mentioning(message, bulletin),
            channel=channel,
            thread_ts=ts,
            reply_broadcast=bulletin.rose or bulletin.repeats,
            unfurl_links=False,
            unfurl_media=False,
            metadata=_metadata(bulletin, message.text),
        )

    def _share_chart(self, bulletin: Bulletin, posted: str) -> None:
        """Put a picture of the worst alert below its message; without one it is told as well."""
        notice = bulletin.notices[0]
        chart = None if bulletin.storm else self._draw(notice.alert)
        if chart is None:
            return
        self._share(notice, chart, f"{notice.rule}.png", posted)

    def _share_page(self, notice: Notice, posted: str) -> None:
        """Put a report below its message: as a picture, and as a page."""
        chart = self._draw(notice.message)
        if chart is not None:
            self._share(notice, chart, f"{notice.rule}-{notice.period}.png", posted)
        page = self._page(notice.message)
        if page is not None:
            self._share(notice, page.encode(), f"{notice.rule}-{notice.period}.html", posted)

    def _share(self, notice: Notice, content: bytes, name: str, posted: str) -> None:
        channel, _, ts = posted.partition(":")
        try:
            self._client.share(
                content, name, notice.title[:MAX_TITLE], channel=channel, thread_ts=ts
            )
        except GovernorError as error:
            _log.warning("slack.file_not_shared", alert=notice.alert, error=str(error))

    def _standing(self, bulletin: Bulletin) -> Iterator[tuple[str, str]]:
        """Yield channel and ts of messages to edit: the known one, then one that we find."""
        known = None
        if bulletin.reference is not None:
            channel, _, known = bulletin.reference.partition(":")
            yield channel, known
        if bulletin.unsure:
            found = self._find(bulletin, besides=known)
            if found is not None:
                _log.info("slack.found", thread=bulletin.thread)
                yield self._channel, found

    def _is_lost(self, channel: str, code: str) -> bool:
        return code in UNEDITABLE or (channel != self._channel and code in OUT_OF_REACH)

    def _send(
        self,
        method: Callable[..., Any],
        bulletin: Bulletin,
        remark: str | None = None,
        **where: str | bool,
    ) -> str:
        message = self._mentioning(root(bulletin, remark), bulletin)
        if self._buttons and (below := block(bulletin)):
            message = Message(message.text, [*message.blocks, below])
        sent = self._call(method, message, metadata=_metadata(bulletin), **where)
        return f"{_text(sent, 'channel')}:{_text(sent, 'ts')}"

    def _mentioning(self, message: Message, bulletin: Bulletin) -> Message:
        """Call somebody by name, where it got as bad as they want to be called for."""
        who = self._mention.get(bulletin.level)
        called = bulletin.open and (bulletin.is_first or bulletin.rose or bulletin.repeats)
        if not who or not called:
            return message
        return Message(f"{who} {message.text}", [*message.blocks, addressed(who)])

    def _call(
        self, method: Callable[..., Any], message: Message, **where: Any
    ) -> Mapping[str, Any]:
        """Post or edit, by plain text where Slack refuses the blocks."""
        # the default of `parse` is another for chat.update than for chat.postMessage
        arguments = where | {"text": message.text, "parse": "none"}
        try:
            return call(method, self._client.host, blocks=message.blocks, **arguments)
        except RefusalError as refusal:
            if refusal.code not in TOO_MUCH:
                raise
            _log.warning("slack.simplified", reason=refusal.code)
            if "ts" in where:
                arguments["blocks"] = []  # an edit that names no blocks keeps the old ones
            return call(method, self._client.host, **arguments)

    def _find(self, bulletin: Bulletin, *, besides: str | None) -> str | None:
        """Return the ts of the message of a thread; None where there is none or we may not look.

        Whoever may not look posts again: twice is better than never.
        """
        oldest = f"{(bulletin.opened_at - LOOK_BACK).timestamp():.6f}"
        where = {"channel": self._channel, "oldest": oldest}
        for message in self._pages(self._client.conversations_history, where):
            marks = _marks(message)
            is_root = marks.get("thread") == bulletin.thread and "said" not in marks
            if is_root and message.get("ts") not in {None, besides}:
                return _text(message, "ts")
        return None

    def _is_said(self, message: Message, channel: str, ts: str) -> bool:
        """Return whether just this is below a message already."""
        pages = self._pages(self._client.conversations_replies, {"channel": channel, "ts": ts})
        return any(_marks(line).get("said") == _digest(message.text) for line in pages)

    def _pages(
        self, method: Callable[..., Any], where: Mapping[str, Any]
    ) -> Iterator[Mapping[str, Any]]:
        """Yield messages, page by page, as far as we may look."""
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            try:
                page = call(
                    method,
                    self._client.host,
                    limit=PAGE_MESSAGES,
                    include_all_metadata=True,
                    cursor=cursor,
                    **where,
                )
            except PermanentError as refusal:
                self._say_blind(refusal)
                return
            yield from page.get("messages") or ()
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return
        _log.warning("slack.search_ended", messages=MAX_PAGES * PAGE_MESSAGES)

    def _say_blind(self, refusal: PermanentError) -> None:
        if not self._blind:
            self._blind = True
            _log.warning(
                "slack.history_refused",
                detail=str(refusal),
                effect="after a lost reply a message is posted again instead of found",
            )


def _metadata(bulletin: Bulletin, said: str | None = None) -> dict[str, Any]:
    """Mark a message of a thread, and with what is `said` a line below it."""
    payload: dict[str, Any] = {"thread": bulletin.thread, "serial": bulletin.serial}
    if said is not None:
        payload["said"] = _digest(said)
    return {"event_type": EVENT_TYPE, "event_payload": payload}


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _marks(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what we marked a message with."""
    metadata = message.get("metadata") or {}
    if metadata.get("event_type") != EVENT_TYPE:
        return {}
    return metadata.get("event_payload") or {}


def _text(reply: Mapping[str, Any], name: str) -> str:
    value = reply.get(name)
    if not isinstance(value, str):
        raise TransientError(f"Slack's answer has no {name}; is slack.base_url really Slack's?")
    return value
