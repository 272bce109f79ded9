"""Stage 3, the reckoning of one event: what `adapters/duckdb/queries.py` does to a batch, shown.

The totals of an event are inclusive; its parts are taken out of them first, so that no token is
charged twice. Parts that exceed their total are charged on top of it, and the event contradicts
itself. Half a nano-dollar goes to the even one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Final

from governor.core.pricing import FEMTO_PER_NANO, SECONDS_PER_DAY, Price, Rates

INPUT_PARTS: Final = {
    "cache_read": "cache_read_tokens",
    "cache_write_5m": "cache_write_5m_tokens",
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
}
OUTPUT_PARTS: Final = {"reasoning": "reasoning_tokens", "output_audio": "output_audio_tokens"}
OTHERS: Final = {
    "request": "requests",
    "web_search": "web_searches",
    "image": "output_images",
    "compute": "compute_ms",
}
"""Rates, and the quantity of an event that each is charged for."""


@dataclass(frozen=True, slots=True)
class Units:
    """What of each rate an event uses; `context_tokens` chooses the cell of a price."""

    of: Mapping[str, int]
    context_tokens: int
    contradicts: bool


@dataclass(frozen=True, slots=True)
class Line:
    """So many units at femto-dollars each."""

    rate: str
    units: int
    femto: int


@dataclass(frozen=True, slots=True)
class Reckoning:
    """What units cost at a price; `nano` is None where something used has no rate: `missing`."""

    lines: Sequence[Line]
    nano: int | None
    missing: Sequence[str]


def units_of(quantities: Mapping[str, int]) -> Units:
    """Split the quantities of an event, by the names of its fields, into what rates are for."""
    found = {"request": quantities.get("requests", 1)}
    contradicts = False
    for total, parts in (("input", INPUT_PARTS), ("output", OUTPUT_PARTS)):
        whole = quantities.get(f"{total}_tokens", 0)
        inside = {rate: quantities.get(name, 0) for rate, name in parts.items()}
        exceeds = sum(inside.values()) > whole
        contradicts |= exceeds
        found |= {total: whole if exceeds else whole - sum(inside.values()), **inside}
    found |= {rate: quantities.get(name, 0) for rate, name in OTHERS.items() if rate != "request"}
    return Units(found, sum(found[rate] for rate in ("input", *INPUT_PARTS)), contradicts)


def in_force(cells: Sequence[Price], at: datetime, context_tokens: int) -> Price | None:
    """Return the cell that charges at an aware time, for so many tokens of input."""
    second = int(at.timestamp()) % SECONDS_PER_DAY
    for cell in cells:
        if (
            cell.starts_at <= at < cell.ends_at
            and cell.from_second <= second < cell.until_second
            and cell.from_tokens <= context_tokens < cell.until_tokens
        ):
            return cell
    return None


def reckon(units: Units, rates: Rates) -> Reckoning:
    """Return what units cost, line by line; only lines of what was used."""
    charged = rates.charged()
    lines, missing = [], []
    for name, used in units.of.items():
        rate = getattr(charged, name)
        if used and rate is None and name != "request":
            missing.append(name)
        elif used and rate is not None:
            lines.append(Line(name, used, rate))
    femto = sum(line.units * line.femto for line in lines)
    return Reckoning(lines, None if missing else round(Fraction(femto, FEMTO_PER_NANO)), missing)
