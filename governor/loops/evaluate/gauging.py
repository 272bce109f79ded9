"""The rules that are judged from time to time: what they are made of, and when they are due."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

import structlog

from governor import telemetry
from governor.core import stories
from governor.core.alerts import Health
from governor.core.errors import GovernorError, TransientError
from governor.core.gauges.absence import AbsenceGauge
from governor.core.gauges.forecast import ForecastGauge
from governor.core.gauges.history import Exemption
from governor.core.gauges.mix_drift import MixGauge
from governor.core.gauges.ratio import RatioGauge
from governor.core.gauges.shared import Readings, Sighting, Told
from governor.core.gauges.spike import SpikeGauge
from governor.core.rules.absence import Absence
from governor.core.rules.forecast import Forecast
from governor.core.rules.mix_drift import MixDrift
from governor.core.rules.query import Query
from governor.core.rules.ratio import Ratio
from governor.core.rules.shared import Rule
from governor.core.rules.spike import Spike
from governor.core.scopes import Key
from governor.core.stories import Story
from governor.core.totals import Mask, Sums
from governor.loops.evaluate.ledger import Sources

FORGET_EVERY: Final = timedelta(hours=6)
MANY_MISSED: Final = 24
"""Hours of the past that came late, from which on a spike is learned anew."""
CAUGHT_UP: Final = timedelta(seconds=30)
"""How long nothing of the past must have come for that."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Gauge: TypeAlias = RatioGauge | AbsenceGauge | SpikeGauge | MixGauge | ForecastGauge

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
        self._gauges: dict[str, Gauge] = {}
        self._queries: dict[str, Query] = {}
        self._due: dict[str, datetime] = {}
        self._forget_at = now + FORGET_EVERY
        self._missed: dict[str, tuple[int, datetime]] = {}
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
        self._catch_up(now)
        found = sorted((at, name) for name, at in self._due.items() if at <= now)
        asking = [name for _, name in found if name in self._queries]
        waiting = set(asking[questions:])
        return [name for _, name in found if name not in waiting]

    def _catch_up(self, now: datetime) -> None:
        """Begin anew with spikes for which much of the past came by now: a topic that is replayed.

        That is done once no more of it comes.
        """
        for name, gauge in self._gauges.items():
            if not isinstance(gauge, SpikeGauge) or len(gauge.missed) < MANY_MISSED:
                continue
            many, since = self._missed.get(name, (0, now))
            if len(gauge.missed) > many:
                self._missed[name] = (len(gauge.missed), now)
            elif now - since >= CAUGHT_UP:
                self._missed.pop(name)
                gauge.restart()
                self._take_history(gauge, now - gauge.rule.settle)
                _log.info("rule.learned_anew", rule=name, hours=many)

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

    def exempt(self, exemption: Exemption, now: datetime) -> None:
        """Take note of a span not to learn from; what was learned of it is undone."""
        gauge = self._gauges.get(exemption.rule)
        if not isinstance(gauge, SpikeGauge):
            return
        every = self._ledger.exemptions(exemption.rule)
        settled = now - gauge.rule.settle
        wanted = gauge.wanted(settled)
        if exemption.group is None or exemption.start >= settled:
            gauge.exempt(every)
        else:
            only = dict(zip(gauge.rule.per, exemption.group, strict=True))
            blocks = list(self._ledger.histories(replace(wanted, only=only)))
            gauge.renew(exemption.group, blocks, every)

    def story(self, rule: Rule, group: Key, now: datetime) -> Story | None:
        """Return what there is to say of how the number of a group came about."""
        gauge = self._gauges.get(rule.id)
        now -= rule.settle  # the time that it was read for
        if isinstance(gauge, SpikeGauge) and (excess := gauge.excess(group)):
            return stories.of_spike(gauge.rule, group, excess)
        if isinstance(gauge, MixGauge) and (moved := gauge.moved(group)):
            return stories.of_mix(gauge.rule, group, moved)
        if isinstance(gauge, ForecastGauge) and (ahead := gauge.ahead(group, now)):
            return stories.of_outlook(gauge.rule, group, ahead, now)
        return None

    def _measured(self, gauge: Gauge, now: datetime) -> Readings:
        at = now - gauge.rule.settle
        if isinstance(gauge, SpikeGauge | MixGauge | ForecastGauge):
            return gauge.read(at)
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
        elif isinstance(rule, Spike):
            self._gauges[rule.id] = SpikeGauge(rule)
        elif isinstance(rule, MixDrift):
            self._gauges[rule.id] = MixGauge(rule)
        elif isinstance(rule, Forecast):
            self._gauges[rule.id] = ForecastGauge(rule)
        elif isinstance(rule, Query):
            self._queries[rule.id] = rule
        else:
            return
        self._due[rule.id] = _next(now, rule.every)

    def _fill(self, now: datetime) -> None:
        """Take in what is stored of the windows."""
        for gauge in self._gauges.values():
            if isinstance(gauge, SpikeGauge | MixGauge | ForecastGauge):
                self._take_history(gauge, now - gauge.rule.settle)
                continue
            start = gauge.starts(now)
            if gauge.mask is not None and isinstance(gauge, RatioGauge):
                gauge.add(self._ledger.sums_since(gauge.mask, start, gauge.rule.cell))
            if gauge.seen_mask is not None:
                gauge.see(self._ledger.seen(gauge.seen_mask, start))

    def _take_history(self, gauge: SpikeGauge | MixGauge | ForecastGauge, at: datetime) -> None:
        blocks = self._ledger.histories(gauge.wanted(at))
        if isinstance(gauge, SpikeGauge):
            gauge.take(blocks, at, self._ledger.exemptions(gauge.rule.id))
        else:
            gauge.take(blocks)


def reading_at(ledger: Sources, rule: Rule, at: datetime) -> Readings:
    """Return the numbers of one rule at a time, from what a ledger knew then."""
    return Gauging(ledger, [rule], at, lambda: at).read(rule.id, at)


def _by_mask(
    named: Iterable[tuple[Mask | None, Gauge]],
) -> Mapping[Mask, list[Gauge]]:
    found: dict[Mask, list[Gauge]] = {}
    for mask, gauge in named:
        if mask is not None:
            found.setdefault(mask, []).append(gauge)
    return found


def _next(now: datetime, every: timedelta) -> datetime:
    """Return the next multiple of a span, so that restarts move no evaluation."""
    return _EPOCH + ((now - _EPOCH) // every + 1) * every
