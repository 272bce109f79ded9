"""Fixtures of the whole suite: the two brokers, and the line that says whether Kafka really ran."""

import importlib
import os
import re
import uuid
import warnings
from collections.abc import Generator, Iterator

import pytest

from governor.demo.broker import EmbeddedBroker

with warnings.catch_warnings():  # kafka-python 3.0 reads its schemas by a call deprecated in 3.11
    warnings.simplefilter("ignore", DeprecationWarning)
    importlib.import_module("kafka")

from tests.brokers import (
    KAFKA_VERSION,
    ApacheKafka,
    Broker,
    GivenKafka,
    missing,
    open_kafka,
)

APACHE_FIXTURES = {"apache_kafka", "own_kafka", "secured_kafka"}


@pytest.fixture(scope="session")
def embedded_broker() -> Iterator[EmbeddedBroker]:
    """Run one embedded broker; whoever takes it down brings it up again."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def apache_kafka() -> Iterator[ApacheKafka | GivenKafka]:
    """Apache Kafka; whoever stops or pauses it brings it back."""
    _require_kafka(missing())
    kafka = open_kafka()
    yield kafka
    kafka.close()


@pytest.fixture(scope="module")
def own_kafka() -> Iterator[ApacheKafka]:
    """Apache Kafka of one module's own, to be stopped and frozen; it is brought back each time."""
    _require_kafka(missing(own=True))
    kafka = ApacheKafka()
    yield kafka
    kafka.close()


@pytest.fixture(scope="session")
def secured_kafka() -> Iterator[ApacheKafka]:
    """Apache Kafka with listeners SSL and SASL_SSL, always one of our own."""
    _require_kafka(missing(own=True))
    kafka = ApacheKafka(security=True)
    yield kafka
    kafka.close()


@pytest.fixture(scope="session", params=["embedded", "apache"])
def broker(request: pytest.FixtureRequest) -> Broker:
    """Both brokers, one after the other."""
    name = {"embedded": "embedded_broker", "apache": "apache_kafka"}[request.param]
    found: Broker = request.getfixturevalue(name)
    return found


@pytest.fixture
def topic_name(request: pytest.FixtureRequest) -> str:
    """Return a topic name that no other test has; it begins with the name of the test."""
    test = re.sub(r"[^a-zA-Z0-9]+", "-", request.node.name).strip("-")
    return f"{test[:80]}-{uuid.uuid4().hex[:8]}"


def _require_kafka(reason: str | None) -> None:
    if reason is None:
        return
    for variable in ("GOVERNOR_TEST_REQUIRE", "CI"):
        if missing() and os.environ.get(variable):
            pytest.fail(f"{variable} is set, and no Apache Kafka can run: {reason}", pytrace=False)
    pytest.skip(f"no Apache Kafka: {reason}")


def pytest_configure(config: pytest.Config) -> None:
    """Let kafka-python 3.0 leave sockets that never connected to the garbage collector."""
    never_connected = r"unclosed <socket\.socket .*laddr=\('0\.0\.0\.0'"
    config.addinivalue_line("filterwarnings", f"ignore:{never_connected}:ResourceWarning")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that needs a broker, so that `-m kafka` means just that."""
    for item in items:
        if {"broker", *APACHE_FIXTURES} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.kafka)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """Note on each report whether the test needs Apache Kafka; workers hand reports over whole."""
    report = yield
    report.needs_apache = _needs_apache(item)
    return report


def _needs_apache(item: pytest.Item) -> bool:
    callspec = getattr(item, "callspec", None)
    chosen = callspec.params.get("broker") if callspec else None
    return chosen == "apache" or not APACHE_FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Generator[None]:
    """Say last of all whether the tests of Apache Kafka ran."""
    yield
    outcomes: dict[str, set[str]] = {"passed": set(), "failed": set(), "not run": set()}
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "needs_apache", False):
                ran = report.when == "call" and report.outcome in outcomes
                if ran or report.outcome != "passed":
                    outcomes[report.outcome if ran else "not run"].add(report.nodeid)
    if any(outcomes.values()):
        terminalreporter.write_line(_apache_line(outcomes))


def _apache_line(outcomes: dict[str, set[str]]) -> str:
    passed, failed = len(outcomes["passed"]), len(outcomes["failed"])
    rest = len(outcomes["not run"] - outcomes["passed"] - outcomes["failed"])
    if not passed + failed:
        return f"Apache Kafka: NOT RUN ({missing() or 'see above'}); {rest} tests did not run"
    given = os.environ.get("GOVERNOR_TEST_KAFKA")
    name = f"Apache Kafka at {given}" if given else f"Apache Kafka {KAFKA_VERSION}"
    line = f"{name}: {passed + failed} tests ran, {passed} passed, {failed} failed"
    return line + (f"; {rest} tests did not run" if rest else "")
