"""A public trace of real requests, and ties of rounding, counted to the last nano-dollar."""

import csv
import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.brokers import Broker
from tests.e2e.daemon import drain, environment, governor, sql
from tests.e2e.ledger import check_agreement, cost_nano, half_even

pytestmark = pytest.mark.kafka

TRACE = Path(__file__).parents[1] / "data" / "azure_llm_2023"
FILES = {
    "code": TRACE / "AzureLLMInferenceTrace_code.csv",
    "chat": TRACE / "AzureLLMInferenceTrace_conv.csv",
}
SPEND_USD = {"code": Decimal("47.6088950"), "chat": Decimal("96.7913250")}
REQUESTS = {"code": 8_819, "chat": 19_366}


def trace() -> Iterator[dict[str, Any]]:
    """Yield the trace as native events for gpt-4o; the files' times have 7 digits and mean UTC."""
    for team, path in FILES.items():
        with path.open(newline="") as rows:
            for number, row in enumerate(csv.DictReader(rows)):
                yield {
                    "event_id": f"{team}-{number}",
                    "source": "azure-2023",
                    "event_time": row["TIMESTAMP"].replace(" ", "T") + "Z",
                    "provider": "openai",
                    "model": "gpt-4o",
                    "team": team,
                    "input_tokens": int(row["ContextTokens"]),
                    "output_tokens": int(row["GeneratedTokens"]),
                }


def ties() -> Iterator[dict[str, Any]]:
    """Yield events whose odd tokens at 37.5 nano-dollars each come to an exact half."""
    start = datetime(2026, 3, 1, tzinfo=UTC)
    for number in range(2_000):
        yield {
            "event_id": f"tie-{number}",
            "source": "ties",
            "event_time": (start + timedelta(milliseconds=number)).isoformat(),
            "provider": "google",
            "model": "gemini-flash-1.5-8b",
            "team": f"tie-{number % 2}",
            "input_tokens": 2 * number + 1,
            "output_tokens": 0,
        }


def write(path: Path, events: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Write events as lines, in the order of their times, and return them."""
    ordered = sorted(events, key=lambda event: event["event_time"])
    path.write_text("".join(json.dumps(event) + "\n" for event in ordered))
    return ordered


def count(
    broker: Broker, folder: Path, topic: str, file: Path
) -> tuple[dict[str, int], dict[str, Decimal]]:
    """Produce a file and count it by commands alone; return the totals and USD by team."""
    broker.create_topic(topic, 4)
    env = environment(folder, broker, topic)
    produced = governor("produce", file, "--json", env=env)
    assert produced.returncode == 0, produced.stderr
    totals = drain(env, "--clock", "event-time")
    store = folder / "governor.duckdb"
    check_agreement(store)
    return totals, dict(sql(store, "SELECT team, sum(cost_usd) FROM usage GROUP BY team"))


def test_spend_of_the_azure_trace(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """The 28,185 requests of Azure's trace cost 47.6088950 and 96.7913250 USD as gpt-4o, exactly.

    The oracle finds the same from the files. The daily view, whose sums come from the rollups,
    agrees too.
    """
    events = write(tmp_path / "azure.ndjson", trace())
    totals, spend = count(broker, tmp_path, topic_name, tmp_path / "azure.ndjson")

    oracle: Counter[str] = Counter()
    for event in events:
        tokens = (event["input_tokens"], 0, event["output_tokens"])
        oracle[event["team"]] += cost_nano("openai", "gpt-4o", *tokens) or 0
    assert Counter(event["team"] for event in events) == REQUESTS
    assert {team: Decimal(nano) / 10**9 for team, nano in oracle.items()} == SPEND_USD
    assert spend == SPEND_USD
    assert totals["counted"] == totals["events"] == 28_185
    assert totals["duplicates"] == totals["rejected"] == totals["unpriced"] == 0
    daily = "SELECT team, sum(cost_usd), sum(events) FROM spend_daily GROUP BY team"
    assert {row[0]: row[1:] for row in sql(tmp_path / "governor.duckdb", daily)} == {
        team: (SPEND_USD[team], REQUESTS[team]) for team in FILES
    }


def test_ties_round_half_to_even(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """Every cost that is an exact half of a nano-dollar goes to the even one, event by event."""
    events = write(tmp_path / "ties.ndjson", ties())
    totals, spend = count(broker, tmp_path, topic_name, tmp_path / "ties.ndjson")

    expected = {event["event_id"]: half_even(375 * event["input_tokens"]) for event in events}
    stored = dict(sql(tmp_path / "governor.duckdb", "SELECT event_id, cost_nano FROM usage"))
    assert totals["counted"] == len(events)
    assert stored == expected
    by_team: Counter[str] = Counter()
    for event in events:
        by_team[event["team"]] += expected[event["event_id"]]
    assert spend == {team: Decimal(nano) / 10**9 for team, nano in by_team.items()}
    floor = sum(375 * event["input_tokens"] // 10 for event in events)
    assert floor < sum(expected.values()) < floor + len(events), "ties go up as well as down"
