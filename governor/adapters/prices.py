"""Stage 3, the catalogue: genai-prices compiled into dated prices, and names looked up in it.

The library answers one request in 250 us; compiled, a price is a row to join and a cost is integer
arithmetic. Which price is in force, and which tier, the library itself says for each cell.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Final, TypeAlias, TypeVar

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from genai_prices.data_units import unit_data
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    TieredPrices,
    TimeOfDateConstraint,
    calc_unit_price,
)

from governor.core.pricing import (
    FIRST_INSTANT,
    LAST_INSTANT,
    SECONDS_PER_DAY,
    STANDARD,
    UNBOUNDED_TOKENS,
    ModelKey,
    Price,
    Rates,
    femto_per_unit,
    tier_of,
)

Edge = TypeVar("Edge", datetime, int)
Value = TypeVar("Value")
_Runs: TypeAlias = tuple[tuple[Edge, Edge, Value], ...]

RATE_OF_UNIT: Final = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write_5m",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "input_audio",
    "output_audio_mtok": "output_audio",
    "requests_kcount": "request",
    "web_searches_kcount": "web_search",
}
"""The library's price key and the rate it becomes."""

UNITS_WITHOUT_RATE: Final = {
    "audio_hours": "events carry no audio time",
    "cache_audio_read_mtok": "events do not say which cached tokens are audio",
    "cache_image_read_mtok": "events do not say which cached tokens are images",
    "input_annotated_document_kpages": "events carry no pages",
    "input_audio_hours": "events carry no audio time",
    "input_document_kpages": "events carry no pages",
    "input_image_mtok": "image tokens are charged as input",
    "input_mchars": "events carry no characters",
    "input_text_messages_kcount": "events carry no messages",
    "input_video_mtok": "video tokens are charged as input",
    "output_citation_mtok": "citation tokens are charged as output",
    "output_image_mtok": "image tokens are charged as output",
    "output_video_mtok": "video tokens are charged as output",
    "storage_searches_kcount": "events carry no file searches",
}
"""The price keys of the snapshot that become no rate, and why."""

UNITS_PER_PRICE: Final = {
    unit.get("price_key", usage_key): unit["per"] for usage_key, unit in unit_data.items()
}

PROVIDER_ALIASES: Final = {
    "amazon-bedrock": "aws",
    "aws.bedrock": "aws",
    "azure-openai": "azure",
    "azure.ai.inference": "azure",
    "azure.ai.openai": "azure",
    "azure_ai": "azure",
    "azure_openai": "azure",
    "cohere_chat": "cohere",
    "fireworks-ai": "fireworks",
    "fireworks_ai": "fireworks",
    "gemini": "google",
    "github_copilot": "github-copilot",
    "google-gla": "google",
    "google-vertex": "google",
    "google_genai": "google",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "moonshot": "moonshotai",
    "moonshot_ai": "moonshotai",
    "together_ai": "together",
    "voyage": "voyageai",
    "x_ai": "x-ai",
    "xai": "x-ai",
}
"""What OpenTelemetry, LiteLLM and client libraries call a provider, and the catalogue's id."""

PROVIDER_ALIAS_PREFIXES: Final = {
    "bedrock": "aws",
    "gcp.": "google",
    "vertex_ai": "google",
}
"""Names with many endings that mean one provider: `bedrock_converse`, `gcp.vertex_ai`."""


TIER_KEYS: Final = ("processing", "service_tier", "speed")
"""What of a request's context is a service tier; the value is what we call it."""


AT_MAKERS_PRICES: Final = frozenset({"openrouter"})
"""Resellers that charge what the maker charges; models there are called `maker/model`."""


NO_PROVIDER: Final = frozenset({"unknown", "litellm"})
"""What events have for a provider where their sender does not know one."""


