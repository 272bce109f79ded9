"""The demo's load maker: a made-up company that writes notes, and what its gateway would send.

Most records are right. Some come twice, some cannot be read, some come hours late, and one model
has no known price: as it is in life.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from governor.core.usage import Reason

SOURCE: Final = "kestrel-gateway"
UNPRICED_MODEL: Final = ("mistral", "codestral-nightly")

_RECENT: Final = 512
"""How many events are remembered to be sent again."""


class Workload(NamedTuple):
    """A feature, who owns it, what it calls, and about how many tokens a call takes."""

    feature: str
    team: str
    provider: str
    model: str
    share: int
    input_tokens: int
    output_tokens: int
    cached: float


class Message(NamedTuple):
    """One record to send, and what it must come to: an event, a repeat of one, or a reject."""

    key: bytes
    value: bytes
    event: Mapping[str, Any] | None
    repeats: bool
    reason: Reason | None


WORKLOADS: Final = (
    Workload("writing", "editor", "anthropic", "claude-sonnet-4-5", 14, 3_200, 420, 0.6),
    Workload("writing", "editor", "anthropic", "claude-haiku-4-5", 20, 1_800, 300, 0.5),
    Workload("search", "search", "openai", "text-embedding-3-small", 24, 600, 0, 0.0),
    Workload("search", "search", "openai", "gpt-5-mini", 12, 5_400, 260, 0.3),
    Workload("meeting-notes", "meetings", "google", "gemini-2.5-flash", 10, 14_000, 900, 0.0),
    Workload("meeting-notes", "meetings", "google", "gemini-2.5-pro", 3, 22_000, 1_400, 0.0),
    Workload("help-desk", "support", "openai", "gpt-4o-mini", 12, 2_400, 220, 0.4),
    Workload("code-review", "platform", *UNPRICED_MODEL, 5, 6_000, 500, 0.0),
)

TIERS: Final = {"free": 60, "pro": 30, "enterprise": 10}
"""Tiers, and how many in a hundred requests are theirs."""
CUSTOMERS: Final = {"free": 900, "pro": 150, "enterprise": 6}

_SHARES: Final = {
    "plain": 9_680,
    "failed": 80,
    "late": 40,
    "repeat": 160,
    "cut short": 12,
    "misspelt": 12,
    "negative": 6,
    "without usage": 6,
    "future": 4,
}
"""How many in ten thousand records are of each sort."""

_REASONS: Final = {
    "cut short": Reason.MALFORMED,
    "misspelt": Reason.INVALID,
    "negative": Reason.INVALID,
    "without usage": Reason.NO_USAGE,
    "future": Reason.TOO_NEW,
}
"""The sorts that governor must set aside, and why."""


class Company:
    """Makes one message after another; the same seed makes the same company."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # a load, no secret
        self._sent: list[Mapping[str, Any]] = []
        self._number = 0

    def messages(self, now: datetime, count: int) -> Iterator[Message]:
        """Yield `count` messages of this moment."""
        for _ in range(count):
            yield self._message(now)

    def _message(self, now: datetime) -> Message:
        (sort,) = self._random.choices(list(_SHARES), list(_SHARES.values()))
        if sort == "repeat" and self._sent:
            again = self._random.choice(self._sent)
            return Message(
                _key(again), msgspec.json.encode(again), again, repeats=True, reason=None
            )
        event = self._event(now)
        key = _key(event)
        reason = _altered(event, sort, now)
        value = msgspec.json.encode(event)
        if reason is Reason.MALFORMED:
            value = value[: len(value) // 2]
        if reason is None:
            self._remember(event)
        return Message(key, value, None if reason else event, repeats=False, reason=reason)

    def _event(self, now: datetime) -> dict[str, Any]:
        pick = self._random
        (work,) = pick.choices(WORKLOADS, [workload.share for workload in WORKLOADS])
        (tier,) = pick.choices(list(TIERS), list(TIERS.values()))
        input_tokens = _about(pick, work.input_tokens)
        self._number += 1
        return {
            "event_id": f"{self._number:08d}",
            "source": SOURCE,
            "event_time": _text(now - timedelta(milliseconds=pick.randrange(2_000))),
            "provider": work.provider,
            "model": work.model,
            "operation": "chat" if work.output_tokens else "embeddings",
            "status": "success",
            "customer": f"{tier}-{pick.randrange(CUSTOMERS[tier]) + 1:03d}",
            "tier": tier,
            "feature": work.feature,
            "team": work.team,
            "environment": "production",
            "region": pick.choice(("eu-west", "us-east")),
            "input_tokens": input_tokens,
            "cache_read_tokens": int(input_tokens * work.cached * pick.random()),
            "output_tokens": _about(pick, work.output_tokens),
        }

    def _remember(self, event: Mapping[str, Any]) -> None:
        if len(self._sent) < _RECENT:
            self._sent.append(event)
        else:
            self._sent[self._random.randrange(_RECENT)] = event


def _altered(event: dict[str, Any], sort: str, now: datetime) -> Reason | None:
    """Change an event into one of its sort; return why it must be set aside, if it must."""
    match sort:
        case "failed":
            event |= {"status": "error", "error_type": "rate_limited", "output_tokens": 0}
        case "late":
            event["event_time"] = _text(now - timedelta(hours=3))
        case "misspelt":
            event["input_token"] = event.pop("input_tokens")
        case "negative":
            event["output_tokens"] = -1
        case "without usage":
            for name in ("input_tokens", "cache_read_tokens", "output_tokens"):
                del event[name]
        case "future":
            event["event_time"] = _text(now + timedelta(days=1))
    return _REASONS.get(sort)


def _about(pick: random.Random, tokens: int) -> int:
    return int(tokens * pick.lognormvariate(0.0, 0.5))


def _key(event: Mapping[str, Any]) -> bytes:
    return str(event["customer"]).encode()


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")
