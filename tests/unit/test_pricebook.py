"""Price files: what they say, and how they are refused; and the commands that read them."""

import json
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from governor.cli import app, main
from governor.core.errors import ConfigError
from governor.core.pricing import (
    FIRST_INSTANT,
    FREE,
    LAST_INSTANT,
    Buyer,
    ModelKey,
    Override,
    Price,
    Rates,
)
from governor.core.tariffs import Tariffs
from governor.pricebook import CORRECTIONS, MAX_PRICES, check, digest, load
from tests.unit.shelf import Shelf

ROOT = Path(__file__).parents[2]
FILE = Path("prices.yaml")
BASE = "  - id: p\n    match: {provider: acme}\n"
JULY = datetime(2026, 7, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has an empty folder of its own, and no settings of the machine."""
    for name in list(os.environ):
        if name.upper().startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def problems(prices: str, top: str = "version: 1\nprices:\n") -> list[str]:
    """Return what is wrong with a file of these prices."""
    FILE.write_text(top + prices)
    return [str(problem) for problem in check(FILE).problems]


def only(text: str) -> Override:
    """Return the one price of a file that is right."""
    FILE.write_text("version: 1\nprices:\n" + text)
    checked = check(FILE)
    assert checked.problems == ()
    (override,) = checked.overrides
    return override


# ------------------------------------------------------------------------------ what a file says


def test_rates_are_femto_dollars_for_one_unit() -> None:
    """0.28 USD for a million tokens is 280,000,000 femto-dollars for one; seconds become ms."""
    found = only(
        BASE
        + "    usd_per_mtok: {input: 0.28, cache_read: 0.000000001, output: 1000000}\n"
        + "    usd_per_unit: {request: 0.000000000001, compute_second: 0.0004, image: 0.04}\n"
    )
    assert found.rates == Rates(
        input=280_000_000,
        cache_read=1,
        output=10**15,
        request=1_000,
        compute=400_000_000,
        image=4 * 10**13,
    )
    assert found.multiplier is None


def test_a_multiplier_is_exact() -> None:
    """0.85 is 17/20, not the float next to it."""
    assert only(BASE + "    multiplier: 0.85\n").multiplier == Fraction(17, 20)


def test_free_is_a_price_of_zero() -> None:
    """And so another thing than no price."""
    assert only(BASE + "    free: true\n").rates == FREE


def test_spans_of_time() -> None:
    """A day begins at midnight UTC; a time has its zone; left out is since ever and for ever."""
    found = only(
        BASE + "    free: true\n    from: 2026-07-01\n    until: 2026-08-01T02:00:00+02:00\n"
    )
    assert (found.starts_at, found.ends_at) == (JULY, datetime(2026, 8, 1, tzinfo=UTC))
    always = only(BASE + "    free: true\n")
    assert (always.starts_at, always.ends_at) == (FIRST_INSTANT, LAST_INSTANT)


def test_whom_a_price_is_for() -> None:
    """One name or a list of them; patterns in any letter case; tiers by our names."""
    found = only(
        "  - id: p\n    free: true\n    match:\n      provider: OpenAI\n      model: GPT-4o*\n"
        "      service_tier: [default, Batch]\n      customer: Acme\n      team: [a, b]\n"
    )
    assert (found.provider, found.model) == ("openai", "gpt-4o*")
    assert found.tiers == {"standard", "batch"}
    assert (found.customers, found.teams) == ({"Acme"}, {"a", "b"})


def test_names_of_providers() -> None:
    """What events call a provider is looked up as another."""
    FILE.write_text("version: 1\nproviders: {My-Gateway: OpenAI}\nprices: []\n")
    assert dict(check(FILE).providers) == {"my-gateway": "openai"}


def test_the_corrections_come_after_the_file() -> None:
    """They ship with governor, each id is a model and a date, and each is in force some time."""
    FILE.write_text("version: 1\nprices:\n" + BASE + "    free: true\n")
    book = load(FILE)
    shipped = load(None)
    assert [override.id for override in book.overrides] == ["p", *(o.id for o in shipped.overrides)]
    assert check(CORRECTIONS).problems == ()
    assert len(shipped.overrides) >= 5
    assert all(o.source.startswith("governor's corrections: ") for o in shipped.overrides)
    assert (book.digest, shipped.digest) == (digest(FILE), digest(None))
    assert digest(Path("gone.yaml")) == digest(None)


def test_the_example_is_right() -> None:
    """What lies in deploy/ can be copied."""
    checked = check(ROOT / "deploy" / "prices.yaml")
    assert checked.problems == ()
    assert len(checked.overrides) == 5


# --------------------------------------------------------------------------- which price charges


PLAIN = Price(ModelKey("openai", "gpt-4o"), Rates(input=100, output=200), "list")
BATCH = Price(ModelKey("openai", "gpt-4o"), Rates(input=50, output=100), "list", tier="batch")


def tariffs(text: str) -> Tariffs:
    """Return tariffs of a file over a list with one model."""
    FILE.write_text("version: 1\nprices:\n" + text)
    shelf = Shelf(
        [PLAIN, BATCH],
        lambda provider, model: PLAIN.key if (provider, model) == PLAIN.key else None,
        lambda provider: provider if provider == "openai" else None,
    )
    checked = check(FILE)
    assert checked.problems == ()
    return Tariffs(shelf, checked.overrides, checked.providers)


def charged(found: Tariffs, at: datetime, **who: Any) -> Rates | None:
    """Return the rates that charge gpt-4o at a time."""
    buyer = Buyer(who.get("customer"), who.get("team"))
    tariff = found.find("openai", "gpt-4o", who.get("tier"), buyer)
    cells = [cell for cell in tariff.cells if cell.starts_at <= at < cell.ends_at]
    assert len(cells) <= 1
    return cells[0].rates if cells else None


def test_the_first_in_force_charges() -> None:
    """From top to bottom, then the list; outside of its dates a price is not there."""
    found = tariffs(
        "  - {id: a, match: {customer: acme}, from: 2026-07-01, until: 2026-08-01, free: true}\n"
        "  - {id: b, match: {provider: openai}, until: 2027-01-01, multiplier: 0.5}\n"
    )
    before, during, after = (datetime(year, month, 15, tzinfo=UTC) for year, month in DAYS)
    assert charged(found, during, customer="acme") == FREE
    assert charged(found, before, customer="acme") == Rates(input=50, output=100)
    assert charged(found, during, customer="beta") == Rates(input=50, output=100)
    assert charged(found, during, tier="batch") == Rates(input=25, output=50)
    assert charged(found, after, customer="acme") == PLAIN.rates


DAYS = ((2026, 6), (2026, 7), (2027, 1))


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "a price needs multiplier, such as 0.85; or one of usd_per_mtok"),
        ("    fre: true\n", "unknown key 'fre'"),
        ("    multiplier: 85%\n", "write 0.85 for 15% off"),
        ("    multiplier: 0\n", "write free: true for what costs nothing"),
        ("    multiplier: 101\n", "100 is the most"),
        ("    multiplier: 1e1\n", "plain decimal"),
        ("    free: false\n", "free='false'"),
        ("    free: true\n    multiplier: 0.5\n", "keep one way to charge"),
        ("    usd_per_mtok: {}\n", "usd_per_mtok is empty"),
        ("    usd_per_mtok: {inputs: 1}\n", "unknown key 'inputs' (did you mean 'input'?)"),
        ("    usd_per_mtok: {input: 0.0000000001}\n", "has too many decimals"),
        ("    usd_per_mtok: {input: -1}\n", "must be US dollars as a plain decimal"),
        ("    usd_per_mtok: {input: 1000001}\n", "1000000 USD is the most"),
        ("    usd_per_unit: {compute: 1}\n", "did you mean 'compute_second'"),
        ("    free: true\n    from: 2026-07-32\n", "write a day such as 2026-07-01"),
        ("    free: true\n    from: 2026-07-01T09:00:00\n", "has no zone"),
        (
            "    free: true\n    from: 2026-07-01\n    until: 2026-07-01\n",
            "until must be after from",
        ),
        ("    free: true\n    note: |\n      a\n      b\n", "must be one line"),
    ],
)
def test_a_mistake_is_named_with_its_place(text: str, problem: str) -> None:
    """File, line and column, what is wrong, and what to write instead."""
    found = problems(BASE + text)
    assert all(one.startswith("prices.yaml:") for one in found)
    assert any(problem in one for one in found)


@pytest.mark.parametrize(
    ("match", "problem"),
    [
        ("{}", "match is empty"),
        ("{modle: x}", "did you mean 'model'"),
        ('{model: "gpt-[45]"}', "has a [, which is not known here"),
        ("{customer: []}", "customer is an empty list"),
        ("acme", "must be a mapping"),
    ],
)
def test_a_match_that_is_none(match: str, problem: str) -> None:
    """Nothing is matched by accident."""
    found, *_ = problems(f"  - id: p\n    match: {match}\n    free: true\n")
    assert problem in found
    assert found.startswith("prices.yaml:4:")


def test_a_price_that_would_never_charge_is_refused() -> None:
    """Two for the same usage and overlapping times; one after the other is what is meant."""
    both = "  - {{id: a, match: {{provider: acme}}, until: {0}, free: true}}\n"
    both += "  - {{id: b, match: {{provider: acme}}, from: 2026-07-01, free: true}}\n"
    (found,) = problems(both.format("2026-07-02"))
    assert "price 'b' is for the same usage and times as 'a'" in found
    assert problems(both.format("2026-07-01")) == []


def test_an_id_comes_once() -> None:
    """It is what a bill says charged."""
    twice = "  - {id: a, match: {provider: x}, free: true}\n"
    twice += "  - {id: a, match: {provider: y}, free: true}\n"
    assert "id='a': comes twice" in problems(twice)[0]


def test_all_mistakes_are_told_at_once() -> None:
    """In the order of the file, and the daemon's error is all of them."""
    text = (
        "  - {id: A B, match: {provider: x}, free: true}\n  - {id: b, match: {}, multiplier: x}\n"
    )
    found = problems(text)
    assert len(found) == 3
    with pytest.raises(ConfigError) as refused:
        load(FILE)
    assert str(refused.value).splitlines() == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("prices: []\n", "version"),
        ("version: 2\nprices: []\n", "version=2: must be 1"),
        ("version: 1\n", "prices"),
        ("version: 1\nprices: {}\n", "prices must be a list"),
        ("version: 1\ncurrency: EUR\nprices: []\n", "currency='EUR'"),
        ("version: 1\nproviders: [a]\nprices: []\n", "providers must be a mapping"),
        ("version: 1\nprices: []\nprices: []\n", "prices"),
        ("version: 1\nprices: &a []\nproviders: *a\n", "prices.yaml:"),
        ("- a\n", "must be a mapping"),
        ("version: 1\nprices: [\n", "prices.yaml:"),
    ],
)
def test_a_file_that_is_none(text: str, problem: str) -> None:
    """Wrong from its first lines on."""
    FILE.write_text(text)
    found = [str(one) for one in check(FILE).problems]
    assert found
    assert problem in found[0]


