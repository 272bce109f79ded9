"""The control API: orders of people to the running daemon, by a Unix socket or TCP with a token.

The socket has mode 0600, so that only the daemon's user and root may connect, and who it was is
known from the kernel. On TCP every request must show the token. Every call leaves an audit row.
"""

import hmac
import http
import json
import os
import pwd
import socket
import socketserver
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from governor.core.errors import ConfigError, GovernorError, TransientError

TIMEOUT_S: Final = 10
POLL_S: Final = 0.1
"""How often a server looks whether it is to close."""
MAX_SOCKET_PATH_BYTES: Final = 107
MAX_TARGET_CHARACTERS: Final = 256
MAX_FIELDS: Final = 10

_PEER: Final = struct.Struct("3i")  # struct ucred of Linux: pid, uid, gid


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, and by which way."""

    who: str
    via: str


@dataclass(frozen=True, slots=True)
class Call:
    """One order: who gives it, the names in its path, and what it asks after the `?`."""

    caller: Caller
    names: tuple[str, ...]
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Route:
    """What is done at a path such as `/v1/throttles/<id>/release`.

    `carry_out` returns what is answered as JSON, or None where there is none of that name; then
    `missing` says so, `{!r}` being the name. `takes` are examples of what it may ask after the `?`.
    """

    method: str
    path: str
    carry_out: Callable[[Call], Any]
    missing: str = ""
    takes: tuple[str, ...] = ()


class Orders:
    """What the daemon does when asked."""

    def __init__(self, routes: Sequence[Route], version: str = "") -> None:
        described = Route("GET", "/openapi.json", lambda _: description(routes, version))
        routes = [*routes, described]
        self._routes = [(route, tuple(_parts(route.path))) for route in routes]
        known = " ".join(f"{route.method} {route.path}" for route in routes)
        self._unknown = {"error": f"there are {known}"}

    def answer(self, method: str, path: str, caller: Caller) -> tuple[int, Any]:
        """Return status code and body for a request."""
        place, _, asked = path.partition("?")
        parts = [unquote(part) for part in _parts(place)]
        for route, pattern in self._routes:
            if route.method == method and _fits(pattern, parts):
                names = [part for part, word in zip(parts, pattern, strict=True) if word[:1] == "<"]
                fields = _fields(asked)
                cut = tuple(name[:MAX_TARGET_CHARACTERS] for name in names)
                done = route.carry_out(Call(caller, cut, fields))
                if done is None:
                    return 404, {"error": route.missing.format(*(name[:64] for name in cut))}
                return 200, done
        return 404, self._unknown


def _fields(asked: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(asked, max_num_fields=MAX_FIELDS))
    except ValueError:
        raise ConfigError(f"at most {MAX_FIELDS} things can be asked after the ?") from None


def description(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the description of these routes in OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        path = route.path.replace("<", "{").replace(">", "}")
        paths.setdefault(path, {})[route.method.lower()] = _described(route)
    problem = {
        "type": "object",
        "properties": {"error": {"type": "string"}},
        "required": ["error"],
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "governor control", "version": version},
        "paths": paths,
        "security": [{"token": []}],
        "components": {
            "schemas": {"Problem": problem},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _described(route: Route) -> dict[str, Any]:
    text = {"type": "string", "maxLength": MAX_TARGET_CHARACTERS}
    named = [word.strip("<>") for word in _parts(route.path) if word[:1] == "<"]
    path = [{"name": n, "in": "path", "required": True, "schema": text} for n in named]
    query = [{"name": name, "in": "query", "schema": text} for name in route.takes]
    refused = {"$ref": "#/components/schemas/Problem"}
    answers = {"200": {"type": ["object", "array", "null"]}, **dict.fromkeys(_REFUSALS, refused)}
    return {
        "parameters": [*path, *query],
        "responses": {
            code: {
                "description": _REFUSALS.get(code, "Done."),
                "content": {"application/json": {"schema": schema}},
            }
            for code, schema in answers.items()
        },
    }


_REFUSALS: Final = {
    "401": "The caller shows no token, or another.",
    "404": "There is none of that name.",
    "422": "What was asked, or a file, is wrong; the error says what.",
    "503": "Not now; the same may succeed later.",
}


def _parts(path: str) -> list[str]:
    return path.strip("/").split("/")


def _fits(pattern: Sequence[str], parts: Sequence[str]) -> bool:
    return len(pattern) == len(parts) and all(
        word[:1] == "<" or word == part for word, part in zip(pattern, parts, strict=True)
    )


class Control:
    """Serves orders from threads of its own until closed."""

    def __init__(
        self,
        orders: Orders,
        *,
        path: Path,
        tcp: tuple[str, int, str] | None = None,
    ) -> None:
        self._path = path
        self._servers: list[socketserver.BaseServer] = [_unix_server(path, orders)]
        self.port: int | None = None
        try:
            if tcp is not None:
                server = _tcp_server(*tcp, orders)
                self._servers.append(server)
                self.port = int(server.server_address[1])
        except BaseException:
            self._servers[0].server_close()
            raise
        self._threads = [
            threading.Thread(target=server.serve_forever, name="control")
            for server in self._servers
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop listening and remove the socket."""
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()
        with suppress(OSError):
            self._path.unlink()


