"""The kind `ratio`: cost, requests or tokens over revenue, outcomes, users or requests."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from governor.core.business import BUSINESS_DIMENSIONS
from governor.core.periods import Calendar
from governor.core.rules.ratio import Against, Ratio
from governor.core.rules.shared import MAX_ALERTS
from governor.core.rules.units import Measure
from governor.documents.sections import Read, Section, choice, listed
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.budget import EVERY
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import Amount, amount, duration, share, whole, zone

KEYS: Final = (
    *common.KEYS,
    *common.GAUGE_KEYS,
    "numerator",
    "denominator",
    "direction",
    "window",
    "period",
    "timezone",
    "guards",
)
GUARDS: Final = ("min_denominator", "min_numerator", "max_age")
MIN_WINDOW: Final = timedelta(hours=1)
MAX_WINDOW: Final = timedelta(days=366)
CLEARS_PERCENT: Final = 90
MAX_COUNT: Final = 10**12

DIRECTION: Final = choice({"above": False, "below": True})
_NUMERATOR: Final = choice({str(measure): measure for measure in Measure})
_DENOMINATOR: Final = choice({str(against): against for against in Against})
SUCH_AS: Final = {
    Measure.COST: "0.50 USD",
    Measure.REQUESTS: "100 requests",
    Measure.TOKENS: "10k tokens",
}


def read(section: Section) -> Ratio:
    """Read a ratio; what is wrong is reported."""
    rule = common.common(section, acts=True)
    above = section.take("numerator", _NUMERATOR, Measure.COST, "cost")
    under = section.take("denominator", _DENOMINATOR, Against.REVENUE, "revenue")
    below = section.take("direction", DIRECTION, False)  # noqa: FBT003  # above
    _check_goes_together(section, above, under, rule["per"])
    deeds = actions(section, latched=False, ends="period" in section.entries)
    return Ratio(
        **rule,
        **common.judged(section, timedelta(minutes=5)),
        **_span(section),
        **_guards(section, above, under),
        limit_text=_first(section),
        numerator=above,
        denominator=under,
        below=below,
        thresholds=thresholds(section, _reading(above, under, below=below), deeds),
        actions=deeds,
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


def _first(section: Section) -> str:
    """Return the lowest threshold as it is written."""
    entry = section.entries.get("thresholds")
    nodes = entry.node.value if entry else None
    first = nodes[0].value if isinstance(nodes, list) and nodes else None
    at = first.get("at") if isinstance(first, dict) else None
    return at.node.value if at and isinstance(at.node.value, str) else ""


def _check_goes_together(
    section: Section, above: Measure, under: Against, per: tuple[str, ...]
) -> None:
    report = section.report
    if under is Against.REVENUE and above is not Measure.COST:
        node = section.entries["numerator"].node
        report.add(node, f"numerator={str(above)!r}: only cost is measured against revenue")
    for name in per if under.is_told else ():
        if name not in BUSINESS_DIMENSIONS:
            known = listed([d for d in BUSINESS_DIMENSIONS if d != "outcome"])
            node = section.entries["per"].node
            report.add(node, f"per={name!r}: {under} is told by {known} only")


def _reading(above: Measure, under: Against, *, below: bool) -> Reading:
    if under is Against.REVENUE:
        at: Callable[[str], int] = share
        such_as = "25%"
    else:
        at, such_as = _of(above), SUCH_AS[above]
    return Reading(signed(at, below=below), such_as, CLEARS_PERCENT, below)


def signed(read_amount: Read[int], *, below: bool) -> Read[int | None]:
    """Return a reader of amounts that are their negatives where less is worse."""
    return lambda text: -read_amount(text) if below else read_amount(text)


def of_measure(measure: Measure, key: str) -> Read[int]:
    """Return a reader of amounts in the unit of a measure, which is what `key` says."""

    def of(text: str) -> int:
        found: Amount = amount(text)
        if found.measure is not measure:
            raise ValueError(f"must be in the unit of the {key}, such as {SUCH_AS[measure]}")
        return found.amount

    return of


def _of(measure: Measure) -> Read[int]:
    return of_measure(measure, "numerator")


def _span(section: Section) -> dict[str, Any]:
    """Read `window`, or `period` and `timezone`; one of the two."""
    both = [name for name in ("window", "period") if name in section.entries]
    if len(both) != 1 and not (section.lacks("window") is False and not both):
        where = section.entries[both[1]] if both else section.node
        section.report.add(
            where, f"{section.name} needs window, such as 7d, or period, such as month; not both"
        )
    every = section.take("period", EVERY, None)
    zone_name = section.take("timezone", zone, "UTC")
    return {
        "window": section.take("window", _window, None),
        "calendar": Calendar(every, zone_name) if every else None,
    }


def _window(text: str) -> timedelta:
    found = duration(text)
    if not MIN_WINDOW <= found <= MAX_WINDOW:
        raise ValueError("must be from 1h to 366d")
    return found


def _guards(section: Section, above: Measure, under: Against) -> dict[str, Any]:
    entry = section.entries.get("guards")
    least = "500 USD" if under is Against.REVENUE else "100"
    such_as = f"{{min_denominator: {least}{', max_age: 36h' if under.is_told else ''}}}"
    if entry is None:
        section.needs("guards", such_as)
        return {"min_denominator": 1}
    guards = Section("guards", entry.node, GUARDS, section.report)
    told = under.is_told and "max_age" not in guards.entries
    if told and isinstance(entry.node.value, dict):
        guards.needs("max_age", "36h: older revenue or outcomes are no data")
    reader = _of(Measure.COST) if under is Against.REVENUE else whole(1, MAX_COUNT)
    return {
        "min_denominator": guards.take("min_denominator", reader, 1, least),
        "min_numerator": guards.take("min_numerator", _of(above), 0),
        "max_age": guards.take("max_age", _window, None),
    }