class Catalogue:
    """The list prices bundled with genai-prices, by service tier."""

    def __init__(self) -> None:
        self.version: Final = f"genai-prices {genai_prices.__version__}"
        self._snapshot: Final = get_snapshot()
        self._providers: Final = self._snapshot.providers
        self._provider_by_id: Final = {provider.id: provider for provider in self._providers}
        self._models: Final = {
            ModelKey(provider.id, model.id): model
            for provider in self._providers
            for model in provider.models
        }
        self._key_of: Final = {id(model): key for key, model in self._models.items()}
        self._compiled: Final[dict[tuple[ModelKey, str], list[Price]]] = {}

    def prices(self) -> list[Price]:
        """Return the standard price of every model; a model with no rate we know has none."""
        return [price for key in self._models for price in self.cells(key, STANDARD)]

    def cells(self, key: ModelKey, tier: str) -> list[Price]:
        """Return the cells of a model at a service tier, which say their tier.

        Where and while the list has no price for a tier, they are those of the standard one.
        """
        found = self._compiled.get((key, tier))
        if found is None:
            found = list(_cells(key, self._models[key], tier, self.version))
            self._compiled[key, tier] = found
        return found

    def tiers(self, key: ModelKey) -> list[str]:
        """Return the tiers that a model has prices for, the standard one first."""
        variants = self._models[key].price_variants or ()
        named = [tier for variant in variants for tier in [_tier_of(variant)] if tier]
        return list(dict.fromkeys([STANDARD, *named]))

    def resolve(self, provider: str, model: str) -> ModelKey | None:
        """Return the key of what an event calls `model` of `provider`, None where unknown.

        Names match in any letter case. The key's provider is the one that has the price: a model
        that Azure or OpenRouter resells without a price of its own is found under its maker. A key
        may be without prices, since the catalogue knows models that it cannot price.
        """
        reference = model.strip()
        if provider.strip().lower() in NO_PROVIDER and "/" in reference:
            provider, _, reference = reference.partition("/")
        owner = self._find_provider(provider)
        if owner is None and provider.strip().lower() in NO_PROVIDER:
            owner = self._find_maker(reference)
        if owner is None:
            return None
        found = owner.find_model(reference, all_providers=self._providers)
        if found is None and owner.id in AT_MAKERS_PRICES and "/" in reference:
            name, _, reference = reference.partition("/")
            maker = self._provider_by_id.get(name)
            found = maker.find_model(reference) if maker else None
        return None if found is None else self._key_of[id(found)]

    def resolve_provider(self, provider: str) -> str | None:
        """Return the catalogue's id of what an event calls `provider`, None where unknown."""
        found = self._find_provider(provider)
        return None if found is None else found.id

    def _find_maker(self, reference: str) -> Provider | None:
        """Return whose model it is by its name alone, where the library tells."""
        try:
            found, _ = self._snapshot.find_provider_model(reference, None, None, None)
        except LookupError:
            return None
        return found

    def _find_provider(self, provider: str) -> Provider | None:
        name = provider.strip().lower()
        name = PROVIDER_ALIASES.get(name, name)
        for prefix, provider_id in PROVIDER_ALIAS_PREFIXES.items():
            if name.startswith(prefix):
                name = provider_id
        by_id = self._provider_by_id.get(name)
        if by_id is not None:
            return by_id
        return next(
            (known for known in self._providers if _equals(known.provider_match, name)), None
        )


def _equals(clause: MatchLogic | None, name: str) -> bool:
    """Tell whether a clause means just this name.

    Most clauses of the library look for a part of a name, and `openai-compatible`, a server of
    one's own, would cost what OpenAI charges.
    """
    if isinstance(clause, ClauseOr):
        return any(_equals(part, name) for part in clause.or_)
    return isinstance(clause, ClauseEquals) and clause.is_match(name)


def _tier_of(variant: PriceVariant) -> str | None:
    """Return the service tier of a variant, None where it is about something else."""
    ((name, value), *others) = variant.when.items()
    tier = tier_of(value) if name in TIER_KEYS and not others else STANDARD
    return None if tier == STANDARD else tier


