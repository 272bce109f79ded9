"""The buttons of a message, and what comes back when somebody presses one.

A button carries the id of its thread and nothing that could be believed: who pressed it is said by
Slack, and what may be done is for the daemon to say. Every button has a command that does the same.
https://docs.slack.dev/reference/interaction-payloads/block_actions-payload
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from governor.core.bulletins import Bulletin

PREFIX: Final = "governor."
ACK: Final = "ack"
SNOOZE: Final = "snooze"
PLAN: Final = "plan"
RELEASE: Final = "release"
APPROVE: Final = "approve"
NEED_APPROVAL: Final = (RELEASE, APPROVE)
"""What only those may do who may approve."""
SNOOZES: Final = {"1h": "Snooze 1 h", "4h": "Snooze 4 h", "1d": "Snooze 1 day"}
MAX_PAYLOAD: Final = 200_000
"""Characters of what comes back; it holds the whole message."""


@dataclass(frozen=True, slots=True)
class Press:
    """Who pressed which button of which thread; `ts` is of the message it is at."""

    user: str
    name: str
    action: str
    thread: str
    span: str
    channel: str
    ts: str


def block(bulletin: Bulletin) -> dict[str, Any] | None:
    """Return the buttons of a thread of which something lasts."""
    if not bulletin.open:
        return None
    open_ = [notice for notice in bulletin.notices if notice.resolved is None]
    if all(notice.kind == "raise" for notice in open_):
        elements = [_button(APPROVE, "Approve", bulletin, style="primary")]
        return {"type": "actions", "block_id": f"{PREFIX}{bulletin.thread}", "elements": elements}
    seen = all(notice.acked for notice in open_)
    elements = [] if seen else [_button(ACK, "Acknowledge", bulletin, style="primary")]
    elements += [_button(SNOOZE, text, bulletin, span) for span, text in SNOOZES.items()]
    if any(notice.kind == "spike" for notice in open_):
        elements.append(_button(PLAN, "Mark planned", bulletin))
    if any(notice.waiting for notice in open_):
        elements.append(_button(APPROVE, "Approve throttle", bulletin, style="primary"))
    if any(notice.throttles for notice in open_):
        sure = {
            "title": _plain("End the throttle?"),
            "text": _plain("It does not start again before its period ends."),
            "confirm": _plain("Release"),
            "deny": _plain("Leave it"),
        }
        release = _button(RELEASE, "Release throttle", bulletin, style="danger")
        elements.append(release | {"confirm": sure})
    return {"type": "actions", "block_id": f"{PREFIX}{bulletin.thread}", "elements": elements}


def press_of(payload: Mapping[str, Any]) -> Press | None:
    """Return what was pressed; None where it is no button of ours, or not all is there."""
    actions = payload.get("actions")
    if payload.get("type") != "block_actions" or not isinstance(actions, list) or not actions:
        return None
    action, user = actions[0], payload.get("user") or {}
    name = action.get("action_id", "") if isinstance(action, dict) else ""
    try:
        value = json.loads(action.get("value", "")) if name.startswith(PREFIX) else None
    except ValueError:
        return None
    if not isinstance(value, dict) or not isinstance(user.get("id"), str):
        return None
    return Press(
        user=user["id"],
        name=str(user.get("username") or user.get("name") or user["id"])[:80],
        action=name.removeprefix(PREFIX).partition(".")[0],
        thread=str(value.get("thread", ""))[:64],
        span=str(value.get("for", ""))[:8],
        channel=str((payload.get("channel") or {}).get("id", ""))[:64],
        ts=str((payload.get("message") or {}).get("ts", ""))[:32],
    )


def _button(
    action: str, text: str, bulletin: Bulletin, span: str = "", style: str | None = None
) -> dict[str, Any]:
    value = {"thread": bulletin.thread} | ({"for": span} if span else {})
    name = f"{PREFIX}{action}.{span}" if span else f"{PREFIX}{action}"
    made = {"type": "button", "action_id": name, "text": _plain(text), "value": json.dumps(value)}
    return made | ({"style": style} if style else {})


def _plain(text: str) -> dict[str, str]:
    return {"type": "plain_text", "text": text}
