"""The rules that are judged from time to time: what they are made of, and when they are due."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from governor import telemetry
from governor.core.alerts import Health
from governor.core.errors import GovernorError, TransientError
from governor.core.gauges import AbsenceGauge, RatioGauge, Readings, Sighting, Told
from governor.core.rules.absence import Absence
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.totals import Mask, Sums
from governor.loops.evaluate.ledger import Sources

FORGET_EVERY: Final = timedelta(hours=6)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_log = structlog.get_logger()


class Gauging:
    """The gauges of some rules. `complete` says until when all usage is known; None for unknown."""

    def __init__(
        self,
        ledger: Sources,
        rules: Iterable[Rule],
        now: datetime,
        complete: Callable[[], datetime | None],
    ) -> None:
        self._ledger = ledger
        self._complete = complete
        self._gauges: dict[str, RatioGauge | AbsenceGauge] = {}
        self._queries: dict[str, Query] = {}
        self._due: dict[str, datetime] = {}
        self._forget_at = now + FORGET_EVERY
        for rule in rules:
            self._put(rule, now)
        gauges = self._gauges.values()
        self._adding = _by_mask((gauge.mask, gauge) for gauge in gauges)
        self._seeing = _by_mask((gauge.seen_mask, gauge) for gauge in gauges)
        self._fill(now)

    @property
    def masks(self) -> Sequence[Mask]:
        """The sets of dimensions by which usage must be added."""
        return list(self._adding)

    @property
    def seen_masks(self) -> Sequence[Mask]:
        """The sets of dimensions of which it must be told when they were seen."""
        return list(self._seeing)

    @property
    def due_at(self) -> datetime | None:
        """When a rule is due next; None for never."""
        return min(self._due.values(), default=None)

    def add(self, mask: Mask, rows: Sequence[Sums]) -> None:
        """Take in usage."""
        for gauge in self._adding.get(mask, ()):
            gauge.add(rows)

    def see(self, mask: Mask, rows: Sequence[Sighting]) -> None:
        """Take in who was seen."""
        for gauge in self._seeing.get(mask, ()):
            gauge.see(rows)

    def due(self, now: datetime, questions: int) -> list[str]:
        """Return the rules that are due, at most so many `questions` among them."""
        if now >= self._forget_at:
            self._forget_at = now + FORGET_EVERY
            for gauge in self._gauges.values():
                gauge.forget(now)
        found = sorted((at, name) for name, at in self._due.items() if at <= now)
        asking = [name for _, name in found if name in self._queries]
        waiting = set(asking[questions:])
        return [name for _, name in found if name not in waiting]

    def judged(self, name: str, now: datetime) -> None:
        """Let a rule be due again after its next span."""
        self._due[name] = _next(now, self._every(name))

    def read(self, name: str, now: datetime) -> Readings:
        """Return the numbers of a rule. May raise TransientError, where the store is not ready."""
        rule = self._queries.get(name)
        try:
            return self._asked(rule, now) if rule else self._measured(self._gauges[name], now)
        except TransientError:
            raise
        except GovernorError as error:
            telemetry.EVALUATIONS_FAILED.labels(name).inc()
            _log.warning("rule.failed", rule=name, error=str(error))
            return Readings({}, Health.ERROR)

    def _measured(self, gauge: RatioGauge | AbsenceGauge, now: datetime) -> Readings:
        at = now - gauge.rule.settle
        if isinstance(gauge, AbsenceGauge):
            complete = self._complete()
            return gauge.read(at, None if complete is None else complete - gauge.rule.settle)
        if not gauge.rule.denominator.is_told:
            return gauge.read(at, Told(at))
        fresh_to = self._ledger.stated_until(gauge.rule, at)
        if fresh_to is None:
            return gauge.read(at, Told())
        groups = self._ledger.stated(gauge.rule, *gauge.window(at, fresh_to))
        return gauge.read(at, Told(fresh_to, groups))

    def _asked(self, rule: Query, now: datetime) -> Readings:
        at = now - rule.settle
        groups = self._ledger.answer(rule, at - rule.window, at)
        return Readings(dict(groups), None if rule.below else 0)  # no row is a sum over nothing

    def _every(self, name: str) -> timedelta:
        rule: Rule = self._queries.get(name) or self._gauges[name].rule
        return rule.every

    def _put(self, rule: Rule, now: datetime) -> None:
        if isinstance(rule, Ratio):
            self._gauges[rule.id] = RatioGauge(rule)
        elif isinstance(rule, Absence):
            self._gauges[rule.id] = AbsenceGauge(rule)
        elif isinstance(rule, Query):
            self._queries[rule.id] = rule
        else:
            return
        self._due[rule.id] = _next(now, rule.every)

    def _fill(self, now: datetime) -> None:
        """Take in what is stored of the windows."""
        for gauge in self._gauges.values():
            start = gauge.starts(now)
            if gauge.mask is not None and isinstance(gauge, RatioGauge):
                gauge.add(self._ledger.sums_since(gauge.mask, start, gauge.rule.cell))
            if gauge.seen_mask is not None:
                gauge.see(self._ledger.seen(gauge.seen_mask, start))


def reading_at(ledger: Sources, rule: Rule, at: datetime) -> Readings:
    """Return the numbers of one rule at a time, from what a ledger knew then."""
    return Gauging(ledger, [rule], at, lambda: at).read(rule.id, at)


def _by_mask(
    named: Iterable[tuple[Mask | None, RatioGauge | AbsenceGauge]],
) -> Mapping[Mask, list[RatioGauge | AbsenceGauge]]:
    found: dict[Mask, list[RatioGauge | AbsenceGauge]] = {}
    for mask, gauge in named:
        if mask is not None:
            found.setdefault(mask, []).append(gauge)
    return found


def _next(now: datetime, every: timedelta) -> datetime:
    """Return the next multiple of a span, so that restarts move no evaluation."""
    return _EPOCH + ((now - _EPOCH) // every + 1) * every
