"""Two rulebooks compared by what they mean: what is new, gone, loosened, tightened, enforced."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from governor.core.notifications import amount_text
from governor.core.rules.budget import Budget, Threshold
from governor.core.rules.shared import Mode, Throttle

_ORDER = tuple(Mode)


class Sense(StrEnum):
    """Which way a change goes."""

    NEW = "new"
    GONE = "gone"
    ENFORCED = "enforced"
    TIGHTENED = "tightened"
    LOOSENED = "loosened"
    OTHER_USAGE = "other_usage"
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one rule, in words."""

    rule: str
    sense: Sense
    text: str


def compare(before: Iterable[Budget], after: Iterable[Budget]) -> list[Change]:
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


def _added(rule: Budget) -> Iterator[Change]:
    yield Change(rule.id, Sense.NEW, f"a new rule of mode {rule.mode}: {rule.limit_text}")
    if rule.mode is Mode.ENFORCE and rule.actions:
        yield Change(rule.id, Sense.ENFORCED, f"it acts: {_actions(rule.actions.values())}")


def _changes(old: Budget, new: Budget) -> Iterator[Change]:
    yield from _mode(old, new)
    if old.meaning != new.meaning:
        yield Change(new.id, Sense.OTHER_USAGE, "counts other usage, groups or periods than before")
    elif old.limit != new.limit:
        sense = Sense.TIGHTENED if new.limit < old.limit else Sense.LOOSENED
        yield Change(new.id, sense, f"limit {old.limit_text} to {new.limit_text}")
    yield from _thresholds(old, new)
    if old.hold != new.hold:
        sense = Sense.TIGHTENED if new.hold < old.hold else Sense.LOOSENED
        yield Change(new.id, sense, f"for {old.hold} to {new.hold}")
    yield from _acts(old, new)
    for name in ("owner", "summary", "runbook"):
        if getattr(old, name) != getattr(new, name):
            yield Change(new.id, Sense.WORDS, f"another {name}")


def _mode(old: Budget, new: Budget) -> Iterator[Change]:
    if old.mode is new.mode:
        return
    risen = _ORDER.index(new.mode) > _ORDER.index(old.mode)
    text = f"mode {old.mode} to {new.mode}"
    yield Change(new.id, Sense.TIGHTENED if risen else Sense.LOOSENED, text)
    if new.mode is Mode.ENFORCE and new.actions:
        yield Change(new.id, Sense.ENFORCED, f"it acts now: {_actions(new.actions.values())}")


def _thresholds(old: Budget, new: Budget) -> Iterator[Change]:
    if old.measure is not new.measure or old.thresholds == new.thresholds:
        return
    was, now = (_levels(rule.thresholds) for rule in (old, new))
    for level in sorted({*was, *now}):
        before, after = was.get(level), now.get(level)
        if before is None or after is None:
            there = after or before
            sense = Sense.LOOSENED if after is None else Sense.TIGHTENED
            verb = "no more" if after is None else "now, too"
            yield Change(new.id, sense, f"{level} {verb} at {there.at if there else ''}")
        elif before.amount != after.amount and (before.at != after.at or old.limit == new.limit):
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


def _amount(rule: Budget, threshold: Threshold) -> str:
    """Return a threshold as it is written, with what that is."""
    amount = amount_text(rule.measure, threshold.amount)
    return f"{threshold.at} ({amount})" if "%" in threshold.at else threshold.at


def _acts(old: Budget, new: Budget) -> Iterator[Change]:
    for name, action in new.actions.items():
        before = old.actions.get(name)
        if before is None:
            sense = Sense.ENFORCED if new.mode is Mode.ENFORCE else Sense.TIGHTENED
            if old.mode is new.mode:
                yield Change(new.id, sense, f"a new action: {_actions([action])}")
        elif before != action:
            was, now = before.rate, action.rate
            slower = now.requests * was.span < was.requests * now.span
            sense = Sense.TIGHTENED if slower else Sense.LOOSENED
            yield Change(new.id, sense, f"{_actions([before])} to {_actions([action])}")
    for name in old.actions.keys() - new.actions.keys():
        yield Change(new.id, Sense.LOOSENED, f"no action {name} any more")
    due, later = (_due(rule) for rule in (old, new))
    for name in sorted(due.keys() & later.keys()):
        if due[name].at != later[name].at and old.limit == new.limit:
            sense = Sense.TIGHTENED if later[name].amount < due[name].amount else Sense.LOOSENED
            yield Change(new.id, sense, f"{name} at {due[name].at} to {later[name].at}")


def _due(rule: Budget) -> dict[str, Threshold]:
    """Return the threshold at which each action is due."""
    found: dict[str, Threshold] = {}
    for threshold in rule.thresholds:
        for name in threshold.actions:
            found.setdefault(name, threshold)
    return found


def _actions(actions: Iterable[Throttle]) -> str:
    return ", ".join(
        f"{each.name}: throttle to {each.rate}" + (f" for each {each.each}" if each.each else "")
        for each in actions
    )
