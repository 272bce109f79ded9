"""The incoming webhook: each change of an alert is a message of its own, never edited."""

from typing import Final

import structlog

from governor.actions.slack.connection import TOO_MUCH, Hook, RefusalError, send
from governor.actions.slack.group import reply, root
from governor.core.bulletins import Bulletin

_log = structlog.get_logger()


class SlackWebhook:
    """Posts to the one channel of a webhook; the address is a secret and never shown."""

    name: Final = "webhook"
    apart: Final = False

    def __init__(self, *, url: str, timeout_s: float) -> None:
        self._hook = Hook(url=url, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"SlackWebhook(host={self._hook.host!r})"

    def tell(self, bulletin: Bulletin) -> None:
        """Post what changed; a lost reply is posted again, and nothing can be edited."""
        whole = bulletin.total == 1 or bulletin.is_first
        message = (None if whole else reply(bulletin)) or root(bulletin)
        try:
            send(self._hook, text=message.text, blocks=message.blocks, unfurl_links=False)
        except RefusalError as refusal:
            if refusal.code not in TOO_MUCH | {"invalid_payload"}:
                raise
            _log.warning("slack.simplified", thread=bulletin.thread, reason=refusal.code)
            send(self._hook, text=message.text, unfurl_links=False)
