"""The demo's load maker: a made-up company that writes notes, and what its gateway would send.

Most records are right. Some come twice, some cannot be read, some come hours late, and one model
has no known price: as it is in life. The key of one free account gets into the wrong hands.
"""

import random
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from governor.core.usage import Reason
from governor.demo.rhythm import Due

SOURCE: Final = "kestrel-gateway"
UNPRICED_MODEL: Final = ("mistral", "codestral-nightly")
LEAKED: Final = "free-0417"
"""The free account whose key is posted in a forum."""
FREE: Final = "free"

_RECENT: Final = 512
"""How many events are remembered to be sent again."""
_REPEATED: Final = 0.016
"""The share of records after which an earlier one comes again."""


class Workload(NamedTuple):
    """A feature, who owns it, what it calls, and about how many tokens a call takes.

    `shares` is how often each tier uses it, for one request of the others.
    """

    feature: str
    team: str
    provider: str
    model: str
    shares: Mapping[str, int]
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


TIERS: Final = {FREE: 60, "pro": 30, "enterprise": 10}
"""Tiers, and how many in a hundred requests are theirs."""
CUSTOMERS: Final = {FREE: 6_000, "pro": 400, "enterprise": 6}
USERS: Final = {FREE: 1, "pro": 5, "enterprise": 200}
"""Users a customer."""

_ALL: Final = {FREE: 24, "pro": 24, "enterprise": 24}
_PAID: Final = {"pro": 14, "enterprise": 14}
WORKLOADS: Final = (
    Workload("writing", "editor", "anthropic", "claude-sonnet-4-5", _PAID, 3_200, 420, 0.6),
    Workload("writing", "editor", "anthropic", "claude-haiku-4-5", _ALL, 1_800, 300, 0.5),
    Workload("search", "search", "openai", "text-embedding-3-small", _ALL, 600, 0, 0.0),
    Workload("search", "search", "openai", "gpt-5-mini", _PAID, 5_400, 260, 0.3),
    Workload("meeting-notes", "meetings", "google", "gemini-2.5-flash", _PAID, 14_000, 900, 0.0),
    Workload(
        "meeting-notes", "meetings", "google", "gemini-2.5-pro", {"enterprise": 9}, 22_000, 1_400, 0
    ),
    Workload("help-desk", "support", "openai", "gpt-4o-mini", _ALL, 2_400, 220, 0.4),
    Workload("code-review", "platform", *UNPRICED_MODEL, {"enterprise": 9}, 6_000, 500, 0.0),
)
BOOKS: Final = Workload(
    "writing", "editor", "anthropic", "claude-haiku-4-5", {}, 150_000, 1_200, 0.0
)
"""What strangers do with the leaked key: they have whole books summed up."""
_BOOK_TOKENS: Final = 195_000
"""The most that the model takes."""

_SHARES: Final = {
    "plain": 9_840,
    "failed": 80,
    "late": 40,
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
    """Makes one request after another; the same seed makes the same company."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311  # a load, no secret
        self._sent: list[Mapping[str, Any]] = []
        self._number = 0

    def requests(self, now: datetime, due: Due) -> Iterator[dict[str, Any]]:
        """Yield the requests of this moment, as the events that they will be if they run."""
        strange = [True] * due.strangers + [False] * due.usual
        self._random.shuffle(strange)
        for stranger in strange:
            yield self._stranger(now) if stranger else self._usual(now)

    def records(self, event: dict[str, Any], now: datetime) -> Iterator[Message]:
        """Yield what the gateway sends of a request that ran: mostly one right record."""
        (sort,) = self._random.choices(list(_SHARES), list(_SHARES.values()))
        key = _key(event)
        reason = _altered(event, sort, now)
        value = msgspec.json.encode(event)
        if reason is Reason.MALFORMED:
            value = value[: len(value) // 2]
        if reason is None:
            self._remember(event)
        yield Message(key, value, None if reason else event, repeats=False, reason=reason)
        if self._sent and self._random.random() < _REPEATED:
            again = self._random.choice(self._sent)
            value = msgspec.json.encode(again)
            yield Message(_key(again), value, again, repeats=True, reason=None)

    def _usual(self, now: datetime) -> dict[str, Any]:
        pick = self._random
        (tier,) = pick.choices(list(TIERS), list(TIERS.values()))
        shares = [workload.shares.get(tier, 0) for workload in WORKLOADS]
        (work,) = pick.choices(WORKLOADS, shares)
        customer = f"{tier}-{pick.randrange(CUSTOMERS[tier]) + 1:04d}"
        user = f"{customer}/{pick.randrange(USERS[tier]) + 1}"
        input_tokens = _about(pick, work.input_tokens)
        cached = int(input_tokens * work.cached * pick.random())
        output_tokens = _about(pick, work.output_tokens)
        return self._event(now, work, tier, customer, user, (input_tokens, cached, output_tokens))

    def _stranger(self, now: datetime) -> dict[str, Any]:
        tokens = min(_about(self._random, BOOKS.input_tokens, spread=0.2), _BOOK_TOKENS)
        written = _about(self._random, BOOKS.output_tokens)
        return self._event(now, BOOKS, FREE, LEAKED, f"{LEAKED}/1", (tokens, 0, written))

    def _event(
        self,
        now: datetime,
        work: Workload,
        tier: str,
        customer: str,
        user: str,
        tokens: tuple[int, int, int],
    ) -> dict[str, Any]:
        self._number += 1
        return {
            "event_id": f"{self._number:08d}",
            "source": SOURCE,
            "event_time": _text(now - timedelta(milliseconds=self._random.randrange(300))),
            "provider": work.provider,
            "model": work.model,
            "operation": "chat" if work.output_tokens else "embeddings",
            "status": "success",
            "customer": customer,
            "user": user,
            "api_key": f"key-of-{customer}",
            "tier": tier,
            "feature": work.feature,
            "team": work.team,
            "environment": "production",
            "region": self._random.choice(("eu-west", "us-east")),
            "input_tokens": tokens[0],
            "cache_read_tokens": tokens[1],
            "output_tokens": tokens[2],
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


def _about(pick: random.Random, tokens: int, spread: float = 0.5) -> int:
    return int(tokens * pick.lognormvariate(0.0, spread))


def _key(event: Mapping[str, Any]) -> bytes:
    return str(event["customer"]).encode()


def _text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")
