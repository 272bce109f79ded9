"""A web address of anybody's: each change of an alert as JSON, signed as Standard Webhooks are.

https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import msgspec

from governor.actions import http
from governor.core.bulletins import Bulletin
from governor.core.errors import ConfigError
from governor.core.notifications import Notice

PREFIX: Final = "whsec_"


class Webhook:
    """Posts each alert by itself; a try again has the same `webhook-id`, so it can be told."""

    def __init__(
        self,
        *,
        name: str,
        url: str,
        secret: str | None,
        timeout_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self.name: Final = name
        self.apart: Final = True
        self._url = url
        self._key = None if secret is None else key_of(secret)
        self._timeout_s = timeout_s
        self._now = now

    def __repr__(self) -> str:
        return f"Webhook(host={http.host_of(self._url)!r})"

    def tell(self, bulletin: Bulletin) -> None:
        """Post how the alert stands."""
        (notice,) = bulletin.notices
        body = msgspec.json.encode(
            {"type": _type_of(notice), "timestamp": notice.at, "data": _data(notice)}
        )
        number = f"msg_{bulletin.thread}_{bulletin.serial}_{notice.revision}"
        stamp = str(int(self._now().timestamp()))
        headers = {"webhook-id": number, "webhook-timestamp": stamp}
        if self._key is not None:
            headers["webhook-signature"] = signature(self._key, number, stamp, body)
        http.post("the webhook", self._url, body, headers, self._timeout_s)


def key_of(secret: str) -> bytes:
    """Return the key of a secret, `whsec_` and base64; raise ConfigError where it is none."""
    try:
        return base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        failure = ConfigError(f"webhook.secret must be {PREFIX} and base64, of 24 to 64 bytes")
    raise failure


def signature(key: bytes, number: str, stamp: str, body: bytes) -> str:
    """Return what `webhook-signature` says: HMAC-SHA256 of id, timestamp and body."""
    signed = f"{number}.{stamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()}"


def _type_of(notice: Notice) -> str:
    if notice.kind == "report":
        return "governor.report"
    if notice.kind == "heartbeat":
        return "governor.heartbeat"
    return "governor.alert.resolved" if notice.resolved is not None else "governor.alert.firing"


def _data(notice: Notice) -> dict[str, Any]:
    return {
        "episode": notice.message,
        "alert": notice.alert,
        "revision": notice.revision,
        "rule": notice.rule,
        "kind": notice.kind,
        "owner": notice.owner,
        "mode": notice.mode.value,
        "level": str(notice.level),
        "resolved": notice.resolved,
        "title": notice.title,
        "summary": notice.summary,
        "value": notice.value,
        "limit": notice.limit,
        "percent": notice.percent,
        "group": dict(notice.group),
        "period": notice.period,
        "period_end": notice.period_end,
        "fired_at": notice.fired_at,
        "at": notice.at,
        "history": notice.history,
        "throttles": notice.throttles,
        "runbook": notice.runbook,
        "labels": dict(notice.labels),
        "why": notice.why,
        "acknowledged": notice.acked,
    }
