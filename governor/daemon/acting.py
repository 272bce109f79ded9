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
from governor.adapters.control import Caller, Control
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
from governor.daemon import answers
from governor.daemon.drawing import Behind, Drawing
from governor.daemon.enforcing import Enforcing
from governor.daemon.hearing import Hearing
from governor.daemon.judging import Judging
from governor.daemon.looking import Looking
from governor.daemon.ordering import Ordering
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
        self._ordering = Ordering(
            judging=judging,
            state=state,
            ingest=ingest,
            rerate=self._rerate,
            looking=self._looking,
            enforcing=Enforcing(lambda: judging.evaluate, now, self._audit, judging.lateness.shown),
            quieting=Quieting(lambda: judging.evaluate, now, self._audit),
            raising=self._raising,
            reporting=self._reporting,
            reload=self._reloaded,
            audit=self._audit,
            now=now,
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
        server = Control(self._ordering.orders(), path=Path(control.socket), tcp=tcp)
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

    def _reloaded(self, caller: Caller) -> None:
        self._apply(caller)
        self._reload.trouble = None

    def _audit(
        self, caller: Caller, action: str, target: str, outcome: str, detail: str | None = None
    ) -> AuditRow:
        return AuditRow(self._now(), caller.who, caller.via, action, target, outcome, detail)
