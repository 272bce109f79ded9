"""Cases priced by hand from what providers publish, against what is charged in the store."""

import csv
from collections import Counter
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.unit.till import FIELDS, charged

TABLE = Path(__file__).parents[1] / "data" / "golden_prices.csv"
CASES = list(csv.DictReader(TABLE.read_text("utf-8").splitlines()))
PARTS = {
    "input": ("cache_read", "cache_write_5m", "cache_write_1h", "input_audio"),
    "output": ("reasoning", "output_audio"),
}
PARENTS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "input_audio": "input",
    "reasoning": "output",
    "output_audio": "output",
}
BY_THE_PIECE = ("request", "web_search")


def amounts(text: str) -> dict[str, Decimal]:
    """Read `input=1000 output=20`."""
    pairs = (pair.split("=") for pair in text.split())
    return {name: Decimal(amount) for name, amount in pairs}


def by_hand(case: Mapping[str, str]) -> Decimal:
    """Return what a case costs by the rates that stand in its row, USD."""
    used, rates = amounts(case["quantities"]), amounts(case["usd_per_mtok_or_unit"])
    for whole, parts in PARTS.items():
        inside = sum(used.get(part, Decimal(0)) for part in parts)
        if inside <= used.get(whole, 0):
            used[whole] = used.get(whole, Decimal(0)) - inside
    total = Decimal(0)
    for name, amount in used.items():
        rate = name
        while amount and rate not in rates:
            rate = PARENTS[rate]
        if amount:
            total += amount * rates[rate] / (1 if name in BY_THE_PIECE else 10**6)
    return total


def event(case: Mapping[str, str]) -> dict[str, Any]:
    """Return a case as an event."""
    used = {FIELDS[name]: int(amount) for name, amount in amounts(case["quantities"]).items()}
    return {
        "provider": case["provider"],
        "model": case["model"],
        "event_time": case["at"],
        "service_tier": case["service_tier"] or None,
        **used,
    }


@pytest.fixture(scope="module")
def charges(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Price all cases in one store."""
    return charged(tmp_path_factory.mktemp("golden") / "g.duckdb", [event(c) for c in CASES])


@pytest.mark.parametrize(
    "number",
    range(len(CASES)),
    ids=[f"{n}-{c['provider']}-{c['model']}-{c['service_tier']}" for n, c in enumerate(CASES)],
)
def test_a_case_costs_what_its_provider_publishes(
    number: int, charges: list[dict[str, Any]]
) -> None:
    """To the nano-dollar; the expected figure in the row is that of the rates in the row."""
    case, found = CASES[number], charges[number]
    assert Decimal(case["expected_usd"]) == by_hand(case)
    assert Decimal(found["cost_nano"]) / 10**9 == Decimal(case["expected_usd"])
    assert not found["tier_unpriced"]
    assert found["contradicts"] == ("contradicts" in case["note"])


def test_the_table_is_wide() -> None:
    """Providers, tiers, caches, lengths, dates, audio and reasoning; each row names its source."""
    assert len(CASES) >= 60
    assert len({case["provider"] for case in CASES}) >= 8
    tiers = Counter(case["service_tier"] for case in CASES)
    assert min(tiers[name] for name in ("batch", "priority", "flex")) >= 2
    used = Counter(name for case in CASES for name in amounts(case["quantities"]))
    assert min(used[name] for name in FIELDS) >= 1
    assert all(case["source"].startswith("https://") for case in CASES)
