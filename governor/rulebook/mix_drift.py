"""The kind `mix_drift`: shares of usage are not what they were, or not what was planned."""

import re
from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from governor.core.rules.mix_drift import UNLISTED, MixDrift
from governor.core.rules.shared import MAX_ALERTS
from governor.core.rules.units import MICRO, Measure
from governor.documents import Node
from governor.documents.sections import Section, choice, listed, shown, suggestion
from governor.documents.texts import line
from governor.rulebook import common
from governor.rulebook.actions import actions
from governor.rulebook.scope import dimension
from governor.rulebook.thresholds import Reading, thresholds
from governor.rulebook.values import MAX_NAME_CHARACTERS, duration, share, whole

KEYS: Final = (
    *common.KEYS,
    *common.GAUGE_KEYS,
    "share_of",
    "by",
    "classes",
    "unlisted",
    "window",
    "against",
    "guards",
)
AGAINST: Final = ("windows", "target")
GUARDS: Final = ("min_requests",)
MAX_CLASSES: Final = 100
MIN_WINDOWS: Final = 7
MAX_WINDOWS: Final = 60
MAX_WINDOW: Final = timedelta(days=7)
CLEARS_PERCENT: Final = 60
MAX_REQUESTS: Final = 10**9

_SHARED: Final = {str(m): m for m in (Measure.REQUESTS, Measure.COST)}
_UNLISTED: Final = {"fire": True, "keep": False}
_POINTS: Final = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,4})?)pp", re.ASCII)
_LOOSE: Final = re.compile(r"([0-9.]{1,8}) *(?:%|pp|points?)?", re.ASCII)
_HOUR: Final = timedelta(hours=1)
_NONE: Final[Mapping[str, int]] = MappingProxyType({})


def read(section: Section) -> MixDrift:
    """Read a mix drift; what is wrong is reported."""
    rule = common.common(section, acts=True)
    deeds = actions(section, latched=False, ends=False)
    steps = thresholds(section, Reading(points, "10pp", CLEARS_PERCENT), deeds)
    classes = _classes(section)
    by = section.take("by", dimension, "model")
    if by in rule["per"]:
        node = section.entries["per"].node
        section.report.add(
            node, f"per={by!r}: shares are by it already; remove it, or write another by"
        )
    windows, target = _against(section, classes)
    return MixDrift(
        **rule,
        **common.judged(section, timedelta(minutes=15)),
        limit_text=steps[0].at if steps else "",
        thresholds=steps,
        actions=deeds,
        measure=section.take("share_of", choice(_SHARED), Measure.REQUESTS),
        by=by,
        classes=classes,
        tells_unlisted=section.take("unlisted", choice(_UNLISTED), True),  # noqa: FBT003  # fire
        window=section.take("window", _window, timedelta(days=1)),
        windows=windows,
        target=target,
        min_requests=_guards(section),
        max_alerts=common.most_alerts(section, MAX_ALERTS),
    )


def points(text: str) -> int:
    """Read `10pp`, points of a percentage, as millionths."""
    found = _POINTS.fullmatch(text)
    if found is None:
        loose = _LOOSE.fullmatch(text)
        written = f"write {loose[1]}pp" if loose else "such as 10pp"
        raise ValueError(f"must be points of a percentage; {written}")
    exact = Fraction(found[1]) * MICRO / 100
    if not 0 < exact <= MICRO:
        raise ValueError("must be more than 0pp and at most 100pp")
    return int(exact)


def _classes(section: Section) -> Mapping[str, tuple[str, ...]]:
    """Read `{small: [*-mini, *-haiku-*], large: *-opus-*}`: what is put together."""
    entry = section.entries.get("classes")
    if entry is None:
        return MappingProxyType({})
    report, named = section.report, entry.node.value
    if not isinstance(named, dict) or not named:
        report.add(
            entry.node,
            "classes must be a mapping, such as {small: ['*-mini'], large: ['*-opus-*']}",
        )
        return MappingProxyType({})
    if len(named) > MAX_CLASSES:
        report.add(entry.node, f"classes are more than {MAX_CLASSES}")
    value = line(MAX_NAME_CHARACTERS)
    return MappingProxyType(
        {
            name: tuple(
                report.read(f"classes.{name}", item, value, "")
                for item in report.items(f"classes.{name}", patterns.node)
            )
            for name, patterns in named.items()
        }
    )


def _against(
    section: Section, classes: Mapping[str, tuple[str, ...]]
) -> tuple[int, Mapping[str, int]]:
    """Read how many windows before, or which target, shares are compared with."""
    entry = section.entries.get("against")
    if entry is None:
        return 28, _NONE
    against = Section("against", entry.node, AGAINST, section.report)
    if len(against.entries) != 1 and isinstance(entry.node.value, dict):
        section.report.add(
            entry.node,
            "against needs windows, such as 28, or target, such as {small: 60%}; not both",
        )
    windows = against.take("windows", whole(MIN_WINDOWS, MAX_WINDOWS), 28)
    target = against.entries.get("target")
    return windows, _target(section, target.node, classes) if target else _NONE


def _target(
    section: Section, node: Node, classes: Mapping[str, tuple[str, ...]]
) -> Mapping[str, int]:
    report, named = section.report, node.value
    if not isinstance(named, dict) or not named:
        report.add(node, "target must be a mapping, such as {small: 60%, large: 40%}")
        return _NONE
    found: dict[str, int] = {}
    for name, planned in named.items():
        if classes and name not in classes and name != UNLISTED:
            close = suggestion(name, classes) or f"; known: {listed(classes)}"
            report.add(planned, f"target: unknown class {shown(name)}{close}")
        found[name] = report.read(f"target.{name}", planned.node, share, 0)
    total = sum(found.values())
    if total > MICRO:
        report.add(node, f"target adds up to {total / (MICRO // 100):g}%, and 100% is the most")
    return MappingProxyType(found)


def _guards(section: Section) -> int:
    entry = section.entries.get("guards")
    if entry is None:
        return 1_000
    guards = Section("guards", entry.node, GUARDS, section.report)
    return guards.take("min_requests", whole(1, MAX_REQUESTS), 1_000)


def _window(text: str) -> timedelta:
    found = duration(text)
    if not _HOUR <= found <= MAX_WINDOW or found % _HOUR:
        raise ValueError(f"must be whole hours, from 1h to {MAX_WINDOW.days}d")
    return found
