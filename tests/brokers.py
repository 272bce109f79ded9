"""Apache Kafka for the tests: one KRaft broker on loopback, fetched once, started by the suite.

`ApacheKafka` runs it; `GivenKafka` stands for the broker that GOVERNOR_TEST_KAFKA names.
The embedded broker, the other one the suite runs on, is `governor.demo.broker.EmbeddedBroker`.
"""

import base64
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol
from xml.etree import ElementTree as ET

import pytest
from kafka import KafkaAdminClient, TopicPartition
from kafka.errors import KafkaError

POM = Path(__file__).with_name("pom.xml")
CACHE = POM.parents[1] / ".cache"
KAFKA_VERSION = ET.parse(POM).findtext(
    "{*}dependencies/{*}dependency[{*}artifactId='kafka_2.13']/{*}version", default=""
)
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
FETCH_TIMEOUT_S = 280.0
ADMIN_TIMEOUT_MS = 10_000
LOG_TAIL_LINES = 30
PORTS = range(20_000, 32_000)  # below the ephemeral ones, so that no client takes a stopped one's


class Broker(Protocol):
    """What both brokers offer a test."""

    bootstrap_servers: str
    api_version: tuple[int, int] | None

    def create_topic(self, name: str, partitions: int) -> None: ...


class KafkaTopics:
    """Topics by the admin client, on any Apache Kafka."""

    bootstrap_servers: str
    api_version: tuple[int, int] | None = None
    """What kafka-python must be told: nothing, it asks."""

    def create_topic(self, name: str, partitions: int, **configs: str | int) -> None:
        """Create a topic and wait until it has leaders; `cleanup_policy` means cleanup.policy."""
        options = {
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": {key.replace("_", "."): str(value) for key, value in configs.items()},
        }
        with self.admin() as admin:
            admin.create_topics({name: options}, wait_for_metadata=True)

    def delete_topic(self, name: str) -> None:
        with self.admin() as admin:
            admin.delete_topics([name])

    def delete_records(self, topic: str, partition: int, before_offset: int) -> None:
        """Let the partition begin at `before_offset`, as retention does."""
        with self.admin() as admin:
            admin.delete_records({TopicPartition(topic, partition): before_offset})

    def admin(self) -> KafkaAdminClient:
        """Return an admin client, to be closed by `with`."""
        return KafkaAdminClient(
            bootstrap_servers=self.bootstrap_servers,
            bootstrap_timeout_ms=ADMIN_TIMEOUT_MS,
            request_timeout_ms=ADMIN_TIMEOUT_MS,
        )


