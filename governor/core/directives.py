"""Directives: what gates must do, to whom, until when, and why; the record of the compacted topic.

A directive is a lease: it holds until `until`, and for an `open` one only while the daemon's
heartbeat is fresh. Versions are one rising sequence over all directives, so that whoever reads the
topic can tell old from new; a key's newest version is what holds.

The kill switch and allow-lists are directives too: `allow` goes above all that others say.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from governor.core.rules.actions import EVERY_ONE, Fail
from governor.core.scopes import Condition, Scope

HEARTBEAT_KEY: Final = "heartbeat"
"""The key of the record that renews the lease of every directive."""

DIRECTIVE_PREFIX: Final = "directive:"

Time = Annotated[datetime, Meta(tz=True)]
"""A time without a zone is not readable: it could not be compared."""


SWITCH_ID: Final = "enforcement-off"
"""The id of the directive that allows everything: the kill switch."""
OPERATOR: Final = "operator"
"""What stands for the rule in a directive that a person ordered."""


class Effect(StrEnum):
    """What a directive does: let requests through, slow, downgrade or stop them, or end."""

    ALLOW = "allow"
    THROTTLE = "throttle"
    DOWNGRADE = "downgrade"
    BLOCK = "block"
    RELEASE = "release"


ACTING: Final = frozenset({Effect.THROTTLE, Effect.DOWNGRADE, Effect.BLOCK})
"""The effects that somebody feels."""


class WireCondition(Struct, frozen=True, gc=False, omit_defaults=True, rename={"not_": "not"}):
    """`core.scopes.Condition` on the wire: one of these values, or like one of these globs."""

    values: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    not_: bool = False


class Directive(Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True):
    """One directive, as JSON on the topic under the key `directive:<id>`.

    `id` names rule, group, action and period, so it is one action of one period. `scope` maps a
    dimension to its condition. Of a throttle, `rate_requests` in `rate_span_s` seconds is allowed
    for each value of `each`, or for all together where that is None. Of a downgrade, `models` maps
    a model or glob to what to use instead. Only `percent` of the values of `percent_of` are meant,
    always the same. It holds from `starts_at` on, where that is said. `evidence` says which records
    of the topic brought the amount there, and `caused_at` how new the newest of their events was.

    What `waits` (why is said) is not published before a person approves it. One in `shadow` is
    counted by gates and never obeyed. Times are UTC.
    """

    id: str
    version: int
    effect: Effect
    rule: str
    action: str
    reason: str
    scope: Mapping[str, WireCondition]
    issued_at: Time
    until: Time
    rate_requests: Annotated[int, Meta(ge=0)] | None = None
    rate_span_s: Annotated[int, Meta(ge=1)] | None = None
    each: str | None = None
    models: Mapping[str, str] = msgspec.field(default_factory=dict)
    percent: Annotated[int, Meta(ge=0, le=EVERY_ONE)] = EVERY_ONE
    percent_of: str | None = None
    starts_at: Time | None = None
    fail: Fail = Fail.OPEN
    shadow: bool = False
    alert: str | None = None
    episode: int = 0
    evidence: Mapping[str, str] = msgspec.field(default_factory=dict)
    caused_at: Time | None = None
    waits: str | None = None
    approved_by: str | None = None
    released_by: str | None = None

    def __post_init__(self) -> None:
        if self.effect is Effect.THROTTLE and None in (self.rate_requests, self.rate_span_s):
            raise ValueError("a throttle needs rate_requests and rate_span_s")
        if self.effect is Effect.DOWNGRADE and not self.models:
            raise ValueError("a downgrade needs models")

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{DIRECTIVE_PREFIX}{self.id}"

    def holds_at(self, now: datetime, lease_until: datetime | None) -> bool:
        """Return whether gates obey at `now`; `lease_until` is what the last heartbeat said.

        An `open` directive needs a fresh lease. A `closed` one needs none, up to its `until`: it
        began under one.
        """
        if self.effect is Effect.RELEASE or self.waits or now >= self.until:
            return False
        begins = self.starts_at
        if self.fail is Fail.OPEN:
            fresh = lease_until is not None and now < lease_until
            return fresh and (begins is None or now >= begins)
        led = lease_until is not None and begins is not None and begins < lease_until
        return begins is None or (now >= begins and led)

    @property
    def acts(self) -> bool:
        """Whether somebody feels it, or would if it did not wait."""
        return self.effect in ACTING

    @property
    def rate(self) -> tuple[int, int]:
        """How many requests pass in how many seconds; all of them where it is no throttle."""
        return self.rate_requests or 0, self.rate_span_s or 1

    @property
    def deed(self) -> str:
        """What it does, in words: `2/min for each user`, `gpt-4o to gpt-4o-mini`, `blocked`."""
        whom = f" for each {self.each}" if self.each else ""
        words = {
            Effect.ALLOW: "allowed, whatever others say",
            Effect.THROTTLE: f"{rate_text(*self.rate)}{whom}",
            Effect.DOWNGRADE: ", ".join(f"{old} to {new}" for old, new in self.models.items()),
            Effect.BLOCK: "blocked",
            Effect.RELEASE: "released",
        }
        staged = f", {self.percent}% of {self.percent_of}" if self.percent < EVERY_ONE else ""
        return words[self.effect] + (staged if self.acts else "")


class Heartbeat(Struct, frozen=True, kw_only=True):
    """Renews every lease until `lease_until`; `version` is the greatest given out so far.

    `steady_ms` is when it was sent by a clock of the `sender` that is never set.
    """

    version: int
    sent_at: Time
    lease_until: Time
    sender: str = ""
    steady_ms: int = 0
    kind: Literal["heartbeat"] = "heartbeat"


_SPANS: Final = {86_400: "day", 3_600: "h", 60: "min", 1: "s"}

_encoder: Final = msgspec.json.Encoder()
_directives: Final = msgspec.json.Decoder(Directive)
_heartbeats: Final = msgspec.json.Decoder(Heartbeat)


def encode(record: Directive | Heartbeat) -> tuple[bytes, bytes]:
    """Return key and value of a record."""
    key = HEARTBEAT_KEY if isinstance(record, Heartbeat) else record.key
    return key.encode(), _encoder.encode(record)


def decode(key: bytes | None, value: bytes | None) -> Directive | Heartbeat | None:
    """Return the record; None for a tombstone or what is no record of ours or not readable."""
    try:
        if not key or not value:
            return None
        if key == HEARTBEAT_KEY.encode():
            return _heartbeats.decode(value)
        if not key.startswith(DIRECTIVE_PREFIX.encode()):
            return None
        directive = _directives.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return directive if directive.key.encode() == key else None


def wire(scope: Scope) -> dict[str, WireCondition]:
    """Return a scope as it goes on the wire."""
    return {
        condition.dimension: WireCondition(
            values=tuple(sorted(condition.values)),
            like=condition.patterns,
            not_=condition.negated,
        )
        for condition in scope.conditions
    }


def unwire(scope: Mapping[str, WireCondition]) -> Scope:
    """Return the scope that `wire` was given."""
    return Scope(
        tuple(
            Condition(dimension, frozenset(found.values), found.like, found.not_)
            for dimension, found in scope.items()
        )
    )


def rate_text(requests: int, span_s: int) -> str:
    """Return a rate as rules write it: `2/min`; a span without a name of its own in seconds."""
    return f"{requests}/{_SPANS.get(span_s, f'{span_s}s')}"


def newest_by_key(records: Iterable[Directive]) -> dict[str, Directive]:
    """Return the directive with the greatest version of each id."""
    newest: dict[str, Directive] = {}
    for record in records:
        if record.id not in newest or newest[record.id].version < record.version:
            newest[record.id] = record
    return newest
