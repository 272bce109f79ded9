"""The compiled catalogue against the library it was compiled from, and the names it knows."""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from itertools import combinations
from math import ceil

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices
from hypothesis import given, settings
from hypothesis import strategies as st

from governor.adapters.prices import (
    PROVIDER_ALIAS_PREFIXES,
    PROVIDER_ALIASES,
    RATE_OF_UNIT,
    UNITS_PER_PRICE,
    UNITS_WITHOUT_RATE,
    Catalogue,
)
from governor.core.pricing import (
    FEMTO_PER_NANO,
    FEMTO_PER_USD,
    FIRST_INSTANT,
    LAST_INSTANT,
    RATE_NAMES,
    SECONDS_PER_DAY,
    UNBOUNDED_TOKENS,
    ModelKey,
    Price,
    Rates,
    fallbacks,
)

CATALOGUE = Catalogue()
PRICES = CATALOGUE.prices()
CELLS: Mapping[ModelKey, list[Price]] = defaultdict(list)
for row in PRICES:
    CELLS[row.key].append(row)
MODELS: Mapping[ModelKey, tuple[Provider, ModelInfo]] = {
    ModelKey(provider.id, model.id): (provider, model)
    for provider in get_snapshot().providers
    for model in provider.models
}
TIER_STARTS = (32_000, 128_000, 200_000, 256_000, 272_000)
TODAY = datetime(2026, 10, 20, 12, tzinfo=UTC)

# ----------------------------------------------------------------- an evaluation of our own

PARENTS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "reasoning": "output",
    "input_audio": "input",
    "output_audio": "output",
}
Units = dict[str, int]
"""Units by rate name; `input` and `output` are inclusive, as events have them."""


def cell_at(key: ModelKey, instant: datetime, input_tokens: int) -> Price | None:
    second = instant.hour * 3600 + instant.minute * 60 + instant.second
    found = [
        cell
        for cell in CELLS.get(key, [])
        if cell.starts_at <= instant < cell.ends_at
        and cell.from_second <= second < cell.until_second
        and cell.from_tokens <= input_tokens < cell.until_tokens
    ]
    assert len(found) <= 1
    return found[0] if found else None


def rate_of(rates: Rates, name: str) -> int:
    own: int | None = getattr(rates, name)
    if own is None and name in PARENTS:
        return rate_of(rates, PARENTS[name])
    return own or 0


def cost_nano(rates: Rates, units: Units) -> int:
    parts = units | {
        "input": units["input"]
        - units["cache_read"]
        - units["cache_write_5m"]
        - units["cache_write_1h"]
        - units["input_audio"],
        "output": units["output"] - units["reasoning"] - units["output_audio"],
    }
    nano, rest = divmod(sum(parts[name] * rate_of(rates, name) for name in parts), FEMTO_PER_NANO)
    return nano + (2 * rest > FEMTO_PER_NANO or (2 * rest == FEMTO_PER_NANO and nano % 2 == 1))


def usage_of(units: Units) -> genai_prices.Usage:
    """Say the same in the library's words.

    It refuses to guess how many tokens are both cached and audio, or both reasoning and audio,
    and wants all cache writes in one sum.
    """
    overlaps = {name: 0 for name in unit_data if "audio" in name and name.count("_") > 2}
    return genai_prices.Usage(
        **overlaps,
        input_tokens=units["input"],
        cache_read_tokens=units["cache_read"],
        cache_write_tokens=units["cache_write_5m"] + units["cache_write_1h"],
        cache_write_1h_tokens=units["cache_write_1h"],
        output_tokens=units["output"],
        output_reasoning_tokens=units["reasoning"],
        input_audio_tokens=units["input_audio"],
        output_audio_tokens=units["output_audio"],
        web_searches=units["web_search"],
    )


def nano_of(usd: Decimal) -> int:
    return int((usd * 10**9).quantize(Decimal(1), ROUND_HALF_EVEN))


def inexact_units(table: ModelPrice) -> list[str]:
    """List the units whose price is no whole number of femto-dollars."""
    return [
        unit
        for unit, price in vars(table).items()
        if unit in RATE_OF_UNIT and price is not None
        for usd in (
            [price.base, *(tier.price for tier in price.tiers)]
            if isinstance(price, TieredPrices)
            else [price]
        )
        if (usd * FEMTO_PER_USD / UNITS_PER_PRICE[unit]) % 1
    ]