class GivenKafka(KafkaTopics):
    """The broker that GOVERNOR_TEST_KAFKA names; it is somebody's, so it is never stopped."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers

    def close(self) -> None:
        """Leave it running."""

    def stop(self, *, kill: bool = False) -> None:
        self._skip("kill" if kill else "stop")

    def start(self) -> None:
        self._skip("start")

    def pause(self) -> None:
        self._skip("pause")

    def resume(self) -> None:
        self._skip("resume")

    def _skip(self, what: str) -> None:
        pytest.skip(f"cannot {what} the broker of GOVERNOR_TEST_KAFKA={self.bootstrap_servers}")


class ApacheKafka(KafkaTopics):
    """One broker and controller in one Java process, with its data in a temporary folder.

    Java dies with pytest, however that dies: a shell waits for the end of a pipe that only pytest
    holds open, and then kills it. (PR_SET_PDEATHSIG would kill it with the thread that started it.)

    With `security` there are listeners SSL and SASL_SSL beside PLAINTEXT, with a certificate for
    127.0.0.1 from a throwaway authority, `ca_file`. SASL_SSL knows PLAIN, SCRAM-SHA-256 and
    SCRAM-SHA-512 for `username` and `password`, and OAUTHBEARER for `unsecured_token()`.
    """

    username = "governor"
    password = "correct-horse"

    def __init__(self, *, security: bool = False) -> None:
        self.security = security
        self._jars = fetch_jars()
        self._folder = Path(tempfile.mkdtemp(prefix="governor-kafka-"))
        self.ca_file = self._folder / "ca.pem"
        self._properties = self._folder / "server.properties"
        self._log = self._folder / "kafka.log"
        names = ["PLAINTEXT", "CONTROLLER", *(["SSL", "SASL_SSL"] if security else [])]
        self._ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self.bootstrap_servers = self.listener("PLAINTEXT")
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        try:
            self._format()
            self.start()
        except BaseException:
            self.close()
            raise

    def listener(self, name: str) -> str:
        """Return `host:port` of PLAINTEXT, SSL or SASL_SSL."""
        return f"127.0.0.1:{self._ports[name]}"

    def unsecured_token(self, *, lifetime_s: int = 3600) -> str:
        """Return a JWT without signature, as SASL OAUTHBEARER takes it here."""
        now = int(time.time())
        claims = {"sub": self.username, "iat": now, "exp": now + lifetime_s}
        parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims))
        return ".".join(_base64url(part) for part in parts) + "."

    def start(self) -> None:
        """Start Java on the same ports and data, and wait until the broker answers."""
        if self._process is not None:
            raise RuntimeError("Apache Kafka is running")
        command = [*self._java(), "kafka.Kafka", str(self._properties)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for pytest
            )
        self._watcher = subprocess.Popen(
            ["sh", "-c", 'read -r _; kill -9 "$0"', str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._await_answer(self._process)

    def stop(self, *, kill: bool = False) -> None:
        """End Java by SIGTERM, or by SIGKILL; the data stay for `start`."""
        if self._process is None:
            return
        with self._process as process:
            process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._process = None
        if self._watcher is not None:
            with self._watcher as watcher:
                watcher.kill()
            self._watcher = None

    def pause(self) -> None:
        """Freeze it by SIGSTOP: connections stay, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """Kill Java and forget the data."""
        self.stop(kill=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def log_tail(self) -> str:
        """Return the last lines Java wrote."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-LOG_TAIL_LINES:])

    def _signal(self, number: signal.Signals) -> None:
        if self._process is None:
            raise RuntimeError("Apache Kafka is stopped")
        self._process.send_signal(number)

    def _java(self) -> list[str]:
        return [
            shutil.which("java") or "java",
            "-Xms256m",
            "-Xmx512m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            f"-Djava.io.tmpdir={self._folder}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-cp",
            f"{self._jars}/*",
        ]

    def _format(self) -> None:
        if self.security:
            _make_certificates(self._folder)
        self._properties.write_text(
            "".join(f"{key}={value}\n" for key, value in self._settings().items())
        )
        format_command = [*self._java(), "kafka.tools.StorageTool", "format"]
        format_command += ["--cluster-id", _cluster_id(), "--config", str(self._properties)]
        if self.security:
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                user = f"{mechanism}=[name={self.username},password={self.password}]"
                format_command += ["--add-scram", user]
        _run(format_command, timeout_s=START_TIMEOUT_S)

    def _settings(self) -> dict[str, str | int]:
        addresses = {name: f"{name}://{self.listener(name)}" for name in self._ports}
        settings: dict[str, str | int] = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{self.listener('CONTROLLER')}",
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(
                address for name, address in addresses.items() if name != "CONTROLLER"
            ),
            "listener.security.protocol.map": ",".join(
                f"{name}:{'PLAINTEXT' if name == 'CONTROLLER' else name}" for name in addresses
            ),
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.num.partitions": 1,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 1,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            # after a SIGKILL the old incarnation must time out before the new one may lead
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            # a topic keeps records of any age, unless it has a retention of its own:
            # a test's events are dated as the test needs them, not as today is
            "log.retention.ms": -1,
            # retention and compaction act within seconds, so that a test can wait for them
            "log.initial.task.delay.ms": 500,
            "log.retention.check.interval.ms": 500,
            "log.segment.delete.delay.ms": 500,
            "log.cleaner.backoff.ms": 500,
        }
        return settings | self._security_settings() if self.security else settings

    def _security_settings(self) -> dict[str, str | int]:
        modules = "org.apache.kafka.common.security"
        scram = f"{modules}.scram.ScramLoginModule required;"
        plain = f'{modules}.plain.PlainLoginModule required user_{self.username}="{self.password}";'
        oauth = (
            f"{modules}.oauthbearer.OAuthBearerLoginModule required"
            f' unsecuredLoginStringClaim_sub="{self.username}";'
        )
        return {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self._folder / "server.pem"),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca_file),
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            "listener.name.sasl_ssl.plain.sasl.jaas.config": plain,
            "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.sasl_ssl.oauthbearer.sasl.jaas.config": oauth,
        }

    def _await_answer(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None:
                raise RuntimeError(
                    f"Apache Kafka ended with code {process.returncode}; its log ends:\n"
                    + self.log_tail()
                )
            if time.monotonic() > deadline:
                raise RuntimeError(
                    f"Apache Kafka does not answer at {self.bootstrap_servers} after"
                    f" {START_TIMEOUT_S:.0f} s; its log ends:\n" + self.log_tail()
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            for name, port in self._ports.items():
                if name != "CONTROLLER":
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
            with self.admin() as admin:
                return bool(admin.describe_cluster()["brokers"])
        except (OSError, KafkaError):
            return False


def missing(*, own: bool = False) -> str | None:
    """Return why no Apache Kafka, or none of our `own`, can be had here; None if one can."""
    if shutil.which("java") and (_jar_folder().is_dir() or shutil.which("mvn")):
        return None
    if own:
        return "no Java with Maven"
    if os.environ.get("GOVERNOR_TEST_KAFKA"):
        return None
    return "neither Java with Maven nor GOVERNOR_TEST_KAFKA"


def open_kafka() -> ApacheKafka | GivenKafka:
    """Return the broker of GOVERNOR_TEST_KAFKA, or else start one."""
    given = os.environ.get("GOVERNOR_TEST_KAFKA")
    return GivenKafka(given) if given else ApacheKafka()


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars, fetched by Maven the first time."""
    folder = _jar_folder()
    with _locked(CACHE / "kafka.lock"):
        if not folder.is_dir():
            with tempfile.TemporaryDirectory(dir=CACHE, prefix="kafka-") as partial:
                jars = Path(partial) / "jars"
                goal = ["dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
                _run(["mvn", "-q", "-B", "-f", str(POM), *goal], timeout_s=FETCH_TIMEOUT_S)
                jars.rename(folder)
    return folder


def _jar_folder() -> Path:
    return CACHE / f"kafka-{KAFKA_VERSION}-with-tools"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _free_ports(count: int) -> list[int]:
    ports: list[int] = []
    while len(ports) < count:
        port = random.choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in ports:
            ports.append(port)
    return ports


def _cluster_id() -> str:
    while (text := _base64url(uuid.uuid4().bytes)).startswith("-"):
        pass  # Kafka takes it for an option
    return text


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _make_certificates(folder: Path) -> None:
    """Write ca.pem, and server.pem with the key and the chain of a certificate for 127.0.0.1."""
    extensions = folder / "extensions.cnf"
    extensions.write_text(
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nauthorityKeyIdentifier=keyid\n"
    )
    key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"
    authority = f"req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=throwaway"
    authority += " -addext keyUsage=critical,keyCertSign"
    request = f"req {key} -keyout server.key -out server.csr -subj /CN=localhost"
    sign = "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2"
    sign += f" -extfile {extensions.name} -out server.crt"
    for command in (authority, request, sign):
        _run(["openssl", *command.split()], timeout_s=START_TIMEOUT_S, cwd=folder)
    chain = ("server.key", "server.crt", "ca.pem")
    (folder / "server.pem").write_text("".join((folder / name).read_text() for name in chain))


def _run(command: list[str], *, timeout_s: float, cwd: Path | None = None) -> None:
    done = subprocess.run(
        command,
        cwd=cwd,
        timeout=timeout_s,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-LOG_TAIL_LINES:])
        raise RuntimeError(f"{' '.join(command)}: exit code {done.returncode}\n{tail}")
