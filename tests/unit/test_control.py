"""The control API over a real Unix socket and TCP: who may call, what is answered, what it means.

The orders here are written by hand and remember who gave them.
"""

import http.client
import json
import os
import pwd
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from governor.adapters.control import (
    MAX_SOCKET_PATH_BYTES,
    MAX_TARGET_CHARACTERS,
    Call,
    Caller,
    Control,
    Orders,
    Route,
)
from governor.cli.control import call
from governor.core.errors import (
    ConfigError,
    DecodeError,
    GovernorError,
    PermanentError,
    TransientError,
)
from governor.settings import Settings
from governor.settings.model import Control as ControlSettings

TOKEN = "a-token-of-the-test"
HOST = "127.0.0.1"
ME = Caller(pwd.getpwuid(os.getuid()).pw_name, "socket")


@dataclass(slots=True)
class Office:
    """What stands behind the orders: some rows, one throttle, and an error where one is due."""

    error: GovernorError | None = None
    given: list[tuple[str, Caller]] = field(default_factory=list)

    def _done(self, order: str, caller: Caller, answer: Any) -> Any:
        self.given.append((order, caller))
        if self.error:
            raise self.error
        return answer

    @property
    def orders(self) -> Orders:
        def done(order: str, answer: Any) -> Callable[[Call], Any]:
            return lambda call: self._done(order, call.caller, answer)

        return Orders(
            [
                Route("GET", "/v1/alerts", done("alerts", [{"rule": "cap"}])),
                Route("GET", "/v1/throttles", done("throttles", [])),
                Route(
                    "POST", "/v1/throttles/<id>/release", self._release, "no throttle {!r} holds"
                ),
                Route("GET", "/v1/rules", done("rules", {"rules": ["cap"]})),
                Route("POST", "/v1/rules/reload", done("reload", {"rules": 1})),
            ]
        )

    def _release(self, call: Call) -> Any:
        (name,) = call.names
        held = name == "cap/red 1"
        return self._done(f"release {name}", call.caller, {"released": name} if held else None)


@dataclass(frozen=True, slots=True)
class Running:
    """A control API that serves all tests which do not open one of their own."""

    office: Office
    path: Path
    control: Control


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    office, path = Office(), tmp_path_factory.mktemp("run") / "control.sock"
    with closing(Control(office.orders, path=path, tcp=(HOST, 0, TOKEN))) as control:
        yield Running(office, path, control)


@pytest.fixture
def office(running: Running) -> Office:
    running.office.error = None
    running.office.given.clear()
    return running.office


@pytest.fixture
def control(running: Running, office: Office) -> Control:
    return running.control


@pytest.fixture
def path(running: Running, office: Office) -> Path:
    return running.path


@pytest.fixture
def own_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a path below the working directory, in a folder that does not exist."""
    monkeypatch.chdir(tmp_path)
    return Path("run/control.sock")


def settings(path: Path) -> Settings:
    return Settings(control=ControlSettings(socket=path))


def over_tcp(
    control: Control, method: str, path: str, token: str | None = None
) -> tuple[int, dict[str, Any] | list[Any]]:
    assert control.port
    with closing(http.client.HTTPConnection(HOST, control.port, timeout=5)) as connection:
        connection.request(method, path, headers={"Authorization": token} if token else {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def over_socket(path: Path, request: bytes) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and body of what is answered to raw bytes."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(5)
        connection.connect(str(path))
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        with closing(answer):
            answer.begin()
            return answer.status, dict(answer.getheaders()), json.loads(answer.read())


def get(path: Path, target: str, method: str = "GET") -> tuple[int, Any]:
    status, _, body = over_socket(path, f"{method} {target} HTTP/1.0\r\n\r\n".encode())
    return status, body


# ---------------------------------------------------------------------------------- the socket


def test_only_the_user_may_connect(path: Path) -> None:
    """The socket has mode 0600, and nothing is left beside it of how it was made."""
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_a_socket_left_by_a_crash_is_replaced(office: Office, own_path: Path) -> None:
    """A start after a kill listens where the one before it did."""
    own_path.parent.mkdir()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as killed:
        killed.bind(str(own_path))
    assert own_path.is_socket()
    with closing(Control(office.orders, path=own_path)) as control:
        assert call(settings(own_path), "GET", "/v1/rules") == {"rules": ["cap"]}
        assert control.port is None
    assert not own_path.exists()


def test_the_caller_is_known_from_the_kernel(office: Office, path: Path) -> None:
    """On the socket it is the user of the calling process, whatever the request says of itself."""
    request = b"GET /v1/alerts HTTP/1.0\r\nAuthorization: Bearer root\r\n\r\n"
    assert over_socket(path, request)[0] == 200
    assert office.given == [("alerts", ME)]


def test_the_answer_tells_little_of_the_server(path: Path) -> None:
    """The header names governor, and no version of what it runs on."""
    _, headers, body = over_socket(path, b"GET /v1/alerts HTTP/1.0\r\n\r\n")
    assert headers["Server"].strip() == "governor"
    assert headers["Content-Type"] == "application/json"
    assert body == [{"rule": "cap"}]


def test_a_caller_who_says_nothing_holds_up_no_other(path: Path) -> None:
    """Every connection has a thread of its own."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.connect(str(path))
        assert get(path, "/v1/throttles") == (200, [])