def tolerance_nano(table: ModelPrice, units: Units) -> int:
    """Allow half a femto-dollar a token, and one last rounding, where a rate was rounded."""
    if not inexact_units(table):
        return 0
    return 1 + ceil((units["input"] + units["output"]) / (2 * FEMTO_PER_NANO))


@st.composite
def all_units(draw: st.DrawFn) -> Units:
    """Draw units that agree with each other, often next to the start of a tier."""
    near_tier = st.builds(int.__add__, st.sampled_from(TIER_STARTS), st.integers(-1, 2))
    total = draw(near_tier | st.integers(0, 2_000_000))
    output = draw(st.integers(0, 200_000))
    units = {"input": total, "output": output, "request": 1, "web_search": draw(st.integers(0, 9))}
    for names, left in (
        (("cache_read", "cache_write_5m", "cache_write_1h", "input_audio"), total),
        (("reasoning", "output_audio"), output),
    ):
        for name in names:
            units[name] = draw(st.just(0) | st.integers(0, left))
            left -= units[name]  # noqa: PLW2901 - what is left for the next part
    return units


# ------------------------------------------------------------------------------- known prices


def usd_per_mtok(cell: Price | None, *names: str) -> list[str]:
    assert cell is not None
    return [f"{Decimal(getattr(cell.rates, name)) / 10**9:f}" for name in names]


def test_gpt_4o_costs_what_openai_lists() -> None:
    """GPT-4o costs 2.50, 1.25 and 10 USD for a million tokens, whatever the time and length."""
    (cell,) = CELLS[ModelKey("openai", "gpt-4o")]
    assert usd_per_mtok(cell, "input", "cache_read", "output") == ["2.5", "1.25", "10"]
    assert cell.rates.web_search == FEMTO_PER_USD // 100
    assert cell.rates.cache_write_5m is None
    assert (cell.source, cell.starts_at, cell.ends_at) == (
        CATALOGUE.version,
        FIRST_INSTANT,
        LAST_INSTANT,
    )


def test_sonnet_4_5_has_a_cliff_above_200k_input_tokens() -> None:
    """The 200,001st input token puts all tokens of the request on the higher tier."""
    key = ModelKey("anthropic", "claude-sonnet-4-5")
    names = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "output")
    low = ["3", "0.3", "3.75", "6", "15"]
    high = ["6", "0.6", "7.5", "12", "22.5"]
    assert usd_per_mtok(cell_at(key, TODAY, 0), *names) == low
    assert usd_per_mtok(cell_at(key, TODAY, 200_000), *names) == low
    assert usd_per_mtok(cell_at(key, TODAY, 200_001), *names) == high
    assert usd_per_mtok(cell_at(key, TODAY, 10**12), *names) == high


def test_gemini_2_5_pro_has_a_cliff_above_200k_input_tokens() -> None:
    """Gemini 2.5 Pro doubles its input rate above 200,000 input tokens."""
    key = ModelKey("google", "gemini-2.5-pro")
    names = ("input", "cache_read", "output")
    assert usd_per_mtok(cell_at(key, TODAY, 200_000), *names) == ["1.25", "0.125", "10"]
    assert usd_per_mtok(cell_at(key, TODAY, 200_001), *names) == ["2.5", "0.25", "15"]


def test_deepseek_chat_is_cheaper_by_night() -> None:
    """deepseek-chat has its day rate from 00:30 to before 16:30 UTC, every day."""
    key = ModelKey("deepseek", "deepseek-chat")
    midnight = datetime(2025, 3, 1, tzinfo=UTC)
    by_second = {
        at: usd_per_mtok(cell_at(key, midnight + timedelta(seconds=at), 1), "input", "output")
        for at in (0, 1_799, 1_800, 59_399, 59_400, SECONDS_PER_DAY - 1)
    }
    day, night = ["0.27", "1.1"], ["0.135", "0.55"]
    assert list(by_second.values()) == [night, night, day, day, night, night]


