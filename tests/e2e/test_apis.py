"""Both HTTP APIs do as they describe themselves, whatever is asked: no 5xx, no other form."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from governor.demo.broker import EmbeddedBroker
from tests.e2e.acting import staged, usage
from tests.e2e.daemon import FULL, Daemon, Gate
from tests.e2e.test_acting import budget
from tests.gateways import free_port

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1800 if FULL else 400)]

EXAMPLES = 500 if FULL else 15
TOKEN = "a-token-for-tests"  # of a server of our own
CHECKS = (
    *("not_a_server_error", "status_code_conformance", "content_type_conformance"),
    *("response_schema_conformance",),
)


def asked_of_all_kinds(port: int, folder: Path, *, least: int) -> None:
    """Have schemathesis ask a server whatever its description allows, and much that it does not."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run"),
            *(f"http://127.0.0.1:{port}/openapi.json", "--checks", ",".join(CHECKS)),
            *("--max-examples", str(EXAMPLES), "--seed", "7", "--no-color"),
            *("--header", f"Authorization: Bearer {TOKEN}"),
            *("--mode", "all", "--phases", "examples,coverage,fuzzing"),
            *("--request-timeout", "30"),
        ],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=1500,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    tested = re.search(r"Selected: ([0-9]+)/\1\s+Tested: \1", done.stdout)
    assert int(tested[1] if tested else 0) >= least, done.stdout[-2000:]


def test_the_gate(embedded_broker: EmbeddedBroker, tmp_path: Path, topic_name: str) -> None:
    """Its decisions, batches, gateways and pages, with a token and a directive in force."""
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.env["GOVERNOR_GATE__CALLER_TOKEN"] = TOKEN
        stage.env["GOVERNOR_GATE__HEADERS"] = "tier=x-tier"
        stage.rules(budget())
        with Daemon(stage.env), Gate(stage.env) as gate:
            stage.send([usage(12 * 400_000, tier="free")])
            gate.await_log("lease.renewed")
            asked_of_all_kinds(gate.await_log("gate.opened")["port"], tmp_path, least=8)


def test_the_control_api(embedded_broker: EmbeddedBroker, tmp_path: Path, topic_name: str) -> None:
    """Every order that a daemon takes, with an alert and a directive to order about."""
    port = free_port()
    with staged(embedded_broker, tmp_path, topic_name) as stage:
        stage.env["GOVERNOR_CONTROL__PORT"] = str(port)
        stage.env["GOVERNOR_CONTROL__TOKEN"] = TOKEN
        stage.rules(budget())
        with Daemon(stage.env) as daemon:
            stage.send([usage(12 * 400_000, tier="free")])
            daemon.until(stage.standing, "a throttle", timeout_s=20)
            asked_of_all_kinds(port, tmp_path, least=30)
            assert daemon.stop() == 0
