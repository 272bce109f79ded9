"""Pages: what is read in a browser or on paper; each is one file that needs nothing else."""

from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, Final
from zoneinfo import ZoneInfo

import jinja2

from governor.core.report_text import (
    called,
    change,
    change_percent,
    change_usd,
    drivers_text,
    headline,
    notes,
    sections,
    usd,
)
from governor.core.reports import Amount, Report

BAR_PERCENT: Final = 100
BAR_ROOM: Final = 85
DRAWN: Final = ("Spend", "Unit economics", "What moved")
"""Sections that the page shows in a form of its own."""


def report(found: Report) -> str:
    """Return a report as a page of HTML."""
    return _template("report.html").render(
        report=found,
        headline=headline(found),
        sections=[
            (title, lines)
            for title, lines in sections(found)
            if not title.startswith("By ") and title not in DRAWN
        ],
        notes=notes(found),
        days=_days(found),
        usd=usd,
        change_percent=change_percent,
        change_usd=change_usd,
        change=change,
        called=called,
        drivers=drivers_text,
        bar=_bar,
    )


def showback(name: str, period: str, zone: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a page of what one tenant used; `rows` must be of that tenant alone."""
    return _template("showback.html").render(
        name=name,
        period=period,
        zone=zone,
        rows=rows,
        total=usd(sum(row["cost_nano"] for row in rows)),
        unpriced=sum(row["unpriced_events"] for row in rows),
        usd=usd,
    )


def _days(found: Report) -> list[dict[str, str | int]]:
    """Return the last local days as bars; heights in percent of the highest, room for a name."""
    zone, most = ZoneInfo(found.zone), max((cost for _, cost in found.days), default=0)
    return [
        {
            "name": f"{at.astimezone(zone):%Y-%m-%d}",
            "short": f"{at.astimezone(zone):%d}",
            "cost": usd(cost),
            "height": cost * BAR_ROOM // most if most else 0,
        }
        for at, cost in found.days
    ]


def _bar(amount: Amount, most: int) -> int:
    """Return how long the bar of an amount is, in percent of the longest."""
    return max(0, amount.cost) * BAR_PERCENT // most if most > 0 else 0


def _template(name: str) -> jinja2.Template:
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = resources.files("governor.pages").joinpath(name).read_text("utf-8")
    return environment.from_string(text)
