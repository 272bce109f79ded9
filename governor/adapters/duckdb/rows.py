"""Rows of the state tables: what each value is as a row, and back."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
import pyarrow as pa

from governor.core.acks import Ack
from governor.core.alerts import Alert, AlertKey, Ending, Health, Phase, Transition, What
from governor.core.decisions import AuditRow, Line, ReportRow
from governor.core.directives import Directive
from governor.core.gauges.history import Exemption
from governor.core.periods import Period
from governor.core.raises import Raise
from governor.core.routing import Silence
from governor.core.rules.shared import Level, Mode
from governor.core.scopes import Condition, Key, Scope

_TIME: Final = pa.timestamp("us", "UTC")
_AMOUNT: Final = pa.decimal128(38, 0)
ALERTS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("alert_id", "rule", "group", "period")),
        ("period_start", _TIME),
        ("period_end", _TIME),
        *((name, pa.string()) for name in ("meaning", "phase", "mode", "level")),
        ("crossed", pa.int32()),
        ("amount", _AMOUNT),
        ("since", _TIME),
        ("judged_at", _TIME),
        ("health", pa.string()),
        ("episode", pa.int32()),
        ("revision", pa.int32()),
        ("fired_at", _TIME),
        ("ended_at", _TIME),
        ("ending", pa.string()),
        ("cleared_at", _TIME),
        ("told", _AMOUNT),
        ("why", pa.string()),
    ]
)
LINES: Final = pa.schema(
    [
        ("seq", pa.int64()),
        ("happened_at", _TIME),
        *((name, pa.string()) for name in ("alert_id", "rule", "group", "period")),
        ("episode", pa.int32()),
        *((name, pa.string()) for name in ("mode", "what", "level", "threshold")),
        ("amount", _AMOUNT),
        ("actions", pa.list_(pa.string())),
        *((name, pa.string()) for name in ("reason", "evidence")),
    ]
)
MESSAGES: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("receiver", "message", "body", "together")),
        ("level", pa.int32()),
        ("lines", pa.int32()),
        ("over", pa.bool_()),
        ("weight", _AMOUNT),
        ("wanted", pa.int32()),
        ("wanted_at", _TIME),
        ("quiet_until", _TIME),
        ("begun", pa.bool_()),
        ("after_s", pa.int32()),
    ]
)
DIRECTIVES: Final = pa.schema(
    [
        ("version", pa.int64()),
        *((name, pa.string()) for name in ("directive_id", "effect", "rule", "body")),
        ("issued_at", _TIME),
        ("until", _TIME),
    ]
)
AUDIT: Final = pa.schema(
    [
        ("happened_at", _TIME),
        *((name, pa.string()) for name in ("who", "via", "action", "target", "outcome", "detail")),
    ]
)
EXEMPTIONS: Final = pa.schema(
    [
        ("rule", pa.string()),
        ("group", pa.list_(pa.string())),
        ("starts_at", _TIME),
        ("ends_at", _TIME),
        ("planned", pa.bool_()),
        ("reason", pa.string()),
        ("who", pa.string()),
        ("made_at", _TIME),
    ]
)

ACKS: Final = pa.schema(
    [
        ("alert_id", pa.string()),
        ("episode", pa.int32()),
        ("who", pa.string()),
        ("made_at", _TIME),
        ("until", _TIME),
        ("level", pa.string()),
        ("snooze", pa.bool_()),
        ("note", pa.string()),
    ]
)
SILENCES: Final = pa.schema(
    [
        ("silence", pa.string()),
        ("match", pa.string()),
        ("since", _TIME),
        ("until", _TIME),
        ("reason", pa.string()),
        ("who", pa.string()),
        ("made_at", _TIME),
    ]
)

RAISES: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("raise", "rule")),
        ("amount", _AMOUNT),
        ("until", _TIME),
        *((name, pa.string()) for name in ("reason", "asked_by")),
        ("asked_at", _TIME),
        ("approved_by", pa.list_(pa.string())),
        ("needs", pa.int32()),
        ("ended", pa.bool_()),
        ("made_at", _TIME),
    ]
)
REPORTS: Final = pa.schema(
    [
        ("report", pa.string()),
        ("period", pa.string()),
        ("period_start", _TIME),
        ("period_end", _TIME),
        ("made_at", _TIME),
        ("body", pa.string()),
    ]
)


def alert_row(alert: Alert) -> dict[str, Any]:
    """Return the row of an alert."""
    return {
        "alert_id": alert.key.id,
        "rule": alert.key.rule,
        "group": json.dumps(alert.key.group),
        "period": alert.key.period.name,
        "period_start": alert.key.period.start,
        "period_end": alert.key.period.end,
        "meaning": alert.meaning,
        "phase": alert.phase.value,
        "mode": alert.mode.value,
        "level": _level_text(alert.level),
        "crossed": alert.crossed,
        "amount": alert.amount,
        "since": alert.since,
        "judged_at": alert.judged_at,
        "health": alert.health.value,
        "episode": alert.episode,
        "revision": alert.revision,
        "fired_at": alert.fired_at,
        "ended_at": alert.ended_at,
        "ending": alert.ending.value if alert.ending else None,
        "cleared_at": alert.cleared_at,
        "told": alert.told,
        "why": alert.why,
    }


def line_row(seq: int, line: Line) -> dict[str, Any]:
    """Return the row of a line of history."""
    return {
        "seq": seq,
        "happened_at": line.transition.at,
        "alert_id": line.key.id,
        "rule": line.key.rule,
        "group": json.dumps(line.key.group),
        "period": line.key.period.name,
        "episode": line.episode,
        "mode": line.mode.value,
        "what": line.transition.what.value,
        "level": _level_text(line.transition.level),
        "threshold": line.transition.threshold,
        "amount": line.transition.amount,
        "actions": list(line.transition.actions),
        "reason": line.transition.reason,
        "evidence": json.dumps(line.evidence),
    }


def directive_row(directive: Directive) -> dict[str, Any]:
    """Return the row of a version of a directive."""
    return {
        "version": directive.version,
        "directive_id": directive.id,
        "effect": directive.effect.value,
        "rule": directive.rule,
        "body": msgspec.json.encode(directive).decode(),
        "issued_at": directive.issued_at,
        "until": directive.until,
    }


def audit_row(row: AuditRow) -> dict[str, Any]:
    """Return the row of a call."""
    names = ("who", "via", "action", "target", "outcome", "detail")
    return {"happened_at": row.at, **{name: getattr(row, name) for name in names}}


def ack_row(ack: Ack) -> dict[str, Any]:
    """Return the row of an acknowledgement."""
    return {
        "alert_id": ack.alert,
        "episode": ack.episode,
        "who": ack.who,
        "made_at": ack.at,
        "until": ack.until,
        "level": str(ack.level),
        "snooze": ack.snooze,
        "note": ack.note,
    }


def ack_of(row: Mapping[str, Any]) -> Ack:
    """Return the acknowledgement of a row."""
    return Ack(
        alert=row["alert_id"],
        episode=row["episode"],
        who=row["who"],
        at=row["made_at"],
        until=row["until"],
        level=Level[row["level"].upper()],
        snooze=row["snooze"],
        note=row["note"],
    )


def silence_row(silence: Silence, made_at: datetime) -> dict[str, Any]:
    """Return the row of a silence that was ordered: its conditions are a fact and a value each."""
    match = {each.dimension: min(each.values) for each in silence.match.conditions}
    return {
        "silence": silence.id,
        "match": json.dumps(match),
        "since": silence.since,
        "until": silence.until,
        "reason": silence.reason,
        "who": silence.by,
        "made_at": made_at,
    }


def silence_of(row: Mapping[str, Any]) -> Silence:
    """Return the silence of a row."""
    match = [Condition(name, frozenset([v])) for name, v in json.loads(row["match"]).items()]
    return Silence(
        match=Scope(tuple(match)),
        until=row["until"],
        reason=row["reason"],
        by=row["who"],
        since=row["since"],
        id=row["silence"],
    )


def raise_row(order: Raise, made_at: datetime) -> dict[str, Any]:
    """Return the row of a raise as it stands."""
    return {
        "raise": order.id,
        "rule": order.rule,
        "amount": order.by,
        "until": order.until,
        "reason": order.reason,
        "asked_by": order.asked_by,
        "asked_at": order.asked_at,
        "approved_by": list(order.approved_by),
        "needs": order.needs,
        "ended": order.ended,
        "made_at": made_at,
    }


def raise_of(row: Mapping[str, Any]) -> Raise:
    """Return the raise of a row."""
    return Raise(
        id=row["raise"],
        rule=row["rule"],
        by=int(row["amount"]),
        until=row["until"],
        reason=row["reason"],
        asked_by=row["asked_by"],
        asked_at=row["asked_at"],
        approved_by=tuple(row["approved_by"]),
        needs=row["needs"],
        ended=row["ended"],
    )


def report_row(row: ReportRow) -> dict[str, Any]:
    """Return the row of a report."""
    return {
        "report": row.report,
        "period": row.period.name,
        "period_start": row.period.start,
        "period_end": row.period.end,
        "made_at": row.made_at,
        "body": row.body,
    }


def exemption_row(exemption: Exemption, made_at: datetime) -> dict[str, Any]:
    """Return the row of an exemption."""
    return {
        "rule": exemption.rule,
        "group": None if exemption.group is None else list(exemption.group),
        "starts_at": exemption.start,
        "ends_at": exemption.end,
        "planned": exemption.planned,
        "reason": exemption.reason,
        "who": exemption.who,
        "made_at": made_at,
    }


def alert_of(row: Mapping[str, Any]) -> Alert:
    """Return the alert of a row."""
    period = Period(row["period_start"], row["period_end"], row["period"])
    group: Key = tuple(json.loads(row["group"]))
    return Alert(
        key=AlertKey(row["rule"], group, period),
        meaning=row["meaning"],
        phase=Phase(row["phase"]),
        mode=Mode(row["mode"]),
        crossed=row["crossed"],
        level=_level(row["level"]),
        amount=int(row["amount"]),
        since=row["since"],
        judged_at=row["judged_at"],
        health=Health(row["health"]),
        episode=row["episode"],
        revision=row["revision"],
        fired_at=row["fired_at"],
        ended_at=row["ended_at"],
        ending=Ending(row["ending"]) if row["ending"] else None,
        cleared_at=row["cleared_at"],
        told=int(row["told"]),
        why=row["why"],
    )


def transition_of(row: Mapping[str, Any]) -> Transition:
    """Return the transition of a row of history."""
    return Transition(
        at=row["happened_at"],
        what=What(row["what"]),
        level=_level(row["level"]),
        threshold=row["threshold"],
        amount=int(row["amount"]),
        actions=tuple(row["actions"]),
        reason=row["reason"],
    )


def _level(text: str | None) -> Level | None:
    return Level[text.upper()] if text else None


def _level_text(level: Level | None) -> str | None:
    return str(level) if level else None
