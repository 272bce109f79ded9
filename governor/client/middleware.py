"""A middleware for ASGI applications (Starlette, FastAPI, Litestar, ...): ask the gate first.

    app.add_middleware(GateMiddleware, client=Client("http://127.0.0.1:9465"), who=who)

`who` says of a request's scope which dimensions it has, from what the application itself knows;
None lets a request through unasked.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from math import ceil
from typing import Any, Final

from governor.client import Client, Decision

DECISION: Final = "governor.decision"
"""Where the decision is in the scope, for the application: it names the model to use."""
TOO_MANY: Final = 429
FORBIDDEN: Final = 403

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Who = Callable[[Scope], Mapping[str, str | None] | None]


class GateMiddleware:
    """Refuses requests that the gate refuses, and tells the application of the others."""

    def __init__(self, app: Application, *, client: Client, who: Who) -> None:
        self._app = app
        self._client = client
        self._who = who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask, and go on or refuse; the call waits in a thread, so the loop does not."""
        dimensions = self._who(scope) if scope["type"] == "http" else None
        if dimensions is None:
            await self._app(scope, receive, send)
            return
        decision = await asyncio.to_thread(self._client.decide, **dimensions)
        if decision.allowed:
            scope[DECISION] = decision
            await self._app(scope, receive, send)
            return
        await _refuse(decision, send)


async def _refuse(decision: Decision, send: Send) -> None:
    error = {"message": decision.reason, "type": decision.decision, "rule": decision.rule}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    if decision.retry_after_s is not None:
        headers.append((b"retry-after", b"%d" % ceil(decision.retry_after_s)))
    status = FORBIDDEN if decision.decision == "block" else TOO_MANY
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
