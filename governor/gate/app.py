"""The gate as one plain ASGI application; the board lives in its event loop."""

import hmac
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog
from msgspec.structs import replace

from governor import telemetry
from governor.core.directives import Directive, Heartbeat
from governor.gate import gateways, reading
from governor.gate.answer import Answer, Receive, Scope, Send, encode, error, not_allowed
from governor.gate.board import Board
from governor.gate.buckets import Buckets
from governor.gate.decide import ALLOW, NOTHING, Decision, Found, drawn, look
from governor.gate.follow import News
from governor.gate.identity import Identity, UnknownCallerError
from governor.gate.lease import Lease
from governor.gate.pages import Pages
from governor.gate.reading import Asked
from governor.gate.shared import SharedRates

_log = structlog.get_logger()
_ALLOW: Final = encode(ALLOW)


class Gate:
    """Answers requests. Everything but the clocks is its own; all of it is used by one thread.

    `caller_token` is what those must show who ask in JSON, where it is given.
    """

    def __init__(
        self,
        *,
        now: Callable[[], datetime],
        monotonic_ns: Callable[[], int],
        board: Board | None = None,
        buckets: Buckets | None = None,
        identity: Identity | None = None,
        shared: SharedRates | None = None,
        caller_token: str | None = None,
    ) -> None:
        self._wall = now
        self._monotonic_ns = monotonic_ns
        self._board = board or Board()
        self._buckets = buckets or Buckets()
        self._shadows = Buckets()
        self._identity = identity or Identity()
        self._shared = shared
        self._bearer = f"Bearer {caller_token}".encode() if caller_token else None
        self._lease = Lease()
        self._opened = self._live = False
        self._lease_was_fresh = False
        self._pages = Pages(self)
        self.trouble: str | None = None

    # ---------------------------------------------------------------------------- what is known

    def learn(self, news: News) -> None:
        """Take what the topic says. Until it was read to its end once, everything is allowed."""
        wall, now_ns = self._wall(), self._monotonic_ns()
        beats = [record for record in news.records if isinstance(record, Heartbeat)]
        if beats:
            live = self._live and news.caught_up
            self._lease.take(beats[-1], wall, now_ns, live=live)
        now = self._lease.now(wall, now_ns)
        directives = (record for record in news.records if isinstance(record, Directive))
        fresh = self._board.take(directives, now)
        if self._live:
            self._measure(fresh, now)
        self._live = news.caught_up
        self.trouble = news.trouble
        if news.caught_up and not self._opened:
            self._opened = True
            _log.info("directives.read", known=len(self._board))
        self._tell_lease()

    def _measure(self, fresh: list[Directive], now: datetime) -> None:
        """Measure how old what brought directives about is, now that they are obeyed."""
        for directive in fresh:
            if directive.acts and directive.caused_at is not None:
                delay_s = (now - directive.caused_at).total_seconds()
                telemetry.GATE_DELAY.observe(max(0.0, delay_s))

    def _tell_lease(self) -> None:
        fresh = self.lease_is_fresh
        if fresh is not self._lease_was_fresh:
            self._lease_was_fresh = fresh
            _log.info("lease.renewed") if fresh else _log.warning("lease.ran_out")

    @property
    def opened(self) -> bool:
        """Whether the topic was read to its end once."""
        return self._opened

    @property
    def now(self) -> datetime:
        """The daemon's time, as far as it is known."""
        return self._lease.now(self._wall(), self._monotonic_ns())

    @property
    def beat(self) -> Heartbeat | None:
        """The last sign of the daemon."""
        return self._lease.beat

    @property
    def lease_age_s(self) -> float:
        """How old that is; not asked before there is one."""
        return self._lease.age_s(self._monotonic_ns())

    @property
    def lease_is_fresh(self) -> bool:
        """Whether `open` directives are obeyed now."""
        until = self._lease.until
        return until is not None and self.now < until

    @property
    def known(self) -> int:
        """How many directives are known, released ones too."""
        return len(self._board)

    @property
    def buckets(self) -> int:
        """How many rates are in use."""
        return len(self._buckets)

    @property
    def shared_trouble(self) -> str | None:
        """Why rates are not shared, where they should be."""
        return self._shared.trouble if self._shared else None

    def in_force(self) -> list[Directive]:
        """Return what is obeyed now."""
        if not self._opened:
            return []
        return list(self._board.in_force(self.now, self._lease.until))

    # -------------------------------------------------------------------------- what is answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        path = scope["path"]
        if path == "/v1/decide":
            answer = await self._asked(scope, receive)
        elif path.startswith(gateways.PREFIX):
            answer = await self._gateway(scope, path)
        else:
            answer = self._page(scope, path)
        await answer.send(send)

    async def _gateway(self, scope: Scope, path: str) -> Answer:
        gateway = gateways.gateway_of(path)
        if gateway is None:
            return error(
                404, f"there is no gateway {path}; there are {', '.join(gateways.GATEWAYS)}"
            )
        try:
            dimensions = self._identity.of(scope["headers"])
        except UnknownCallerError as why:
            telemetry.GATE_IDENTITY_FAILURES.inc()
            return gateways.unknown(gateway, str(why))
        return gateways.answer_to(gateway, await self.decide(dimensions))

    async def _asked(self, scope: Scope, receive: Receive) -> Answer:
        refused = reading.refused(scope) or self._stranger(scope)
        if refused is not None:
            return refused
        body = await reading.read_body(receive)
        if body is None:
            return reading.too_large()
        asked = reading.questions(body)
        if isinstance(asked, str):
            return error(400, asked)
        if isinstance(asked, list):
            return Answer(200, encode([await self.decide(one) for one in asked]))
        decision = await self.decide(asked)
        return Answer(200, _ALLOW if decision is ALLOW else encode(decision))

    def _stranger(self, scope: Scope) -> Answer | None:
        """Return that whoever asks shows no token; None where none is needed or it is the right."""
        if self._bearer is None:
            return None
        shown = b"".join(value for name, value in scope["headers"] if name == b"authorization")
        if hmac.compare_digest(shown, self._bearer):
            return None
        return error(401, "show gate.caller_token: Authorization: Bearer TOKEN", closing=True)

    def _page(self, scope: Scope, path: str) -> Answer:
        page = self._pages.get(path)
        if page is None:
            return error(404, f"there is no page {path}; there are {', '.join(self._pages.listed)}")
        if scope["method"] not in ("GET", "HEAD"):
            return not_allowed(b"GET, HEAD")
        return (self._stranger(scope) if page.secret else None) or page.answer()

    async def decide(self, dimensions: Asked) -> Decision:
        """Decide about one request, and count it."""
        if not self._opened:
            decision = ALLOW
        else:
            now_ns = self._monotonic_ns()
            now = self._lease.now(self._wall(), now_ns)
            found, shadow = look(self._board, dimensions, now, self._lease.until)
            decision = ALLOW
            if found is not NOTHING:
                waits = await self._waits(found, dimensions, now, now_ns)
                decision = found.decision(waits, now)
            if shadow is not NOTHING:
                decision = self._with_shadow(decision, shadow, dimensions, now, now_ns)
        _COUNTERS[decision.decision, decision.refuses].inc()
        return decision

    async def _waits(
        self, found: Found, dimensions: Asked, now: datetime, now_ns: int
    ) -> list[int]:
        if self._shared is not None and found.throttles:
            waits = await self._shared.waits(found.throttles, dimensions, now, now_ns)
            if waits is not None:
                return waits
        return drawn(found.throttles, self._buckets, dimensions, now, now_ns)

    def _with_shadow(
        self, decision: Decision, shadow: Found, dimensions: Asked, now: datetime, now_ns: int
    ) -> Decision:
        """Return a decision with what a rule in shadow mode would have made of the request."""
        waits = drawn(shadow.throttles, self._shadows, dimensions, now, now_ns)
        would = shadow.decision(waits, now)
        if would.rule is None or not (would.refuses or would.model):
            return decision
        telemetry.GATE_SHADOW.labels(would.rule).inc()
        return replace(decision, shadow=(would.rule,))


_COUNTERS: Final = {
    ("allow", False): telemetry.GATE_DECISIONS.labels("allow"),
    ("throttle", False): telemetry.GATE_DECISIONS.labels("throttle_allowed"),
    ("throttle", True): telemetry.GATE_DECISIONS.labels("throttle_refused"),
    ("downgrade", False): telemetry.GATE_DECISIONS.labels("downgrade"),
    ("block", True): telemetry.GATE_DECISIONS.labels("block"),
}
