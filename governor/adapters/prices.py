"""Stage 3, the catalogue: genai-prices compiled once into dated prices, and names looked up in it.

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
    UNBOUNDED_TOKENS,
    ModelKey,
    Price,
    Rates,
    femto_per_unit,
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


class Catalogue:
    """The list prices bundled with genai-prices, without its batch, flex and priority variants."""

    def __init__(self) -> None:
        self.version: Final = f"genai-prices {genai_prices.__version__}"
        self._providers: Final = get_snapshot().providers
        self._provider_by_id: Final = {provider.id: provider for provider in self._providers}
        self._key_of: Final = {
            id(model): ModelKey(provider.id, model.id)
            for provider in self._providers
            for model in provider.models
        }

    def prices(self) -> list[Price]:
        """Compile each model into the fewest cells; a model with no rate we know gives none."""
        return [
            price
            for provider in self._providers
            for model in provider.models
            for price in _cells(ModelKey(provider.id, model.id), model, self.version)
        ]

    def resolve(self, provider: str, model: str) -> ModelKey | None:
        """Return the key of what an event calls `model` of `provider`, None where unknown.

        Names match in any letter case. The key's provider is the one that has the price: a model
        that Azure resells without a price of its own is found under its maker. A key may be
        without prices, since the catalogue knows models that it cannot price.
        """
        reference = model.strip()
        if provider.strip().lower() == "litellm":
            provider, _, reference = reference.partition("/")
        owner = self._find_provider(provider)
        if owner is None:
            return None
        found = owner.find_model(reference, all_providers=self._providers)
        return None if found is None else self._key_of[id(found)]

    def resolve_provider(self, provider: str) -> str | None:
        """Return the catalogue's id of what an event calls `provider`, None where unknown."""
        found = self._find_provider(provider)
        return None if found is None else found.id

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


def _cells(key: ModelKey, model: ModelInfo, source: str) -> Iterator[Price]:
    """Cut time, the day and the context length where the library may change its answer, and ask."""
    days, seconds, tokens = _edges(model)

    def of_day(day: datetime) -> _Runs[int, _Runs[int, Rates]]:
        return _runs(seconds, lambda second: of_instant(day + timedelta(seconds=second)))

    def of_instant(instant: datetime) -> _Runs[int, Rates]:
        in_force = model.get_prices(instant)
        return _runs(tokens, lambda input_tokens: _rates(in_force, input_tokens))

    for starts_at, ends_at, of_seconds in _runs(days, of_day):
        for from_second, until_second, of_tokens in of_seconds:
            for from_tokens, until_tokens, rates in of_tokens:
                if rates != Rates():
                    yield Price(
                        key=key,
                        rates=rates,
                        source=source,
                        starts_at=starts_at,
                        ends_at=ends_at,
                        from_second=from_second,
                        until_second=until_second,
                        from_tokens=from_tokens,
                        until_tokens=until_tokens,
                    )


def _edges(model: ModelInfo) -> tuple[list[datetime], list[int], list[int]]:
    days = {FIRST_INSTANT, LAST_INSTANT}
    seconds = {0, SECONDS_PER_DAY}
    tokens = {0, UNBOUNDED_TOKENS}
    tables = [model.prices] if isinstance(model.prices, ModelPrice) else []
    for conditional in () if isinstance(model.prices, ModelPrice) else model.prices:
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
