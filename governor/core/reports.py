"""The report: what a day, week or month came to, and when one is to be made.

A ledger keyed by (report, period) decides what is due, and a scheduler only asks: so each local day
has one report, through every change of the clocks, every restart and every outage.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from governor.core.drivers import Drivers
from governor.core.periods import Calendar, Every, Period
from governor.core.scopes import Scope

BY: Final = ("customer", "feature", "model", "tier", "team")
"""What spend is told by."""
MAX_VALUES: Final = 10
"""Values of a dimension that are named; the others are added up."""
MAX_MOVERS: Final = 5
DAYS_SHOWN: Final = 14
"""Days up to the end of the period that are drawn."""
EXPLAINED: Final = 3
"""Movers of which it is said what drove them."""
MAX_LISTED: Final = 20
"""Throttles, rules and budgets that are named."""
MAX_MISSED: Final = 400
"""Periods that are looked back for, where none was made for long."""
COMPARED_DAYS: Final = {Every.DAY: 7, Every.WEEK: 7}
"""How many days earlier the span is that a period is compared with; a month with the one before."""
ADJECTIVES: Final = {Every.DAY: "Daily", Every.WEEK: "Weekly", Every.MONTH: "Monthly"}

_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class ReportSpec:
    """A report that is wanted: of every period of a calendar, made at a local time of day after it.

    `where` says of which usage it is, `to` who gets it.
    """

    name: str
    every: Every
    zone: str
    at: time
    to: tuple[str, ...]
    where: Scope = field(default_factory=Scope)

    @property
    def scope_text(self) -> str:
        """Of which usage it is, in words; empty for all."""
        return ", ".join(
            f"{'not ' if each.negated else ''}{each.dimension}"
            f" {' or '.join([*sorted(each.values), *each.patterns])}"
            for each in self.where.conditions
        )

    @property
    def calendar(self) -> Calendar:
        """The periods that it is of."""
        return Calendar(self.every, self.zone)

    def ready_at(self, period: Period) -> datetime:
        """Return when a report of a period is to be made.

        A time of day that the clocks skip is taken as if they had not; of one that comes twice it
        is the first.
        """
        zone = ZoneInfo(self.zone)
        day = period.end.astimezone(zone).date()
        return datetime.combine(day, self.at, zone).astimezone(period.end.tzinfo)

    def before(self, period: Period) -> Period:
        """Return the period before another."""
        return self.calendar.period(period.start - _MICROSECOND)

    def days(self, period: Period) -> list[Period]:
        """Return the last local days up to the end of a period, the newest last."""
        calendar = Calendar(Every.DAY, self.zone)
        found = [calendar.period(period.end - _MICROSECOND)]
        while len(found) < DAYS_SHOWN:
            found.append(calendar.period(found[-1].start - _MICROSECOND))
        return found[::-1]

    def compared(self, period: Period) -> Period:
        """Return what a period is compared with: the same weekday, the week or the month before."""
        if self.every is Every.DAY:
            zone = ZoneInfo(self.zone)
            noon = period.start.astimezone(zone) + timedelta(hours=12)
            return self.calendar.period(noon - timedelta(days=COMPARED_DAYS[self.every]))
        return self.before(period)


def due(spec: ReportSpec, now: datetime, last: datetime | None) -> list[Period]:
    """Return the periods of which a report is due, in order; `last` began the last in the ledger.

    Where none was ever made it is the newest alone.
    """
    newest = spec.before(spec.calendar.period(now))
    while spec.ready_at(newest) > now:  # twice, where the clocks skip that time of day
        newest = spec.before(newest)
    found: list[Period] = []
    while (last is None or newest.start > last) and len(found) < MAX_MISSED:
        found.append(newest)
        if last is None:
            break
        newest = spec.before(newest)
    return found[::-1]


@dataclass(frozen=True, slots=True)
class Amount:
    """What something used in a period and in the one it is compared with, in nano-dollars."""

    cost: int
    before: int
    requests: int = 0
    tokens: int = 0

    @property
    def more(self) -> int:
        """How much more it is."""
        return self.cost - self.before

    @property
    def percent(self) -> Decimal | None:
        """How much more that is in percent; None where it was nothing."""
        return Decimal(100 * self.more) / self.before if self.before else None


@dataclass(frozen=True, slots=True)
class Named:
    """An amount of one value of a dimension; None where events do not say."""

    dimension: str
    value: str | None
    amount: Amount
    drivers: Drivers | None = None


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """How a budget stands at the end of the period; `likely` is where its own period is heading."""

    rule: str
    group: str
    period: str
    so_far: str
    limit: str
    percent: Decimal | None
    likely: str | None = None
    odds: str | None = None


@dataclass(frozen=True, slots=True)
class Economics:
    """What usage cost against what it brought. Revenue in nano-dollars, None where not told."""

    revenue: int | None
    users: int
    cost: int

    @property
    def per_revenue(self) -> Decimal | None:
        """Cost in percent of revenue."""
        return Decimal(100 * self.cost) / self.revenue if self.revenue else None

    @property
    def per_user(self) -> int | None:
        """Cost of an active user, in nano-dollars."""
        return self.cost // self.users if self.users else None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Usage without a price, and cost that nobody is named for, by dimension in nano-dollars."""

    events: int
    tokens: int
    capped: int
    unattributed: dict[str, int]


@dataclass(frozen=True, slots=True)
class Acted:
    """What a rule did, or in shadow would have done."""

    rule: str
    what: str
    times: int


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report tells. Money is whole nano-dollars of priced usage, times are in UTC.

    `by` are amounts by dimension, the greatest first; what has no name of its own there is added up
    in `others`. `missed` counts the periods before of which none was made; `whole` says that all
    usage of the period was counted. `days` are when the last local days began, and what each cost.
    """

    name: str
    every: Every
    zone: str
    scope: str
    period: Period
    compared: Period
    made_at: datetime
    spend: Amount
    drivers: Drivers | None
    month_to_date: int
    by: dict[str, tuple[Named, ...]]
    others: dict[str, Amount]
    movers: tuple[Named, ...]
    budgets: tuple[BudgetLine, ...]
    economics: Economics
    unknown: Unknown
    throttles: tuple[Acted, ...] = ()
    shadow: tuple[Acted, ...] = ()
    troubles: tuple[str, ...] = ()
    missed: int = 0
    whole: bool = True
    days: tuple[tuple[datetime, int], ...] = ()

    @property
    def title(self) -> str:
        """What it is called, with its period."""
        scope = f", {self.scope}" if self.scope else ""
        return f"{ADJECTIVES[self.every]} report {self.period.name}{scope}"


def movers(by: Iterable[Named]) -> list[Named]:
    """Return the values that cost differs most for, whichever way."""
    moved = [named for named in by if named.amount.more]
    moved.sort(key=lambda named: -abs(named.amount.more))
    return moved[:MAX_MOVERS]
