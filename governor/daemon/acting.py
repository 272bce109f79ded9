"""The part of the daemon that acts: people told, gates directed, orders taken, rules reloaded."""

import signal
import threading
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from governor import telemetry
from governor.adapters.control import Call, Caller, Control, Orders, Route
from governor.adapters.duckdb.outbox import Outbox
from governor.adapters.duckdb.reporting import Reporting as Numbers
from governor.adapters.duckdb.state import State
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import (
    DirectivePublisher,
    DirectiveReader,
    require_compacted,
)
from governor.core.decisions import AuditRow
from governor.daemon import answers, explaining
from governor.daemon.drawing import Behind, Drawing
from governor.daemon.enforcing import Enforcing
from governor.daemon.hearing import Hearing
from governor.daemon.judging import Judging
from governor.daemon.looking import Looking
from governor.daemon.pressing import Pressing
from governor.daemon.pricing import Pricing
from governor.daemon.quieting import Quieting
from governor.daemon.raising import Raising
from governor.daemon.receivers import Files, answering, fixed, named
from governor.daemon.reporting import Reporting, budget_lines, page_of, pictured
from governor.daemon.telling import Telling
from governor.daemon.wellbeing import Broken, Heart
from governor.loops.deliver import Deliver
from governor.loops.enforce import Enforce, Publisher
from governor.loops.ingest import Ingest
from governor.loops.reload import Reload
from governor.loops.report import Reports
from governor.loops.rerate import Rerate
from governor.settings import Settings

JOIN_TIMEOUT_S: Final = 3.0
HOLDS_NOT: Final = "no throttle {!r} holds"
WAITS_NOT: Final = "no throttle {!r} waits for approval"
ON_ALREADY: Final = "enforcement is on already"

_log = structlog.get_logger()