def test_a_path_too_long_names_setting_and_limit(office: Office, tmp_path: Path) -> None:
    """What no Unix socket can be called is a mistake in the settings, and nothing is made."""
    long = tmp_path / ("x" * MAX_SOCKET_PATH_BYTES) / "control.sock"
    with pytest.raises(ConfigError, match=r"control\.socket: .* longer than 107 bytes"):
        Control(office.orders, path=long)
    assert not long.parent.exists()


def test_a_path_of_the_greatest_length_is_listened_on(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit that the message names is the one that holds, from wherever it is started."""
    rest = MAX_SOCKET_PATH_BYTES - len(os.fsencode(tmp_path)) - len("//s")
    longest = tmp_path / ("x" * rest) / "s"
    monkeypatch.chdir("/")
    with closing(Control(office.orders, path=longest)):
        assert call(settings(longest), "GET", "/v1/rules") == {"rules": ["cap"]}


def test_a_folder_that_cannot_be_made_is_named(office: Office, own_path: Path) -> None:
    """A socket below a file is refused with the place and the reason."""
    own_path.parent.write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"control\.socket: cannot listen on .*control\.sock: "):
        Control(office.orders, path=own_path)


def test_closing_ends_the_threads(office: Office, own_path: Path) -> None:
    """After `close` nobody listens, the socket is gone, and no thread is left."""
    before = set(threading.enumerate())
    control = Control(office.orders, path=own_path, tcp=(HOST, 0, TOKEN))
    assert control.port
    control.close()
    assert set(threading.enumerate()) <= before
    assert not own_path.exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((HOST, control.port), timeout=5)


# ---------------------------------------------------------------------------------- routes


@pytest.mark.parametrize(
    ("method", "target", "order", "answer"),
    [
        ("GET", "/v1/alerts", "alerts", [{"rule": "cap"}]),
        ("GET", "/v1/throttles?limit=5", "throttles", []),
        ("GET", "/v1/rules/", "rules", {"rules": ["cap"]}),
        ("POST", "/v1/rules/reload", "reload", {"rules": 1}),
        (
            "POST",
            "/v1/throttles/cap%2Fred%201/release",
            "release cap/red 1",
            {"released": "cap/red 1"},
        ),
    ],
)
def test_an_order_is_carried_out_once(
    office: Office, path: Path, method: str, target: str, order: str, answer: Any
) -> None:
    """Each route gives its order, with the name as it was before it was quoted."""
    assert get(path, target, method) == (200, answer)
    assert office.given == [(order, ME)]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "/v2/alerts"),
        ("POST", "/v1/alerts"),
        ("GET", "/v1/rules/reload"),
        ("GET", "/v1/throttles/x/release"),
        ("POST", "/v1/throttles/a/b/release"),
    ],
)
def test_an_unknown_route_says_what_there_is(
    office: Office, path: Path, method: str, target: str
) -> None:
    """A wrong path or method is a 404 that names the right ones, and gives no order."""
    status, body = get(path, target, method)
    assert status == 404
    for there in ("/v1/alerts", "/v1/throttles", "/v1/rules/reload", "/release"):
        assert there in body["error"]
    assert not office.given


def test_the_release_of_an_unknown_throttle_is_not_found(office: Office, path: Path) -> None:
    """It was asked for, so the order is given and can be audited; the answer says it holds not."""
    assert get(path, "/v1/throttles/nope/release", "POST") == (
        404,
        {"error": "no throttle 'nope' holds"},
    )
    assert office.given == [("release nope", ME)]


def test_a_name_is_cut_to_its_limit(office: Office, path: Path) -> None:
    """What comes into the audit from outside has a length that we chose."""
    status, body = get(path, f"/v1/throttles/{'x' * 5_000}/release", "POST")
    assert status == 404
    assert len(body["error"]) < 100
    ((order, _),) = office.given
    assert order == f"release {'x' * MAX_TARGET_CHARACTERS}"


ERRORS: list[tuple[GovernorError, int]] = [
    (TransientError("the store is busy"), 503),
    (ConfigError("rules/a.yaml:1:1: wrong"), 422),
    (PermanentError("the file is gone"), 500),
    (DecodeError("invalid", "missing_field"), 500),
]


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_an_error_is_answered_by_its_kind(
    office: Office, path: Path, error: GovernorError, status: int
) -> None:
    """The status says what the caller does next, the body says why."""
    office.error = error
    assert get(path, "/v1/rules/reload", "POST") == (status, {"error": str(error)})


# ---------------------------------------------------------------------------------- TCP


@pytest.mark.parametrize(
    "shown", [None, "Bearer", "Bearer ", f"Bearer {TOKEN}x", f"bearer {TOKEN}", TOKEN, "Bearer é"]
)
def test_without_the_token_nothing_is_done(
    control: Control, office: Office, shown: str | None
) -> None:
    """A missing or wrong token is a 401 on every path, known or not, and gives no order."""
    for target in ("/v1/alerts", "/nope"):
        status, body = over_tcp(control, "GET", target, shown)
        assert status == 401
        assert isinstance(body, dict)
        assert "Bearer" in body["error"]
        assert TOKEN not in body["error"]
    assert not office.given


def test_the_token_opens_the_door(control: Control, office: Office) -> None:
    """With it TCP answers as the socket does, and the caller is known by that alone."""
    status, body = over_tcp(control, "POST", "/v1/rules/reload", f"Bearer {TOKEN}")
    assert (status, body) == (200, {"rules": 1})
    assert office.given == [("reload", Caller("token", "tcp"))]


def test_a_port_in_use_leaves_no_socket_listening(
    control: Control, office: Office, tmp_path: Path
) -> None:
    """Where TCP cannot be had, the start is refused as a whole, with the setting's name."""
    second = tmp_path / "second.sock"
    before = set(threading.enumerate())
    assert control.port
    with pytest.raises(ConfigError, match=r"control\.port: cannot listen on 127\.0\.0\.1:"):
        Control(office.orders, path=second, tcp=(HOST, control.port, TOKEN))
    assert set(threading.enumerate()) <= before
    with pytest.raises(TransientError):
        call(settings(second), "GET", "/v1/alerts")


# ---------------------------------------------------------------------------------- the client


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TransientError("busy"), TransientError),
        (ConfigError("wrong"), ConfigError),
        (PermanentError("gone"), PermanentError),
    ],
)
def test_the_client_raises_what_the_daemon_raised(
    office: Office, path: Path, error: GovernorError, kind: type[GovernorError]
) -> None:
    """Kind and text of an error are the same on both sides of the socket."""
    office.error = error
    with pytest.raises(GovernorError) as raised:
        call(settings(path), "GET", "/v1/rules")
    assert type(raised.value) is kind
    assert str(raised.value) == str(error)


