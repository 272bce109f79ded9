"""What the local Slack sends when somebody presses a button; signed as Slack signs it over HTTP."""

import hashlib
import hmac
import http.client
import json
import time
from typing import Any
from urllib.parse import urlencode, urlsplit

from governor.demo.slack_workspace import Message


def pressed(message: Message, action: str, user: str, channel: str) -> dict[str, Any]:
    """Return the payload of a press; ValueError where the message has no such button."""
    buttons = [
        element
        for block in message.now.blocks
        if block["type"] == "actions"
        for element in block["elements"]
    ]
    found = [button for button in buttons if button["action_id"].startswith(action)]
    if not found:
        raise ValueError(f"no button {action!r} among {[b['action_id'] for b in buttons]}")
    return {
        "type": "block_actions",
        "user": {"id": user, "username": user.lower(), "team_id": "T0GOVERNOR"},
        "channel": {"id": channel, "name": channel.lower()},
        "message": {"ts": message.ts, "text": message.now.text},
        "trigger_id": "1.2.3",
        "actions": [{key: found[0][key] for key in ("action_id", "value", "type")}],
    }


def post_signed(door: str, payload: Any, secret: str, *, stamp: int | None = None) -> int:
    """Post a payload as Slack does; return the status of the answer."""
    body = urlencode({"payload": json.dumps(payload)})
    at = int(time.time()) if stamp is None else stamp
    base = f"v0:{at}:{body}".encode()
    signature = hmac.new(secret.encode(), base, hashlib.sha256).hexdigest()
    parts = urlsplit(door)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=3)
    headers = {
        "Content-Type": "application/x-www-form-urlencoded",
        "X-Slack-Request-Timestamp": str(at),
        "X-Slack-Signature": f"v0={signature}",
    }
    try:
        connection.request("POST", parts.path or "/", body, headers)
        return connection.getresponse().status
    finally:
        connection.close()
