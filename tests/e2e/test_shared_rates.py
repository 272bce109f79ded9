"""Several real gates that share their rates in a real Redis, which goes away and comes back."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from governor.demo.broker import EmbeddedBroker
from tests.debian import program
from tests.e2e.daemon import governor
from tests.e2e.test_gate import GateProcess, Site, heartbeat, throttle
from tests.gateways import free_port

LONG = timedelta(minutes=10)


@contextmanager
def redis(port: int, folder: Path) -> Iterator[None]:
    """Run a Redis that keeps nothing."""
    command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    process = subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(10)


def let_through(gates: list[GateProcess], times: int, **who: str) -> int:
    """Ask gates in turns; return how often they let it through."""
    return sum(gates[n % len(gates)].decide(tier="free", **who)["allowed"] for n in range(times))


def test_two_gates_count_together(
    embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path
) -> None:
    """Together they let the rate through, each value for itself; without Redis each does alone."""
    embedded_broker.create_topic(topic_name, 1)
    port = free_port()
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    sites = [Site(embedded_broker, topic_name, folder) for folder in folders]
    sites[0].publish(replace(throttle("free", 1, rate=10), rate_span_s=3_600), heartbeat(LONG))
    for site in sites:
        site.env["GOVERNOR_GATE__REDIS_URL"] = f"redis://127.0.0.1:{port}/0"
    with GateProcess(sites[0].env) as one, GateProcess(sites[1].env) as two:
        gates = [one, two]
        for gate in gates:
            gate.await_log("directives.read")
        with redis(port, tmp_path):
            one.until(
                lambda: (
                    one.decide(tier="free", customer="first")["allowed"]
                    and "shared rates" not in one.ask("/readyz")[1]
                ),
                "Redis",
                timeout_s=15,
            )
            time.sleep(1.1)  # a gate that met no Redis leaves it alone for a second
            assert let_through(gates, 30, customer="acme") == 10
            assert let_through(gates, 30, customer="hooli") == 10
            refused = two.decide(tier="free", customer="acme")
            assert 500 < refused["retry_after_s"] <= 600  # no longer than the directive
        assert let_through(gates, 60, customer="initech") == 20
        assert "shared rates: Redis:" in one.ask("/readyz")[1]
        assert "governor_gate_shared_errors_total" in one.ask("/metrics")[1]
        with redis(port, tmp_path):
            one.until(
                lambda: (
                    one.decide(tier="free", customer="again")
                    and "shared rates" not in one.ask("/readyz")[1]
                ),
                "Redis again",
                timeout_s=15,
            )


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1:6379"])
def test_an_address_that_is_none(
    embedded_broker: EmbeddedBroker, topic_name: str, tmp_path: Path, url: str
) -> None:
    """The gate ends with 2 and says what to write; the address, which may hold a password, not."""
    site = Site(embedded_broker, topic_name, tmp_path)
    site.env["GOVERNOR_GATE__REDIS_URL"] = url
    done = governor("gate", env=site.env)
    assert done.returncode == 2
    assert "gate.redis_url: must be such as redis://127.0.0.1:6379/0" in done.stderr
    assert url not in done.stderr
