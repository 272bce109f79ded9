"""An accountant of our own: events counted, priced and summed in plain Python, for comparison.

It shares no arithmetic with governor: prices are looked up in a loop, money is a `Fraction` until
it is rounded once, identities stand in a dictionary, late events are found by walking the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from governor.core.positions import PartitionId
from governor.core.pricing import FREE, ModelKey, Override, Price, Rates

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
BACK, AHEAD, LATE_AFTER = timedelta(days=45), timedelta(hours=1), timedelta(hours=1)
TURN = datetime(2026, 6, 20, tzinfo=UTC)
MEASURES = ("requests", "input_tokens", "cache_read_tokens", "output_tokens")
DIMENSIONS = (
    *("tier", "segment", "feature", "team", "project", "environment"),
    *("provider", "model", "operation", "service_tier", "region"),
)


def _price(model: str, rates: Rates, **cell: Any) -> Price:
    provider, _, name = model.partition("/")
    return Price(ModelKey(provider, name), rates, "by hand", **cell)


PRICES: Sequence[Price] = (
    # 37.5 and 150.5 nano-dollars a token: half of all sums lie on a tie
    _price("acme/plain", Rates(input=37_500_000, output=150_500_000)),
    _price(
        "acme/parts",
        Rates(
            input=2_500_001,
            cache_read=250_003,
            cache_write_5m=3_125_007,
            cache_write_1h=5_000_011,
            output=10_000_013,
            reasoning=11_000_017,
            input_audio=40_000_019,
            output_audio=80_000_023,
            request=1_000_000_029,
            web_search=10_000_000_000_031,
        ),
    ),
    _price("acme/dated", Rates(input=900_000, output=900_000), ends_at=TURN),
    _price(
        "acme/dated",
        Rates(input=500_000, output=500_000),
        starts_at=TURN,
        ends_at=TURN + timedelta(days=10),
    ),
    _price("acme/night", Rates(input=1_000_000, output=7), until_second=6 * 3_600),
    _price("acme/night", Rates(input=4_000_000, output=7), from_second=6 * 3_600),
    _price("acme/long", Rates(input=1_250_000, output=10_000_000), until_tokens=1_001),
    _price("acme/long", Rates(input=2_500_000, output=15_000_000), from_tokens=1_001),
    _price("acme/call", Rates(request=35 * 10**12)),
    _price("bolt/embed", Rates(input=20_500_000)),
    _price("bolt/draw", Rates(output=30_500_000)),
    _price("bolt/free", Rates(input=0, output=0)),
    _price("bolt/tiny", Rates(input=1, output=499_999, cache_write_5m=3)),
    _price("acme/parts", Rates(input=1_250_001, output=5_000_003), tier="batch", starts_at=TURN),
    _price("acme/parts", Rates(input=2_500_001, output=10_000_013), tier="batch", ends_at=TURN),
    _price("bolt/paint", Rates(input=2_500, output=0, image=40_000_000_000_007)),
)
OVERRIDES: Sequence[Override] = (
    Override(
        "contract",
        "by hand: contract",
        provider="acme",
        model="p*",
        customers=frozenset({"red", "\U0001f4b8"}),
        starts_at=TURN - timedelta(days=5),
        multiplier=Fraction(17, 20),
    ),
    Override(
        "team",
        "by hand: team",
        provider="acme",
        teams=frozenset({"red", "Blue"}),
        model="?ong",
        rates=Rates(input=7, output=9, request=5),
    ),
    Override(
        "batch",
        "by hand: batch",
        provider="acme",
        model="plain",
        tiers=frozenset({"batch"}),
        ends_at=TURN,
        multiplier=Fraction(1, 3),
    ),
    Override("own", "by hand: own", provider="own", rates=Rates(compute=972_000_001)),
    Override("gift", "by hand: gift", provider="bolt", model="draw", ends_at=TURN, rates=FREE),
)
GHOST = ModelKey("acme", "ghost")
"""Known by name and without any price, as many models of the real catalogue are."""

NAMES = [
    *(("acme", model) for model in ("plain", "parts", "dated", "night", "long", "call", "ghost")),
    *(("bolt", model) for model in ("embed", "draw", "free", "tiny", "paint", "unheard-of")),
    *(("own", "llama"), ("Own", "mistral")),
    *(("ACME", "Plain"), ("reseller", "parts"), ("acme", "unheard-of"), ("nobody", "plain")),
]
"""What the events of the tests call providers and models."""


def resolve_provider(provider: str) -> str | None:
    """Names match in any letter case; a reseller has the prices of acme."""
    name = {"reseller": "acme"}.get(provider.lower(), provider.lower())
    return name if name in ("acme", "bolt") else None


def resolve(provider: str, model: str) -> ModelKey | None:
    """Return the key of a model, None where it is not known."""
    key = ModelKey(resolve_provider(provider) or "", model.lower())
    return key if key == GHOST or any(price.key == key for price in PRICES) else None


class Charge(NamedTuple):
    """What the accountant makes of an event."""

    price_id: int
    cost_nano: int | None
    cap_nano: int
    list_nano: int | None
    contradicts: bool
    tier_unpriced: bool


def charge(event: Mapping[str, Any], prices: Sequence[Price] = PRICES) -> Charge:
    """Price one event."""
    amounts, contradicts = _amounts(event)
    asked = (event.get("service_tier") or "standard").lower()
    asked = "standard" if asked in ("default", "auto") else asked
    key = resolve(event["provider"], event["model"])
    listed = _listed(event, prices, key, asked, amounts)
    matching = [each for each in OVERRIDES if _is_for(each, event, asked)]
    found = _overridden(event, matching, listed, key, asked)
    cost = None if found is None else _cost(amounts, found.rates)
    by_list = None if listed is None or not matching else _cost(amounts, listed.rates)
    provider = key.provider if key else resolve_provider(event["provider"])
    stand_in = _dearest(prices, provider)
    return Charge(
        price_id=stand_in.price_id if found is None or cost is None else found.price_id,
        cost_nano=cost,
        cap_nano=_total(amounts, stand_in.rates) if cost is None else cost,
        list_nano=by_list,
        contradicts=contradicts,
        tier_unpriced=found is not None
        and cost is not None
        and asked != "standard"
        and found.tier == "standard",
    )


def _listed(
    event: Mapping[str, Any],
    prices: Sequence[Price],
    key: ModelKey | None,
    tier: str,
    amounts: Mapping[str, int],
) -> Price | None:
    tiers = {price.tier for price in prices if price.key == key}
    sold = [price for price in prices if price.tier == (tier if tier in tiers else "standard")]
    return _in_force(sold, key, event["event_time"], sum(amounts[name] for name in _INPUT))


def _is_for(override: Override, event: Mapping[str, Any], tier: str) -> bool:
    provider, model = event["provider"].lower(), event["model"].lower()
    patterns = {"p*": model.startswith("p"), "?ong": model[1:] == "ong", None: True}
    return (
        override.provider in (provider, resolve_provider(provider))
        and patterns.get(override.model, model == override.model)
        and (override.tiers is None or tier in override.tiers)
        and (override.customers is None or event.get("customer") in override.customers)
        and (override.teams is None or event.get("team") in override.teams)
    )


def _overridden(
    event: Mapping[str, Any],
    matching: Sequence[Override],
    listed: Price | None,
    key: ModelKey | None,
    tier: str,
) -> Price | None:
    """Return the price of the first override in force, else of the list, cut where others begin."""
    at = event["event_time"]
    edges: list[datetime] = []
    for override in matching:
        edges += [override.starts_at, override.ends_at]
        if override.starts_at <= at < override.ends_at:
            if override.rates is not None:
                named = key or ModelKey(event["provider"], event["model"])
                return _cut(Price(named, override.rates, "by hand", tier), edges, at)
            if listed is None:
                return None
            assert override.multiplier is not None
            scaled = {
                name: None
                if (rate := getattr(listed.rates, name)) is None
                else round(rate * override.multiplier)
                for name in Rates.__slots__
            }
            return _cut(replace(listed, rates=Rates(**scaled)), edges, at)
    return None if listed is None else _cut(listed, edges, at)


def _cut(price: Price, edges: Sequence[datetime], at: datetime) -> Price:
    return replace(
        price,
        starts_at=max([price.starts_at, *(edge for edge in edges if edge <= at)]),
        ends_at=min([price.ends_at, *(edge for edge in edges if edge > at)]),
    )


def _cost(amounts: Mapping[str, int], rates: Rates) -> int | None:
    """Return the cost, None where something was used that has no rate."""
    tokens_are_free = rates.request is not None or rates.compute is not None
    without_rate = (
        (sum(amounts[name] for name in _INPUT) and rates.input is None and not tokens_are_free)
        or (sum(amounts[name] for name in _OUTPUT) and rates.output is None and not tokens_are_free)
        or (amounts["image"] and rates.image is None)
        or (amounts["compute"] and rates.compute is None)
        or (amounts["web_search"] and rates.web_search is None)
    )
    return None if without_rate else _total(amounts, rates)


_INPUT = {
    "input": None,
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
}
_OUTPUT = {
    "output": None,
    "reasoning": "reasoning_tokens",
    "output_audio": "output_audio_tokens",
}
_PARENTS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "input_audio": "input",
    "reasoning": "output",
    "output_audio": "output",
}


def _amounts(event: Mapping[str, Any]) -> tuple[dict[str, int], bool]:
    amounts = {
        "request": event.get("requests", 1),
        "web_search": event.get("web_searches") or 0,
        "image": event.get("output_images") or 0,
        "compute": event.get("compute_ms") or 0,
    }
    contradicts = False
    for whole, parts in (("input", _INPUT), ("output", _OUTPUT)):
        total = event.get(f"{whole}_tokens") or 0
        inside = 0
        for rate, name in parts.items():
            if name:
                amounts[rate] = event.get(name) or 0
                inside += amounts[rate]
        contradicts |= inside > total
        amounts[whole] = total if inside > total else total - inside
    return amounts, contradicts


def _in_force(
    prices: Sequence[Price], key: ModelKey | None, at: datetime, context: int
) -> Price | None:
    second = at.astimezone(UTC).hour * 3_600 + at.minute * 60 + at.second
    for price in prices:
        if (
            price.key == key
            and price.starts_at <= at < price.ends_at
            and price.from_second <= second < price.until_second
            and price.from_tokens <= context < price.until_tokens
        ):
            return price
    return None


def _dearest(prices: Sequence[Price], provider: str | None) -> Price:
    whole = [p for p in prices if p.tier == "standard"]
    candidates = [p for p in whole if None not in (p.rates.input, p.rates.output)]
    own = [price for price in candidates if price.key.provider == provider]
    return max(own or candidates, key=lambda p: (p.rates.input or 0) + (p.rates.output or 0))


def _total(amounts: Mapping[str, int], rates: Rates) -> int:
    """Return nano-dollars; `round` of a Fraction goes half to even."""
    femto = Fraction(0)
    for name, amount in amounts.items():
        rate: int | None = getattr(rates, name)
        while rate is None and name in _PARENTS:
            name = _PARENTS[name]  # noqa: PLW2901  # up the tree
            rate = getattr(rates, name)
        femto += amount * (rate or 0)
    return round(femto / 10**6)


@dataclass(slots=True)
class Books:
    """What should be stored after the batches that were handed in."""

    usage: dict[tuple[str, str, datetime], dict[str, Any]] = field(default_factory=dict)
    rejects: list[tuple[str, int, int, str]] = field(default_factory=list)
    tallies: dict[PartitionId, dict[str, int]] = field(default_factory=dict)
    newest: dict[PartitionId, datetime] = field(default_factory=dict)
    prices: Sequence[Price] = PRICES

    def enter(self, place: PartitionId, offset: int, event: Mapping[str, Any] | str) -> None:
        """Enter one record: an event as a mapping, or the reason of a record that is none."""
        tally = self.tallies.setdefault(
            place,
            dict.fromkeys(("events", "counted", "duplicates", "rejected", "late", "unpriced"), 0),
        )
        tally["events"] += 1
        reason = event if isinstance(event, str) else _fault(event)
        if reason:
            self.rejects.append((*place, offset, reason))
            tally["rejected"] += 1
            return
        assert not isinstance(event, str)
        at = event["event_time"]
        before = self.newest.get(place, at)
        self.newest[place] = max(before, at)
        identity = (event["source"], event["event_id"], at)
        if identity in self.usage:
            tally["duplicates"] += 1
            return
        charged = charge(event, self.prices)
        told = {name: value for name, value in event.items() if name != "reported_cost_usd"}
        reported = event.get("reported_cost_usd")
        self.usage[identity] = {
            **told,
            "reported_cost_nano": None if reported is None else round(Fraction(reported) * 10**9),
            "requests": event.get("requests", 1),
            "topic": place.topic,
            "partition": place.partition,
            "offset": offset,
            "late": before - at > LATE_AFTER,
            "price_status": "unpriced" if charged.cost_nano is None else "priced",
            **charged._asdict(),
        }
        tally["counted"] += 1
        tally["late"] += before - at > LATE_AFTER
        tally["unpriced"] += charged.cost_nano is None

    def reprice(self, prices: Sequence[Price], since: datetime, until: datetime) -> int:
        """Charge events of a span by other prices; return how many cost something else now."""
        self.prices = prices
        changed = 0
        for (_, _, at), row in self.usage.items():
            if since <= at < until:
                charged = charge(row, prices)
                after = {
                    **charged._asdict(),
                    "price_status": "unpriced" if charged.cost_nano is None else "priced",
                }
                changed += any(row[name] != value for name, value in after.items())
                row.update(after)
        return changed

    def spend(self, *, by_day: bool) -> dict[tuple[Any, ...], dict[str, int | None]]:
        """Sum the counted events by UTC hour or day, and by the dimensions of the rollups."""
        sums: dict[tuple[Any, ...], dict[str, int | None]] = {}
        for row in self.usage.values():
            begin = row["event_time"].astimezone(UTC).replace(minute=0, second=0, microsecond=0)
            begin = begin.replace(hour=0) if by_day else begin
            group = sums.setdefault(
                (begin, *(row.get(name) for name in DIMENSIONS)),
                {"events": 0, "cap_nano": 0, "cost_nano": None, "unpriced_events": 0}
                | dict.fromkeys(MEASURES),
            )
            add = {"events": 1, "unpriced_events": int(row["cost_nano"] is None)}
            for name in (*MEASURES, "cost_nano", "cap_nano"):
                add[name] = row.get(name)
            for name, value in add.items():
                if value is not None:
                    group[name] = (group[name] or 0) + value
        return sums


def _fault(event: Mapping[str, Any]) -> str | None:
    if event["event_time"] < NOW - BACK:
        return "too_old"
    if event["event_time"] > NOW + AHEAD:
        return "too_new"
    reports = any(event.get(name) is not None for name in _QUANTITIES)
    failed = event.get("status") == "error" or event.get("error_type") is not None
    return None if reports or failed else "no_usage"


_QUANTITIES = (
    *("input_tokens", "cache_read_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens"),
    *("output_tokens", "reasoning_tokens", "input_audio_tokens", "output_audio_tokens"),
    *("input_image_tokens", "output_images", "web_searches", "compute_ms"),
)
