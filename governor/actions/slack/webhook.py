"""The incoming webhook: each change of an alert is a message of its own, never edited."""

from typing import Final

import structlog

from governor.actions.slack.connection import TOO_MUCH, Hook, RefusalError, send
from governor.actions.slack.message import compose
from governor.core.notifications import Notice

_log = structlog.get_logger()


class SlackWebhook:
    """Posts to the one channel of a webhook; the address is a secret and never shown."""

    name: Final = "webhook"

    def __init__(self, *, url: str, timeout_s: float) -> None:
        self._hook = Hook(url=url, timeout_s=timeout_s)

    def __repr__(self) -> str:
        return f"SlackWebhook(host={self._hook.host!r})"

    def tell(self, notice: Notice, *, reference: str | None, unsure: bool) -> None:  # noqa: ARG002
        """Post how the alert stands; a lost reply is posted again, and nothing can be edited."""
        message = compose(notice)
        try:
            send(self._hook, text=message.text, blocks=message.blocks, unfurl_links=False)
        except RefusalError as refusal:
            if refusal.code not in TOO_MUCH | {"invalid_payload"}:
                raise
            _log.warning("slack.simplified", alert=notice.alert, reason=refusal.code)
            send(self._hook, text=message.text, unfurl_links=False)
