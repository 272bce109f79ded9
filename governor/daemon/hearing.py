"""Presses of buttons in Slack: by Socket Mode or HTTP, where the settings have one of them."""

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final

import structlog

from governor.actions.slack.bot import SlackBot
from governor.actions.slack.buttons import Press
from governor.actions.slack.listening import Door, SocketMode, Waiting
from governor.core.errors import GovernorError
from governor.settings import Slack

JOIN_TIMEOUT_S: Final = 3.0

_log = structlog.get_logger()


class Hearing:
    """Opens what listens, and does what is heard; `answers` says what came of it."""

    def __init__(
        self,
        slack: Slack,
        answers: SlackBot | None,
        *,
        carry_out: Callable[[Press], str],
        now_s: Callable[[], float],
    ) -> None:
        self._slack = slack
        self._answers = answers
        self._carry_out = carry_out
        self._waiting = Waiting(self._do)
        self._socket: SocketMode | None = None
        if slack.app_token:
            self._socket = SocketMode(
                app_token=slack.app_token.get_secret_value(),
                base_url=slack.base_url,
                timeout_s=slack.timeout.total_seconds(),
                waiting=self._waiting,
                now_s=now_s,
            )

    @property
    def trouble(self) -> str | None:
        """Why presses are not heard."""
        return self._socket.trouble if self._socket else None

    def open(self, stack: ExitStack, stop: threading.Event) -> None:
        """Start listening; the stack ends it after `stop` is set."""
        loops = {}
        if self._socket is not None:
            loops["slack-socket"] = self._socket.run
        if self._slack.signing_secret:
            door = Door(
                host=self._slack.interactions_host,
                port=self._slack.interactions_port,
                signing_secret=self._slack.signing_secret.get_secret_value(),
                waiting=self._waiting,
            )
            stack.callback(door.close)
            _log.info("slack.listening", by="http", port=door.port)
        if self._socket is not None or self._slack.signing_secret:
            loops["slack-presses"] = self._waiting.run
        for name, loop in loops.items():
            thread = threading.Thread(target=loop, args=(stop,), name=name, daemon=True)
            thread.start()
            stack.callback(thread.join, JOIN_TIMEOUT_S)

    def _do(self, press: Press) -> None:
        said = self._carry_out(press)
        if self._answers is None:
            return
        try:
            self._answers.answer(press, said)
        except GovernorError as error:
            _log.warning("slack.not_answered", user=press.user, detail=str(error))
