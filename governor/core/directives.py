"""Directives: what gates must do, to whom, until when, and why; the record of the compacted topic.

A directive is a lease: it holds until `until`, and for an `open` one only while the daemon's
heartbeat is fresh. Versions are one rising sequence over all directives, so that whoever reads the
topic can tell old from new; a key's newest version is what holds.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from governor.core.rules.shared import Fail
from governor.core.scopes import Condition, Scope

HEARTBEAT_KEY: Final = "heartbeat"
"""The key of the record that renews the lease of every directive."""

DIRECTIVE_PREFIX: Final = "directive:"

Time = Annotated[datetime, Meta(tz=True)]
"""A time without a zone is not readable: it could not be compared."""


class Effect(StrEnum):
    """What a directive does: slow requests down, or nothing any more."""

    THROTTLE = "throttle"
    RELEASE = "release"


class WireCondition(Struct, frozen=True, omit_defaults=True, rename={"not_": "not"}):
    """`core.scopes.Condition` on the wire: one of these values, or like one of these globs."""

    values: tuple[str, ...] = ()
    like: tuple[str, ...] = ()
    not_: bool = False


class Directive(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One directive, as JSON on the topic under the key `directive:<id>`.

    `id` names rule, group, action and period, so it is one throttle of one period. `scope` maps a
    dimension to its condition; `rate_requests` in `rate_span_s` seconds is allowed for each value
    of `each`, or for all together where that is None. `evidence` says which records of the topic
    brought the amount there. Times are UTC.
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
    rate_requests: Annotated[int, Meta(ge=0)]
    rate_span_s: Annotated[int, Meta(ge=1)]
    each: str | None = None
    fail: Fail = Fail.OPEN
    alert: str | None = None
    evidence: Mapping[str, str] = msgspec.field(default_factory=dict)
    released_by: str | None = None

    @property
    def key(self) -> str:
        """The record's key."""
        return f"{DIRECTIVE_PREFIX}{self.id}"

    def holds_at(self, now: datetime, lease_until: datetime | None) -> bool:
        """Return whether gates obey at `now`; `lease_until` is what the last heartbeat said.

        An `open` directive needs a fresh lease. A `closed` one needs none, up to its `until`: it
        was issued under one.
        """
        if self.effect is not Effect.THROTTLE or now >= self.until:
            return False
        return self.fail is Fail.CLOSED or (lease_until is not None and now < lease_until)


class Heartbeat(Struct, frozen=True, kw_only=True):
    """Renews every lease until `lease_until`; `version` is the greatest given out so far."""

    version: int
    sent_at: Time
    lease_until: Time
    kind: Literal["heartbeat"] = "heartbeat"


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


def newest_by_key(records: Iterable[Directive]) -> dict[str, Directive]:
    """Return the directive with the greatest version of each id."""
    newest: dict[str, Directive] = {}
    for record in records:
        if record.id not in newest or newest[record.id].version < record.version:
            newest[record.id] = record
    return newest
