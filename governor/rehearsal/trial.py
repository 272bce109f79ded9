"""A test of rules carried out: what happened beside what was to happen, and what differs."""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from governor.core.business import BUSINESS_DIMENSIONS
from governor.core.periods import BUCKET
from governor.core.routing import Routing
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.rules.units import Measure, span_text
from governor.core.scopes import DIMENSIONS
from governor.core.totals import Mask, Sums
from governor.rehearsal import Rehearsal
from governor.rehearsal.memory import Notebook
from governor.rehearsal.rows import directed_row, line_row, told_row
from governor.rehearsal.testfile import BESIDE, Stated, Test, Usage, Wanted

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Difference:
    """What was to happen and did not (`missing`), or happened and was not to (`extra`)."""

    kind: str
    missing: str | None
    extra: str | None
    line: int = 0

    def __str__(self) -> str:
        return f"- {self.missing}" if self.missing is not None else f"+ {self.extra}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a test."""

    test: Test
    differences: tuple[Difference, ...]
    happened: Mapping[str, Sequence[str]]

    @property
    def passed(self) -> bool:
        """Whether all happened that was to, and nothing else."""
        return not self.differences


def carry_out(
    test: Test,
    rules: Sequence[Rule],
    notebook: Callable[[], Notebook],
    routing: Routing | None = None,
) -> Outcome:
    """Run a test on rules; where one asks questions, a fresh `notebook` answers them."""
    run = [rule for rule in rules if not test.only or rule.id in test.only]
    with _facts(run, notebook) as facts:
        rehearsal = Rehearsal(run, test.start, facts, routing=routing)
        for at, together in groupby(_in_order(test), key=lambda due: due[0]):
            _happen(rehearsal, facts, test.start + at, [each for _, _, each in together])
        rehearsal.pass_to(test.start + test.until)
    found: dict[str, list[dict[str, Any]]] = {
        "transitions": [line_row(line, rehearsal.rules[line.key.rule]) for line in rehearsal.lines],
        "actions": [
            directed_row(directed)
            for directed in rehearsal.directed
            if not directed.directive.shadow
        ],
        "messages": [told_row(told) for told in rehearsal.told],
    }
    differences: list[Difference] = []
    for kind, wanted in (
        ("transitions", test.transitions),
        ("actions", test.actions),
        ("messages", test.messages),
    ):
        if wanted is not None:
            differences += _compared(kind, wanted, found[kind], test.start)
    return Outcome(
        test,
        tuple(differences),
        {kind: [_text(kind, row, test.start) for row in rows] for kind, rows in found.items()},
    )


@contextmanager
def _facts(rules: Sequence[Rule], notebook: Callable[[], Notebook]) -> Iterator[Notebook | None]:
    """Give a notebook where a rule asks questions."""
    asks = any(
        isinstance(rule, Query) or (isinstance(rule, Ratio) and rule.denominator.is_told)
        for rule in rules
    )
    if not asks:
        yield None
        return
    with closing(notebook()) as facts:
        yield facts


def _in_order(test: Test) -> Iterator[tuple[timedelta, int, Usage | Stated]]:
    everything: tuple[Usage | Stated, ...] = (*test.usage, *test.business)
    return heapq.merge(*(_due(number, each) for number, each in enumerate(everything)))


def _due(number: int, each: Usage | Stated) -> Iterator[tuple[timedelta, int, Usage | Stated]]:
    return ((at, number, each) for at in each.repeated())


def _happen(
    rehearsal: Rehearsal, facts: Notebook | None, now: datetime, together: Sequence[Usage | Stated]
) -> None:
    usage = [each for each in together if isinstance(each, Usage)]
    stated = [each for each in together if isinstance(each, Stated)]
    rehearsal.pass_to(now)
    if facts is not None:
        facts.tell(_stated_row(each, now) for each in stated)
        facts.use(_usage_row(each, now) for each in usage)
    if usage:
        rehearsal.use(now, {mask: [_sums(mask, now, u) for u in usage] for mask in rehearsal.masks})


def _usage_row(usage: Usage, now: datetime) -> dict[str, Any]:
    cost = usage.amounts[Measure.COST]
    return {
        "event_time": now,
        **{name: usage.values.get(name) for name in (*DIMENSIONS, *BESIDE)},
        "requests": usage.amounts[Measure.REQUESTS],
        "input_tokens": usage.amounts[Measure.TOKENS],
        "cost_nano": None if usage.unpriced else cost,
        "cap_nano": cost,
    }


def _stated_row(stated: Stated, now: datetime) -> dict[str, Any]:
    return {
        "event_time": now - stated.covers,
        "until": now if stated.covers else None,
        "measure": stated.measure,
        "op": "insert",
        "amount": stated.amount,
        "currency": "USD",
        **{name: stated.values.get(name) for name in BUSINESS_DIMENSIONS},
    }


def _sums(mask: Mask, now: datetime, usage: Usage) -> Sums:
    bucket_us = (now - _EPOCH) // BUCKET * (BUCKET // _MICROSECOND)
    values = (usage.values.get(dimension) for dimension in mask)
    return (bucket_us, *values, *(usage.amounts[measure] for measure in Measure))


def _compared(
    kind: str, wanted: Sequence[Wanted], rows: Sequence[Mapping[str, Any]], start: datetime
) -> Iterator[Difference]:
    left = list(wanted)
    for row in rows:
        fitting = next((each for each in left if _fits(each, row, start)), None)
        if fitting is None:
            yield Difference(kind, None, _text(kind, row, start))
        else:
            left.remove(fitting)
    for each in left:
        yield Difference(kind, _wanted_text(kind, each), None, each.line)


def _fits(wanted: Wanted, row: Mapping[str, Any], start: datetime) -> bool:
    if wanted.at is not None and row["at"] - start != wanted.at:
        return False
    for name, value in wanted.fields.items():
        if name == "contains":
            if value not in row["text"]:
                return False
        elif name == "group":
            if {key: "" if v is None else v for key, v in row["group"].items()} != value:
                return False
        elif (row.get(name) or "") != value:
            return False
    return True


_SHOWN: Final = {
    "transitions": ("rule", "group", "what", "level", "threshold", "value", "reason"),
    "actions": ("rule", "action", "effect", "each", "rate", "does"),
    "messages": ("rule", "op", "to", "level", "text"),
}


def _text(kind: str, row: Mapping[str, Any], start: datetime) -> str:
    """Return what happened as an entry of a test file."""
    shown = {name: row[name] for name in _SHOWN[kind] if row[name]}
    if "text" in shown:
        shown["contains"] = shown.pop("text")
    return _entry(row["at"] - start, shown)


def _wanted_text(kind: str, wanted: Wanted) -> str:
    return _entry(wanted.at, wanted.fields) if kind else ""


def _entry(at: timedelta | None, fields: Mapping[str, Any]) -> str:
    told = [f"at: {span_text(at)}"] if at is not None else []
    for name, value in fields.items():
        if isinstance(value, Mapping):
            inside = ", ".join(
                f"{key}: {_quoted('' if v is None else str(v))}" for key, v in value.items()
            )
            told.append(f"{name}: {{{inside}}}")
        else:
            told.append(f"{name}: {_quoted(str(value))}")
    return f"{{{', '.join(told)}}}"


def _quoted(text: str) -> str:
    plain = text and not set(text) & set("{}[],:#&*!|>'\"%@`") and text == text.strip()
    return text if plain else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
