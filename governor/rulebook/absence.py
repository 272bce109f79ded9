"""The kind `absence`: nothing came from a group for too long."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import product
from typing import Final

from governor.core.rules.absence import Absence
from governor.core.rules.shared import MAX_ALERTS
from governor.core.scopes import Key
from governor.documents.sections import Section, listed
from governor.documents.texts import line
from governor.rulebook import common
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import MAX_NAME_CHARACTERS, duration, seconds

KEYS: Final = (
    *(key for key in common.KEYS if key != "actions"),
    *common.GAUGE_KEYS,
    "known",
    "forget_after",
)
MAX_KNOWN: Final = 1_000
MAX_FORGET: Final = timedelta(days=90)
_WEEK: Final = timedelta(days=7)


def read(section: Section) -> Absence:
    """Read an absence; what is wrong is reported."""
    rule = common.common(section, acts=False)
    steps = thresholds(section, Reading(seconds, "15m", clears=100))
    forget = section.take("forget_after", _forget, _WEEK)
    for step in steps:
        if timedelta(seconds=step.amount) >= forget:
            why = f"at={step.at!r}: must be shorter than forget_after, {forget.days}d"
            section.report.add(section.node, why)
    return Absence(
        **rule,
        **common.judged(section, timedelta(minutes=1)),
        limit_text=steps[0].at if steps else "",
        thresholds=steps,
        known=_known(section, rule["per"]),
        forget_after=forget,
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


def _known(section: Section, per: Sequence[str]) -> tuple[Key, ...]:
    """Read `{feature: [chat, search]}`: the groups that are looked for in any case."""
    entry = section.entries.get("known")
    if entry is None:
        return ()
    report, named = section.report, entry.node.value
    if not isinstance(named, dict) or set(named) != set(per):
        such_as = ", ".join(f"{name}: [a, b]" for name in per)
        fit = (
            f"a mapping of {listed(per)}, such as {{{such_as}}}" if per else "left out without per"
        )
        report.add(entry.node, f"known must be {fit}")
        return ()
    value = line(MAX_NAME_CHARACTERS)
    columns = [
        [
            report.read(f"known.{name}", item, value, "")
            for item in report.items(name, named[name].node)
        ]
        for name in per
    ]
    groups = tuple(product(*columns))
    if len(groups) > MAX_KNOWN:
        report.add(entry.node, f"known are {len(groups):,} groups, and {MAX_KNOWN:,} is the most")
        return ()
    return groups


def _forget(text: str) -> timedelta:
    found = duration(text)
    if not timedelta(hours=1) <= found <= MAX_FORGET:
        raise ValueError(f"must be from 1h to {MAX_FORGET.days}d")
    return found
