"""`actions` of a rule: what its thresholds may call for by name, and within which bounds."""

import re
from collections.abc import Mapping
from datetime import timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import Final

from governor.core.rules.actions import EVERY_ONE, Action, Deed, Fail, Most, Rate, Until
from governor.documents import Node
from governor.documents.sections import Section, choice, shown
from governor.documents.texts import identifier, line
from governor.rulebook.scope import dimension
from governor.rulebook.values import MAX_NAME_CHARACTERS, duration, percent, rate

MAX_ACTIONS: Final = 20
MAX_MODELS: Final = 100
MAX_ANNOUNCE: Final = timedelta(days=7)
MAX_UNTIL: Final = timedelta(days=31)
KEYS: Final = (
    *("do", "to", "each", "until", "fail"),
    *("approval", "max_affected", "percent", "announce", "early"),
)
ONLY_FOR: Final = {"to": (Deed.THROTTLE, Deed.DOWNGRADE), "each": (Deed.THROTTLE,)}
"""Keys that not every deed has."""
TOGETHER: Final = "none"
"""For `each`: one rate for the whole group."""
WHOM: Final = "customer"
"""Whose number `max_affected` is, unless it says otherwise."""
APPROVAL: Final = {"auto": False, "manual": True}
EARLY: Final = {"true": True, "false": False}

_NO_ACTIONS: Final[Mapping[str, Action]] = MappingProxyType({})
_STAND_IN: Final = Rate(1, timedelta(days=1))
_USER: Final[str | None] = "user"
_MOST: Final = re.compile(r"([0-9]{1,9})(%?)(?: of ([a-z_]+))?", re.ASCII)
_model = line(MAX_NAME_CHARACTERS)


def actions(rule: Section, *, latched: bool, ends: bool) -> Mapping[str, Action]:
    """Read the actions of a rule: a mapping of names to what to do.

    What a `latched` rule has reached stays reached; with `ends` it has periods that end.
    """
    entry = rule.entries.get("actions")
    if entry is None:
        return _NO_ACTIONS
    named, report = entry.node.value, rule.report
    if not isinstance(named, dict) or not named:
        such_as = "{slow: {do: throttle, to: 2/min}}"
        report.add(entry.node, f"actions must be a mapping, such as {such_as}")
        return _NO_ACTIONS
    if len(named) > MAX_ACTIONS:
        report.add(entry.node, f"actions are more than {MAX_ACTIONS}")
    found = {}
    for name, action in list(named.items())[:MAX_ACTIONS]:
        report.read("action", Node(name, action.line, action.column), identifier, "")
        section = Section(f"action {shown(name)}", action.node, KEYS, report)
        found[name] = _action(name, section, latched=latched, ends=ends)
    return MappingProxyType(found)


def _action(name: str, section: Section, *, latched: bool, ends: bool) -> Action:
    """Read `{do: throttle, to: 2/min}` with what else an action may say."""
    do = section.take("do", choice({deed.value: deed for deed in Deed}), None, "throttle")
    for key, deeds in ONLY_FOR.items():
        if do is not None and do not in deeds and key in section.entries:
            section.report.add(section.entries[key], f"{key}: a {do.value} has none; remove it")
    fast = do in {None, Deed.THROTTLE}
    early = section.take("early", choice(EARLY), False)  # noqa: FBT003  # not early
    if early and not latched:
        section.report.add(section.entries["early"].node, "early=true: only a budget acts early")
    return Action(
        name=name,
        do=do or Deed.THROTTLE,
        rate=section.take("to", rate, _STAND_IN, "2/min") if fast else None,
        each=section.take("each", _each, _USER) if fast else None,
        models=_models(section) if do is Deed.DOWNGRADE else (),
        fail=section.take("fail", choice({str(fail): fail for fail in Fail}), Fail.OPEN),
        until=_until(section, latched=latched, ends=ends),
        manual=section.take("approval", choice(APPROVAL), False),  # noqa: FBT003  # auto
        most=section.take("max_affected", most, None),
        percent=section.take("percent", _percent, EVERY_ONE),
        announce=section.take("announce", _announce, timedelta(0)),
        early=early,
    )


def _models(section: Section) -> tuple[tuple[str, str], ...]:
    """Read `{gpt-4o: gpt-4o-mini}`: a model or a glob, and what to use instead."""
    such_as = "{gpt-4o: gpt-4o-mini}"
    entry = section.entries.get("to")
    if entry is None:
        section.needs("to", such_as)
        return ()
    named, report = entry.node.value, section.report
    if not isinstance(named, dict) or not named:
        report.add(entry.node, f"to must be a mapping of models, such as {such_as}")
        return ()
    if len(named) > MAX_MODELS:
        report.add(entry.node, f"to has more than {MAX_MODELS} models")
    found = []
    for old, new in named.items():
        report.read("to", Node(old, new.line, new.column), _model, "")
        found.append((old, report.read(f"to.{old[:20]}", new.node, _model, "")))
        if found[-1][1] == old:
            report.add(new.node, f"to.{old[:20]}: is the same model; remove it")
    return tuple(found)


def _until(section: Section, *, latched: bool, ends: bool) -> Until | timedelta:
    def until(text: str) -> Until | timedelta:
        if text in {each.value for each in Until}:
            if text == Until.PERIOD_END and not ends:
                raise ValueError("the rule has no period; write resolved, or a time such as 4h")
            return Until(text)
        try:
            found = duration(text)
        except ValueError:
            raise ValueError("must be period_end, resolved, or a time such as 4h") from None
        if not timedelta(minutes=1) <= found <= MAX_UNTIL:
            raise ValueError(f"must be from 1m to {MAX_UNTIL.days}d")
        return found

    usual: Until | timedelta = Until.PERIOD_END if latched else Until.RESOLVED
    return section.take("until", until, usual)


def most(text: str) -> Most:
    """Read `25%`, `200` or `200 of user`: how many an action may touch."""
    found = _MOST.fullmatch(text)
    if not found:
        raise ValueError("must be a number or a share, such as 200, 25% or 25% of customer")
    number, share, of = int(found[1]), bool(found[2]), dimension(found[3] or WHOM)
    if share:
        if not 1 <= number <= EVERY_ONE:
            raise ValueError("must be from 1% to 100%")
        return Most(of, share=Fraction(number, EVERY_ONE))
    if not number:
        raise ValueError("must be more than 0; an action that touches nobody is none")
    return Most(of, number=number)


def _percent(text: str) -> int:
    found = percent(text)
    if found is None or (found * EVERY_ONE).denominator != 1 or not 0 < found <= 1:
        raise ValueError("must be a whole percentage from 1% to 100%")
    return int(found * EVERY_ONE)


def _announce(text: str) -> timedelta:
    found = duration(text)
    if not timedelta(0) < found <= MAX_ANNOUNCE:
        raise ValueError(f"must be longer than 0s and at most {MAX_ANNOUNCE.days}d")
    return found


def _each(text: str) -> str | None:
    return None if text == TOGETHER else dimension(text)
