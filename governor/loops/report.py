"""The report loop: makes what is due, and enters it into the ledger with who is to be told."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

import msgspec
import structlog

from governor.core.decisions import AuditRow, ReportRow
from governor.core.drivers import Drivers
from governor.core.errors import GovernorError
from governor.core.notifications import Notice
from governor.core.periods import Period
from governor.core.report_text import message_of, notice_of_report
from governor.core.reports import (
    Acted,
    Amount,
    BudgetLine,
    Economics,
    Named,
    Report,
    ReportSpec,
    Unknown,
    due,
)

MAX_WAIT: Final = timedelta(hours=1)
"""How long a report waits for usage that is not counted yet; it is made then as things are."""

_T = TypeVar("_T")
_log = structlog.get_logger()


class Numbers(Protocol):
    """What reports tell; see `adapters.duckdb.reporting`."""

    def amounts(
        self, spec: ReportSpec, period: Period, compared: Period
    ) -> tuple[Amount, dict[str, tuple[Named, ...]], dict[str, Amount], dict[str, int]]:
        """Return the whole, the greatest values by dimension, their rest, and what has no name."""

    def explained(
        self, spec: ReportSpec, by: Mapping[str, Sequence[Named]], period: Period, compared: Period
    ) -> tuple[Drivers, tuple[Named, ...]]:
        """Return what drove the cost of two periods apart, and what moved most."""

    def days(self, spec: ReportSpec, period: Period) -> tuple[tuple[datetime, int], ...]:
        """Return when the last local days began, and what each cost."""

    def month_to_date(self, spec: ReportSpec, period: Period) -> int:
        """Return what the month came to."""

    def unknown(self, spec: ReportSpec, period: Period, nameless: dict[str, int]) -> Unknown:
        """Return what has no price, and nobody who is named for it."""

    def economics(self, spec: ReportSpec, period: Period, cost: int) -> Economics:
        """Return what a period cost against what it brought."""

    def acted(self, period: Period) -> tuple[tuple[Acted, ...], tuple[Acted, ...]]:
        """Return what rules did, and what those in shadow would have done."""

    def troubles(self) -> tuple[str, ...]:
        """Return which rules have no number of something."""


class Ledger(Protocol):
    """Which reports were made; see `adapters.duckdb.state`."""

    def last_report(self, report: str) -> datetime | None:
        """Return when the last period began that is in the ledger of a report."""


class Enter(Protocol):
    """Enters reports into the ledger; see `loops.evaluate`."""

    def __call__(
        self, rows: Sequence[ReportRow], notices: Sequence[Notice], audit: Sequence[AuditRow] = ()
    ) -> None:
        """Store rows and what is to be told, in one transaction."""


class Ask(Protocol):
    """Runs a call in the thread that owns the store, and returns what it returned."""

    def __call__(self, call: Callable[[], _T], /) -> _T:
        """Wait for the result; raise what the call raised."""


class Reports:
    """Makes reports; `specs` are those that are wanted now, `budgets` says how those stand.

    `complete` says until when all usage is counted; a report waits for that, up to `MAX_WAIT`.
    """

    def __init__(
        self,
        specs: Callable[[], Sequence[ReportSpec]],
        numbers: Numbers,
        ledger: Ledger,
        *,
        budgets: Callable[[], Sequence[BudgetLine]],
        enter: Enter,
        ask: Ask,
        now: Callable[[], datetime],
        complete: Callable[[], datetime | None],
    ) -> None:
        self._specs = specs
        self._numbers = numbers
        self._ledger = ledger
        self._budgets = budgets
        self._enter = enter
        self._ask = ask
        self._now = now
        self._complete = complete
        self._waiting: dict[tuple[str, Period], datetime] = {}
        self.trouble: str | None = None

    def tick(self) -> None:
        """Make what is due; what fails is tried again at the next tick."""
        try:
            for spec in self._specs():
                self._make_due(spec)
        except GovernorError as error:
            self.trouble = f"reports are not made: {error}"
            _log.warning("report.failed", error=str(error))
        except Exception:  # noqa: BLE001  # the top of a loop: log, go on
            _log.exception("report.failed")
        else:
            self.trouble = None

    def make(self, spec: ReportSpec, period: Period, missed: int = 0) -> Report:
        """Return the report of a period, as far as it is known. May raise TransientError."""
        compared, numbers = spec.compared(period), self._numbers
        spend, by, others, nameless = numbers.amounts(spec, period, compared)
        done, shadow = numbers.acted(period)
        drove, moved = numbers.explained(spec, by, period, compared)
        return Report(
            name=spec.name,
            every=spec.every,
            zone=spec.zone,
            scope=spec.scope_text,
            period=period,
            compared=compared,
            made_at=self._now(),
            spend=spend,
            drivers=drove if spend.more else None,
            month_to_date=numbers.month_to_date(spec, period),
            by=by,
            others=others,
            movers=moved,
            budgets=() if spec.where.conditions else tuple(self._ask(self._budgets)),
            economics=numbers.economics(spec, period, spend.cost),
            unknown=numbers.unknown(spec, period, nameless),
            throttles=() if spec.where.conditions else done,
            shadow=() if spec.where.conditions else shadow,
            troubles=() if spec.where.conditions else numbers.troubles(),
            whole=self._is_whole(period),
            missed=missed,
            days=numbers.days(spec, period),
        )

    def send(self, spec: ReportSpec, period: Period, audit: AuditRow) -> Report:
        """Make a report of a period and have it told, whether it was before or not."""
        report = self.make(spec, period)
        self._ask(lambda: self._enter([_row(report)], [_notice(report, spec)], [audit]))
        return report

    def _is_whole(self, period: Period) -> bool:
        """Return whether all usage of a period is counted."""
        complete = self._complete()
        return complete is not None and complete >= period.end

    def _make_due(self, spec: ReportSpec) -> None:
        last = self._ask(lambda: self._ledger.last_report(spec.name))
        periods = due(spec, self._now(), last)
        if not periods:
            return
        *missed, newest = periods
        since = self._waiting.setdefault((spec.name, newest), self._now())
        if not self._is_whole(newest) and self._now() - since < MAX_WAIT:
            return
        report = self.make(spec, newest, len(missed))
        rows = [ReportRow(spec.name, each, self._now(), None) for each in missed]
        rows.append(_row(report))
        self._ask(lambda: self._enter(rows, [_notice(report, spec)]))
        self._waiting.pop((spec.name, newest), None)
        _log.info("report.made", report=spec.name, period=newest.name, missed=len(missed))


def _row(report: Report) -> ReportRow:
    body = msgspec.json.encode(report).decode()
    return ReportRow(report.name, report.period, report.made_at, body)


def _notice(report: Report, spec: ReportSpec) -> Notice:
    return notice_of_report(report, spec, message_of(report.name, report.made_at))