def test_o3_got_cheaper_at_midnight_utc() -> None:
    """o3 costs 10/40 USD up to 2025-06-09 and 2/8 USD from 2025-06-10, 00:00 UTC."""
    key = ModelKey("openai", "o3")
    change = datetime(2025, 6, 10, tzinfo=UTC)
    before = cell_at(key, change - timedelta(microseconds=1), 1)
    assert usd_per_mtok(before, "input", "output") == ["10", "40"]
    assert usd_per_mtok(cell_at(key, change, 1), "input", "output") == ["2", "8"]


def test_sonar_has_a_price_for_a_request() -> None:
    """A price for a thousand requests becomes a rate for one."""
    (cell,) = CELLS[ModelKey("perplexity", "sonar")]
    assert cell.rates.request == 12 * FEMTO_PER_USD // 1000


# -------------------------------------------------------------------------------------- cells


def test_cells_of_a_model_do_not_overlap() -> None:
    """No instant and context length has two prices of one model."""
    for key, cells in CELLS.items():
        for one, other in combinations(cells, 2):
            apart = (
                one.ends_at <= other.starts_at
                or other.ends_at <= one.starts_at
                or one.until_second <= other.from_second
                or other.until_second <= one.from_second
                or one.until_tokens <= other.from_tokens
                or other.until_tokens <= one.from_tokens
            )
            assert apart, (key, one, other)


def test_cells_of_a_model_cover_all_of_time() -> None:
    """A model with one price has one for every instant and context length, as in the library."""
    whole = (LAST_INSTANT - FIRST_INSTANT).days * SECONDS_PER_DAY * UNBOUNDED_TOKENS
    for key, cells in CELLS.items():
        volume = sum(
            (cell.ends_at - cell.starts_at).days
            * (cell.until_second - cell.from_second)
            * (cell.until_tokens - cell.from_tokens)
            for cell in cells
        )
        assert volume == whole, key


def test_cells_are_the_fewest() -> None:
    """Equal neighbours in context length are one cell, and so are equal days."""
    for cells in CELLS.values():
        for one, other in combinations(cells, 2):
            same_time = one.starts_at == other.starts_at and one.from_second == other.from_second
            if same_time and one.until_tokens == other.from_tokens:
                assert one.rates != other.rates
    assert len(CELLS[ModelKey("openai", "gpt-4o")]) == 1


def test_a_model_without_any_known_rate_gives_no_price() -> None:
    """Rows exist exactly for the models that list a rate for one of our units."""
    listed = {
        key
        for key, (_, model) in MODELS.items()
        for table in tables_of(model)
        if any(vars(table).get(unit) is not None for unit in RATE_OF_UNIT)
    }
    assert set(CELLS) == listed
    assert ModelKey("openai", "whisper-1") not in listed


def test_every_price_has_its_own_id() -> None:
    """Two rows of the catalogue never share an id."""
    assert len({price.price_id for price in PRICES}) == len(PRICES)


def test_every_unit_of_the_snapshot_is_a_rate_or_left_out_with_a_reason() -> None:
    """A new version of the library that prices a new unit makes this fail."""
    used = {
        unit
        for _, model in MODELS.values()
        for table in tables_of(model)
        for unit, price in vars(table).items()
        if price is not None
    }
    assert used == RATE_OF_UNIT.keys() | UNITS_WITHOUT_RATE.keys()
    assert not RATE_OF_UNIT.keys() & UNITS_WITHOUT_RATE.keys()
    assert set(RATE_OF_UNIT.values()) == set(RATE_NAMES) - {"image", "compute"}


def test_rates_are_exact_but_for_artefacts_of_float_arithmetic() -> None:
    """Only 28 prices of two resellers, written from floats, are no whole number of femtos."""
    inexact = [
        key.provider
        for key, (_, model) in MODELS.items()
        for table in tables_of(model)
        for _ in inexact_units(table)
    ]
    assert len(inexact) == 28
    assert set(inexact) == {"openrouter", "huggingface_together"}


def test_the_stand_in_is_the_dearest_of_a_provider() -> None:
    """An unknown OpenAI model costs what the dearest known one does, 150/600 USD."""
    dearest = fallbacks(PRICES)
    assert usd_per_mtok(dearest["openai"], "input", "output") == ["150", "600"]
    assert dearest["openai"].rates == dearest[""].rates