class _Handler(BaseHTTPRequestHandler):
    orders: Orders
    token: str | None = None
    timeout = TIMEOUT_S
    server_version = "governor"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer a question."""
        self._answer("GET")

    def do_POST(self) -> None:
        """Carry out an order."""
        self._answer("POST")

    def send_error(
        self,
        code: int,
        message: str | None = None,
        explain: str | None = None,  # noqa: ARG002  # the base class names it
    ) -> None:
        """Answer in JSON what is no request that we know."""
        known = code != http.HTTPStatus.NOT_IMPLEMENTED
        self.close_connection = True
        self._send(code if known else 405, {"error": message or http.HTTPStatus(code).phrase})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class names it
        """Say nothing: the audit holds every call."""

    def address_string(self) -> str:
        """Return nothing: a Unix socket has no address."""
        return ""

    def _answer(self, method: str) -> None:
        caller = self._caller()
        if caller is None:
            self._send(401, {"error": "show the token: Authorization: Bearer <control.token>"})
            return
        try:
            code, body = self.orders.answer(method, self.path, caller)
        except TransientError as error:
            code, body = 503, {"error": str(error)}
        except ConfigError as error:
            code, body = 422, {"error": str(error)}
        except GovernorError as error:
            code, body = 500, {"error": str(error)}
        self._send(code, body)

    def _caller(self) -> Caller | None:
        if self.token is None:
            return Caller(_peer(self.connection), "socket")
        shown = self.headers.get("Authorization", "")
        if hmac.compare_digest(shown.encode(), f"Bearer {self.token}".encode()):
            return Caller("token", "tcp")
        return None

    def _send(self, code: int, body: Mapping[str, Any] | list[Any]) -> None:
        raw = json.dumps(body, default=str).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if code == http.HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, POST")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(raw)


class _UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


def _unix_server(path: Path, orders: Orders) -> _UnixServer:
    """Listen on `path`; it appears there with its mode already set, over one left by a crash."""
    place = path.absolute()
    if len(os.fsencode(place)) > MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"control.socket: {place} is longer than {MAX_SOCKET_PATH_BYTES} bytes, the most that"
            " a Unix socket may have; name a shorter one"
        )
    if place.exists() and not place.is_socket():
        raise ConfigError(f"control.socket: {place} is there and is no socket; name another")
    handler = type("Handler", (_Handler,), {"orders": orders})
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".", dir=place.parent) as private:
            fresh = Path(private) / "s"
            with _short(fresh.parent) as folder:
                server = _UnixServer(f"{folder}/{fresh.name}", handler)
            fresh.chmod(0o600)
            fresh.replace(place)
    except OSError as error:
        raise ConfigError(f"control.socket: cannot listen on {place}: {error.strerror}") from error
    return server


@contextmanager
def _short(folder: Path) -> Iterator[str]:
    """Give a name of `folder` that leaves room for a socket's, however long its own is."""
    number = os.open(folder, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{number}"
    finally:
        os.close(number)


def _tcp_server(host: str, port: int, token: str, orders: Orders) -> ThreadingHTTPServer:
    handler = type("Handler", (_Handler,), {"orders": orders, "token": token})
    try:
        server = ThreadingHTTPServer((host, port), handler)
    except OSError as error:
        raise ConfigError(
            f"control.host, control.port: cannot listen on {host}:{port}: {error.strerror}"
        ) from error
    server.daemon_threads = True
    return server


def _peer(connection: socket.socket) -> str:
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _, uid, _ = _PEER.unpack(raw)
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
