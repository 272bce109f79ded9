"""Every order that the daemon takes: its path, what it may say, and who carries it out."""

from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from governor import __version__
from governor.adapters.control import Call, Caller, Orders, Route
from governor.adapters.duckdb.state import State
from governor.core.decisions import AuditRow
from governor.daemon import answers, explaining
from governor.daemon.enforcing import Enforcing
from governor.daemon.judging import Judging
from governor.daemon.looking import Looking
from governor.daemon.quieting import Quieting
from governor.daemon.raising import Raising
from governor.daemon.reporting import Reporting
from governor.loops.ingest import Ingest
from governor.loops.rerate import Rerate

NO_ALERT: Final = "no alert {!r} is known"
NOT_OPEN: Final = "no alert {!r} is open"
HOLDS_NOT: Final = "no throttle {!r} holds"
WAITS_NOT: Final = "no throttle {!r} waits for approval"
NO_WAITING_RAISE: Final = "no raise {!r} waits for approval"
ON_ALREADY: Final = "enforcement is on already"

Carry = Callable[[Call], Any]


class Ordering:
    """Hands orders to those who carry them out, most in the thread that owns the store."""

    def __init__(
        self,
        *,
        judging: Judging,
        state: State,
        ingest: Ingest,
        rerate: Rerate[Any],
        looking: Looking,
        enforcing: Enforcing,
        quieting: Quieting,
        raising: Raising,
        reporting: Reporting,
        reload: Callable[[Caller], None],
        audit: Callable[..., AuditRow],
        now: Callable[[], datetime],
    ) -> None:
        self._judging = judging
        self._state = state
        self._ingest = ingest
        self._rerate = rerate
        self._looking = looking
        self._enforcing = enforcing
        self._quieting = quieting
        self._raising = raising
        self._reporting = reporting
        self._reload = reload
        self._audit = audit
        self._now = now

    def orders(self) -> Orders:
        """Return all of them."""
        return Orders(
            [
                *self._of_rules(),
                *self._of_enforcement(),
                *self._of_alerts(),
                *self._of_raises(),
                *self._of_reports(),
                *self._of_prices(),
            ],
            version=__version__,
        )

    def _of_rules(self) -> list[Route]:
        span = ("from", "until", "reason", "group.feature")
        return [
            Route("GET", "/v1/rules", self._asked("rules.list", lambda _: self._rules())),
            Route("POST", "/v1/rules/reload", self._reloaded),
            Route("POST", "/v1/rules/<rule>/plan", self._ordered(self._looking.plan), takes=span),
            Route("GET", "/v1/explain", self._explained, takes=("rule", "at", "entity.customer")),
            Route(
                "GET",
                "/v1/forecast",
                self._asked("forecast", self._looking.forecasts),
                takes=("rule",),
            ),
        ]

    def _of_enforcement(self) -> list[Route]:
        act, ordered, asked = self._enforcing, self._ordered, self._asked
        let, span = ("where.customer", "for", "reason"), ("for", "reason")
        return [
            Route("GET", "/v1/throttles", asked("throttles.list", act.listed)),
            Route("POST", "/v1/throttles/<id>/release", ordered(act.release), HOLDS_NOT),
            Route("POST", "/v1/throttles/<id>/approve", ordered(act.approve), WAITS_NOT),
            Route("POST", "/v1/rules/<rule>/approve", ordered(act.approve_all)),
            Route("POST", "/v1/allow", ordered(act.allow), takes=let),
            Route("GET", "/v1/enforcement", asked("enforcement.status", act.status)),
            Route("POST", "/v1/enforcement/off", ordered(act.off), takes=span),
            Route("POST", "/v1/enforcement/on", ordered(act.on), ON_ALREADY),
        ]

    def _of_alerts(self) -> list[Route]:
        look, quiet = self._looking, self._quieting
        ordered, asked = self._ordered, self._asked
        note, match = ("for", "note"), ("match.rule", "for", "reason")
        return [
            Route("GET", "/v1/alerts", asked("alerts.list", lambda _: self._alerts())),
            Route("POST", "/v1/alerts/<id>/ack", ordered(quiet.ack), NOT_OPEN, note),
            Route("POST", "/v1/alerts/<id>/snooze", ordered(quiet.snooze), NOT_OPEN, note),
            Route("POST", "/v1/alerts/<id>/unack", ordered(quiet.unack), NOT_OPEN),
            Route("GET", "/v1/alerts/<id>", asked("alerts.show", look.alert), NO_ALERT),
            Route("GET", "/v1/alerts/<id>/picture", asked("alerts.chart", look.picture), NO_ALERT),
            Route("POST", "/v1/alerts/<id>/forgive", ordered(look.forgive), NO_ALERT, ("reason",)),
            Route("GET", "/v1/silences", asked("silences.list", quiet.listed)),
            Route("POST", "/v1/silences", ordered(quiet.silence), takes=match),
            Route("POST", "/v1/silences/<id>/end", ordered(quiet.end), "no silence {!r} holds"),
        ]

    def _of_raises(self) -> list[Route]:
        raising, ordered = self._raising, self._ordered
        words = ("by", "until", "reason")
        return [
            Route("GET", "/v1/raises", self._asked("raises.list", raising.listed)),
            Route("POST", "/v1/rules/<rule>/raise", ordered(raising.ask), takes=words),
            Route("POST", "/v1/raises/<id>/approve", ordered(raising.approve), NO_WAITING_RAISE),
            Route("POST", "/v1/raises/<id>/end", ordered(raising.end), "no raise {!r} holds"),
        ]

    def _of_reports(self) -> list[Route]:
        made = self._reporting
        day, much = ("date", "timezone"), ("every", "date", "timezone")
        return [
            Route("GET", "/v1/reports", self._asked("reports.list", made.listed)),
            Route("GET", "/v1/reports/<name>", made.made, takes=day),
            Route("GET", "/v1/showback/<by>", made.showback, takes=much),
            Route("POST", "/v1/reports/<name>/send", made.sent, takes=("date",)),
        ]

    def _of_prices(self) -> list[Route]:
        span = ("from", "until", "dry_run")
        return [
            Route("POST", "/v1/prices/rerate", self._rerated, takes=span),
            Route("GET", "/v1/prices/rerate/<run>", self._progress, "no run {!r} is known"),
        ]

    def _asked(self, action: str, answer: Carry) -> Carry:
        def both(call: Call) -> Any:
            row = self._audit(call.caller, action, ", ".join(call.names), "answered")
            self._judging.evaluate.audited(row)
            return answer(call)

        return self._ordered(both)

    def _ordered(self, carry_out: Carry) -> Carry:
        return lambda call: self._ingest.ask(partial(carry_out, call))

    def _explained(self, call: Call) -> Any:
        def answer() -> Any:
            with self._state.numbers() as numbers:
                evaluate = self._judging.evaluate
                return explaining.answer(
                    numbers, evaluate.rules, call.fields, self._now(), evaluate.routing
                )

        target = call.fields.get("rule", "")[:60]
        row = self._audit(call.caller, "rules.explain", target, "answered")
        self._ingest.ask(lambda: self._judging.evaluate.audited(row))
        return self._ingest.ask(answer)

    def _reloaded(self, call: Call) -> Any:
        self._reload(call.caller)
        return self._rules()

    def _rerated(self, call: Call) -> Any:
        bounds = (call.fields.get(name, "") for name in ("from", "until"))
        starts_at, ends_at = map(explaining.moment, bounds)
        order = self._rerate.order(
            starts_at,
            ends_at,
            dry_run=call.fields.get("dry_run") == "true",
            who=call.caller.who,
            via=call.caller.via,
        )
        return answers.rerate_row(order)

    def _progress(self, call: Call) -> Any:
        progress = self._rerate.progress(*call.names)
        return None if progress is None else answers.rerate_row(progress)

    def _alerts(self) -> list[dict[str, Any]]:
        evaluate = self._judging.evaluate
        recent = self._state.recent_alerts(answers.MAX_LISTED)
        return answers.alert_rows(recent, evaluate.alerts, evaluate.rules, evaluate.seen(recent))

    def _rules(self) -> list[dict[str, Any]]:
        return [answers.rule_row(rule) for rule in self._judging.evaluate.rules.values()]
