"""The part of the daemon that judges: which rules are in force, and what the store says of them."""

import queue
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

import structlog

from governor import rulebook, telemetry
from governor.adapters.duckdb.state import State
from governor.core.decisions import AuditRow
from governor.core.directives import Directive
from governor.core.errors import ConfigError
from governor.core.notifications import Notice, rejection_notice
from governor.core.rules.budget import Budget
from governor.loops.evaluate import Evaluate
from governor.rulebook.kept import keep, kept
from governor.settings import Rules

DEFAULT_RULES: Final = Rules().path
REJECTED: Final = "rules-rejected"
"""The message that tells of wrong rule files."""

_log = structlog.get_logger()


class Judging:
    """Reads the rules and judges by them; all but `load` belongs to the thread of the store.

    `issued` holds the directives that are stored and not yet taken over for their topic.
    """

    def __init__(
        self,
        state: State,
        *,
        rules: Path,
        keep_at: Path,
        receivers: Sequence[str],
        now: Callable[[], datetime],
        follow_events: bool,
    ) -> None:
        self._state = state
        self._path = rules
        self._keep_at = keep_at
        self._now = now
        self.issued: queue.SimpleQueue[Sequence[Directive]] = queue.SimpleQueue()
        self._in_force: str | None = None
        self.evaluate = Evaluate(
            state,
            self._first_rules(),
            now=now,
            follow_events=follow_events,
            receivers=receivers,
            publish=self.issued.put,
        )

    @property
    def seen(self) -> str | None:
        """The digest of the rule files that need no look; None where people wait for one."""
        return None if self._open_rejection() else self._in_force

    def digest(self) -> str:
        """Name the content of the rule files."""
        return rulebook.digest(self._path)

    def load(self) -> rulebook.Rulebook:
        """Read and check the rule files; raise ConfigError where they are wrong."""
        return rulebook.load(self._path)

    def loaded(self, loaded: rulebook.Rulebook) -> None:
        """Keep rules that are in force for a start with wrong ones."""
        keep(loaded, self._keep_at)
        telemetry.RULES_LOADED.set(len(loaded.rules))
        _log.info("rules.loaded", rules=len(loaded.rules), files=[str(f) for f in loaded.files])

    def put_in_force(self, loaded: rulebook.Rulebook, row: AuditRow) -> None:
        """Judge by these rules from now on, and tell people that the files are right."""
        self.evaluate.reload(loaded.rules, [row])
        self.tell_rejected(None)

    def tell_rejected(self, why: str | None) -> None:
        """Tell people that the rule files are wrong and why, or with None that they are right."""
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

    def _first_rules(self) -> Sequence[Budget]:
        """Return the rules of the files, or where those are wrong the last that were good.

        The reload loop then says what is wrong: it finds the files not in force.
        """
        path = self._path
        if not path.exists() and path == DEFAULT_RULES:
            _log.warning("rules.missing", path=str(path), advice="write rules/*.yaml")
            self._in_force = rulebook.digest(path)
            return ()
        try:
            loaded = rulebook.load(path)
        except ConfigError:
            good = kept(self._keep_at)
            if good is None:
                raise
            telemetry.RULES_LOADED.set(len(good.rules))
            return good.rules
        self.loaded(loaded)
        self._in_force = loaded.digest
        return loaded.rules
