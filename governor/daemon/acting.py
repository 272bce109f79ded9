"""The part of the daemon that acts: rules judged, people told, gates directed, orders taken."""

import signal
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import structlog

from governor import rulebook, telemetry
from governor.actions.log import Log
from governor.actions.slack.bot import SlackBot
from governor.actions.slack.webhook import SlackWebhook
from governor.adapters.control import Caller, Control, Orders
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.adapters.kafka.connection import Connection
from governor.adapters.kafka.directives import (
    DirectivePublisher,
    DirectiveReader,
    require_compacted,
)
from governor.core.alerts import Alert
from governor.core.decisions import AuditRow
from governor.core.directives import Directive
from governor.core.errors import ConfigError
from governor.core.notifications import Notice, amount_text, rejection_notice
from governor.core.rules.budget import Budget
from governor.loops.deliver import Deliver, Receiver
from governor.loops.enforce import Enforce, Publisher
from governor.loops.evaluate import Evaluate
from governor.loops.ingest import Ingest
from governor.loops.reload import Reload
from governor.rulebook.kept import keep, kept
from governor.settings import Rules, Settings

JOIN_TIMEOUT_S: Final = 3.0
DEFAULT_RULES: Final = Rules().path
MAX_LISTED: Final = 1_000
"""Alerts in one answer of the control API."""

_log = structlog.get_logger()