def test_a_file_has_a_limit() -> None:
    """Of prices."""
    one = "  - {{id: p{0}, match: {{provider: p{0}}}, free: true}}\n"
    assert problems("".join(one.format(n) for n in range(20))) == []
    text = "".join(one.format(n) for n in range(MAX_PRICES + 1))
    (found,) = problems(text)
    assert f"more than {MAX_PRICES} items" in found


# ------------------------------------------------------------------------------------- commands


def run(*arguments: str) -> Result:
    """Run `governor prices ...`."""
    return CliRunner().invoke(app, ["prices", *arguments], catch_exceptions=False)


def test_check_shows_line_and_caret() -> None:
    """For people with the line, for scripts as JSON; exit 2."""
    FILE.write_text("version: 1\nprices:\n" + BASE + "    multiplier: 85%\n")
    shown = run("check")
    assert shown.exit_code == 2
    assert "prices.yaml:5:17: multiplier='85%'" in shown.output
    assert "multiplier: 85%\n" in shown.output
    assert "prices.yaml: 0 prices, 1 problem" in shown.output
    document = json.loads(run("check", "--json").output)
    assert (document["ok"], document["prices"]) == (False, [])
    assert document["problems"][0]["line"] == 5


def test_check_of_a_file_that_is_right() -> None:
    """Exit 0, and what is in it."""
    shown = run("check", str(ROOT / "deploy" / "prices.yaml"), "--json")
    assert shown.exit_code == 0
    assert json.loads(shown.output)["prices"][:2] == ["acme-flat", "openai-contract-2026"]


