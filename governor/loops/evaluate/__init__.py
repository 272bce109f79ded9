"""The evaluate loop: committed usage to alerts, what to tell and what gates must do.

It runs in the thread that owns the store, after each batch and on every tick. Totals live in
memory and are rebuilt from the store at the start and when rules change, so nothing here has to
survive a crash but what `Ledger.commit` stores.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from governor import telemetry
from governor.core.alerts import Alert, Ending, Phase, end
from governor.core.allowing import Allow
from governor.core.batches import Batch, Stored
from governor.core.books import Total
from governor.core.decisions import AuditRow, Line
from governor.core.directives import Directive
from governor.core.early import SAMPLE_EVERY, Early
from governor.core.gauges.shared import Sighting, sightings
from governor.core.raises import next_change, raised
from governor.core.routing import Routing
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode, Rule
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums, Totals, differences, summable, sums
from governor.core.verdicts import (
    greatest,
    judge_readings,
    judge_the_rest,
    judge_totals,
    rename,
    tell_held,
)
from governor.loops.evaluate.adding import added_up, overflow_notices
from governor.loops.evaluate.bounding import Bounding
from governor.loops.evaluate.directing import Directing
from governor.loops.evaluate.gauging import Gauging, reading_at
from governor.loops.evaluate.keeping import Keeping
from governor.loops.evaluate.ledger import Ledger
from governor.loops.evaluate.saying import MAX_SHOWN, say
from governor.loops.evaluate.why import Why

__all__ = ["Evaluate", "Ledger", "reading_at"]

MAX_QUESTIONS: Final = 1_000
STALE_AFTER: Final = timedelta(minutes=5)
AUDIT_EVERY: Final = timedelta(hours=1)
_log = structlog.get_logger()


class Evaluate(Directing):
    """Judges rules; used by one thread. `publish` is handed every directive once it is stored.

    `complete` says until when all usage is known; without it, that is always now. So many
    `questions` of rules are asked in one tick, since usage is not counted meanwhile. With `audits`
    the totals are compared with the ledger from time to time. Nothing begins to act on usage that
    is known later than `stale_after`; actions that are early lead by `lag_s`. `say` is handed what
    happened, once it is stored.
    """

    def __init__(
        self,
        ledger: Ledger,
        rules: Iterable[Rule],
        *,
        now: Callable[[], datetime],
        follow_events: bool,
        receivers: Sequence[str],
        publish: Callable[[Sequence[Directive]], None],
        complete: Callable[[], datetime | None] | None = None,
        routing: Routing | None = None,
        allows: Iterable[Allow] = (),
        questions: int = MAX_QUESTIONS,
        audits: bool = True,
        stale_after: timedelta = STALE_AFTER,
        lag_s: Callable[[], float] = lambda: 0.0,
        say: Callable[[Sequence[Line]], None] = say,
    ) -> None:
        self._ledger = ledger
        self._audits = audits
        self._complete = complete or self._now
        self._questions = questions
        self._sources = tuple(rules)
        self._allows = tuple(allows)
        self._rules: Mapping[str, Rule] = {}
        self._wall = now
        self._follow_events = follow_events
        self._event_now: datetime | None = None
        self._totals = Totals(())
        self._gauges = Gauging(ledger, (), datetime.min.replace(tzinfo=UTC), self._complete)
        self._reached: dict[Total, None] = {}
        self._bounding = Bounding(ledger, self._now, self._complete, stale_after)
        self._keeping = Keeping(
            ledger,
            receivers,
            routing or Routing(),
            publish=publish,
            say=say,
            bounds=self._bounding.bounds,
        )
        self._early = Early(lag_s)
        self._early_at: datetime | None = None
        self._next_rollover: datetime | None = None
        self._raise_ends: datetime | None = None
        self._next_audit: datetime | None = None

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules in force, by id, each with the amounts of now."""
        return self._rules

    @property
    def routing(self) -> Routing:
        """Who is told of what."""
        return self._keeping.routing

    @property
    def complete(self) -> datetime | None:
        """Until when all usage is stored; None where that is not known."""
        return self._complete()

    @property
    def masks(self) -> Sequence[Mask]:
        """The sets of dimensions by which usage must be added."""
        return list(dict.fromkeys((*self._totals.masks, *self._gauges.masks)))

    @property
    def seen_masks(self) -> Sequence[Mask]:
        """The sets of dimensions of which it must be told when they were seen."""
        return self._gauges.seen_masks

    @property
    def groups(self) -> int:
        """How many groups of budgets have used something in a period that is open."""
        return len(self._totals)

    @property
    def wakes_at(self) -> datetime | None:
        """When `tick` has something to do next, if nothing is used before; None for never.

        That is when a period ends, what must hold for a while has held, or a rule is due.
        """
        docket, routing = self._keeping.docket, self._keeping.routing
        unmuted = routing.next_change(self._now()) if docket.held else None
        others = (self._next_rollover, self._raise_ends, self._gauges.due_at, unmuted)
        return min([*docket.holding_until(self._rules), *filter(None, others)], default=None)

    @property
    def alerts(self) -> Sequence[tuple[Alert, int]]:
        """Alerts of periods that are not over, each with the amount of now."""
        return [(alert, self._amount(alert)) for alert in self._keeping.docket.alerts.values()]

    def amounts(self, most: int) -> list[tuple[Rule, Key, int]]:
        """Return what rules without groups and the greatest open alerts come to now."""
        return greatest(self._totals, self._keeping.docket, self._rules, self._now(), most)

    def begin(self) -> None:
        """Take up what is stored, add up the open periods, and judge everything once.

        Raise TransientError to be called again.
        """
        if self._follow_events and (newest := self._ledger.newest()):
            self._event_now = min(newest, self._wall())
        now = self._now()
        self._keeping.recall(now, {rule.id: rule for rule in self._sources})
        self._take_up(self._sources, now)

    def reload(
        self,
        rules: Iterable[Rule],
        audit: Sequence[AuditRow] = (),
        routing: Routing | None = None,
        allows: Iterable[Allow] = (),
    ) -> None:
        """Put other rules in force: alerts keep their state, and are judged by the new rules."""
        before, let = self._keeping.written, self._allows
        self._keeping.written, self._allows = routing or Routing(), tuple(allows)
        try:
            self._take_up(rules, self._now(), audit)
        except BaseException:
            self._keeping.written, self._allows = before, let
            raise

    def stored(self, batch: Batch, stored: Stored) -> None:
        """Add what a committed batch holds to the totals; `settle` judges what was reached."""
        self._see(batch)
        counted = summable(stored.counted)
        for mask in self.masks:
            self.add(mask, sums(counted, mask))
        for mask in self.seen_masks:
            self.see(mask, sightings(stored.counted, mask))

    def add(self, mask: Mask, rows: Sequence[Sums]) -> None:
        """Add usage by the dimensions of a mask of `masks`; `settle` judges what was reached."""
        if mask in self._totals.masks:
            for total in self._totals.add(mask, rows):
                self._reached[total] = None
        self._gauges.add(mask, rows)

    def see(self, mask: Mask, rows: Sequence[Sighting]) -> None:
        """Note who was seen, by the dimensions of a mask of `seen_masks`."""
        self._gauges.see(mask, rows)

    def missed(self, batch: Batch) -> None:
        """Add up anew: a batch is stored, and what it came to is not known.

        Raise TransientError to be called again.
        """
        self._see(batch)
        self.recount()

    def recount(self) -> None:
        """Add up anew: what is stored costs something else now. May raise TransientError."""
        self._take_up(self._sources, self._now())

    def settle(self) -> None:
        """Judge the totals that have reached a mark. Raise TransientError to be called again."""
        if self._reached:
            self._judge(self._reached, self._now())
            self._reached.clear()

    def tick(self) -> None:
        """Do what time brings: periods end, what must hold for a while has held, an audit is due.

        Raise TransientError to be called again.
        """
        now = self._now()
        self.settle()
        if self._keeping.take_recalled():
            self._next_rollover = None
        if self._raise_ends is not None and now >= self._raise_ends:
            self._take_up(self._sources, now)
        if self._next_rollover is None or now >= self._next_rollover:
            self._roll_over(now)
        if self._audits and (self._next_audit is None or now >= self._next_audit):
            self._audit_totals(now)
        waiting = [a for a in self._keeping.docket.alerts.values() if a.phase is Phase.PENDING]
        totals = [self._totals.get(alert.key.rule, alert.key.group) for alert in waiting]
        self._judge([total for total in totals if total is not None], now)
        self._judge_near(now)
        self._judge_gauges(self._gauges.due(now, self._questions), now)
        self._redirect(now)
        self._tell_held(now)

    def _tell_held(self, now: datetime) -> None:
        """Have people told of what was held back and is no more."""
        if self._keeping.docket.held:
            draft = self._keeping.draft(now, self._rules)
            tell_held(draft, self._keeping.docket)
            self._keeping.commit(draft)

    def drift(self) -> list[str]:
        """Compare the totals with the store; return one line for each that differs."""
        now = self._now()
        return differences(
            self._totals, added_up(self._ledger, self._judged(self._sources), now), now
        )

    def _take_up(
        self, rules: Iterable[Rule], now: datetime, audit: Sequence[AuditRow] = ()
    ) -> None:
        """Add up, judge all, end what no rule asks for; then let the new rules be in force."""
        before = self._sources, self._rules, self._totals, self._gauges
        self._sources = tuple(rules)
        judged = self._judged(self._sources)
        self._totals = added_up(self._ledger, judged, now)
        self._gauges = Gauging(self._ledger, judged, now, self._complete)
        self._rules = {rule.id: rule.of(now) for rule in judged}
        try:
            draft = self._keeping.draft(now, self._rules)
            rename(draft, self._keeping.docket, self._rules, now)
            self._keeping.commit(draft)
            self._judge(self._totals, now)
            draft = self._keeping.draft(now, self._rules)
            judge_the_rest(draft, self._keeping.docket, self._totals, self._rules, now)
            self._keeping.commit(draft)
            self._direct(now)
            for row in audit:
                self.audited(row)
        except BaseException:
            self._sources, self._rules, self._totals, self._gauges = before
            raise
        self._reached.clear()
        self._early.keep(self._rules)
        self._raise_ends = next_change(self._keeping.raises.values(), now)
        self._next_rollover = self._keeping.docket.next_end(self._rules.values(), now)

    def _judged(self, rules: Iterable[Rule]) -> list[Rule]:
        """Return the rules that are judged, with the raises of their limits."""
        now, raises = self._now(), list(self._keeping.raises.values())
        return [raised(rule, raises, now) for rule in rules if rule.mode is not Mode.OFF]

    def _see(self, batch: Batch) -> None:
        self._bounding.saw(batch)
        if self._follow_events:
            if self._event_now is None:
                self._next_rollover = self._next_audit = None
            self._event_now = max(batch.now, self._event_now or batch.now)
        for span in batch.spans:
            if span.end > span.start:
                place = f"{span.partition.topic}/{span.partition.partition}"
                self._keeping.evidence[place] = f"{span.start}-{span.end}"

    def _now(self) -> datetime:
        """Return the present; with `follow_events`, that of the newest batch that is stored."""
        return self._event_now or self._wall()

    def _judge(self, totals: Iterable[Total], now: datetime) -> None:
        draft = self._keeping.draft(now, self._rules)
        why = Why(self._ledger, self._gauges, now)
        full = judge_totals(draft, self._keeping.docket, totals, now, why, self._early.lead)
        self._keeping.commit(draft)
        if full:
            _log.error("alerts.overflow", alerts=full, advice="see max_alerts of the rules")
            telemetry.ALERTS_OVERFLOWN.inc(full)

    def _judge_near(self, now: datetime) -> None:
        """Judge again what may act before its threshold is reached."""
        near = list(self._early)
        if near and (self._early_at is None or now >= self._early_at):
            self._early_at = now + SAMPLE_EVERY
            found = [self._totals.get(rule, group) for rule, group in near]
            self._judge([total for total in found if total is not None], now)

    def _judge_gauges(self, names: Iterable[str], now: datetime) -> None:
        """Judge the numbers of rules that are due, each in a commit of its own."""
        docket, why = self._keeping.docket, Why(self._ledger, self._gauges, now)
        for name in names:
            rule, readings = self.rules[name], self._gauges.read(name, now)
            if not readings.quiet or docket.has_open(name):
                draft = self._keeping.draft(now, self._rules)
                full = judge_readings(draft, docket, rule, readings, now, why)
                draft.notices += overflow_notices(rule, full, now, self._ledger.notices)
                self._keeping.commit(draft)
            self._gauges.judged(name, now)

    def _roll_over(self, now: datetime) -> None:
        """End the alerts of periods that are over, and judge the periods that begin."""
        draft = self._keeping.draft(now, self._rules)
        for key, alert in self._keeping.docket.alerts.items():
            if alert.is_open and key.period.end <= now:
                last = replace(alert, amount=max(alert.amount, self._amount(alert)))
                draft.take(*end(last, Ending.PERIOD_ENDED, now))
        self._keeping.commit(draft)
        self._keeping.docket.forget(now)
        judged = [rule for rule in self._judged(self._sources) if isinstance(rule, Budget)]
        self._totals.renew(judged, now)
        self._rules = {**self._rules, **self._totals.rules}
        self._totals.forget(now)
        self._judge(self._totals, now)
        self._next_rollover = self._keeping.docket.next_end(self._rules.values(), now)

    def _audit_totals(self, now: datetime) -> None:
        """Compare the totals with the store, and add them up anew where they differ."""
        if self._next_audit is not None and (lines := self.drift()):
            telemetry.TOTALS_DRIFTED.inc(len(lines))
            _log.error("totals.drifted", totals=len(lines), some=lines[:MAX_SHOWN])
            self._take_up(self._sources, now)
        self._next_audit = now + AUDIT_EVERY

    def _amount(self, alert: Alert) -> int:
        total = self._totals.get(alert.key.rule, alert.key.group)
        return total.amount(alert.key.period) if total else alert.amount