class Acting:
    """Builds what acts on rules, runs its threads, and answers orders."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        connection: Connection,
        *,
        now: Callable[[], datetime],
        follow_events: bool,
    ) -> None:
        self._settings = settings
        self._connection = connection
        self._now = now
        self._state = State(store, now)
        self._receivers = receivers_of(settings)
        self._kept = Path(f"{settings.store.path}.rules")
        self._in_force: str | None = None
        self.evaluate = Evaluate(
            self._state,
            self._first_rules(),
            now=now,
            follow_events=follow_events,
            receivers=[receiver.name for receiver in self._receivers],
            publish=self._publish,
        )

    def open(self, stack: ExitStack, ingest: Ingest, stop: threading.Event) -> None:
        """Start the threads; the stack joins them after `stop` is set."""
        self._ingest = ingest
        self._enforce = Enforce(
            reader=self._reader,
            publisher=self._publisher,
            adopt=lambda records, version: ingest.ask(
                lambda: self.evaluate.adopt(records, version)
            ),
            wanted=lambda: self.evaluate.enforces,
            alive=lambda lease: timedelta(seconds=ingest.idle_s) < lease,
            give_up=ingest.fail,
            now=self._now,
            lease=self._settings.directives.lease,
        )
        self._reload = Reload(
            digest=lambda: rulebook.digest(self._settings.rules.path),
            apply=lambda: self._apply(Caller("governor", "file")),
            rejected=self._rejected,
            in_force=None if self._open_rejection() else self._in_force,
            every_s=self._settings.rules.reload_every.total_seconds(),
        )
        self._delivers = [
            Deliver(receiver, self._state, ask=ingest.ask, now=self._now)
            for receiver in self._receivers
        ]
        control = self._settings.control
        token = control.token.get_secret_value() if control.token else ""
        tcp = None if control.port is None else (control.host, control.port, token)
        server = Control(self._orders(), path=Path(control.socket), tcp=tcp)
        stack.callback(server.close)
        _log.info("control.opened", socket=str(control.socket), port=server.port)
        for name, loop in (
            ("enforce", self._enforce.run),
            ("reload", self._reload.run),
            *((f"deliver-{d.name}", d.run) for d in self._delivers),
        ):
            thread = threading.Thread(target=loop, args=(stop,), name=name, daemon=True)
            thread.start()
            stack.callback(thread.join, JOIN_TIMEOUT_S)
        stack.callback(self._reload.wake)
        if threading.current_thread() is threading.main_thread():
            before = signal.signal(signal.SIGHUP, lambda *_: self._reload.wake())
            stack.callback(signal.signal, signal.SIGHUP, before)

    @property
    def troubles(self) -> list[str]:
        """What keeps it from acting, in plain lines."""
        found = [self._reload.trouble, *(deliver.trouble for deliver in self._delivers)]
        return [trouble for trouble in (self._enforce.trouble, *found) if trouble]

    def _publish(self, directives: Sequence[Directive]) -> None:
        self._enforce.publish(directives)

    def _first_rules(self) -> Sequence[Budget]:
        """Return the rules of the files, or where those are wrong the last that were good.

        The reload loop then says what is wrong: it finds the files not in force.
        """
        path = self._settings.rules.path
        if not path.exists() and path == DEFAULT_RULES:
            _log.warning("rules.missing", path=str(path), advice="write rules/*.yaml")
            self._in_force = rulebook.digest(path)
            return ()
        try:
            loaded = rulebook.load(path)
        except ConfigError:
            good = kept(self._kept)
            if good is None:
                raise
            telemetry.RULES_LOADED.set(len(good.rules))
            return good.rules
        self._loaded(loaded)
        self._in_force = loaded.digest
        return loaded.rules

    def _apply(self, caller: Caller) -> None:
        loaded = rulebook.load(self._settings.rules.path)
        row = self._audit(caller, "rules.reload", loaded.digest[:12], "loaded")
        self._ingest.ask(lambda: self._put_in_force(loaded, row))
        self._loaded(loaded)

    def _put_in_force(self, loaded: rulebook.Rulebook, row: AuditRow) -> None:
        self.evaluate.reload(loaded.rules, [row])
        self._tell_rejected(None)

    def _loaded(self, loaded: rulebook.Rulebook) -> None:
        keep(loaded, self._kept)
        telemetry.RULES_LOADED.set(len(loaded.rules))
        _log.info("rules.loaded", rules=len(loaded.rules), files=[str(f) for f in loaded.files])

    def _rejected(self, why: str | None) -> None:
        """Tell people that the rule files are wrong, or right again."""
        self._ingest.ask(lambda: self._tell_rejected(why))

    def _tell_rejected(self, why: str | None) -> None:
        before = self._open_rejection()
        if why is not None:
            notice = rejection_notice(REJECTED, why, self._now())
            if before is not None:
                notice = replace(notice, message=before.message, revision=before.revision + 1)
            self.evaluate.tell(notice)
        elif before is not None:
            self.evaluate.tell(
                replace(
                    before,
                    revision=before.revision + 1,
                    resolved="the rule files are right again",
                    at=self._now(),
                )
            )

    def _open_rejection(self) -> Notice | None:
        """Return what people were told last of wrong rule files, unless that they are right."""
        last = self._state.last_notice(REJECTED)
        return None if last is None or last.resolved else last

    def _reader(self) -> DirectiveReader:
        topic = self._settings.directives.topic
        if not require_compacted(self._connection, topic):
            _log.warning("directives.unsure", topic=topic, why="the broker cannot tell its policy")
        return DirectiveReader(self._connection, topic)

    def _publisher(self) -> Publisher:
        return DirectivePublisher(self._connection, self._settings.directives.topic)

    def _orders(self) -> Orders:
        return Orders(
            alerts=lambda caller: self._asked(caller, "alerts.list", self._alerts),
            throttles=lambda caller: self._asked(caller, "throttles.list", self._throttles),
            release=self._release,
            rules=lambda caller: self._asked(caller, "rules.list", self._rules),
            reload=self._reloaded,
        )

    def _asked(self, caller: Caller, action: str, answer: Callable[[], Any]) -> Any:
        def both() -> Any:
            self.evaluate.audited(self._audit(caller, action, "", "answered"))
            return answer()

        return self._ingest.ask(both)

    def _release(self, name: str, caller: Caller) -> Any:
        row = self._audit(caller, "throttles.release", name, "")
        done = self._ingest.ask(lambda: self.evaluate.release(name, row))
        return _throttle_row(done) if done else None

    def _reloaded(self, caller: Caller) -> Any:
        self._apply(caller)
        self._reload.trouble = None
        return self._rules()

    def _alerts(self) -> list[dict[str, Any]]:
        live = {alert.key.id: amount for alert, amount in self.evaluate.alerts}
        return [
            self._alert_row(alert, live.get(alert.key.id, alert.amount))
            for alert in self._state.recent_alerts(MAX_LISTED)
        ]

    def _alert_row(self, alert: Alert, amount: int) -> dict[str, Any]:
        rule = self.evaluate.rules.get(alert.key.rule)
        group = dict(zip(rule.per, alert.key.group, strict=False)) if rule else None
        return {
            "id": alert.key.id,
            "rule": alert.key.rule,
            "group": group if group is not None else list(alert.key.group),
            "period": alert.key.period.name,
            "phase": alert.phase.value,
            "level": str(alert.level) if alert.level else None,
            "mode": alert.mode.value,
            "amount": amount,
            "value": amount_text(rule.measure, amount) if rule else None,
            "limit": rule.limit_text if rule else None,
            "health": alert.health.value,
            "fired_at": alert.fired_at,
            "ended_at": alert.ended_at,
            "ending": alert.ending.value if alert.ending else None,
        }

    def _throttles(self) -> list[dict[str, Any]]:
        return [_throttle_row(directive) for directive in self.evaluate.directives]

    def _rules(self) -> list[dict[str, Any]]:
        return [
            {
                "id": rule.id,
                "kind": "budget",
                "mode": rule.mode.value,
                "owner": rule.owner,
                "limit": rule.limit_text,
                "place": rule.place,
            }
            for rule in self.evaluate.rules.values()
        ]

    def _audit(self, caller: Caller, action: str, target: str, outcome: str) -> AuditRow:
        return AuditRow(self._now(), caller.who, caller.via, action, target, outcome)


REJECTED: Final = "rules-rejected"


def receivers_of(settings: Settings) -> list[Receiver]:
    """Return who is told of alerts."""
    slack = settings.slack
    timeout_s = slack.timeout.total_seconds()
    receivers: list[Receiver] = [Log()]
    if slack.bot_token and slack.channel:
        token = slack.bot_token.get_secret_value()
        receivers.append(
            SlackBot(
                token=token, channel=slack.channel, base_url=slack.base_url, timeout_s=timeout_s
            )
        )
    elif slack.webhook_url:
        url = slack.webhook_url.get_secret_value()
        receivers.append(SlackWebhook(url=url, timeout_s=timeout_s))
    return receivers


def _throttle_row(directive: Directive) -> dict[str, Any]:
    return {
        "id": directive.id,
        "effect": directive.effect.value,
        "rule": directive.rule,
        "rate": f"{directive.rate_requests} in {directive.rate_span_s} s",
        "each": directive.each,
        "fail": directive.fail.value,
        "reason": directive.reason,
        "scope": {name: _scope_text(found) for name, found in directive.scope.items()},
        "version": directive.version,
        "issued_at": directive.issued_at,
        "until": directive.until,
        "released_by": directive.released_by,
        "alert": directive.alert,
        "evidence": directive.evidence,
    }


def _scope_text(condition: Any) -> str:
    said = ", ".join((*condition.values, *(f"like {glob}" for glob in condition.like)))
    return f"not {said}" if condition.not_ else said