def explained(*arguments: str) -> dict[str, Any]:
    """Return what `explain --json` says."""
    found: dict[str, Any] = json.loads(run("explain", *arguments, "--json").output)
    return found


def test_explain_shows_the_arithmetic() -> None:
    """6,000 at 2.50, 4,000 at 1.25 and 500 at 10 USD a million are 0.025 USD."""
    asked = ("gpt-4o", "--tokens", "input=10000,cache_read=4000,output=500")
    found = explained(*asked)
    assert (found["key"], found["priced"], found["usd"]) == ("openai/gpt-4o", True, "0.025")
    lines = [(line["unit"], line["units"], line["usd"]) for line in found["arithmetic"]]
    assert lines == [
        ("input", 6_000, "0.015"),
        ("cache_read", 4_000, "0.005"),
        ("output", 500, "0.005"),
    ]
    shown = run("explain", *asked)
    assert shown.exit_code == 0
    assert "0.025 USD = 25,000,000 nano-dollars" in shown.output


def test_explain_shows_the_layer_that_charges() -> None:
    """One's own price for one customer, the contract for others, the list before it began."""
    FILE.write_text((ROOT / "deploy" / "prices.yaml").read_text())

    def layer(*options: str) -> tuple[str, str]:
        found = explained("gpt-4o", "--provider", "openai", "--tokens", "input=1000000", *options)
        (charging,) = (row for row in found["layers"] if row["charges"])
        return charging["source"], found["usd"]

    assert layer("--customer", "acme") == ("prices.yaml: acme-flat", "2")
    july = ("--at", "2026-07-01")
    assert layer(*july) == ("prices.yaml: openai-contract-2026", "2.125")
    source, usd = layer("--at", "2025-07-01T09:00:00Z")
    assert source.startswith("genai-prices")
    assert usd == "2.5"


