"""Gateways: how each one asks before it lets a request through, and what it makes of the answer.

nginx `auth_request` knows 200, 401 and 403 and turns all else into an error of its own, so it is
told 200 or 403, and by a header which status its client should get. Envoy and Traefik hand the
gate's answer to the client as it is.
"""

from math import ceil
from typing import Final

from governor.gate.answer import Answer, Headers, encode
from governor.gate.decide import ALLOW, Decision

PREFIX: Final = "/v1/auth/"
NGINX: Final = "nginx"
GATEWAYS: Final = (NGINX, "envoy", "traefik")
TOO_MANY: Final = 429
FORBIDDEN: Final = 403
UNKNOWN: Final = 401
MAX_HEADER_CHARS: Final = 500

_ALLOWED: Final = Answer(200, b"", headers=((b"governor-decision", b"allow"),))


def gateway_of(path: str) -> str | None:
    """Return which gateway asks; None where the path is of none. Envoy adds the client's path."""
    name, slash, _ = path[len(PREFIX) :].partition("/")
    return name if name in GATEWAYS and (not slash or name == "envoy") else None


def answer_to(gateway: str, decision: Decision) -> Answer:
    """Return what a gateway is told of a decision."""
    if decision is ALLOW:
        return _ALLOWED
    headers = headers_of(decision)
    if not decision.refuses:
        return Answer(200, b"", headers=headers)
    status = FORBIDDEN if decision.decision == "block" else TOO_MANY
    return _refusal(gateway, status, encode(decision), headers)


def unknown(gateway: str, why: str) -> Answer:
    """Return that it is not known who asks."""
    headers = ((b"governor-decision", b"unknown"), (b"governor-reason", _plain(why)))
    return _refusal(gateway, UNKNOWN, encode({"error": why}), headers)


def headers_of(decision: Decision) -> Headers:
    """Return a decision as headers: why, until when, how long to wait, which model to use."""
    named = {
        b"governor-decision": decision.decision,
        b"governor-reason": decision.reason,
        b"governor-rule": decision.rule,
        b"governor-directive": decision.directive,
        b"governor-until": decision.until and f"{decision.until:%Y-%m-%dT%H:%M:%SZ}",
        b"governor-rate": decision.rate,
        b"governor-model": decision.model,
        b"governor-shadow": ",".join(decision.shadow),
        b"retry-after": decision.retry_after_s and str(ceil(decision.retry_after_s)),
    }
    return tuple((name, _plain(value)) for name, value in named.items() if value)


def _refusal(gateway: str, status: int, body: bytes, headers: Headers) -> Answer:
    said = (*headers, (b"governor-status", b"%d" % status))
    return Answer(FORBIDDEN if gateway == NGINX else status, body, headers=said)


def _plain(text: str) -> bytes:
    """Return a text as it may stand in a header: one line of printable ASCII."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:MAX_HEADER_CHARS])
    return plain.encode()
