"""A rehearsal: rules on a clock of their own, by the daemon's own steps, and nobody is touched.

Tests of rules and backtests run it. It has no receiver, no topic and no store: what would be told
and what gates would be told to do is kept in memory and shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from governor.core.decisions import Line
from governor.core.directives import Directive
from governor.core.notifications import Notice
from governor.core.rules.budget import Budget
from governor.core.totals import Mask, Sums
from governor.loops.evaluate import Evaluate
from governor.rehearsal.memory import Memory

RECEIVER = "rehearsal"


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
    """Runs rules from a time on."""

    def __init__(self, rules: Iterable[Budget], start: datetime) -> None:
        self.now = start
        self.lines: list[Line] = []
        self.told: list[Told] = []
        self.directed: list[Directed] = []
        self._memory = Memory(self._heard)
        self._evaluate = Evaluate(
            self._memory,
            rules,
            now=lambda: self.now,
            follow_events=False,
            receivers=(RECEIVER,),
            publish=self._publish,
            audits=False,
            say=self.lines.extend,
        )
        self._evaluate.begin()
        self._evaluate.adopt((), 0)

    @property
    def masks(self) -> Sequence[Mask]:
        """The sets of dimensions by which usage is to be handed in."""
        return self._evaluate.masks

    @property
    def rules(self) -> Mapping[str, Budget]:
        """The rules that are rehearsed, by id."""
        return self._evaluate.rules

    @property
    def groups(self) -> int:
        """How many groups have used something in a period that is open."""
        return self._evaluate.groups

    def forget_messages(self) -> None:
        """Forget what was said in messages; each is then a first one again."""
        self._memory.forget()

    def use(self, at: datetime, rows: Mapping[Mask, Iterable[Sums]]) -> None:
        """Let usage be counted at a time, after all that was to happen until then."""
        self.pass_to(at)
        for mask, sums in rows.items():
            self._evaluate.add(mask, sums)
        self._evaluate.settle()

    def pass_to(self, at: datetime) -> None:
        """Let time pass: periods end, and what must hold for a while has held."""
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
