"""Two rulebooks compared by what they mean: what is new, gone, loosened, tightened, enforced."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from governor.core.allowing import Allow
from governor.core.routing import Route, Routing
from governor.core.rules.actions import EVERY_ONE, Action, Deed
from governor.core.rules.budget import Budget
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Mode, Rule, Threshold
from governor.core.rules.spike import Spike

_ORDER = tuple(Mode)
_TIMED = {
    "keep": "keep_firing_for",
    "every": "every",
    "settle": "settle",
    "on_no_data": "on_no_data",
    "on_error": "on_error",
    "lookback": "lookback",
}


class Sense(StrEnum):
    """Which way a change goes."""

    NEW = "new"
    GONE = "gone"
    ENFORCED = "enforced"
    TIGHTENED = "tightened"
    LOOSENED = "loosened"
    OTHER_USAGE = "other_usage"
    TIMING = "timing"
    ROUTED = "routed"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one rule, in words."""

    rule: str
    sense: Sense
    text: str


def compare(before: Iterable[Rule], after: Iterable[Rule]) -> list[Change]:
    """Return what changed, in the order of the new rules, then those that are gone."""
    old = {rule.id: rule for rule in before}
    new = {rule.id: rule for rule in after}
    changes: list[Change] = []
    for name, rule in new.items():
        changes += _changes(old[name], rule) if name in old else _added(rule)
    changes += [
        Change(name, Sense.GONE, f"a rule of mode {rule.mode} is gone")
        for name, rule in old.items()
        if name not in new
    ]
    return changes


def compare_routing(before: Routing, after: Routing) -> list[Change]:
    """Return what of `routing.yaml` is another: parts of it that are new, gone or changed."""
    changes = []
    for name in ("receivers", "routes", "inhibitions", "quiets", "silences"):
        old, new = (
            [replace(each, place="") if isinstance(each, Route) else each for each in part]
            for part in (getattr(before, name), getattr(after, name))
        )
        if old == new:
            continue
        gone = sum(each not in new for each in old)
        fresh = sum(each not in old for each in new)
        moved = "" if gone or fresh else ", in another order"
        text = f"{name}: {fresh} new, {gone} gone{moved}"
        changes.append(Change("routing.yaml", Sense.ROUTED, text))
    return changes


def compare_allows(before: Iterable[Allow], after: Iterable[Allow]) -> list[Change]:
    """Return who is let through whatever rules say, and was not, or no more."""
    old, new = ({each.id: each for each in allows} for allows in (before, after))
    found = [("now", Sense.LOOSENED, new[name]) for name in new if old.get(name) != new[name]]
    found += [("no more", Sense.TIGHTENED, old[name]) for name in old if name not in new]
    return [Change("allow", sense, f"{_whom(each)} {when}") for when, sense, each in found]


def _whom(allow: Allow) -> str:
    return ", ".join(
        f"{each.dimension}{' not' if each.negated else ''} "
        + "/".join((*sorted(each.values), *each.patterns))
        for each in allow.where.conditions
    )


def _added(rule: Rule) -> Iterator[Change]:
    yield Change(rule.id, Sense.NEW, f"a new rule of mode {rule.mode}: {rule.limit_text}")
    if rule.mode is Mode.ENFORCE and rule.actions:
        yield Change(rule.id, Sense.ENFORCED, f"it acts: {_actions(rule.actions.values())}")


def _changes(old: Rule, new: Rule) -> Iterator[Change]:
    yield from _mode(old, new)
    if old.meaning != new.meaning:
        yield Change(new.id, Sense.OTHER_USAGE, "counts other usage, groups or periods than before")
    else:
        yield from _limits(old, new)
    yield from _thresholds(old, new)
    if old.hold != new.hold:
        sense = Sense.TIGHTENED if new.hold < old.hold else Sense.LOOSENED
        yield Change(new.id, sense, f"for {old.hold} to {new.hold}")
    yield from _acts(old, new)
    for name, word in _TIMED.items():
        before, after = getattr(old, name, None), getattr(new, name, None)
        if before != after:
            yield Change(new.id, Sense.TIMING, f"{word} {before} to {after}")
    for name in ("owner", "summary", "runbook", "labels"):
        if getattr(old, name) != getattr(new, name):
            yield Change(new.id, Sense.WORDS, f"another {name}")


def _limits(old: Rule, new: Rule) -> Iterator[Change]:
    """Yield what changed of what stands beside the thresholds."""
    was, now = _limit(old), _limit(new)
    if was is not None and now is not None and was != now:
        yield Change(new.id, _sense(was, now), f"limit {old.limit_text} to {new.limit_text}")
    if isinstance(old, Budget) and isinstance(new, Budget):
        if old.carries != new.carries:
            text = f"rollover {old.text(old.carries)} to {new.text(new.carries)}"
            yield Change(new.id, _sense(old.carries, new.carries), text)
        dated = [[(day, each.limit) for day, each in rule.later] for rule in (old, new)]
        if dated[0] != dated[1]:
            yield Change(new.id, Sense.OTHER_USAGE, "other amounts from later days on")
    if isinstance(old, Ratio) and isinstance(new, Ratio) and old.max_age != new.max_age:
        yield Change(new.id, Sense.TIMING, f"guard max_age {old.max_age} to {new.max_age}")
    for name, measured in _ASKED.get(type(new), {}).items():
        before, after = (measured(rule) for rule in (old, new))
        if before != after:
            yield Change(new.id, _sense(before, after), f"{name} is another")


