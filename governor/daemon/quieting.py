"""What people say of alerts: that they have seen one, or want to hear no more of it for a while."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Final

from governor.adapters.control import Call, Caller
from governor.core.alerts import Alert
from governor.core.decisions import AuditRow
from governor.core.errors import ConfigError
from governor.core.routing import FACTS, Silence
from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.documents.sections import listed, suggestion
from governor.loops.evaluate import Evaluate
from governor.rulebook.values import duration

ACK_FOR: Final = timedelta(days=1)
"""How long an acknowledgement holds, unless something else is asked for."""
MAX_FOR: Final = timedelta(days=365)
MAX_SILENCES: Final = 1_000
MAX_NOTE: Final = 200
_MATCH: Final = "match."

Audit = Callable[[Caller, str, str, str, str | None], AuditRow]


class Quieting:
    """Takes orders in the thread that owns the store; `audit` makes the row of one."""

    def __init__(
        self, evaluate: Callable[[], Evaluate], now: Callable[[], datetime], audit: Audit
    ) -> None:
        self._evaluate = evaluate
        self._now = now
        self._audit = audit

    def ack(self, call: Call) -> dict[str, Any] | None:
        """Note that somebody has seen an alert; None where none such is open."""
        return self._noted(call, "alerts.ack", ACK_FOR)

    def snooze(self, call: Call) -> dict[str, Any] | None:
        """Hold back an episode of an alert but for its end; None where none such is open."""
        return self._noted(call, "alerts.snooze", None)

    def unack(self, call: Call) -> dict[str, Any] | None:
        """Take back what somebody said of an alert; None where none such is open."""
        (name,) = call.names
        now = self._now()
        row = self._audit(call.caller, "alerts.unack", name, "taken back", None)
        found = self._evaluate().ack(name, now, row)
        return None if found is None else _ack_row(found, call.caller.who, now, "")

    def listed(self, _: Call) -> list[dict[str, Any]]:
        """Return the silences that people ordered and that are not over."""
        now = self._now()
        ordered = self._evaluate().silences.values()
        return [_silence_row(each) for each in ordered if each.until > now]

    def silence(self, call: Call) -> dict[str, Any]:
        """Hold back alerts that are like what is named."""
        now = self._now()
        evaluate = self._evaluate()
        if len([each for each in evaluate.silences.values() if each.until > now]) >= MAX_SILENCES:
            raise ConfigError(f"there are {MAX_SILENCES:,} silences already; end some")
        match = _match(call.fields, {name for r in evaluate.rules.values() for name in r.labels})
        span = spanned(call.fields.get("for"), None)
        silence = Silence(
            match=Scope(tuple(Condition(n, frozenset([v])) for n, v in match.items())),
            since=now,
            until=now + span,
            reason=noted(call, "reason"),
            by=call.caller.who,
            id=secrets.token_hex(4),
        )
        row = self._audit(call.caller, "silences.add", silence.id, "silenced", silence.reason)
        evaluate.silence(silence, row)
        return _silence_row(silence)

    def end(self, call: Call) -> dict[str, Any] | None:
        """End a silence that people ordered; None where none such holds."""
        (name,) = call.names
        now, evaluate = self._now(), self._evaluate()
        found = evaluate.silences.get(name)
        if found is None or found.until <= now:
            return None
        ended = replace(found, until=now)
        evaluate.silence(ended, self._audit(call.caller, "silences.end", name, "ended", None))
        return _silence_row(ended)

    def _noted(self, call: Call, action: str, usual: timedelta | None) -> dict[str, Any] | None:
        (name,) = call.names
        until = self._now() + spanned(call.fields.get("for"), usual)
        note = noted(call, "note")
        row = self._audit(call.caller, action, name, f"until {until:%Y-%m-%dT%H:%M:%SZ}", note)
        found = self._evaluate().ack(name, until, row, snooze=action == "alerts.snooze")
        return None if found is None else _ack_row(found, call.caller.who, until, note)


def _match(fields: Mapping[str, str], labels: set[str]) -> dict[str, str]:
    found = named(fields, _MATCH)
    if not found:
        raise ConfigError("a silence needs what it is about, such as rule=customer-daily")
    known = sorted({*FACTS, *DIMENSIONS, *labels})
    for name in found:
        if name not in known:
            close = suggestion(name, known) or f"; known: {listed(known)}"
            raise ConfigError(f"{name[:60]!r} is no fact of an alert{close}")
    return found


def named(fields: Mapping[str, str], prefix: str) -> dict[str, str]:
    """Return the fields of an order that begin so, without that beginning."""
    return {
        name.removeprefix(prefix): value
        for name, value in fields.items()
        if name.startswith(prefix)
    }


def spanned(text: str | None, usual: timedelta | None) -> timedelta:
    """Read for how long; raise ConfigError where that is wrong, or missing and nothing is usual."""
    if text is None:
        if usual is None:
            raise ConfigError("say for how long, such as 1h")
        return usual
    try:
        found = duration(text)
    except ValueError as error:
        raise ConfigError(f"{text[:60]!r} {error}") from None
    if not timedelta(0) < found <= MAX_FOR:
        raise ConfigError(f"{text} must be longer than nothing and at most {MAX_FOR.days}d")
    return found


def noted(call: Call, name: str) -> str:
    """Return a remark of an order, in one line."""
    return " ".join(call.fields.get(name, "").split())[:MAX_NOTE]


def _ack_row(alert: Alert, who: str, until: datetime, note: str) -> dict[str, Any]:
    return {
        "alert": alert.key.id,
        "rule": alert.key.rule,
        "level": str(alert.level) if alert.level else None,
        "by": who,
        "until": until,
        "note": note,
    }


def _silence_row(silence: Silence) -> dict[str, Any]:
    return {
        "id": silence.id,
        "match": {each.dimension: min(each.values) for each in silence.match.conditions},
        "since": silence.since,
        "until": silence.until,
        "reason": silence.reason,
        "by": silence.by,
    }
