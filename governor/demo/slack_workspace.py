"""The workspace of the local Slack: channels and messages in memory, and what each method does."""

import copy
import hmac
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """A message as it stands in its channel, with all it said before; `author` bot or webhook.

    `thread` is the ts of the message it is below, `broadcast` whether it is in the channel too.
    """

    ts: str
    author: str
    versions: tuple[Version, ...]
    thread: str | None = None
    broadcast: bool = False

    @property
    def now(self) -> Version:
        """What it says now."""
        return self.versions[-1]


@dataclass(frozen=True, slots=True)
class File:
    """A file that was uploaded and shared below a message."""

    name: str
    title: str
    content: bytes
    channel: str
    thread: str


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
        self._announced: dict[str, tuple[str, int]] = {}
        self._uploaded: dict[str, bytes] = {}
        self._shared: deque[File] = deque(maxlen=MAX_KEPT)
        self.whispers: deque[tuple[str, str, str]] = deque(maxlen=MAX_KEPT)
        """Channel, user and text of messages that one user alone sees."""

    def messages(self) -> dict[str, tuple[Message, ...]]:
        """Return a copy of what stands in each channel, oldest first, less what is in threads."""
        return self._copied(lambda message: message.thread is None)

    def replies(self) -> dict[str, tuple[Message, ...]]:
        """Return a copy of what stands in threads of each channel, oldest first."""
        return self._copied(lambda message: message.thread is not None)

    def _copied(self, which: Callable[[Message], bool]) -> dict[str, tuple[Message, ...]]:
        with self._lock:
            return {
                channel: tuple(copy.deepcopy([m for m in messages.values() if which(m)]))
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
            "chat.postEphemeral": self._post_ephemeral,
            "conversations.info": self._info,
            "files.getUploadURLExternal": self._upload_url,
            "files.completeUploadExternal": self._complete_upload,
            "conversations.history": self._history,
            "conversations.replies": self._replies,
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
        thread = arguments.get("thread_ts")
        known = self._channels[channel].get(str(thread))
        if thread is not None and (known is None or known.thread is not None):
            raise SlackError("thread_not_found")
        self._take_turn(channel)
        stored = self._store(
            channel,
            "bot",
            Version(text, tuple(blocks or ()), metadata),
            thread=None if thread is None else str(thread),
            broadcast=_flag(arguments.get("reply_broadcast")),
        )
        return {"channel": channel, "ts": stored.ts, "message": _shown(stored, with_metadata=True)}

    def _post_ephemeral(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "chat:write")
        text, _, _ = message_of(arguments)
        if not str(arguments.get("user", "")).startswith(("U", "W")):
            raise SlackError("user_not_in_channel")
        self.whispers.append((channel, str(arguments["user"]), text))
        return {"message_ts": f"{self._clock():.6f}"}

    def _info(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "channels:read")
        return {"channel": {"id": channel, "name": channel.lower(), "is_member": True}}

    def files(self) -> tuple[File, ...]:
        """Return the files that were shared, oldest first."""
        with self._lock:
            return tuple(self._shared)

    def upload(self, name: str, content: bytes) -> None:
        """Take the content of a file that was announced."""
        with self._lock:
            if name not in self._announced or self._announced[name][1] != len(content):
                raise SlackError("invalid_upload")
            self._uploaded[name] = content

    def _upload_url(self, arguments: Arguments) -> dict[str, Any]:
        if "files:write" not in self.scopes:
            raise SlackError("missing_scope", needed="files:write")
        length = _whole(arguments.get("length"), "invalid_arguments")
        if length <= 0 or not arguments.get("filename"):
            raise SlackError("invalid_arguments")
        name = f"F{len(self._announced):08d}"
        self._announced[name] = (str(arguments["filename"]), length)
        return {"file_id": name}

    def _complete_upload(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(
            {"channel": arguments.get("channel_id", "")} | dict(arguments), "files:write"
        )
        thread = str(arguments.get("thread_ts", ""))
        if thread and thread not in self._channels[channel]:
            raise SlackError("invalid_thread_ts")
        files = arguments.get("files")
        for each in json.loads(files) if isinstance(files, str) else files or []:
            content = self._uploaded.get(each.get("id"))
            if content is None:
                raise SlackError("file_not_found")
            named = self._announced[each["id"]][0]
            self._shared.append(File(named, str(each.get("title", "")), content, channel, thread))
        return {"files": []}

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
        self._channels[channel][ts] = replace(known, versions=(*known.versions, version))
        return {"channel": channel, "ts": ts, "text": text}

    def _history(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "channels:history")
        stand = [m for m in self._channels[channel].values() if m.thread is None or m.broadcast]
        return _page(list(reversed(stand)), arguments)

    def _replies(self, arguments: Arguments) -> dict[str, Any]:
        channel = self._permitted(arguments, "channels:history")
        ts = str(arguments.get("ts", ""))
        if ts not in self._channels[channel]:
            raise SlackError("thread_not_found")
        return _page(
            [m for m in self._channels[channel].values() if ts in {m.ts, m.thread}], arguments
        )

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

    def _store(
        self,
        channel: str,
        author: str,
        version: Version,
        *,
        thread: str | None = None,
        broadcast: bool = False,
    ) -> Message:
        self._last_ts = max(self._last_ts + 1, int(self._clock() * MICROSECONDS))
        seconds, microseconds = divmod(self._last_ts, MICROSECONDS)
        ts = f"{seconds}.{microseconds:06d}"
        message = Message(ts, author, (version,), thread, broadcast)
        messages = self._channels[channel]
        messages[message.ts] = message
        if len(messages) > MAX_KEPT:
            del messages[next(iter(messages))]
        return message


def _page(found: Sequence[Message], arguments: Arguments) -> dict[str, Any]:
    """Return a page of messages that are in order, and where the next begins."""
    limit = _whole(arguments.get("limit", 100), "invalid_limit")
    if not 1 <= limit <= MAX_PAGE:
        raise SlackError("invalid_limit")
    oldest = _microseconds(arguments.get("oldest", 0), "invalid_ts_oldest")
    start = _whole(arguments.get("cursor") or 0, "invalid_cursor")
    inside = [m for m in found if oldest < _microseconds(m.ts, "internal_error")]
    page = inside[start : start + limit]
    more = len(inside) > start + limit
    with_metadata = _flag(arguments.get("include_all_metadata"))
    return {
        "messages": [_shown(message, with_metadata=with_metadata) for message in page],
        "has_more": more,
        "response_metadata": {"next_cursor": str(start + limit) if more else ""},
    }


def _flag(value: Any) -> bool:
    return str(value if value is not None else "").lower() in ("1", "true")


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
