"""An accountant of our own: events counted, priced and summed in plain Python, for comparison.

It shares no arithmetic with governor: prices are looked up in a loop, money is a `Fraction` until
it is rounded once, identities stand in a dictionary, late events are found by walking the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any, NamedTuple

from governor.core.positions import PartitionId
from governor.core.pricing import ModelKey, Price, Rates

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
)
GHOST = ModelKey("acme", "ghost")
"""Known by name and without any price, as many models of the real catalogue are."""

NAMES = [
    *(("acme", model) for model in ("plain", "parts", "dated", "night", "long", "call", "ghost")),
    *(("bolt", model) for model in ("embed", "draw", "free", "tiny", "unheard-of")),
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
    contradicts: bool


def charge(event: Mapping[str, Any], prices: Sequence[Price] = PRICES) -> Charge:
    """Price one event."""
    amounts, contradicts = _amounts(event)
    context = sum(amounts[name] for name in _INPUT)
    written = sum(amounts[name] for name in _OUTPUT)
    key = resolve(event["provider"], event["model"])
    found = _in_force(prices, key, event["event_time"], context)
    if found is not None:
        tokens_are_free = found.rates.request is not None
        without_rate = (
            (context and found.rates.input is None and not tokens_are_free)
            or (written and found.rates.output is None and not tokens_are_free)
            or event.get("output_images")
            or event.get("compute_ms")
        )
        if not without_rate:
            cost = _total(amounts, found.rates)
            return Charge(found.price_id, cost, cost, contradicts)
    provider = key.provider if key else resolve_provider(event["provider"])
    stand_in = _dearest(prices, provider)
    return Charge(stand_in.price_id, None, _total(amounts, stand_in.rates), contradicts)


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
    amounts = {"request": event.get("requests", 1), "web_search": event.get("web_searches") or 0}
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
    candidates = [p for p in prices if None not in (p.rates.input, p.rates.output)]
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
        self.usage[identity] = {
            **event,
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
