"""The daemon's HTTP page for machines: /healthz, /readyz, /status and /metrics, loopback only."""

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

import structlog

from governor.core.errors import ConfigError

TIMEOUT_S: Final = 5

_log = structlog.get_logger()

Answer = tuple[int, str, bytes]


@dataclass(frozen=True, slots=True)
class Pages:
    """What is asked to answer: troubles are plain lines, none means well."""

    unhealthy: Callable[[], list[str]]
    unready: Callable[[], list[str]]
    status: Callable[[], Mapping[str, Any]]
    metrics: Callable[[], bytes]

    def answer(self, path: str) -> Answer:
        """Return status code, content type and body for a path."""
        match path:
            case "/healthz":
                return _verdict(self.unhealthy())
            case "/readyz":
                return _verdict(self.unready())
            case "/status":
                body = json.dumps(self.status(), default=str).encode()
                return 200, "application/json", body
            case "/metrics":
                return 200, "text/plain; version=0.0.4; charset=utf-8", self.metrics()
        known = b"not found; there are /healthz /readyz /status /metrics\n"
        return 404, "text/plain; charset=utf-8", known


class Probes:
    """Serves the pages from threads of its own until closed."""

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        handler = type("Handler", (_Handler,), {"pages": pages})
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            raise ConfigError(
                f"http.host, http.port: cannot listen on {host}:{port}: {error.strerror};"
                " another governor may be running, or name another GOVERNOR_HTTP__PORT"
            ) from error
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="probes")
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    pages: Pages
    timeout = TIMEOUT_S
    server_version = "governor"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer one request; a page that fails is a 500, and the log says why."""
        path = self.path.partition("?")[0]
        try:
            code, content_type, body = self.pages.answer(path)
        except Exception:  # noqa: BLE001  # the top of a request
            _log.exception("probe.failed", path=path)
            code, content_type, body = 500, "text/plain", b"this page failed; see the log\n"
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Say nothing: a probe every second is no news."""


def _verdict(troubles: list[str]) -> Answer:
    body = "\n".join([*troubles] or ["ok"]) + "\n"
    return (503 if troubles else 200), "text/plain; charset=utf-8", body.encode()
