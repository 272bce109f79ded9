"""A backtest: rules over what was used, minute by minute, and what they would have done."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from governor.core.alerts import What
from governor.core.decisions import Line
from governor.core.rules.shared import Mode, Rule
from governor.core.rules.units import Unit
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums
from governor.rehearsal import Directed, Rehearsal
from governor.rehearsal.memory import Before, Facts
from governor.rehearsal.rows import directed_row, line_row

History = Iterable[tuple[int, Mapping[Mask, Sequence[Sums]]]]
"""Minutes with usage, in microseconds since 1970 and in order, each with its sums by mask."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MAX_SAMPLED: Final = 200
"""Groups whose amounts are noted at a time, the greatest."""
SAID_EVERY: Final = 1_000
"""Minutes of history between two words on how far it is."""


@dataclass(frozen=True, slots=True)
class Throttled:
    """A throttle that would have held from `began` to `ended`; None where it still would.

    `past_nano` is what the rule's group cost in this time: the most that the throttle could have
    avoided. None where the rule does not count cost.
    """

    rule: str
    scope: Mapping[str, Any]
    action: str
    does: str
    shadow: bool
    began: datetime
    ended: datetime | None
    past_nano: int | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What a group of a rule had come to at a time."""

    at: datetime
    rule: str
    group: Key
    amount: int


@dataclass(frozen=True, slots=True)
class Backtest:
    """What rules would have done over a span of history."""

    start: datetime
    end: datetime
    transitions: tuple[Mapping[str, Any], ...]
    throttles: tuple[Throttled, ...]
    posts: int
    updates: int
    samples: tuple[Sample, ...]
    fired: Mapping[str, int]
    """How many alerts of each rule fired; rules that never did, too."""


def run(
    rules: Iterable[Rule],
    history: Callable[[Sequence[Mask]], History],
    start: datetime,
    end: datetime,
    said: Callable[[datetime], None] = lambda _: None,
    *,
    facts: Facts | None = None,
    before: Before | None = None,
    sampled: timedelta | None = None,
) -> Backtest:
    """Run rules over the history of [`start`, `end`); `history` is asked by the rules' masks.

    `facts` answer what rules ask, `before` is what was used before `start`. Amounts are noted once
    every `sampled`; None for never.
    """
    rehearsal = Rehearsal(rules, start, facts, before)
    samples: list[Sample] = []
    due = start
    for number, (minute_us, rows) in enumerate(history(rehearsal.masks)):
        now = _EPOCH + timedelta(microseconds=minute_us)
        rehearsal.use(max(now, start), rows)
        if sampled and now >= due:
            samples += _sampled(rehearsal, now)
            due = now + sampled
        if number % SAID_EVERY == 0:
            said(now)
    rehearsal.pass_to(end)
    lines = [line_row(line, rehearsal.rules[line.key.rule]) for line in rehearsal.lines]
    fired = Counter(row["rule"] for row in lines if row["what"] == What.FIRED.value)
    return Backtest(
        start=start,
        end=end,
        transitions=tuple(lines),
        throttles=tuple(_throttles(rehearsal)),
        posts=sum(told.first for told in rehearsal.told),
        updates=sum(not told.first for told in rehearsal.told),
        samples=tuple(samples),
        fired={name: fired.get(name, 0) for name in rehearsal.rules},
    )


def _sampled(rehearsal: Rehearsal, now: datetime) -> list[Sample]:
    return [
        Sample(now, rule.id, group, amount)
        for rule, group, amount in rehearsal.amounts(MAX_SAMPLED)
    ]


def as_mode(rules: Iterable[Rule], mode: Mode) -> list[Rule]:
    """Return rules as if they had another mode."""
    return [replace(rule, mode=mode) for rule in rules]


def _throttles(rehearsal: Rehearsal) -> Iterable[Throttled]:
    began: dict[str, tuple[Directed, int | None]] = {}
    ended: dict[str, datetime] = {}
    lines: dict[str | None, list[Line]] = {}
    for line in rehearsal.lines:
        lines.setdefault(line.key.id, []).append(line)
    for directed in rehearsal.directed:
        directive = directed.directive
        if directive.acts:
            measured = rehearsal.rules[directive.rule].unit is Unit.COST
            amount = _amount_at(lines.get(directive.alert, ()), directed.at) if measured else None
            began.setdefault(directive.id, (directed, amount))
            ended.pop(directive.id, None)
        else:
            ended[directive.id] = directed.at
    for name, (directed, amount) in began.items():
        last = _last_amount(lines.get(directed.directive.alert, ()), directed.at)
        row = directed_row(directed)
        yield Throttled(
            rule=row["rule"],
            scope=row["scope"],
            action=row["action"],
            does=directed.directive.deed,
            shadow=directed.directive.shadow,
            began=directed.at,
            ended=ended.get(name),
            past_nano=None if amount is None or last is None else max(0, last - amount),
        )


def _amount_at(lines: Sequence[Line], at: datetime) -> int | None:
    """Return what the group of an alert had come to when a throttle began."""
    found = [line.transition.amount for line in lines if line.transition.at == at]
    return found[-1] if found else None


def _last_amount(lines: Sequence[Line], since: datetime) -> int | None:
    """Return what the group of an alert came to when it ended."""
    after = (line.transition for line in lines if line.transition.at > since)
    return next((each.amount for each in after if each.what is What.RESOLVED), None)


def differences(
    before: Backtest, after: Backtest
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return what only the first and what only the second would have done."""
    one, other = ({_named(row): row for row in each.transitions} for each in (before, after))
    return (
        [row for name, row in one.items() if name not in other],
        [row for name, row in other.items() if name not in one],
    )


def _named(row: Mapping[str, Any]) -> tuple[Any, ...]:
    group = tuple(sorted((key, value or "") for key, value in row["group"].items()))
    return (row["rule"], group, row["period"], row["what"], row["level"], row["threshold"])
