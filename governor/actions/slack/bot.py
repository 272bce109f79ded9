"""The Slack bot: one message for each episode of an alert, edited in place until it is over.

Slack has no key that makes a post happen once. So each message carries the id of its episode as
metadata, and after an attempt whose end is not known we look for it before we post again.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any, Final

import structlog

from governor.actions.slack.connection import TOO_MUCH, Client, RefusalError, call
from governor.actions.slack.message import compose
from governor.core.errors import PermanentError, TransientError
from governor.core.notifications import Notice

EVENT_TYPE: Final = "governor_alert"
LOOK_BACK: Final = timedelta(hours=1)
"""How long before an alert fired its message is looked for: clocks differ."""
PAGE_MESSAGES: Final = 100
MAX_PAGES: Final = 10
"""Pages of history that are looked through; a message deeper down is posted again."""

UNEDITABLE: Final = frozenset({"cant_update_message", "edit_window_closed", "message_not_found"})
"""Refusals of an edit; a new message takes the place of the old one."""
OUT_OF_REACH: Final = frozenset({"channel_not_found", "is_archived", "not_in_channel"})
"""The same, where the message is in another channel than the one that is set now."""

REPLACES: Final = "This replaces an earlier message that can no longer be edited."

_log = structlog.get_logger()


class SlackBot:
    """Posts to one channel and edits what it posted; see docs/how-to/tell-slack.md for scopes."""

    def __init__(
        self, *, token: str, channel: str, base_url: str, timeout_s: float, name: str = "slack"
    ) -> None:
        self.name: Final = name
        self._client = Client(token=token, base_url=base_url, timeout_s=timeout_s)
        self._channel = channel
        self._blind = False

    def __repr__(self) -> str:
        return f"SlackBot(channel={self._channel!r})"

    def check(self) -> str:
        """Ask Slack who we are; return `bot in team`, raise as `tell` does."""
        reply = call(self._client.auth_test, self._client.host)
        return f"{_text(reply, 'user')} in {_text(reply, 'team')}"

    def tell(self, notice: Notice, *, reference: str | None, unsure: bool) -> str:
        """Bring the message of the notice up to date; return its reference, `channel:ts`.

        An open message is edited. Without one: if `unsure`, a message that an earlier attempt may
        have left is looked for and edited, else a new one is posted. TransientError leaves open
        whether it was posted, so the next attempt is `unsure`.
        """
        remark = None
        for channel, ts in self._standing(notice, reference, unsure=unsure):
            try:
                return self._send(self._client.chat_update, notice, channel=channel, ts=ts)
            except RefusalError as refusal:
                if not self._is_lost(channel, refusal.code):
                    raise
                _log.info("slack.replaced", alert=notice.alert, reason=refusal.code)
                remark = REPLACES
        return self._send(
            self._client.chat_postMessage,
            notice,
            remark=remark,
            channel=self._channel,
            unfurl_links=False,
            unfurl_media=False,
        )

    def _standing(
        self, notice: Notice, reference: str | None, *, unsure: bool
    ) -> Iterator[tuple[str, str]]:
        """Yield channel and ts of messages to edit: the known one, then one that we find."""
        known = None
        if reference is not None:
            channel, _, known = reference.partition(":")
            yield channel, known
        if unsure:
            found = self._find(notice, besides=known)
            if found is not None:
                _log.info("slack.found", alert=notice.alert)
                yield self._channel, found

    def _is_lost(self, channel: str, code: str) -> bool:
        return code in UNEDITABLE or (channel != self._channel and code in OUT_OF_REACH)

    def _send(
        self,
        method: Callable[..., Any],
        notice: Notice,
        remark: str | None = None,
        **where: str | bool,
    ) -> str:
        message = compose(notice, remark)
        payload = {"message": notice.message, "revision": notice.revision}
        arguments: dict[str, Any] = where | {
            "text": message.text,
            "parse": "none",  # the default of chat.update is another than chat.postMessage's
            "metadata": {"event_type": EVENT_TYPE, "event_payload": payload},
        }
        try:
            reply = call(method, self._client.host, blocks=message.blocks, **arguments)
        except RefusalError as refusal:
            if refusal.code not in TOO_MUCH:
                raise
            _log.warning("slack.simplified", alert=notice.alert, reason=refusal.code)
            if "ts" in where:
                arguments["blocks"] = []  # an edit that names no blocks keeps the old ones
            reply = call(method, self._client.host, **arguments)
        return f"{_text(reply, 'channel')}:{_text(reply, 'ts')}"

    def _find(self, notice: Notice, *, besides: str | None) -> str | None:
        """Return the ts of a message of this episode; None where there is none or we may not look.

        Whoever may not look posts again: twice is better than never.
        """
        oldest = f"{(notice.fired_at - LOOK_BACK).timestamp():.6f}"
        cursor: str | None = None
        for _ in range(MAX_PAGES):
            try:
                page = call(
                    self._client.conversations_history,
                    self._client.host,
                    channel=self._channel,
                    oldest=oldest,
                    limit=PAGE_MESSAGES,
                    include_all_metadata=True,
                    cursor=cursor,
                )
            except PermanentError as refusal:
                self._say_blind(refusal)
                return None
            for message in page.get("messages") or ():
                if _episode(message) == notice.message and message.get("ts") != besides:
                    return _text(message, "ts")
            cursor = (page.get("response_metadata") or {}).get("next_cursor")
            if not cursor:
                return None
        _log.warning("slack.search_ended", alert=notice.alert, messages=MAX_PAGES * PAGE_MESSAGES)
        return None

    def _say_blind(self, refusal: PermanentError) -> None:
        if not self._blind:
            self._blind = True
            _log.warning(
                "slack.history_refused",
                detail=str(refusal),
                effect="after a lost reply a message is posted again instead of found",
            )


def _episode(message: Mapping[str, Any]) -> str | None:
    metadata = message.get("metadata") or {}
    if metadata.get("event_type") != EVENT_TYPE:
        return None
    name = (metadata.get("event_payload") or {}).get("message")
    return name if isinstance(name, str) else None


def _text(reply: Mapping[str, Any], name: str) -> str:
    value = reply.get(name)
    if not isinstance(value, str):
        raise TransientError(f"Slack's answer has no {name}; is slack.base_url really Slack's?")
    return value
