"""One price of a price file: whom it is for, from when to when, and what it charges."""

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from governor.core.pricing import FIRST_INSTANT, FREE, LAST_INSTANT, Override, Rates, tier_of
from governor.documents import Node
from governor.documents.sections import Report, Section, choice, listed
from governor.documents.texts import identifier, line
from governor.pricebook.values import factor, moment, pattern, usd

KEYS: Final = (
    *("id", "match", "from", "until", "multiplier", "usd_per_mtok", "usd_per_unit"),
    *("free", "note"),
)
MATCH_KEYS: Final = ("provider", "model", "service_tier", "customer", "team")
TOKEN_RATES: Final[Mapping[str, str]] = {
    name: name
    for name in (
        *("input", "cache_read", "cache_write_5m", "cache_write_1h", "output", "reasoning"),
        *("input_audio", "output_audio"),
    )
}
UNIT_RATES: Final[Mapping[str, tuple[str, int]]] = {
    "request": ("request", 1),
    "web_search": ("web_search", 1),
    "image": ("image", 1),
    "compute_second": ("compute", 1_000),
}
"""What a price by the unit is on: the rate it becomes, and how many of its units that is for."""
MILLION: Final = 10**6
CHARGES: Final = ("multiplier", "usd_per_mtok", "usd_per_unit", "free")
MAX_NAME_CHARACTERS: Final = 256
MAX_NOTE_CHARACTERS: Final = 300


def read_override(node: Node, report: Report, source: str) -> Override | None:
    """Read a price, or report all that is wrong with it."""
    before = len(report.problems)
    section = Section("a price", node, KEYS, report)
    name = section.take("id", identifier, "", "openai-contract-2026")
    section.take("note", line(MAX_NOTE_CHARACTERS), "")
    starts_at = section.take("from", moment, FIRST_INSTANT)
    ends_at = section.take("until", moment, LAST_INSTANT)
    _check_order(section, starts_at, ends_at)
    match = _match(section, report)
    multiplier = section.take("multiplier", factor, None)
    free = section.take("free", choice({"true": True}), None)
    rates = FREE if free else _rates(section, report)
    _check_charge(section)
    if len(report.problems) > before:
        return None
    provider, model, tiers, customers, teams = match
    return Override(
        id=name,
        source=f"{source}: {name}",
        provider=provider,
        model=model,
        tiers=tiers,
        customers=customers,
        teams=teams,
        starts_at=starts_at,
        ends_at=ends_at,
        rates=rates,
        multiplier=multiplier,
    )


Names = frozenset[str] | None


def _match(section: Section, report: Report) -> tuple[str | None, str | None, Names, Names, Names]:
    nothing: tuple[None, None, None, None, None] = (None, None, None, None, None)
    entry = section.entries.get("match")
    if entry is None:
        section.needs("match", '{provider: openai, model: "gpt-4o*"}')
        return nothing
    match = Section("match", entry.node, MATCH_KEYS, report)
    if not match.entries:
        if isinstance(entry.node.value, dict):
            report.add(entry, 'match is empty; write {provider: "*"} for all usage')
        return nothing
    tiers = _names(match, report, "service_tier")
    return (
        match.take("provider", pattern, None),
        match.take("model", pattern, None),
        None if tiers is None else frozenset(tier_of(tier) for tier in tiers),
        _names(match, report, "customer"),
        _names(match, report, "team"),
    )


def _names(match: Section, report: Report, key: str) -> Names:
    entry = match.entries.get(key)
    if entry is None:
        return None
    read = line(MAX_NAME_CHARACTERS)
    return frozenset(report.read(key, item, read, "") for item in report.items(key, entry.node))


def _rates(section: Section, report: Report) -> Rates | None:
    """Read what each unit costs; None where nothing of it is there."""
    found: dict[str, int | None] = {}
    for key, units in (
        ("usd_per_mtok", {name: (rate, MILLION) for name, rate in TOKEN_RATES.items()}),
        ("usd_per_unit", UNIT_RATES),
    ):
        entry = section.entries.get(key)
        if entry is None:
            continue
        table = Section(key, entry.node, units, report)
        if not table.entries:
            report.add(entry, f"{key} is empty; write {next(iter(units))}: 0.15")
        for name, (rate, many) in units.items():
            if name in table.entries:
                found[rate] = table.take(name, usd(many), 0)
    return Rates(**found) if found else None


def _check_order(section: Section, starts_at: datetime, ends_at: datetime) -> None:
    if starts_at >= ends_at:
        section.report.add(section.entries["until"], "until must be after from")


def _check_charge(section: Section) -> None:
    given = [key for key in CHARGES if key in section.entries]
    ways = {"multiplier": 0, "usd_per_mtok": 1, "usd_per_unit": 1, "free": 2}
    if not given:
        section.needs("multiplier", f"0.85; or one of {listed(CHARGES[1:])}")
    elif len({ways[key] for key in given}) > 1:
        section.report.add(section.node, f"a price has {listed(given)}; keep one way to charge")
