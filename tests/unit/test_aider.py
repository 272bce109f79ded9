"""Runs that somebody paid for: our price against the bill, in the table that the docs show."""

import csv
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.unit.till import charged

ROOT = Path(__file__).parents[2]
TABLE = ROOT / "tests" / "data" / "aider" / "aider_runs.csv"
PAGE = ROOT / "docs" / "explanation" / "prices-against-bills.md"
FAR = Decimal("0.10")


class Run(NamedTuple):
    """A benchmark run: what it used and what it was billed."""

    day: str
    name: str
    provider: str
    model: str
    requests: int
    input_tokens: int
    output_tokens: int
    billed: Decimal


class Other(NamedTuple):
    """Why the bill is another one, and rates in USD for a million tokens that give it, if known."""

    why: str
    input: str = ""
    output: str = ""


REASONS: Mapping[str, Other] = {
    "2025-05-08-03-20-24--qwen3-32b-default": Other(
        "the file has tokens of a part of the run only: 1,411 of input a case, where others have"
        " 10,000 and more"
    ),
    "2025-05-25-22-58-44--flash25-05-20-24k-think": Other(
        "thinking was billed at 3.50 USD, and the file does not say how much of the output it was;"
        " the list has one rate for output"
    ),
    "2025-06-06-16-47-07--r1-diff": Other(
        "cached input was billed at 0.14 USD, and the file does not say how much it was"
    ),
    "2025-06-27-23-53-57--o3-mini-high-diff-arch": Other(
        "two models took part, o3 and gpt-4.1, both at 2 and 8 USD: the bill is for more tokens"
        " than the file has"
    ),
    "2025-07-17-17-41-54--kimi-k2-diff-or-pricing": Other(
        "the price of its first days; the list has the one of today for all time", "0.14", "2.49"
    ),
    "2025-08-06-04-54-48--gpt-oss-120b-high-polyglot": Other(
        "the price of its first days; the list has the one of today for all time", "0.10", "0.50"
    ),
}
"""Every difference of more than 10 %, explained."""


def runs() -> Iterator[Run]:
    """Yield each distinct run with tokens and a bill."""
    seen = set()
    for row in csv.DictReader(TABLE.read_text("utf-8").splitlines()):
        tokens = (int(row["prompt_tokens"] or 0), int(row["completion_tokens"] or 0))
        billed = Decimal(row["total_cost"] or 0)
        if not (all(tokens) and billed) or row["dirname"] in seen:
            continue
        seen.add(row["dirname"])
        named = re.search(r"--model (\S+)", row["command"])
        assert named is not None
        provider, slash, model = named[1].partition("/")
        who = (provider, model) if slash else ("unknown", provider)
        yield Run(row["date"], row["dirname"], *who, int(row["test_cases"]), *tokens, billed)


def parts(total: int, number: int) -> list[int]:
    """Share a total out over requests, so that no request is longer than they were."""
    return [total * (n + 1) // number - total * n // number for n in range(number)]


def events(run: Run) -> Iterator[dict[str, Any]]:
    """Yield a request for each case of a run."""
    for tokens in zip(
        parts(run.input_tokens, run.requests), parts(run.output_tokens, run.requests), strict=True
    ):
        yield {
            "provider": run.provider,
            "model": run.model,
            "event_time": f"{run.day}T12:00:00Z",
            "input_tokens": tokens[0],
            "output_tokens": tokens[1],
        }


RUNS = list(runs())


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Decimal]:
    """Return what we charge for each run, USD."""
    path = tmp_path_factory.mktemp("aider") / "g.duckdb"
    found = iter(charged(path, [event for run in RUNS for event in events(run)]))
    costs = {}
    for run in RUNS:
        nano = [next(found)["cost_nano"] for _ in range(run.requests)]
        costs[run.name] = Decimal(sum(nano)) / 10**9
    return costs


def off(run: Run, ours: Mapping[str, Decimal]) -> Decimal:
    """Return by which share of the bill we are off."""
    return ours[run.name] / run.billed - 1


def test_there_are_23_runs(ours: dict[str, Decimal]) -> None:
    """None is left out, and none is unpriced."""
    assert len(RUNS) == len(ours) == 23


def test_what_is_far_off_is_explained(ours: dict[str, Decimal]) -> None:
    """Each difference above 10 % has its reason, and no reason is given without need."""
    assert {run.name for run in RUNS if abs(off(run, ours)) > FAR} == set(REASONS)


@pytest.mark.parametrize("name", [name for name, other in REASONS.items() if other.input])
def test_another_price_gives_the_bill(name: str) -> None:
    """Where the reason is another price, the bill follows from it to the last cent and below."""
    (run,) = (run for run in RUNS if run.name == name)
    other = REASONS[name]
    exact = run.input_tokens * Decimal(other.input) + run.output_tokens * Decimal(other.output)
    assert (exact / 10**6).quantize(Decimal("0.0001")) == run.billed


def table(ours: Mapping[str, Decimal]) -> str:
    """Return the table of the page."""
    lines = [
        "| day | model | input tokens | output tokens | billed USD | ours USD | off | why |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for run in sorted(RUNS, key=lambda run: run.name):
        model = run.model if run.provider == "unknown" else f"{run.provider}/{run.model}"
        share = f"{off(run, ours) * 100:+.1f} %".replace("-0.0", "0.0").replace("+0.0", "0.0")
        other = REASONS.get(run.name, Other(""))
        rates = f" ({other.input} and {other.output} USD)" if other.input else ""
        lines.append(
            f"| {run.day} | {model} | {run.input_tokens:,} | {run.output_tokens:,}"
            f" | {run.billed} | {ours[run.name]:.4f} | {share} | {other.why}{rates} |"
        )
    return "\n".join(lines) + "\n"


def test_the_page_shows_these_figures(ours: dict[str, Decimal]) -> None:
    """The table in the docs is the one that was just worked out."""
    assert table(ours) in PAGE.read_text("utf-8")
