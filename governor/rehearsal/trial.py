"""A test of rules carried out: what happened beside what was to happen, and what differs."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Final

from governor.core.periods import BUCKET
from governor.core.rules.budget import Budget, Measure
from governor.core.totals import Mask, Sums
from governor.rehearsal import Rehearsal
from governor.rehearsal.rows import directed_row, line_row, told_row
from governor.rehearsal.testfile import Test, Usage, Wanted

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


def carry_out(test: Test, rules: Sequence[Budget]) -> Outcome:
    """Run a test on rules."""
    rehearsal = Rehearsal(rules, test.start)
    for at, together in groupby(_in_order(test.usage), key=lambda due: due[0]):
        usage = [each for _, _, each in together]
        now = test.start + at
        rehearsal.use(now, {mask: [_sums(mask, now, u) for u in usage] for mask in rehearsal.masks})
    rehearsal.pass_to(test.start + test.until)
    found: dict[str, list[dict[str, Any]]] = {
        "transitions": [line_row(line, rehearsal.rules[line.key.rule]) for line in rehearsal.lines],
        "actions": [directed_row(directed) for directed in rehearsal.directed],
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


def _in_order(usage: Sequence[Usage]) -> Iterator[tuple[timedelta, int, Usage]]:
    return heapq.merge(*(_due(number, each) for number, each in enumerate(usage)))


def _due(number: int, usage: Usage) -> Iterator[tuple[timedelta, int, Usage]]:
    return ((at, number, usage) for at in usage.repeated())


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
    "actions": ("rule", "action", "effect", "each", "rate"),
    "messages": ("rule", "op", "level", "text"),
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


def span_text(span: timedelta) -> str:
    """Write a span as test files have it: `1h40m`."""
    seconds = int(span.total_seconds())
    parts = []
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        many, seconds = divmod(seconds, size)
        parts += [f"{many}{unit}"] if many else []
    return "".join(parts) or "0s"