def tables_of(model: ModelInfo) -> list[ModelPrice]:
    if isinstance(model.prices, ModelPrice):
        return [model.prices]
    return [conditional.prices for conditional in model.prices]


# -------------------------------------------------------------------- the library as an oracle


@pytest.mark.slow
@settings(max_examples=1_500, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.datetimes(datetime(2023, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC)),  # noqa: DTZ001 - hypothesis adds the zone
    all_units(),
)
def test_a_compiled_price_costs_what_the_library_charges(
    named: ModelKey, instant: datetime, units: Units
) -> None:
    """Any model, any time and any units cost to the nano-dollar what `calc_price` says.

    So a unit without its own rate is charged as its parent there as well. Where a model has no
    rate and no parent for a unit, the library charges nothing and `Rates` leaves None; a model
    with no rate at all costs nothing there and is unpriced here.
    """
    key = CATALOGUE.resolve(*named)
    if key is None:  # the id is a label that the library does not match either
        provider, model = MODELS[named]
        key = named
        charged = model.calc_price(usage_of(units), provider, genai_request_timestamp=instant)
    else:
        charged = genai_prices.calc_price(
            usage_of(units),
            named.model,
            provider_id=named.provider,
            genai_request_timestamp=instant,
        )
    cell = cell_at(key, instant, units["input"])
    ours = 0 if cell is None else cost_nano(cell.rates, units)
    difference = abs(ours - nano_of(charged.total_price))
    assert difference <= tolerance_nano(charged.model_price, units)


def test_every_cell_costs_what_the_library_charges_at_its_corners() -> None:
    """At the first and the last second and token of each cell, both agree."""
    for cell in PRICES:
        provider, model = MODELS[cell.key]
        last_day = min(cell.ends_at, datetime(2030, 1, 1, tzinfo=UTC)) - timedelta(days=1)
        for day, second, total in (
            (cell.starts_at, cell.from_second, cell.from_tokens),
            (last_day, cell.until_second - 1, min(cell.until_tokens - 1, 10**12)),
        ):
            part = total // 8
            units = dict.fromkeys(RATE_NAMES, part) | {"input": total, "output": 77_777}
            units |= {"request": 1, "web_search": 3, "reasoning": 7_000, "output_audio": 70_000}
            instant = datetime.combine(day.date(), time(), UTC) + timedelta(seconds=second)
            charged = model.calc_price(usage_of(units), provider, genai_request_timestamp=instant)
            difference = abs(cost_nano(cell.rates, units) - nano_of(charged.total_price))
            assert difference <= tolerance_nano(charged.model_price, units), (cell, units)


def test_a_unit_without_its_own_rate_is_charged_as_its_parent() -> None:
    """GPT-4o has no rates for cache writes, reasoning and audio: each costs as in- or output."""
    (cell,) = CELLS[ModelKey("openai", "gpt-4o")]
    units = dict.fromkeys(RATE_NAMES, 0) | {"input": 4_000, "output": 2_000, "request": 1}
    parts = {"cache_write_5m": 1, "cache_write_1h": 1, "input_audio": 1, "reasoning": 1}
    assert cost_nano(cell.rates, units | parts) == cost_nano(cell.rates, units) == 30_000_000
    charged = genai_prices.calc_price(
        usage_of(units | parts), "gpt-4o", provider_id="openai", genai_request_timestamp=TODAY
    )
    assert charged.total_price == Decimal("0.03")