def test_the_client_says_that_no_such_throttle_holds(path: Path) -> None:
    """A 404 is for a person: trying again will not help."""
    with pytest.raises(PermanentError, match="no throttle 'nope' holds"):
        call(settings(path), "POST", "/v1/throttles/nope/release")


def test_the_client_says_that_nobody_answers(own_path: Path) -> None:
    """Without a daemon the message names the socket and what to look at."""
    with pytest.raises(TransientError, match=r"no governor answers at run/control\.sock .*running"):
        call(settings(own_path), "GET", "/v1/alerts")


@pytest.mark.parametrize("said", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nno json"])
def test_the_client_takes_no_nonsense(own_path: Path, said: bytes) -> None:
    """Something else that listens there is not taken for governor."""
    own_path.parent.mkdir()
    with answering(own_path, said), pytest.raises(TransientError, match="no governor answers"):
        call(settings(own_path), "GET", "/v1/alerts")


class answering:  # noqa: N801  # reads as a function where it is used
    """Something that is no governor: says its bytes to the first who calls."""

    def __init__(self, path: Path, said: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self._socket.settimeout(5)
        self._said = said
        self._thread = threading.Thread(target=self._answer)

    def _answer(self) -> None:
        connection, _ = self._socket.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(self._said)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join(10)
        self._socket.close()


def test_an_ordinary_file_is_not_replaced(office: Office, tmp_path: Path) -> None:
    """A path with a file of another kind is refused, and the file is left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"notes\.txt is there and is no socket"):
        Control(office.orders, path=path)
    assert path.read_text("utf-8") == "mine"
