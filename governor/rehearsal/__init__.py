"""A rehearsal: rules on a clock of their own, by the daemon's own steps, and nobody is touched.

Tests of rules and backtests run it. It has no receiver, no topic and no store: what would be told
and what gates would be told to do is kept in memory and shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from governor.core.decisions import Line
from governor.core.directives import Directive
from governor.core.notifications import Notice
from governor.core.routing import Routing
from governor.core.rules.shared import Rule
from governor.core.scopes import Key
from governor.core.totals import Mask, Sums
from governor.loops.evaluate import Evaluate
from governor.rehearsal.memory import Before, Facts, Memory

RECEIVER = "rehearsal"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Told:
    """What would be told: a message posted, or edited when it is not `first`."""

    at: datetime
    notice: Notice
    first: bool


@dataclass(frozen=True, slots=True)
class Directed:
    """What gates would be told to do."""

    at: datetime
    directive: Directive


class Rehearsal:
    """Runs rules from a time on; see `Memory` for `facts` and `before`."""

    def __init__(
        self,
        rules: Iterable[Rule],
        start: datetime,
        facts: Facts | None = None,
        before: Before | None = None,
        routing: Routing | None = None,
    ) -> None:
        self.now = start
        self.lines: list[Line] = []
        self.told: list[Told] = []
        self.directed: list[Directed] = []
        self._memory = Memory(self._heard, facts, before)
        self._evaluate = Evaluate(
            self._memory,
            rules,
            now=lambda: self.now,
            follow_events=False,
            receivers=() if routing and routing.routes else (RECEIVER,),
            routing=routing,
            publish=self._publish,
            audits=False,
            say=self.lines.extend,
        )
        self._evaluate.begin()
        self._evaluate.adopt((), 0)

    @property
    def masks(self) -> Sequence[Mask]:
        """The sets of dimensions by which usage is to be handed in."""
        return list(dict.fromkeys((*self._evaluate.masks, *self._evaluate.seen_masks)))

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules that are rehearsed, by id."""
        return self._evaluate.rules

    @property
    def groups(self) -> int:
        """How many groups have used something in a period that is open."""
        return self._evaluate.groups

    def amounts(self, most: int) -> list[tuple[Rule, Key, int]]:
        """Return what rules without groups and the greatest open alerts come to now."""
        return self._evaluate.amounts(most)

    def forget_messages(self) -> None:
        """Forget what was said in messages; each is then a first one again."""
        self._memory.forget()

    def use(self, at: datetime, rows: Mapping[Mask, Sequence[Sums]]) -> None:
        """Let usage be counted at a time, after all that was to happen until then."""
        self.pass_to(at)
        at_us = (at - _EPOCH) // _MICROSECOND
        for mask, sums in rows.items():
            self._evaluate.add(mask, sums)
            if mask in self._evaluate.seen_masks:
                self._evaluate.see(mask, [(*row[1 : 1 + len(mask)], at_us) for row in sums])
        self._evaluate.settle()

    def pass_to(self, at: datetime) -> None:
        """Let time pass: periods end, what must hold for a while has held, rules are due."""
        done: datetime | None = None
        while (due := self._evaluate.wakes_at) is not None and due <= at and due != done:
            self.now = max(self.now, due)
            self._evaluate.tick()
            done = due
        self.now = max(self.now, at)

    def _publish(self, directives: Sequence[Directive]) -> None:
        self.directed += [Directed(self.now, directive) for directive in directives]

    def _heard(self, notice: Notice, *, first: bool) -> None:
        self.told.append(Told(self.now, notice, first))
