"""Encrypted and logged in to Apache Kafka, and what a wrong secret says, which is no secret."""

import re
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import ApacheKafka
from tests.e2e.daemon import Daemon, drain, environment
from tests.e2e.ledger import Ledger, books_of, producing, send

pytestmark = pytest.mark.kafka

EVENTS = 1_000
WRONG = "battery-staple-0451"
REFUSAL_TIMEOUT_S = 25.0
REFUSED = {
    "wrong password, PLAIN": ("run",),
    "wrong password, SCRAM": ("topics", "create"),
    "expired token": ("run", "--drain"),
    "no token file": ("run",),
    "unknown authority": ("topics", "create"),
}
REASONS = {
    "wrong password, PLAIN": "a login that it refuses|Authentication failed",
    "wrong password, SCRAM": "a login that it refuses|Authentication failed",
    "expired token": "a login that it refuses|[Aa]uthentication failed|invalid_token",
    "no token file": "sasl_oauth_token_file",
    "unknown authority": "certificate verify failed",
}
"""What the output must name; a broker says why, or hangs up before that can be read."""


class Site:
    """A topic with known content on the secured broker."""

    def __init__(self, kafka: ApacheKafka, topic: str, folder: Path) -> None:
        kafka.create_topic(topic, 2)
        self.kafka = kafka
        self.topic = topic
        self.folder = folder
        self.store = folder / "governor.duckdb"
        self.ledger = Ledger(3, partitions=2)
        with producing(kafka) as producer:
            send(producer, topic, self.ledger.records(EVENTS))

    def env(self, **settings: Any) -> dict[str, str]:
        """Return the environment for SASL_SSL, or for what the settings say."""
        defaults = {
            "kafka__bootstrap_servers": self.kafka.listener("SASL_SSL"),
            "kafka__security_protocol": "SASL_SSL",
            "kafka__ssl_cafile": self.kafka.ca_file,
        }
        return environment(self.folder, None, self.topic, **(defaults | settings))

    def login(self, mechanism: str, password: str = ApacheKafka.password) -> dict[str, str]:
        return self.env(
            kafka__sasl_mechanism=mechanism,
            kafka__sasl_username=self.kafka.username,
            kafka__sasl_password=password,
        )


@pytest.fixture
def site(secured_kafka: ApacheKafka, topic_name: str, tmp_path: Path) -> Site:
    return Site(secured_kafka, topic_name, tmp_path)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_password(site: Site, mechanism: str) -> None:
    """With user and password over TLS everything is counted, and the password is never said."""
    with Daemon(site.login(mechanism) | {"GOVERNOR_LOG__LEVEL": "debug"}) as daemon:
        daemon.await_events(EVENTS)
        said = daemon.log_text() + daemon.get("/status")[1] + daemon.get("/metrics")[1]
        assert daemon.stop() == 0
        said += daemon.log_text()
    assert books_of(site.store) == site.ledger.books
    assert site.kafka.password not in said


def test_token_file(site: Site) -> None:
    """OAUTHBEARER reads its token from a file, again for each connection, and never says it."""
    token = site.folder / "token"
    token.write_text(site.kafka.unsecured_token() + "\n")
    env = site.env(kafka__sasl_mechanism="OAUTHBEARER", kafka__sasl_oauth_token_file=token)
    with Daemon(env) as daemon:
        daemon.await_events(EVENTS)
        assert daemon.stop() == 0
        assert token.read_text().strip() not in daemon.log_text()
    token.write_text(site.kafka.unsecured_token(lifetime_s=7200))
    drain(env)
    assert books_of(site.store) == site.ledger.books


def test_tls_alone(site: Site) -> None:
    """With TLS and no login everything is counted."""
    env = site.env(
        kafka__bootstrap_servers=site.kafka.listener("SSL"), kafka__security_protocol="SSL"
    )
    drain(env)
    assert books_of(site.store) == site.ledger.books


@pytest.fixture(scope="module")
def refused(
    secured_kafka: ApacheKafka, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[int | None, str]]:
    """Run every command that the broker must refuse, side by side; return code and output.

    The code is None where the command had not ended when it had said so, to try again.
    """
    started: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
    for case, command in REFUSED.items():
        folder = tmp_path_factory.mktemp("refused")
        site = Site(secured_kafka, f"refused-{uuid.uuid4().hex[:8]}", folder)
        output = folder / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "governor", *command],
                env=refused_environment(case, site),
                cwd=folder,
                stdout=file,
                stderr=file,
            )
        started[case] = (process, output)
    deadline = time.monotonic() + REFUSAL_TIMEOUT_S
    found: dict[str, tuple[int | None, str]] = {}
    for case, (process, output) in started.items():
        while process.poll() is None and time.monotonic() < deadline:
            if '"kafka.failed"' in output.read_text():
                break
            time.sleep(0.1)
        code = process.poll()
        process.kill()
        process.wait()
        found[case] = (code, output.read_text())
    return found


def refused_environment(case: str, site: Site) -> dict[str, str]:
    token = site.folder / "token"
    bearer = {"kafka__sasl_mechanism": "OAUTHBEARER", "kafka__sasl_oauth_token_file": token}
    match case:
        case "wrong password, PLAIN":
            return site.login("PLAIN", WRONG)
        case "wrong password, SCRAM":
            return site.login("SCRAM-SHA-512", WRONG)
        case "expired token":
            token.write_text(site.kafka.unsecured_token(lifetime_s=-60))
            return site.env(**bearer)
        case "no token file":
            return site.env(**bearer)
        case _:
            env = site.login("PLAIN")
            del env["GOVERNOR_KAFKA__SSL_CAFILE"]
            return env


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_says_no_secret(refused: dict[str, tuple[int | None, str]], case: str) -> None:
    """Whatever is said about a refused login, it is neither a password nor a token."""
    _, said = refused[case]
    assert said
    for secret in (WRONG, ApacheKafka.password, "eyJ"):  # how a token begins
        assert secret not in said


@pytest.mark.parametrize("case", REFUSED)
def test_refusal_names_its_reason(refused: dict[str, tuple[int | None, str]], case: str) -> None:
    """A refused login is tried again, as it may be mended there, and each try names the reason.

    The broker often hangs up without a word, so for a wrong password it may be a hint only.
    """
    code, said = refused[case]
    assert code in (None, 69), said[-2000:]
    assert re.search(REASONS[case], said), said[-2000:]
