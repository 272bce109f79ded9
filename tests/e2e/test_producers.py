"""Real senders through real Kafka into the store: tokens and costs by hand, and nobody's words.

They run in an environment of their own, made of tests/producers/requirements.lock.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.brokers import ApacheKafka, GivenKafka
from tests.e2e.daemon import drain, environment, sql
from tests.environments import python_of

ROOT = Path(__file__).parents[2]
PRODUCERS = ROOT / "deploy" / "producers"
SCRIPTS = ROOT / "tests" / "producers"

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python() -> Path:
    """Return the interpreter of an environment with the senders."""
    return python_of("producers")


def run(interpreter: Path, *arguments: object, **variables: str) -> str:
    """Run a script to its end, and return what it printed."""
    done = subprocess.run(
        [interpreter, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", **variables},
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def no_words(store: Path) -> None:
    """See that nothing of what was said is in any table or in the bytes of the file."""
    tables = [name for (name,) in sql(store, "SELECT table_name FROM duckdb_tables()")]
    for table in tables:
        rows = sql(store, f"SELECT r::VARCHAR FROM {table} r")
        assert "kingfisher" not in str(rows).lower(), table
    assert b"kingfisher" not in store.read_bytes().lower()


def test_litellm(
    apache_kafka: ApacheKafka | GivenKafka, python: Path, tmp_path: Path, topic_name: str
) -> None:
    """The package itself with our logger: six requests, each priced as worked out here."""
    apache_kafka.create_topic(topic_name, 3)
    printed = run(
        python,
        SCRIPTS / "use_litellm.py",
        LITELLM_KAFKA_SERVERS=apache_kafka.bootstrap_servers,
        LITELLM_KAFKA_TOPIC=topic_name,
        LITELLM_LOCAL_MODEL_COST_MAP="True",
    )
    assert "lost 0" in printed
    streamed = [line for line in printed.splitlines() if line.startswith("streamed ")]
    _, said_in, said_out = streamed[0].split()
    env = environment(tmp_path, apache_kafka, topic_name, topics=f"{topic_name}=litellm")
    totals = drain(env)
    assert (totals["counted"], totals["rejected"], totals["unpriced"]) == (6, 0, 0)
    store = tmp_path / "governor.duckdb"
    rows = sql(
        store,
        "SELECT customer, feature, operation, model, status, input_tokens, cache_read_tokens,"
        " cache_write_5m_tokens, output_tokens, cost_nano, reported_cost_nano"
        " FROM usage",
    )
    cached = 600 * 2_500 + 400 * 1_250 + 200 * 10_000
    claude = 4_000 * 3_000 + 2_000 * 300 + 4_000 * 3_750 + 1_000 * 15_000
    mini = (int(said_in) * 150_000 + int(said_out) * 600_000) // 1_000
    answers = ("acme", "answers")
    calls = [
        (*answers, "chat", "gpt-4o", "success"),
        (*answers, "chat", "claude-sonnet-4-5", "success"),
        (*answers, "chat", "gpt-4o-mini", "success"),
        (*answers, "embeddings", "text-embedding-3-small", "success"),
        (*answers, "chat", "gpt-4o", "error"),
        ("beta", "search", "chat", "gpt-4o", "success"),
    ]
    assert sorted(row[:5] for row in rows) == sorted(calls)
    rows.sort(key=lambda row: calls.index(row[:5]))  # a stream is logged when it was read out
    assert [row[9] for row in rows] == [cached, claude, mini, 10 * 20, 0, cached]
    assert [row[10] for row in rows] == [row[9] for row in rows]  # LiteLLM reckons the same
    assert rows[0][5:9] == (1_000, 400, None, 200)
    assert rows[1][5:9] == (10_000, 2_000, 4_000, 1_000)
    no_words(store)


@pytest.mark.parametrize("encoding", ["proto", "json"])
def test_opentelemetry(
    encoding: str,
    apache_kafka: ApacheKafka | GivenKafka,
    python: Path,
    tmp_path: Path,
    topic_name: str,
) -> None:
    """An agent that calls a model twice: two requests are counted, the agent's sum is not."""
    apache_kafka.create_topic(topic_name, 1)
    servers = apache_kafka.bootstrap_servers
    run(python, SCRIPTS / "use_otel.py", servers, topic_name, encoding)
    env = environment(tmp_path, apache_kafka, topic_name, topics=f"{topic_name}=otlp_{encoding}")
    totals = drain(env)
    assert (totals["counted"], totals["rejected"], totals["unpriced"]) == (2, 0, 0)
    store = tmp_path / "governor.duckdb"
    rows = sql(
        store,
        "SELECT source, team, provider, model, operation, status, input_tokens, cache_read_tokens,"
        " output_tokens, reasoning_tokens, cost_nano FROM usage",
    )
    cost = 600 * 2_500 + 400 * 1_250 + 200 * 10_000
    one = ("support-bot", "cx", "openai", "gpt-4o-2024-08-06", "chat", "success")
    assert rows == [(*one, 1_000, 400, 200, 50, cost)] * 2
    no_words(store)


def test_plain_python(
    apache_kafka: ApacheKafka | GivenKafka, tmp_path: Path, topic_name: str
) -> None:
    """The example for one's own service sends one native event."""
    apache_kafka.create_topic(topic_name, 1)
    servers = apache_kafka.bootstrap_servers
    run(Path(sys.executable), PRODUCERS / "python_example.py", topic_name, KAFKA_SERVERS=servers)
    assert drain(environment(tmp_path, apache_kafka, topic_name))["counted"] == 1
    rows = sql(tmp_path / "governor.duckdb", "SELECT customer, feature, cost_nano FROM usage")
    assert rows == [("acme", "answers", 600 * 2_500 + 400 * 1_250 + 200 * 10_000)]
    lines = (PRODUCERS / "python_example.py").read_text("utf-8").splitlines()
    assert len(lines) <= 30


def test_what_the_logger_drops_is_what_it_says() -> None:
    """Every field that holds words, in the sample of a payload, is among those it drops."""
    text = (PRODUCERS / "litellm_kafka.py").read_text("utf-8")
    payload = json.loads(
        (ROOT / "tests/data/formats/litellm_standard_logging_payload.json").read_text("utf-8")
    )
    for name in ("messages", "response", "error_str", "model_parameters", "requester_ip_address"):
        assert name in payload
        assert f'"{name}"' in text
