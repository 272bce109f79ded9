"""Reach: how many an action touches, of all that its rule watches; the blast radius."""

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from governor.core.gauges.shared import Groups, Sighting
from governor.core.rules.actions import Most
from governor.core.rules.shared import Rule
from governor.core.scopes import Key, mask_of
from governor.core.totals import Mask

WATCHED_FOR: Final = timedelta(days=7)
"""Who used anything of what a rule is about in this time is watched by it."""


def reach_mask(rule: Rule, of: str) -> Mask:
    """Return the dimensions that must be seen to know whom a rule reaches."""
    return mask_of((*rule.mask, of))


class Reach:
    """The values of the dimension `of` by group of a rule, as they were seen of late."""

    def __init__(self, rule: Rule, of: str, seen: Iterable[Sighting]) -> None:
        mask = reach_mask(rule, of)
        groups, place = Groups(rule, mask), mask.index(of)
        self._place = rule.per.index(of) if of in rule.per else None
        self._values: dict[Key, set[str]] = {}
        watched: set[str] = set()
        for *values, _ in seen:
            group, value = groups.of(tuple(values)), values[place]
            if group is None or value is None:
                continue
            watched.add(value)
            if self._place is None:
                self._values.setdefault(group, set()).add(value)
        self.watched = len(watched)

    def of(self, group: Key) -> frozenset[str]:
        """Return whom an action on a group touches; a group of its own where nobody was seen."""
        if self._place is not None:
            return frozenset({group[self._place] or ""})
        return frozenset(self._values.get(group, ()))


def refusal(most: Most, reach: Reach, touched: set[str], group: Key) -> str | None:
    """Return why an action may not touch a group, too; None where it may."""
    would = len(touched | reach.of(group))
    limit = most.limit(reach.watched)
    if would <= limit:
        return None
    return (
        f"it would be {would:,} of {reach.watched:,} by {most.of} that the rule watches,"
        f" and max_affected allows {limit:,}"
    )