_ASKED: Final[Mapping[type[Rule], Mapping[str, Callable[[Any], float]]]] = {
    Ratio: {
        "guard min_denominator": lambda rule: rule.min_denominator,
        "guard min_numerator": lambda rule: rule.min_numerator,
    },
    Spike: {
        "sensitivity, or times,": lambda rule: rule.asked.score,
        "guard min_increase": lambda rule: rule.asked.times,
        "guard min_day_share": lambda rule: rule.asked.day_share,
        "cool_down": lambda rule: rule.asked.cool_hours,
    },
    MixDrift: {
        "guard min_requests": lambda rule: rule.min_requests,
        "unlisted": lambda rule: not rule.tells_unlisted,
    },
    Forecast: {
        "confidence": lambda rule: rule.confidence,
        "min_history": lambda rule: rule.min_history.days,
    },
}
"""What rules of a kind ask for before they tell: the more, the looser they are."""


def _sense(before: float, after: float) -> Sense:
    return Sense.TIGHTENED if after < before else Sense.LOOSENED


def _mode(old: Rule, new: Rule) -> Iterator[Change]:
    if old.mode is new.mode:
        return
    risen = _ORDER.index(new.mode) > _ORDER.index(old.mode)
    text = f"mode {old.mode} to {new.mode}"
    yield Change(new.id, Sense.TIGHTENED if risen else Sense.LOOSENED, text)
    if new.mode is Mode.ENFORCE and new.actions:
        yield Change(new.id, Sense.ENFORCED, f"it acts now: {_actions(new.actions.values())}")


def _thresholds(old: Rule, new: Rule) -> Iterator[Change]:
    if old.unit is not new.unit or old.thresholds == new.thresholds:
        return
    was, now = (_levels(rule.thresholds) for rule in (old, new))
    for level in sorted({*was, *now}):
        before, after = was.get(level), now.get(level)
        if before is None or after is None:
            there = after or before
            sense = Sense.LOOSENED if after is None else Sense.TIGHTENED
            verb = "no more" if after is None else "now, too"
            yield Change(new.id, sense, f"{level} {verb} at {there.at if there else ''}")
        elif before.amount != after.amount and (
            before.at != after.at or _limit(old) == _limit(new)
        ):
            sense = Sense.TIGHTENED if after.amount < before.amount else Sense.LOOSENED
            yield Change(
                new.id, sense, f"{level} at {_amount(old, before)} to {_amount(new, after)}"
            )


def _levels(thresholds: Iterable[Threshold]) -> dict[str, Threshold]:
    """Return the first threshold of each level."""
    found: dict[str, Threshold] = {}
    for threshold in thresholds:
        found.setdefault(str(threshold.level), threshold)
    return found


def _amount(rule: Rule, threshold: Threshold) -> str:
    """Return a threshold as it is written, with what that is."""
    share = "%" in threshold.at and isinstance(rule, Budget | Forecast)
    return f"{threshold.at} ({rule.text(threshold.amount)})" if share else threshold.at


def _limit(rule: Rule) -> int | None:
    return rule.limit if isinstance(rule, Budget | Forecast) else None


def _acts(old: Rule, new: Rule) -> Iterator[Change]:
    for name, action in new.actions.items():
        before = old.actions.get(name)
        if before is None:
            sense = Sense.ENFORCED if new.mode is Mode.ENFORCE else Sense.TIGHTENED
            if old.mode is new.mode:
                yield Change(new.id, sense, f"a new action: {_actions([action])}")
        elif before != action:
            sense = Sense.TIGHTENED if _harder(before, action) else Sense.LOOSENED
            yield Change(new.id, sense, f"{_actions([before])} to {_actions([action])}")
    for name in old.actions.keys() - new.actions.keys():
        yield Change(new.id, Sense.LOOSENED, f"no action {name} any more")
    due, later = (_due(rule) for rule in (old, new))
    for name in sorted(due.keys() & later.keys()):
        if due[name].at != later[name].at and _limit(old) == _limit(new):
            sense = Sense.TIGHTENED if later[name].amount < due[name].amount else Sense.LOOSENED
            yield Change(new.id, sense, f"{name} at {due[name].at} to {later[name].at}")


def _harder(was: Action, now: Action) -> bool:
    """Return whether an action is felt more than it was: a harder deed, a lower rate, by more."""
    deeds = [_HARDNESS.index(each.do) for each in (was, now)]
    if deeds[0] != deeds[1]:
        return deeds[0] < deeds[1]
    if was.rate and now.rate and was.rate != now.rate:
        return now.rate.requests * was.rate.span < was.rate.requests * now.rate.span
    if was.percent != now.percent:
        return was.percent < now.percent
    return (was.manual, bool(was.most)) > (now.manual, bool(now.most))


_HARDNESS: Final = (Deed.DOWNGRADE, Deed.THROTTLE, Deed.BLOCK)


def _due(rule: Rule) -> dict[str, Threshold]:
    """Return the threshold at which each action is due."""
    found: dict[str, Threshold] = {}
    for threshold in rule.thresholds:
        for name in threshold.actions:
            found.setdefault(name, threshold)
    return found


def _actions(actions: Iterable[Action]) -> str:
    return ", ".join(f"{each.name}: {each}{_bounds(each)}" for each in actions)


def _bounds(action: Action) -> str:
    """Return within what an action keeps, as far as it says so."""
    said = [
        f"percent {action.percent}%" if action.percent < EVERY_ONE else "",
        f"max_affected {action.most}" if action.most else "",
        "approval manual" if action.manual else "",
        f"announce {action.announce}" if action.announce else "",
        "early" if action.early else "",
    ]
    return "".join(f", {text}" for text in said if text)
