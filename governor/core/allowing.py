"""Allow-lists: who is let through whatever rules say, as it is written in rule files."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from governor.core.directives import OPERATOR, Directive, Effect, wire
from governor.core.enforcement import Issue, released
from governor.core.rules.actions import Fail
from governor.core.scopes import Scope

NAME: Final = "allowed"
FOREVER: Final = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Allow:
    """Usage that is let through until a time, and why."""

    where: Scope
    reason: str
    until: datetime = FOREVER

    @property
    def id(self) -> str:
        """The id of its directive, which is that of its scope."""
        named = msgspec.json.encode(sorted(wire(self.where).items()))
        return f"{NAME}-{hashlib.blake2b(named, digest_size=6).hexdigest()}"


def allowing(
    allows: Iterable[Allow], standing: Mapping[str, Directive], issue: Issue
) -> list[Directive]:
    """Return the directives to issue so that those of allow-lists are as they are written."""
    wanted = {each.id: each for each in allows if each.until > issue.now}
    issued = [
        released(directive, issue, reason="it is no more in the rule files")
        for name, directive in standing.items()
        if directive.action == NAME and directive.effect is Effect.ALLOW and name not in wanted
    ]
    for name, allow in wanted.items():
        before = standing.get(name)
        said = before and (before.effect, before.until, before.reason)
        if said != (Effect.ALLOW, allow.until, allow.reason):
            issued.append(_directive(name, allow, issue))
    return issued


def _directive(name: str, allow: Allow, issue: Issue) -> Directive:
    return Directive(
        id=name,
        version=next(issue.versions),
        effect=Effect.ALLOW,
        rule=OPERATOR,
        action=NAME,
        reason=allow.reason,
        scope=wire(allow.where),
        issued_at=issue.now,
        until=allow.until,
        fail=Fail.CLOSED,  # a lease that ran out must not make it hard for them
    )
