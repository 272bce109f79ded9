"""Reports in the daemon: ticks of a scheduler, and orders of people who want one now."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import msgspec
import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from governor import pages
from governor.adapters.control import Call
from governor.adapters.duckdb.reporting import Reporting as Numbers
from governor.adapters.duckdb.state import State
from governor.core.decisions import AuditRow
from governor.core.errors import ConfigError, GovernorError
from governor.core.periods import Every, Period
from governor.core.picture import Picture
from governor.core.report_text import picture_of_report
from governor.core.reports import BudgetLine, Report, ReportSpec
from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.daemon.looking import Looking
from governor.documents.sections import listed, suggestion
from governor.loops.deliver import Ask
from governor.loops.report import Reports
from governor.rulebook.values import zone

TICK: Final = timedelta(seconds=15)
MAX_LEDGER: Final = 1_000
MAX_GROUPS: Final = 3
"""Groups of a budget that are named, those nearest to their limit."""
KINDS: Final = {"daily": Every.DAY, "weekly": Every.WEEK, "monthly": Every.MONTH}
"""Reports that can be asked for without being in `routing.yaml`."""
_WHERE: Final = "where."

_log = structlog.get_logger()


class Reporting:
    """Answers orders from threads of the control API; `ask` runs a call in the store's thread."""

    def __init__(
        self,
        reports: Reports,
        numbers: Numbers,
        specs: Callable[[], Sequence[ReportSpec]],
        state: State,
        *,
        ask: Ask,
        now: Callable[[], datetime],
        audit: Callable[[Call, str, str, str], AuditRow],
    ) -> None:
        self._reports = reports
        self._numbers = numbers
        self._specs = specs
        self._state = state
        self._ask = ask
        self._now = now
        self._audit = audit

    def open(self, stack: ExitStack) -> None:
        """Start the scheduler. It only ticks: the ledger says what is due."""
        scheduler = BackgroundScheduler(timezone=UTC)
        scheduler.add_job(
            self._reports.tick,
            "interval",
            seconds=TICK.total_seconds(),
            next_run_time=self._now(),
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
        scheduler.start()
        stack.callback(scheduler.shutdown, wait=False)

    def listed(self, _: Call) -> list[dict[str, Any]]:
        """Return the ledger, the newest first."""
        return self._state.reports(MAX_LEDGER)

    def made(self, call: Call) -> Any:
        """Return a report, which is sent to nobody."""
        spec, period = self._asked(call)
        return msgspec.to_builtins(self._reports.make(spec, period))

    def sent(self, call: Call) -> Any:
        """Return a report that was sent to those who get it."""
        spec, period = self._asked(call)
        if not spec.to:
            raise ConfigError(
                f"nobody gets {spec.name}: name a report of routing.yaml, or use --dry-run"
            )
        row = self._audit(call, "report.send", f"{spec.name} {period.name}", "sent")
        return msgspec.to_builtins(self._reports.send(spec, period, row))

    def showback(self, call: Call) -> dict[str, Any]:
        """Return what each value of a dimension used in a period, and nothing of any other."""
        (by,) = call.names
        if by not in DIMENSIONS:
            close = suggestion(by, DIMENSIONS) or f"; known: {listed(DIMENSIONS)}"
            raise ConfigError(f"{by[:60]!r} is no dimension{close}")
        spec, period = self._asked(replace(call, names=(call.fields.get("every", "monthly"),)))
        rows = self._numbers.showback(spec, by, period)
        return {"period": period.name, "zone": spec.zone, "rows": rows}

    def _asked(self, call: Call) -> tuple[ReportSpec, Period]:
        """Return which report of which period is asked for; the last whole one if none is named."""
        (name,) = call.names
        known = {spec.name: spec for spec in self._specs()}
        spec = known.get(name)
        if spec is None and name in KINDS:
            spec = ReportSpec(name, KINDS[name], "UTC", datetime.min.time(), ())
        if spec is None:
            options = [*known, *(kind for kind in KINDS if kind not in known)]
            close = suggestion(name, options) or f"; there are {listed(options)}"
            raise ConfigError(f"there is no report {name[:60]!r}{close}")
        if text := call.fields.get("timezone"):
            try:
                spec = replace(spec, zone=zone(text))
            except ValueError as error:
                raise ConfigError(f"timezone {text[:60]!r} {error}") from None
        named = {
            key.removeprefix(_WHERE): value
            for key, value in call.fields.items()
            if key.startswith(_WHERE)
        }
        if named:
            spec = replace(spec, where=_scope(named))
        return spec, self._period(spec, call.fields.get("date"))

    def _period(self, spec: ReportSpec, text: str | None) -> Period:
        if text is None:
            return spec.before(spec.calendar.period(self._now()))
        try:
            day = date.fromisoformat(text)
        except ValueError:
            raise ConfigError(f"{text[:60]!r} is no date, such as 2026-11-26") from None
        noon = datetime(day.year, day.month, day.day, 12, tzinfo=ZoneInfo(spec.zone))
        return spec.calendar.period(noon.astimezone(UTC))


def page_of(state: State, ask: Ask, message: str) -> str | None:
    """Return the page of a report that is told by a message; None where it is not known."""
    try:
        report = ask(lambda: report_of(state, message))
        return None if report is None else pages.report(report)
    except GovernorError as error:
        _log.warning("report.no_page", message=message, error=str(error)[:200])
        return None


def pictured(state: State, looking: Looking, name: str) -> Picture | None:
    """Return the picture of an alert by its id, or of a report by its message."""
    if not name.startswith("report-"):
        return looking.pictured(name)
    report = report_of(state, name)
    return None if report is None else picture_of_report(report)


def report_of(state: State, message: str) -> Report | None:
    """Return the report that a message tells of; None where it is not known."""
    body = state.report_body(message)
    return None if body is None else msgspec.json.decode(body, type=Report)


def budget_lines(looking: Looking) -> list[BudgetLine]:
    """Return how the weeks and months of budgets stand, those nearest to their limit first."""
    lines = [
        BudgetLine(
            rule=row["rule"],
            group=", ".join(f"{k}={'(none)' if v is None else v}" for k, v in row["group"].items()),
            period=row["period"],
            so_far=row["so_far"],
            limit=row["limit"],
            percent=row["percent"],
            likely=row["likely"],
            odds=row["passes"],
        )
        for row in looking.ahead(None)
    ]
    lines.sort(key=lambda line: -(line.percent or 0))
    named = Counter[str]()
    found = []
    for line in lines:
        named[line.rule] += 1
        found += [line] if named[line.rule] <= MAX_GROUPS else []
    return found


def _scope(named: dict[str, str]) -> Scope:
    for name in named:
        if name not in DIMENSIONS:
            close = suggestion(name, DIMENSIONS) or f"; known: {listed(DIMENSIONS)}"
            raise ConfigError(f"{name[:60]!r} is no dimension{close}")
    return Scope(tuple(Condition(name, frozenset([value])) for name, value in named.items()))
