"""The workspace of the local Slack: channels and messages in memory, and what each method does."""

import copy
import hmac
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from governor.demo.slack_limits import SlackError, message_of

MAX_KEPT: Final = 10_000
"""Messages a channel that are kept; the oldest go."""
MAX_PAGE: Final = 999
MICROSECONDS: Final = 1_000_000

Arguments = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Version:
    """What a message said at one time."""

    text: str
    blocks: tuple[dict[str, Any], ...]
    metadata: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it stands in its channel, with all it said before; `author` bot or webhook."""

    ts: str
    author: str
    versions: tuple[Version, ...]

    @property
    def now(self) -> Version:
        """What it says now."""
        return self.versions[-1]


class Workspace:
    """One workspace with a few channels and one bot; its calls may come from any thread.

    `scopes` are what the token may do. `burst` is how many messages a channel takes at once before
    it takes one a second; None takes any number. `clock` gives the seconds that timestamps show.
    """

    def __init__(
        self,
        *,
        token: str,
        channels: Iterable[str],
        scopes: Iterable[str],
        burst: int | None,
        clock: Callable[[], float],
    ) -> None:
        self._token = token
        self.scopes: Final = frozenset(scopes)
        self._burst = burst
        self._clock = clock
        self._lock = threading.Lock()
        self._last_ts = 0
        self._channels: dict[str, dict[str, Message]] = {name: {} for name in channels}
        self._allowance: dict[str, tuple[float, float]] = {}

    def messages(self) -> dict[str, tuple[Message, ...]]:
        """Return a copy of what stands in each channel, oldest first."""
        with self._lock:
            return {
                channel: tuple(copy.deepcopy(list(messages.values())))
                for channel, messages in self._channels.items()
            }

    def delete(self, channel: str, ts: str) -> None:
        """Delete a message, as a person does."""
        with self._lock:
            del self._channels[channel][ts]

    def do(self, method: str, token: str, arguments: Arguments) -> dict[str, Any]:
        """Do a call of the Web API and return its answer; raise SlackError where it is refused."""
        methods: dict[str, Callable[[Arguments], dict[str, Any]]] = {
            "auth.test": self._auth_test,
            "chat.postMessage": self._post_message,
            "chat.update": self._update,
            "conversations.history": self._history,
        }
        if method not in methods:
            raise SlackError("unknown_method", req_method=method)
        if not token:
            raise SlackError("not_authed")
        if not hmac.compare_digest(token.encode(), self._token.encode()):
            raise SlackError("invalid_auth")
        with self._lock:
            return {"ok": True} | methods[method](arguments)

    def hook(self, arguments: Arguments) -> None:
        """Post to the first channel, as an incoming webhook does."""
        if "metadata" in arguments:
            raise SlackError("invalid_payload", "metadata needs chat.postMessage")
        text, blocks, _ = message_of(arguments)
        channel = next(iter(self._channels))
        with self._lock:
            self._take_turn(channel)
            self._store(channel, "webhook", Version(text, tuple(blocks or ()), None))

    def _auth_test(self, _: Arguments) -> dict[str, Any]:
        return {"team": "Stand-in", "team_id": "T0GOVERNOR", "user": "governor", "user_id": "U0"}

    def _post_message(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "chat:write")
        text, blocks, metadata = message_of(arguments)
        self._take_turn(channel)
        stored = self._store(channel, "bot", Version(text, tuple(blocks or ()), metadata))
        return {"channel": channel, "ts": stored.ts, "message": _shown(stored, with_metadata=True)}

    def _update(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "chat:write")
        text, blocks, metadata = message_of(arguments)
        ts = str(arguments.get("ts", ""))
        known = self._channels[channel].get(ts)
        if known is None:
            raise SlackError("message_not_found")
        if known.author != "bot":
            raise SlackError("cant_update_message")
        version = Version(
            text,
            known.now.blocks if blocks is None else tuple(blocks),
            known.now.metadata if metadata is None else metadata,
        )
        self._channels[channel][ts] = Message(ts, known.author, (*known.versions, version))
        return {"channel": channel, "ts": ts, "text": text}

    def _history(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "channels:history")
        limit = _whole(arguments.get("limit", 100), "invalid_limit")
        if not 1 <= limit <= MAX_PAGE:
            raise SlackError("invalid_limit")
        oldest = _microseconds(arguments.get("oldest", 0), "invalid_ts_oldest")
        before = _whole(arguments.get("cursor") or 10**18, "invalid_cursor")
        inside = [
            message
            for message in reversed(self._channels[channel].values())
            if oldest < _microseconds(message.ts, "internal_error") < before
        ]
        page = inside[:limit]
        more = len(inside) > limit
        cursor = str(_microseconds(page[-1].ts, "internal_error")) if more else ""
        with_metadata = str(arguments.get("include_all_metadata", "")).lower() in ("1", "true")
        return {
            "messages": [_shown(message, with_metadata=with_metadata) for message in page],
            "has_more": more,
            "response_metadata": {"next_cursor": cursor},
        }

    def _permitted(self, arguments: Arguments, scope: str) -> str:
        """Return the channel of a call that the token may make."""
        if scope not in self.scopes:
            provided = ",".join(sorted(self.scopes))
            raise SlackError("missing_scope", needed=scope, provided=provided)
        channel = str(arguments.get("channel", ""))
        if channel not in self._channels:
            raise SlackError("channel_not_found")
        return channel

    def _take_turn(self, channel: str) -> None:
        if self._burst is None:
            return
        now_s = time.monotonic()
        left, since_s = self._allowance.get(channel, (float(self._burst), now_s))
        left = min(float(self._burst), left + now_s - since_s)
        self._allowance[channel] = (left - 1 if left >= 1 else left, now_s)
        if left < 1:
            raise SlackError("ratelimited")

    def _store(self, channel: str, author: str, version: Version) -> Message:
        self._last_ts = max(self._last_ts + 1, int(self._clock() * MICROSECONDS))
        seconds, microseconds = divmod(self._last_ts, MICROSECONDS)
        message = Message(f"{seconds}.{microseconds:06d}", author, (version,))
        messages = self._channels[channel]
        messages[message.ts] = message
        if len(messages) > MAX_KEPT:
            del messages[next(iter(messages))]
        return message


def _shown(message: Message, *, with_metadata: bool) -> dict[str, Any]:
    """Return a message as Slack shows it in answers."""
    shown: dict[str, Any] = {
        "type": "message",
        "ts": message.ts,
        "bot_id": message.author,
        "text": message.now.text,
        "blocks": list(message.now.blocks),
    }
    if with_metadata and message.now.metadata is not None:
        shown["metadata"] = message.now.metadata
    return shown


def _whole(value: Any, error: str) -> int:
    try:
        return int(str(value))
    except ValueError:
        raise SlackError(error) from None


def _microseconds(ts: Any, error: str) -> int:
    seconds, _, fraction = str(ts).partition(".")
    return _whole(seconds, error) * MICROSECONDS + _whole(fraction.ljust(6, "0")[:6], error)
