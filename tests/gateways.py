"""Real gateways as processes, with the files of deploy/gateways/, and an upstream behind them."""

import http
import json
import os
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, Self

from tests.debian import program

DEPLOY: Final = Path(__file__).parents[1] / "deploy" / "gateways"
START_TIMEOUT_S: Final = 60.0


class Upstream:
    """What answers the requests; it keeps the headers of each."""

    def __init__(self) -> None:
        seen: list[Mapping[str, str]] = []
        self.seen = seen

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                seen.append({name.lower(): value for name, value in self.headers.items()})
                self.send_response(200)
                self.send_header("Content-Length", "4")
                self.end_headers()
                self.wfile.write(b"ran\n")

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Client:
    """A client of a gateway that listens on `port`."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(
        self, headers: Mapping[str, str] | None = None, path: str = "/v1/chat/completions"
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers (in lower case) and body."""
        request = urllib.request.Request(  # a server of our own
            f"http://127.0.0.1:{self.port}{path}", headers=dict(headers or {})
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                found = answer.status, answer.headers, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                found = error.code, error.headers, error.read()
        return found[0], {k.lower(): v for k, v in found[1].items()}, found[2]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def fitted(text: str, ports: Mapping[int, int]) -> str:
    """Return a file of deploy/ with other ports; each must be there."""
    for old, new in ports.items():
        text, many = re.subn(rf"(127\.0\.0\.1:|port_value: ){old}\b", rf"\g<1>{new}", text)
        assert many, f"port {old} is not in the file"
    return text


@contextmanager
def running(command: list[str], folder: Path, port: int) -> Iterator[Client]:
    """Run a gateway until it listens, and end it after."""
    with (folder / "gateway.log").open("w+") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        )
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _listens(port):
                log.seek(0)
                assert process.poll() is None, log.read()[-4000:]
                assert time.monotonic() < deadline, log.read()[-4000:]
                time.sleep(0.05)
            yield Client(port)
        finally:
            process.terminate()
            process.wait(20)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 0.2).close()
    except OSError:
        return False
    return True


@contextmanager
def nginx(
    folder: Path, gate: int, upstream: int, customers: Iterable[str] = ()
) -> Iterator[Client]:
    """Run nginx with our file; more `customers` have keys, too."""
    port = free_port()
    ours = fitted((DEPLOY / "nginx.conf").read_text(), {9465: gate, 8000: upstream, 8080: port})
    last = '"Bearer key-of-beta" beta;'
    assert last in ours
    more = "".join(f'"Bearer key-of-{name}" {name};' for name in customers)
    ours = ours.replace(last, last + more)
    (folder / "governor.conf").write_text(ours)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off;\npid {folder}/nginx.pid;\nerror_log stderr warn;\nworker_processes 1;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}include {folder}/governor.conf;\n}}\n"
    )
    command = [
        program("nginx"),
        "-p",
        str(folder),
        "-c",
        str(folder / "nginx.conf"),
        "-e",
        "stderr",
    ]
    with running(command, folder, port) as client:
        yield client


@contextmanager
def envoy(folder: Path, gate: int, upstream: int, python: Path) -> Iterator[Client]:
    """Run Envoy with our file."""
    port = free_port()
    text = fitted((DEPLOY / "envoy.yaml").read_text(), {9465: gate, 8000: upstream, 8080: port})
    (folder / "envoy.yaml").write_text(text)
    (binary,) = python.parent.parent.glob("lib/python*/site-packages/envoy/_bin/envoy")
    command = [
        *(str(binary), "-c", "envoy.yaml", "--concurrency", "1", "--use-dynamic-base-id"),
        *("--log-level", "warning", "--disable-hot-restart"),
    ]
    with running(command, folder, port) as client:
        yield client


@contextmanager
def traefik(folder: Path, gate: int, upstream: int, python: Path) -> Iterator[Client]:
    """Run Traefik with our files."""
    port = free_port()
    static = (DEPLOY / "traefik" / "traefik.yaml").read_text()
    dynamic = (DEPLOY / "traefik" / "dynamic.yaml").read_text()
    (folder / "traefik.yaml").write_text(fitted(static, {8080: port}))
    (folder / "dynamic.yaml").write_text(fitted(dynamic, {9465: gate, 8000: upstream}))
    command = [str(python.parent / "traefik"), "--configFile=traefik.yaml"]
    with running(command, folder, port) as client:
        deadline = time.monotonic() + START_TIMEOUT_S
        while client.ask()[0] == http.HTTPStatus.NOT_FOUND:  # it listens before it knows a route
            assert time.monotonic() < deadline, (folder / "gateway.log").read_text()[-4000:]
            time.sleep(0.05)
        yield client


@contextmanager
def litellm(folder: Path, gate: int, python: Path, **variables: str) -> Iterator[Client]:
    """Run LiteLLM's proxy with our hook and our logger; models are mocks of its own."""
    port = free_port()
    for name in ("gateways/litellm/governor_gate.py", "producers/litellm_kafka.py"):
        source = DEPLOY.parent / name
        (folder / source.name).write_text(source.read_text())
    config = (DEPLOY / "litellm" / "config.yaml").read_text()
    mocked, many = re.subn(
        r"api_key: os.environ/OPENAI_API_KEY", "mock_response: a mocked answer", config
    )
    assert many == 2
    (folder / "config.yaml").write_text(mocked)
    with (folder / "litellm.log").open("w+") as log:
        process = subprocess.Popen(
            [
                *(python.parent / "litellm", "--config", "config.yaml", "--port", str(port)),
                *("--host", "127.0.0.1", "--telemetry", "False"),
            ],
            cwd=folder,
            stdout=log,
            stderr=log,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(folder),
                "LITELLM_MASTER_KEY": "sk-master",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_GATE_URL": f"http://127.0.0.1:{gate}",
                **variables,
            },
        )
        try:
            deadline = time.monotonic() + 3 * START_TIMEOUT_S
            while not _listens(port):
                assert process.poll() is None, (folder / "litellm.log").read_text()[-4000:]
                assert time.monotonic() < deadline, (folder / "litellm.log").read_text()[-4000:]
                time.sleep(0.2)
            yield Client(port)
        finally:
            process.terminate()
            process.wait(30)


def complete(client: Client, model: str = "gpt-4o", **fields: Any) -> tuple[int, Any, Any]:
    """Ask LiteLLM's proxy for a completion; return status, body and headers."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    request = urllib.request.Request(  # a server of our own
        f"http://127.0.0.1:{client.port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": "Bearer sk-master", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers
