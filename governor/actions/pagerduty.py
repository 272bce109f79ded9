"""PagerDuty by its Events API v2: an incident for each alert that ends with it.

https://developer.pagerduty.com/docs/events-api-v2-overview
"""

from typing import Any, Final

import msgspec

from governor.actions import http, words
from governor.core.bulletins import Bulletin
from governor.core.notifications import Notice
from governor.core.rules.shared import Level

MAX_SUMMARY: Final = 1_024
MAX_DETAIL: Final = 2_000
"""Characters of one detail; a whole event has at most 512 kB."""
MAX_LINES: Final = 50

_SEVERITY: Final = {Level.INFO: "info", Level.WARNING: "warning", Level.CRITICAL: "critical"}


class PagerDuty:
    """Triggers, acknowledges and resolves; events of an episode have a `dedup_key` in common."""

    def __init__(self, *, name: str, routing_key: str, url: str, timeout_s: float) -> None:
        self.name: Final = name
        self.apart: Final = True
        self._key = routing_key
        self._url = url
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"PagerDuty(host={http.host_of(self._url)!r})"

    def tell(self, bulletin: Bulletin) -> None:
        """Send how the alert stands."""
        (notice,) = bulletin.notices
        if notice.kind in {"report", "heartbeat"}:
            return  # nobody is to be called for these
        action = _action_of(notice)
        event: dict[str, Any] = {
            "routing_key": self._key,
            "event_action": action,
            "dedup_key": f"governor-{notice.message}"[:255],
        }
        if action == "trigger":
            event |= {"client": "governor", "payload": _payload(notice)}
            if notice.runbook:
                event["links"] = [{"href": notice.runbook, "text": "Runbook"}]
        http.post("PagerDuty", self._url, msgspec.json.encode(event), {}, self._timeout_s)


def _action_of(notice: Notice) -> str:
    if notice.resolved is not None:
        return "resolve"
    return "acknowledge" if notice.acked else "trigger"


def _payload(notice: Notice) -> dict[str, Any]:
    summary = f"{words.group(notice)}: {notice.summary}"
    return {
        "summary": summary[:MAX_SUMMARY],
        "source": "governor",
        "severity": _SEVERITY[notice.level],
        "timestamp": notice.at.isoformat(),
        "component": notice.rule,
        "group": notice.owner,
        "class": notice.kind or "governor",
        "custom_details": {
            "alert": notice.alert,
            "amount": words.amounts(notice)[:MAX_DETAIL],
            "period": notice.period,
            "why": (notice.why or "")[:MAX_DETAIL],
            "history": list(notice.history[-MAX_LINES:]),
            "enforcement": list(notice.throttles[:MAX_LINES]),
            **{name: value[:MAX_DETAIL] for name, value in notice.group},
        },
    }
