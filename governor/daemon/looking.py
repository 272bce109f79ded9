"""What the control API answers to those who look closer: one alert, its picture, what is ahead.

And what people say of the past: that a span was planned, or is not to be learned from.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from governor.adapters.control import Call
from governor.adapters.duckdb.state import State
from governor.core.alerts import Alert, Phase
from governor.core.decisions import AuditRow
from governor.core.errors import ConfigError
from governor.core.gauges.forecast import Ahead
from governor.core.gauges.history import Exemption
from governor.core.notifications import is_told, line_text
from governor.core.picture import Mark, Picture
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.shared import Rule
from governor.core.rules.spike import Spike
from governor.core.scopes import Key
from governor.core.stories import odds
from governor.daemon.answers import rule_of
from governor.daemon.explaining import moment
from governor.loops.evaluate import Evaluate
from governor.loops.evaluate.picturing import picture_of
from governor.loops.evaluate.why import LOOKED_AHEAD, outlooks_of

MAX_AHEAD: Final = 100
"""Groups of a rule that are looked ahead for in one answer, those that used most lately."""
MAX_REASON: Final = 200
BEFORE_ALERT: Final = timedelta(hours=24)
"""What is forgiven of the time before an alert fired: the widest window that may have told it."""


class Looking:
    """Answers from the thread that owns the store; `audit` makes the row of a call."""

    def __init__(
        self,
        state: State,
        evaluate: Callable[[], Evaluate],
        now: Callable[[], datetime],
        audit: Callable[[Call, str, str, str], AuditRow],
    ) -> None:
        self._state = state
        self._evaluate = evaluate
        self._now = now
        self._audit = audit

    def alert(self, call: Call) -> dict[str, Any] | None:
        """Return an alert with its lines; None where there is none of that id."""
        (name,) = call.names
        found = self._state.alert(name)
        if found is None:
            return None
        evaluate = self._evaluate()
        rule = evaluate.rules.get(found.key.rule)
        live = {alert.key: amount for alert, amount in evaluate.alerts}
        history = self._state.history([found.key])
        return {
            "id": found.key.id,
            "rule": found.key.rule,
            "group": _group(rule, found.key.group),
            "phase": found.phase.value,
            "level": str(found.level) if found.level else None,
            "value": rule.text(live.get(found.key, found.amount)) if rule else None,
            "limit": rule.limit_text if rule else None,
            "seen": evaluate.seen([found]).get(found.key.id),
            "fired_at": found.fired_at,
            "ended_at": found.ended_at,
            "why": found.why.split("\n") if found.why else [],
            "history": [
                line_text(line, rule) for _, line in history if rule is not None and is_told(line)
            ],
        }

    def picture(self, call: Call) -> dict[str, Any] | None:
        """Return the picture of an alert in numbers; None where there is no such alert."""
        (name,) = call.names
        found = self._state.alert(name)
        rule = None if found is None else self._evaluate().rules.get(found.key.rule)
        if rule is None:
            return None
        picture = self.pictured(name)
        if picture is None:
            raise ConfigError(f"{rule.id} is a {rule.kind}, of which there is no picture")
        return asdict(picture)

    def pictured(self, name: str) -> Picture | None:
        """Return the picture of an alert; None where there is none of it."""
        found = self._state.alert(name)
        rules = self._evaluate().rules
        if found is None or found.key.rule not in rules:
            return None
        rule = rules[found.key.rule]
        at = min(self._now(), (found.ended_at or self._now()) + BEFORE_ALERT)
        at = min(at, found.key.period.end - timedelta(microseconds=1))
        why = (found.why or "").split("\n")[0]
        return picture_of(self._state, rule, found.key.group, at, list(_marks(found)), why)

    def forecasts(self, call: Call) -> list[dict[str, Any]]:
        """Return where the weeks and months of budgets and forecasts are heading."""
        return [
            {name: value for name, value in row.items() if name != "percent"}
            for row in self.ahead(call.fields.get("rule"))
        ]

    def ahead(self, asked: str | None) -> list[dict[str, Any]]:
        """Return the same of one rule, or of all; `percent` is of the limit."""
        rules = self._evaluate().rules
        if asked is not None:
            rule_of(rules, asked)
        chosen = [
            rule
            for rule in rules.values()
            if isinstance(rule, Budget | Forecast)
            and rule.calendar.every in LOOKED_AHEAD
            and asked in {None, rule.id}
        ]
        if asked is not None and not chosen:
            raise ConfigError(f"{asked} has no week or month to look ahead for")
        now = self._now()
        return [
            _ahead_row(rule, group, ahead, now)
            for rule in chosen
            for group, ahead in _greatest(outlooks_of(self._state, rule, now, MAX_AHEAD))
        ]

    def forgive(self, call: Call) -> dict[str, Any] | None:
        """Have what an alert was about teach nothing; None where there is no such alert."""
        (name,) = call.names
        found = self._state.alert(name)
        if found is None or found.fired_at is None:
            return None
        rule = self._spike(found.key.rule)
        start = found.fired_at - BEFORE_ALERT
        end = found.ended_at or self._now()
        exempt = Exemption(
            rule.id,
            found.key.group,
            start,
            end,
            planned=False,
            reason=_reason(call),
            who=call.caller.who,
        )
        self._evaluate().exempt(exempt, self._audit(call, "alerts.forgive", name, "forgiven"))
        return _exemption_row(rule, exempt)

    def plan(self, call: Call) -> dict[str, Any]:
        """Have a rule not tell of a span, nor learn from it."""
        (name,) = call.names
        rule = self._spike(name)
        start, end = (moment(call.fields.get(word, "")) for word in ("from", "until"))
        if start >= end:
            raise ConfigError(f"the span ends ({end}) before it begins ({start})")
        exempt = Exemption(
            rule.id,
            _chosen(rule, call.fields),
            start,
            end,
            planned=True,
            reason=_reason(call),
            who=call.caller.who,
        )
        self._evaluate().exempt(exempt, self._audit(call, "rules.plan", name, "planned"))
        return _exemption_row(rule, exempt)

    def _spike(self, name: str) -> Spike:
        rule = rule_of(self._evaluate().rules, name)
        if not isinstance(rule, Spike):
            raise ConfigError(f"{name} is a {rule.kind}; only a spike learns what is usual")
        return rule


def _marks(alert: Alert) -> Iterable[Mark]:
    if alert.fired_at is not None:
        yield Mark(alert.fired_at, "fired", str(alert.level or "info"))
    if alert.ended_at is not None and alert.phase is Phase.RESOLVED:
        yield Mark(alert.ended_at, "over", "")


def _group(rule: Rule | None, group: Key) -> Any:
    return dict(zip(rule.per, group, strict=False)) if rule else list(group)


def _greatest(found: Mapping[Key, Ahead]) -> Sequence[tuple[Key, Ahead]]:
    return sorted(found.items(), key=lambda each: -each[1].likely)


def _ahead_row(rule: Budget | Forecast, group: Key, ahead: Ahead, now: datetime) -> dict[str, Any]:
    period = rule.calendar.period(now)
    return {
        "rule": rule.id,
        "group": _group(rule, group),
        "period": period.name,
        "so_far": rule.text(ahead.so_far),
        "likely": rule.text(ahead.likely),
        "low": rule.text(ahead.low),
        "high": rule.text(ahead.high),
        "limit": rule.limit_text,
        "percent": rule.percent(ahead.so_far),
        "passes": "passed" if ahead.so_far > rule.limit else odds(ahead.above),
        "exhausted": ahead.exhausted,
        "sure": ahead.sure,
        "amounts": {
            name: getattr(ahead, name) for name in ("so_far", "likely", "low", "high", "above")
        },
    }


def _reason(call: Call) -> str:
    return call.fields.get("reason", "")[:MAX_REASON]


def _chosen(rule: Rule, fields: Mapping[str, str]) -> Key | None:
    """Return the group that is named, None for all."""
    named = {name[6:]: value for name, value in fields.items() if name.startswith("group.")}
    if not named:
        return None
    if set(named) != set(rule.per):
        words = " ".join(f"--group {name}=..." for name in rule.per) or "no --group"
        raise ConfigError(
            f"{rule.id} has groups by {', '.join(rule.per) or 'nothing'}; write {words}"
        )
    return tuple(named[name] or None for name in rule.per)


def _exemption_row(rule: Rule, exempt: Exemption) -> dict[str, Any]:
    return {
        "rule": exempt.rule,
        "group": None if exempt.group is None else _group(rule, exempt.group),
        "from": exempt.start,
        "until": exempt.end,
        "planned": exempt.planned,
        "reason": exempt.reason,
    }