# -------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("provider", "model", "key"),
    [
        ("openai", "gpt-4o", ("openai", "gpt-4o")),
        (" OpenAI ", " GPT-4o-2024-08-06\n", ("openai", "gpt-4o")),
        ("anthropic", "claude-sonnet-4-5-20250929", ("anthropic", "claude-sonnet-4-5")),
        ("vertex_ai", "claude-sonnet-4-5@20250929", ("google", "claude-sonnet-4-5")),
        ("gcp.gemini", "models/gemini-2.5-pro", None),
        ("gcp.gen_ai", "gemini-2.5-pro", ("google", "gemini-2.5-pro")),
        ("azure.ai.openai", "gpt-4o", ("openai", "gpt-4o")),
        ("azure", "o1-preview", ("azure", "o1-preview")),
        ("xai", "grok-4", ("x-ai", "grok-4-0709")),
        ("openrouter", "x-ai/grok-4", ("x-ai", "grok-4-0709")),
        ("openrouter", "x-ai/grok-4.5", ("openrouter", "x-ai/grok-4.5")),
        ("openrouter", "nobody/grok-4", None),
        ("groq", "x-ai/grok-4", None),
        ("litellm", "Azure_AI/gpt-4o", ("openai", "gpt-4o")),
        ("litellm", "gpt-4o", ("openai", "gpt-4o")),
        ("unknown", "claude-sonnet-4-5", ("anthropic", "claude-sonnet-4-5")),
        ("unknown", "azure/gpt-4o", ("openai", "gpt-4o")),
        ("unknown", "zork", None),
        ("openai", "gpt-99", None),
        ("openai", "", None),
        ("", "gpt-4o", None),
        ("acme-vllm", "gpt-4o", None),
        ("openai-compatible", "gpt-4o", None),
        ("my-bedrock-proxy", "claude-sonnet-4-5", None),
    ],
)
def test_what_events_call_a_model_is_resolved(
    provider: str, model: str, key: tuple[str, str] | None
) -> None:
    """A known name gives the key that has the price; an unknown or half-known one gives none."""
    assert CATALOGUE.resolve(provider, model) == key


def test_aliases_lead_to_providers_of_the_snapshot() -> None:
    """Each alias names a provider there is, and none hides a provider's own id."""
    known = {provider.id for provider in get_snapshot().providers}
    assert known >= {*PROVIDER_ALIASES.values(), *PROVIDER_ALIAS_PREFIXES.values()}
    assert not known & PROVIDER_ALIASES.keys()
    assert all(CATALOGUE.resolve_provider(provider_id) == provider_id for provider_id in known)


@pytest.mark.parametrize(
    ("name", "provider_id"),
    [
        ("azure.ai.openai", "azure"),
        ("azure_ai", "azure"),
        ("azure.ai.inference", "azure"),
        ("gcp.vertex_ai", "google"),
        ("vertex_ai_beta", "google"),
        ("gemini", "google"),
        ("aws.bedrock", "aws"),
        ("bedrock_converse", "aws"),
        ("X_AI", "x-ai"),
        ("fireworks_ai", "fireworks"),
        ("together_ai", "together"),
        ("together-ai", "together"),
        ("mistral_ai", "mistral"),
        ("moonshot_ai", "moonshotai"),
        ("ibm.watsonx.ai", None),
        ("ollama", None),
    ],
)
def test_what_events_call_a_provider_is_resolved(name: str, provider_id: str | None) -> None:
    """The names of OpenTelemetry and LiteLLM lead to the catalogue's ids, others to none."""
    assert CATALOGUE.resolve_provider(name) == provider_id


def test_a_model_is_matched_as_the_library_matches_it() -> None:
    """Each id of the catalogue leads where the library leads, and no label is guessed at.

    Some ids are labels only: Bedrock's `regional.` ones, Fireworks' without `accounts/`.
    """
    for provider, model in MODELS:
        key = CATALOGUE.resolve(provider.upper(), model.upper())
        try:
            found = genai_prices.calc_price(genai_prices.Usage(), model, provider_id=provider)
        except LookupError:
            assert key is None
        else:
            assert key == (provider, found.model.id)
    assert CATALOGUE.resolve("openai", "ft:gpt-4o") is None
    assert CATALOGUE.resolve("openai", "ft:gpt-4o-2024-08-06:acme::id") == ("openai", "ft:gpt-4o")


@settings(deadline=timedelta(seconds=1))
@given(
    st.sampled_from([provider.id for provider in get_snapshot().providers]) | st.text(),
    st.text()
    | st.text(alphabet="-ts0123456789/.:$[]=", max_size=256)
    | st.builds(
        lambda key, tail, times: key.model + tail * times,
        st.sampled_from(sorted(MODELS)),
        st.sampled_from(
            ["-20251211", "-tts", "-2025-13-45", "1", " ", "\n", "\x00", "٣", "\ud800"]
        ),
        st.integers(0, 2_000),
    ),
)
def test_no_name_raises_or_takes_long(provider: str, model: str) -> None:
    """Any text gives a key of the catalogue or None, within a second."""
    key = CATALOGUE.resolve(provider, model)
    assert key is None or key in MODELS
