"""The demo's narrator: tells what happens, once, in short lines, with why it matters."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Final

from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode
from governor.core.rules.units import Measure, amount_text
from governor.demo.company import FREE, LEAKED
from governor.demo.evening import Evening
from governor.demo.gateway import Traffic
from governor.demo.ledger import Ledger
from governor.demo.rhythm import LEAK_AT
from governor.demo.slack_workspace import Message

SPEND_AT: Final = 0.1
"""When the usual spend is told, as a share of the time to midnight."""
TALLY_AT: Final = 0.8
"""When it is told who was refused, as a share of the time from the throttle to midnight."""
MORNING_TOLD_AFTER: Final = timedelta(seconds=4)
"""When it is told how the new day begins."""
RESOLVED: Final = "Resolved"


_Line = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the story: what `who` did, by the demo's clock."""

    at: datetime
    who: str
    text: str


@dataclass(frozen=True, slots=True)
class Cap:
    """What was spent of the limit of a rule in its present period, at known prices."""

    rule: str
    spent_nano: int
    limit_nano: int

    @property
    def share(self) -> float:
        """Spent of limit; 1.0 is all of it."""
        return self.spent_nano / self.limit_nano


def caps(rules: Iterable[Budget], ledger: Ledger, now: datetime) -> list[Cap]:
    """Put the company's own books beside the limits of the rules about tiers, or about all."""
    return [
        Cap(rule.id, spent_nano(rule, ledger, now), rule.limit)
        for rule in rules
        if rule.measure is Measure.COST and not rule.per and set(rule.where.dimensions) <= {"tier"}
    ]


def spent_nano(rule: Budget, ledger: Ledger, now: datetime) -> int:
    """Return what the company's own books say of a rule's present period."""
    period = rule.calendar.period(now)
    return sum(
        nano
        for (tier, day), nano in ledger.nano_of_tier.items()
        if rule.where.holds({"tier": tier})
        and period.holds(datetime.combine(day, time(), tzinfo=UTC))
    )


def level_of(text: str) -> str:
    """Return the level that a message's first line names: Info, Warning, Critical or Resolved."""
    return text.partition(":")[0].rpartition(" ")[2]


class Narrator:
    """Looks again and again; what it has told it does not tell again."""

    def __init__(
        self, evening: Evening, rules: Sequence[Budget], ledger: Ledger, traffic: Traffic
    ) -> None:
        self._evening = evening
        self._enforced: Final = next(rule for rule in rules if rule.mode is Mode.ENFORCE)
        self._ledger = ledger
        self._traffic = traffic
        self._opened = evening.now()
        self._crossed: datetime | None = None
        self._versions_told: dict[str, int] = {}
        self._untold: list[Callable[[datetime], _Line | None]] = [
            self._calm,
            self._leak,
            self._slowed,
            self._overshoot,
            self._refusal,
            self._tally,
            self._midnight,
            self._freed,
            self._morning,
            self._slowed_again,
        ]

    def look(self, messages: Sequence[Message]) -> Iterator[Happening]:
        """Yield what has happened since the last look."""
        now = self._evening.now()
        if self._crossed is None and self._spent_nano(now) >= self._enforced.limit:
            self._crossed = now
        for chapter in self._untold.copy():
            if line := chapter(now):
                self._untold.remove(chapter)
                yield Happening(now, *line)
        for text in self._slack(messages):
            yield Happening(now, "slack", text)

    def _calm(self, now: datetime) -> _Line | None:
        if self._share(now) < SPEND_AT:
            return None
        return "spend", f"all is as usual: the free tier has spent {self._spent(now)}"

    def _leak(self, now: datetime) -> _Line | None:
        if self._share(now) < LEAK_AT:
            return None
        key = f"the key of the free account {LEAKED}"
        return "company", f"{key} is posted in a forum; strangers feed whole books to it"

    def _slowed(self, _: datetime) -> _Line | None:
        if self._traffic.slowed is None:
            return None
        verdict = self._traffic.slowed[1]
        until = f"{verdict.until:%H:%M} UTC" if verdict.until else "it is lifted"
        slowed = f"slows the free tier to {verdict.rate} for each user until {until}"
        return "gate", f"{slowed}; paid traffic runs on ({verdict.reason})"

    def _overshoot(self, now: datetime) -> _Line | None:
        if self._traffic.slowed is None or self._crossed is None:
            return None
        late_s = max(0.0, (self._traffic.slowed[0] - self._crossed).total_seconds())
        over = amount_text(Measure.COST, self._spent_nano(now) - self._enforced.limit)
        measured = f"that was {late_s:.1f} s after the cap was reached, and {over} over it"
        return "spend", f"{measured}: what is fed by a log is no hard cap"

    def _refusal(self, _: datetime) -> _Line | None:
        if self._traffic.refusal is None:
            return None
        user, verdict = self._traffic.refusal
        wait = f"try again in {verdict.retry_after_s:.0f} s"
        return "gate", f"refuses a first request, of user {user}: {wait}"

    def _tally(self, now: datetime) -> _Line | None:
        if self._traffic.slowed is None:
            return None
        since = self._traffic.slowed[0]
        if now - since < TALLY_AT * (self._evening.midnight - since):
            return None
        free, leaked = self._traffic.refused[FREE], self._traffic.refused_of(LEAKED)
        paid = self._traffic.refused.total() - free
        refused = f"has refused {free:,} free requests so far, {leaked:,} of them with that key"
        return "gate", f"{refused}, and {paid:,} of paying customers"

    def _midnight(self, now: datetime) -> _Line | None:
        if now < self._evening.midnight:
            return None
        return "clock", "midnight: the day is over, and so is the budget's period"

    def _freed(self, _: datetime) -> _Line | None:
        if self._traffic.freed is None:
            return None
        after_s = (self._traffic.freed - self._evening.midnight).total_seconds()
        freed = f"lets the free tier run again, {after_s:.1f} s after midnight"
        return "gate", f"{freed}; nobody had to lift the throttle"

    def _morning(self, now: datetime) -> _Line | None:
        if now < self._evening.midnight + MORNING_TOLD_AFTER:
            return None
        return "spend", f"counts from zero: the free tier has spent {self._spent(now)}"

    def _slowed_again(self, _: datetime) -> _Line | None:
        if self._traffic.slowed_again is None:
            return None
        return "gate", "slows the free tier again: that key has used up the new day's budget, too"

    def _slack(self, messages: Sequence[Message]) -> Iterator[str]:
        for message in messages:
            told = self._versions_told.get(message.ts, 0)
            self._versions_told[message.ts] = len(message.versions)
            for number, version in enumerate(message.versions[told:], told):
                heading, *more = version.text.splitlines()
                how = "edits its message" if number else "new message"
                yield f"{how}: {heading}. {more[0] if more else ''}"

    def _share(self, now: datetime) -> float:
        """Return how much of the time to midnight is over."""
        return (now - self._opened) / (self._evening.midnight - self._opened)

    def _spent_nano(self, now: datetime) -> int:
        return spent_nano(self._enforced, self._ledger, now)

    def _spent(self, now: datetime) -> str:
        spent = amount_text(Measure.COST, self._spent_nano(now))
        return f"{spent} of its {self._enforced.limit_text} a day"
