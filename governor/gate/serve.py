"""The gate's composition root: its clock, its follower, its server."""

import asyncio
import gc
import signal
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
import uvicorn
import uvloop

from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import DirectiveReader
from governor.core.errors import ConfigError
from governor.gate.app import Gate
from governor.gate.follow import Follower, News
from governor.gate.identity import Identity, TokenOptions, Tokens
from governor.gate.shared import SharedRates

MAX_CONNECTIONS: Final = 1_000
"""Beyond it a request is answered 503."""
BACKLOG: Final = 1_024
KEEP_ALIVE_S: Final = 75
"""How long an idle connection is kept; longer than gateways keep theirs, so that they close it."""
GRACE_S: Final = 1
"""How long a stop waits for answers under way."""
JOIN_TIMEOUT_S: Final = 2.0
"""How long a stop waits for a follower that may wait for a broker that is gone."""
GC_THRESHOLD: Final = 100_000
"""Requests leave no cycles: look for some after this many new objects, not after 700."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """Whom the gate believes: headers by dimension, tokens, callers; and where rates are shared."""

    headers: Mapping[str, str] = field(default_factory=dict)
    tokens: TokenOptions | None = None
    caller_token: str | None = None
    redis_url: str | None = None


def serve(
    connection: Connection,
    *,
    topic: str,
    host: str,
    port: int,
    options: Options | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> None:
    """Answer requests until SIGTERM or SIGINT; raise ConfigError where the port cannot be had.

    Kafka may be away, now or later: the gate answers by what it knows, and goes on trying.
    """
    options = options or Options()
    tokens = Tokens(options.tokens, now) if options.tokens else None
    header = options.tokens.header if options.tokens else ""
    gate = Gate(
        now=now,
        monotonic_ns=time.monotonic_ns,
        identity=Identity(options.headers, tokens, header),
        shared=SharedRates(options.redis_url, time.time) if options.redis_url else None,
        caller_token=options.caller_token,
    )
    server = uvicorn.Server(configured(gate))
    before = {
        number: signal.signal(number, server.handle_exit)  # uvicorn raises it again at its end
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        with (
            listening(host, port) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            address, real_port, *_ = listener.getsockname()
            _log.info("gate.opened", host=address, port=real_port, topic=topic)
            gc.collect()
            gc.freeze()
            gc.set_threshold(GC_THRESHOLD, 50, 50)
            runner.run(_serve(server, listener, gate, DirectiveReader(connection, topic)))
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    _log.info("gate.stopped")


def configured(application: Any) -> uvicorn.Config:
    """Return how an ASGI application is served here; the gate is measured against an empty one."""
    return uvicorn.Config(
        application,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens; ConfigError where it cannot."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise ConfigError(
            f"gate.host, gate.port: cannot listen on {host}:{port}: {error.strerror};"
            " another gate may be running, or name another GOVERNOR_GATE__PORT"
        ) from error


async def _serve(
    server: uvicorn.Server, listener: socket.socket, gate: Gate, reader: DirectiveReader
) -> None:
    """Serve until the server is told to stop, with the follower beside it."""
    loop = asyncio.get_running_loop()
    stop = threading.Event()

    def tell(news: News) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody listens any more
            loop.call_soon_threadsafe(gate.learn, news)

    follower = threading.Thread(
        target=Follower(reader, tell).run, args=(stop,), name="directives", daemon=True
    )
    follower.start()
    try:
        await server.serve(sockets=[listener])
    finally:
        stop.set()
        follower.join(JOIN_TIMEOUT_S)  # nothing else is left for the loop to do