def _cells(key: ModelKey, model: ModelInfo, tier: str, source: str) -> Iterator[Price]:
    """Cut time, the day and the context length where the library may change its answer, and ask."""
    variants = [variant for variant in model.price_variants or () if _tier_of(variant) == tier]
    context = {name: value for variant in variants for name, value in variant.when.items()}
    days, seconds, tokens = _edges(model, variants)

    def of_day(day: datetime) -> _Runs[int, _Runs[int, tuple[str, Rates]]]:
        return _runs(seconds, lambda second: of_instant(day + timedelta(seconds=second)))

    def of_instant(instant: datetime) -> _Runs[int, tuple[str, Rates]]:
        offered = any(v.constraint is None or v.constraint.active(instant) for v in variants)
        at_tier = tier if offered else STANDARD
        in_force = model.get_prices(instant, context)
        return _runs(tokens, lambda input_tokens: (at_tier, _rates(in_force, input_tokens)))

    for starts_at, ends_at, of_seconds in _runs(days, of_day):
        for from_second, until_second, of_tokens in of_seconds:
            for from_tokens, until_tokens, (at_tier, rates) in of_tokens:
                if rates != Rates():
                    yield Price(
                        key=key,
                        rates=rates,
                        source=source,
                        tier=at_tier,
                        starts_at=starts_at,
                        ends_at=ends_at,
                        from_second=from_second,
                        until_second=until_second,
                        from_tokens=from_tokens,
                        until_tokens=until_tokens,
                    )


def _edges(
    model: ModelInfo, variants: Sequence[PriceVariant]
) -> tuple[list[datetime], list[int], list[int]]:
    days = {FIRST_INSTANT, LAST_INSTANT}
    seconds = {0, SECONDS_PER_DAY}
    tokens = {0, UNBOUNDED_TOKENS}
    tables = [model.prices] if isinstance(model.prices, ModelPrice) else []
    conditions = () if isinstance(model.prices, ModelPrice) else model.prices
    for conditional in (*conditions, *variants):
        tables.append(conditional.prices)
        match conditional.constraint:
            case StartDateConstraint(start_date):
                days.add(datetime.combine(start_date, time(), UTC))
            case TimeOfDateConstraint(start_time, end_time):
                seconds |= {_second_of_day(start_time), _second_of_day(end_time)}
    for table in tables:
        for price in vars(table).values():
            if isinstance(price, TieredPrices):
                # a tier begins above its start, not at it
                tokens |= {tier.start + 1 for tier in price.tiers}
    return sorted(days), sorted(seconds), sorted(tokens)


def _second_of_day(moment: time) -> int:
    """Return a UTC second; the library reads a time without zone as UTC."""
    if moment.tzinfo is not None:
        moment = datetime.combine(date(1970, 1, 1), moment).astimezone(UTC).time()
    return moment.hour * 3600 + moment.minute * 60 + moment.second


def _runs(edges: Sequence[Edge], value_at: Callable[[Edge], Value]) -> _Runs[Edge, Value]:
    """Return the longest intervals between `edges` on which the value does not change."""
    runs: list[tuple[Edge, Edge, Value]] = []
    for start, end in pairwise(edges):
        value = value_at(start)
        unchanged = bool(runs) and runs[-1][2] == value
        runs.append((runs.pop()[0] if unchanged else start, end, value))
    return tuple(runs)


def _rates(table: ModelPrice, input_tokens: int) -> Rates:
    return Rates(
        **{
            RATE_OF_UNIT[unit]: femto_per_unit(
                calc_unit_price(price, count=1, total_input_tokens=input_tokens, per=1),
                UNITS_PER_PRICE[unit],
            )
            for unit, price in vars(table).items()
            if unit in RATE_OF_UNIT and price is not None
        }
    )