def test_explain_of_what_has_no_price() -> None:
    """Exit 1; why not, and what caps count instead."""
    shown = run("explain", "gpt-imaginary", "--provider", "openai")
    assert shown.exit_code == 1
    assert "UNPRICED: no price is known for this model" in shown.output
    assert "caps count a stand-in, the dearest known: openai/" in shown.output
    found = explained("gpt-4o", "--provider", "openai", "--tokens", "image=1")
    assert found["why_not"] == "the price has no rate for image"
    own = "  - {id: p, match: {model: m}, until: 2026-01-01, free: true}\n"
    FILE.write_text("version: 1\nprices:\n" + own)
    assert "no price is in force then (1 price at other times)" in run("explain", "m").output


def test_explain_says_when_parts_exceed_their_total() -> None:
    """And charges them on top, as the store does."""
    found = explained("gpt-4o", "--tokens", "input=300,cache_read=500")
    assert (found["contradicts"], found["nano"]) == (True, 300 * 2_500 + 500 * 1_250)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("explain", "gpt-4o", "--tokens", "inputs=3"), "--tokens 'inputs=3': write name=count"),
        (("explain", "gpt-4o", "--tokens", "input=-3"), "--tokens 'input=-3'"),
        (("explain", "gpt-4o", "--at", "noon"), "--at 'noon': write it such as"),
        (("rerate", "--from", "2026-11-02", "--to", "2026-11-01"), "--to 2026-11-01: is before"),
        (("rerate", "--from", "x", "--to", "2026-11-01"), "--from 'x': write a day such as"),
        (("rerate", "--from", "2026-11-01T09:00", "--to", "2026-11-02"), "has no zone"),
    ],
)
def test_a_wrong_option_is_named(
    arguments: Sequence[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With its value and what to write instead; exit 2."""
    monkeypatch.setattr("sys.argv", ["governor", "prices", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
