"""What rules of every kind have: a number for each group, thresholds on it, and what then happens.

A kind says how the number comes about and when it is judged; levels, clocks and words are shared.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import ClassVar, Final, Self

from governor.core.periods import Period
from governor.core.rules.actions import Action
from governor.core.rules.units import Unit, amount_text
from governor.core.scopes import Scope, mask_of

EARLY_FROM: Final = 80
"""From how many percent of its amount on a threshold may act early."""
MAX_ALERTS: Final = 10_000
"""Alerts of one rule that may be open at a time, unless it says otherwise."""


class Level(IntEnum):
    """How bad it is; greater is worse."""

    INFO = 1
    WARNING = 2
    CRITICAL = 3

    def __str__(self) -> str:
        return self.name.lower()


class Mode(StrEnum):
    """What a rule may do: nothing, be recorded, tell people, also act."""

    OFF = "off"
    SHADOW = "shadow"
    NOTIFY = "notify"
    ENFORCE = "enforce"


class Unknown(StrEnum):
    """What to make of a number that is not known: leave all as it is, take it for good, or fire."""

    KEEP = "keep"
    OK = "ok"
    FIRE = "fire"


@dataclass(frozen=True, slots=True)
class Threshold:
    """The amount from which on a level holds and actions are due; `at` is how it was written.

    Once reached it holds for as long as the amount is at least `clear`; None is the same as
    `amount`. One that acts `early` is reached, too, where at the pace of spending it will be before
    an action bites, but never below EARLY_FROM of its amount.
    """

    at: str
    amount: int
    level: Level
    actions: tuple[str, ...] = ()
    clear: int | None = None
    early: bool = False

    @property
    def near(self) -> int:
        """The least amount at which it may be reached."""
        return self.amount * EARLY_FROM // 100 if self.early else self.amount

    @property
    def held_at(self) -> int:
        """The least amount at which it still holds once it was reached."""
        return self.near if self.clear is None else self.clear


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(ABC):
    """A checked rule. Thresholds rise; `where` and `per` say whose number it is.

    `hold` is how long a threshold must stay reached before it counts (`for` in YAML), `keep` how
    long all must be well before it is over (`keep_firing_for`), `settle` how long late usage is
    waited for. `limit_text` is what the number is compared with, as written. `place` is
    `file:line:column`, for messages.
    """

    kind: ClassVar[str]
    latched: ClassVar[bool] = False
    """Whether what was reached stays reached until the period ends."""
    regrows: ClassVar[bool] = False
    """Whether people are told again when the amount is twice what they were told."""

    id: str
    owner: str
    summary: str
    limit_text: str
    thresholds: tuple[Threshold, ...]
    where: Scope = field(default_factory=Scope)
    per: tuple[str, ...] = ()
    mode: Mode = Mode.NOTIFY
    every: timedelta = timedelta(minutes=1)
    settle: timedelta = timedelta(0)
    hold: timedelta = timedelta(0)
    keep: timedelta = timedelta(0)
    on_no_data: Unknown = Unknown.KEEP
    on_error: Unknown = Unknown.KEEP
    max_alerts: int = MAX_ALERTS
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    renamed_from: tuple[str, ...] = ()
    actions: Mapping[str, Action] = field(default_factory=lambda: MappingProxyType({}))
    runbook: str | None = None
    place: str = ""

    @property
    @abstractmethod
    def unit(self) -> Unit:
        """What its number is in."""

    @property
    @abstractmethod
    def meaning(self) -> str:
        """What is computed and of whom: another text where a number would mean another thing."""

    def of(self, at: datetime) -> Self:  # noqa: ARG002  # only what is dated changes with time
        """Return the rule as it is in force in the period of `at`."""
        return self

    @abstractmethod
    def period(self, at: datetime) -> Period:
        """Return the period that an alert of `at` belongs to."""

    def percent(self, amount: int) -> Decimal | None:  # noqa: ARG002  # of what, a kind says
        """Return how many percent of the rule's limit an amount is; None where it has none."""
        return None

    @property
    def mask(self) -> tuple[str, ...]:
        """The dimensions by which usage must be summed up for this rule."""
        return mask_of((*self.where.dimensions, *self.per))

    @property
    def acts_early(self) -> bool:
        """Whether one of its thresholds does."""
        return any(threshold.early for threshold in self.thresholds)

    def crossed(self, amount: int, before: int = 0, lead: int = 0) -> int:
        """Return how many of the thresholds hold, counted from the lowest; `before` did so far.

        `lead` is what will be spent before an action bites.
        """
        held = sum(amount >= threshold.held_at for threshold in self.thresholds[:before])
        reached = [
            number
            for number, threshold in enumerate(self.thresholds, 1)
            if amount >= threshold.amount
            or (lead and threshold.near <= amount and amount + lead >= threshold.amount)
        ]
        return max(held, reached[-1] if reached else 0)

    def text(self, amount: int) -> str:
        """Write an amount for people."""
        return amount_text(self.unit, amount)

    def scope_meaning(self) -> list[object]:
        """Return what `where` and `per` mean, for `meaning`."""
        where = [
            (condition.dimension, sorted(condition.values), condition.patterns, condition.negated)
            for condition in self.where.conditions
        ]
        return [where, self.per]