class Acting:
    """The loops beside ingest, each with a thread of its own, and the control API."""

    def __init__(
        self,
        settings: Settings,
        connection: Connection,
        judging: Judging,
        pricing: Pricing,
        state: State,
        ingest: Ingest,
        *,
        now: Callable[[], datetime],
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._judging = judging
        self._pricing = pricing
        self._state = state
        self._ingest = ingest
        self._now = now
        evaluate = judging.evaluate
        self._enforce = Enforce(
            issued=judging.issued,
            reader=self._reader,
            publisher=self._publisher,
            adopt=lambda records, version: ingest.ask(lambda: evaluate.adopt(records, version)),
            wanted=lambda: evaluate.enforces,
            alive=lambda lease: timedelta(seconds=ingest.idle_s) < lease,
            give_up=ingest.fail,
            now=now,
            lease=settings.directives.lease,
            published=judging.lateness.published,
        )
        self._reload = Reload(
            digest=judging.digest,
            apply=lambda: self._apply(Caller("governor", "file")),
            rejected=lambda why: ingest.ask(lambda: judging.refusals.tell(why)),
            in_force=judging.seen,
            every_s=settings.rules.reload_every.total_seconds(),
            what="rules",
            refused=telemetry.RULES_REJECTED,
        )
        self._reprice = Reload(
            digest=pricing.digest,
            apply=lambda: self._apply_prices(Caller("governor", "file")),
            rejected=lambda why: ingest.ask(lambda: pricing.refusals.tell(why)),
            in_force=pricing.seen,
            every_s=settings.prices.reload_every.total_seconds(),
            what="prices",
            refused=telemetry.PRICES_REJECTED,
        )
        self._looking = Looking(
            state,
            lambda: judging.evaluate,
            now,
            lambda call, *words: self._audit(call.caller, *words),
        )
        self._rerate = Rerate(pricing, ask=ingest.ask, now=now)
        outbox = Outbox(state.store)
        files = Files(
            draw=Drawing(partial(pictured, state, self._looking), ask=ingest.ask),
            page=partial(page_of, state, ingest.ask),
            later=Behind(),
        )
        self._telling = Telling(
            fixed(settings, files),
            make=lambda receiver: Deliver(
                receiver,
                outbox,
                ask=ingest.ask,
                now=now,
                grouping=lambda: judging.evaluate.routing.grouping,
                broken=self._broken(receiver.name, outbox),
            ),
            named=lambda each: named(settings, each, now, files),
        )
        self._telling.check(judging.evaluate.routing)
        self._telling.use(judging.evaluate.routing)
        self._raising = Raising(lambda: judging.evaluate, now, self._audit)
        self._enforcing = Enforcing(
            lambda: judging.evaluate, now, self._audit, judging.lateness.shown
        )
        self._quieting = Quieting(lambda: judging.evaluate, now, self._audit)
        numbers = Numbers(state.store, ingest.ask)
        reports = Reports(
            lambda: judging.evaluate.routing.reports,
            numbers,
            state,
            budgets=lambda: budget_lines(self._looking),
            enter=judging.evaluate.reported,
            complete=lambda: judging.evaluate.complete,
            ask=ingest.ask,
            now=now,
        )
        self._reports = reports
        self._reporting = Reporting(
            reports,
            numbers,
            lambda: judging.evaluate.routing.reports,
            state,
            ask=ingest.ask,
            now=now,
            audit=lambda call, *words: self._audit(call.caller, *words),
        )
        self._hearing = Hearing(
            settings.slack,
            answering(settings),
            carry_out=Pressing(
                lambda: judging.evaluate,
                outbox,
                ask=ingest.ask,
                now=now,
                audit=self._audit,
                raising=self._raising,
            ),
            now_s=lambda: now().timestamp(),
        )
        self._heart = Heart(
            state,
            lambda: judging.evaluate.routing,
            lambda: ingest.troubles,
            ask=ingest.ask,
            tell=judging.evaluate.tell,
            now=now,
        )

    def open(self, stack: ExitStack, stop: threading.Event) -> None:
        """Start the threads; the stack joins them after `stop` is set."""
        control = self._settings.control
        token = control.token.get_secret_value() if control.token else ""
        tcp = None if control.port is None else (control.host, control.port, token)
        server = Control(self._orders(), path=Path(control.socket), tcp=tcp)
        stack.callback(server.close)
        _log.info("control.opened", socket=str(control.socket), port=server.port)
        for name, loop in (
            ("enforce", self._enforce.run),
            ("reload", self._reload.run),
            ("reprice", self._reprice.run),
            ("rerate", self._rerate.run),
            ("heart", self._heart.run),
        ):
            thread = threading.Thread(target=loop, args=(stop,), name=name, daemon=True)
            thread.start()
            stack.callback(thread.join, JOIN_TIMEOUT_S)
        self._hearing.open(stack, stop)
        self._reporting.open(stack)
        self._telling.open()
        stack.callback(self._telling.close)
        stack.callback(self._wake)
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGHUP, lambda *_: self._wake())
            stack.callback(signal.signal, signal.SIGHUP, before)

    @property
    def troubles(self) -> list[str]:
        """What keeps it from acting, in plain lines."""
        loops = (self._enforce, self._reload, self._reprice, self._hearing, self._reports)
        found = [loop.trouble for loop in loops]
        return [*(trouble for trouble in found if trouble), *self._telling.troubles]

    @property
    def enforcement(self) -> dict[str, Any]:
        """How late and how dear enforcement is, as it was some seconds ago."""
        evaluate = self._judging.evaluate
        overshoot = answers.overshoot_rows(evaluate.overshoot)
        return {"delays": self._judging.lateness.shown(), "overshoot": overshoot}

    def _broken(self, receiver: str, outbox: Outbox) -> Broken:
        return Broken(
            receiver,
            lambda: self._judging.evaluate.routing.fallback_of(receiver),
            self._state,
            outbox,
            ask=self._ingest.ask,
            tell=self._judging.evaluate.tell,
            now=self._now,
        )

    def _wake(self) -> None:
        self._reload.wake()
        self._reprice.wake()

    def _apply(self, caller: Caller) -> None:
        loaded = self._judging.load()
        self._telling.check(loaded.routing)
        row = self._audit(caller, "rules.reload", loaded.digest[:12], "loaded")
        self._ingest.ask(lambda: self._judging.put_in_force(loaded, row))
        self._telling.use(loaded.routing)
        self._judging.loaded(loaded)

    def _apply_prices(self, caller: Caller) -> None:
        book = self._pricing.load()
        row = self._audit(caller, "prices.reload", book.digest[:12], "loaded")
        self._ingest.ask(lambda: self._pricing.put_in_force(book, row))

    def _reader(self) -> DirectiveReader:
        topic = self._settings.directives.topic
        if not require_compacted(self._connection, topic):
            _log.warning("directives.unsure", topic=topic, why="the broker cannot tell its policy")
        return DirectiveReader(self._connection, topic)

    def _publisher(self) -> Publisher:
        return DirectivePublisher(self._connection, self._settings.directives.topic)

    def _orders(self) -> Orders:
        listed = {
            "/v1/alerts": ("alerts.list", self._alerts),
            "/v1/rules": ("rules.list", self._rules),
        }
        return Orders(
            [
                *(
                    Route("GET", path, partial(self._asked, action, answer))
                    for path, (action, answer) in listed.items()
                ),
                Route("GET", "/v1/explain", self._explained),
                *self._looks(),
                Route("POST", "/v1/rules/reload", self._reloaded),
                Route("POST", "/v1/prices/rerate", self._rerated),
                Route("GET", "/v1/prices/rerate/<run>", self._progress, "no run {!r} is known"),
            ]
        )

    def _looks(self) -> list[Route]:
        look, missing = self._looking, "no alert {!r} is known"

        def asked(action: str, answer: Callable[[Call], Any]) -> Callable[[Call], Any]:
            def both(call: Call) -> Any:
                target = ", ".join(call.names)
                row = self._audit(call.caller, action, target, "answered")
                self._judging.evaluate.audited(row)
                return answer(call)

            return lambda call: self._ingest.ask(lambda: both(call))

        def ordered(carry_out: Callable[[Call], Any]) -> Callable[[Call], Any]:
            return lambda call: self._ingest.ask(lambda: carry_out(call))

        act, quiet, open_ = self._enforcing, self._quieting, "no alert {!r} is open"
        waits = "no raise {!r} waits for approval"
        return [
            Route("GET", "/v1/throttles", asked("throttles.list", act.listed)),
            Route("POST", "/v1/throttles/<id>/release", ordered(act.release), HOLDS_NOT),
            Route("POST", "/v1/throttles/<id>/approve", ordered(act.approve), WAITS_NOT),
            Route("POST", "/v1/rules/<rule>/approve", ordered(act.approve_all)),
            Route("POST", "/v1/allow", ordered(act.allow)),
            Route("GET", "/v1/enforcement", asked("enforcement.status", act.status)),
            Route("POST", "/v1/enforcement/off", ordered(act.off)),
            Route("POST", "/v1/enforcement/on", ordered(act.on), ON_ALREADY),
            Route("POST", "/v1/alerts/<id>/ack", ordered(quiet.ack), open_),
            Route("POST", "/v1/alerts/<id>/snooze", ordered(quiet.snooze), open_),
            Route("POST", "/v1/alerts/<id>/unack", ordered(quiet.unack), open_),
            Route("GET", "/v1/raises", asked("raises.list", self._raising.listed)),
            Route("POST", "/v1/rules/<rule>/raise", ordered(self._raising.ask)),
            Route("POST", "/v1/raises/<id>/approve", ordered(self._raising.approve), waits),
            Route("POST", "/v1/raises/<id>/end", ordered(self._raising.end), "no raise {!r} holds"),
            Route("GET", "/v1/reports", asked("reports.list", self._reporting.listed)),
            Route("GET", "/v1/reports/<name>", self._reporting.made),
            Route("GET", "/v1/showback/<by>", self._reporting.showback),
            Route("POST", "/v1/reports/<name>/send", self._reporting.sent),
            Route("GET", "/v1/silences", asked("silences.list", quiet.listed)),
            Route("POST", "/v1/silences", ordered(quiet.silence)),
            Route("POST", "/v1/silences/<id>/end", ordered(quiet.end), "no silence {!r} holds"),
            Route("GET", "/v1/alerts/<id>", asked("alerts.show", look.alert), missing),
            Route("GET", "/v1/alerts/<id>/picture", asked("alerts.chart", look.picture), missing),
            Route("POST", "/v1/alerts/<id>/forgive", ordered(look.forgive), missing),
            Route("POST", "/v1/rules/<rule>/plan", ordered(look.plan)),
            Route("GET", "/v1/forecast", asked("forecast", look.forecasts)),
        ]

    def _asked(self, action: str, answer: Callable[[], Any], call: Call) -> Any:
        def both() -> Any:
            self._judging.evaluate.audited(self._audit(call.caller, action, "", "answered"))
            return answer()

        return self._ingest.ask(both)

    def _explained(self, call: Call) -> Any:
        def answer() -> Any:
            with self._state.numbers() as numbers:
                evaluate = self._judging.evaluate
                return explaining.answer(
                    numbers, evaluate.rules, call.fields, self._now(), evaluate.routing
                )

        target = call.fields.get("rule", "")[:60]
        self._ingest.ask(
            lambda: self._judging.evaluate.audited(
                self._audit(call.caller, "rules.explain", target, "answered")
            )
        )
        return self._ingest.ask(answer)

    def _reloaded(self, call: Call) -> Any:
        self._apply(call.caller)
        self._reload.trouble = None
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

    def _audit(
        self, caller: Caller, action: str, target: str, outcome: str, detail: str | None = None
    ) -> AuditRow:
        return AuditRow(self._now(), caller.who, caller.via, action, target, outcome, detail)
