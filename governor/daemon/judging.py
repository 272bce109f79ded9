"""The part of the daemon that judges: which rules are in force, and what the store says of them."""

import queue
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from governor import rulebook, telemetry
from governor.adapters.duckdb.state import State
from governor.core.batches import Batch, Stored
from governor.core.decisions import AuditRow
from governor.core.directives import Directive
from governor.core.errors import ConfigError
from governor.daemon.lateness import Lateness
from governor.daemon.refusals import RULES, Refusals
from governor.loops.evaluate import Evaluate
from governor.loops.ingest import Judge
from governor.rulebook.kept import keep, kept
from governor.settings import Rules

DEFAULT_RULES: Final = Rules().path

_log = structlog.get_logger()


class Judges:
    """Several judges as one, asked in turn."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        self._judges = tuple(judges)

    def begin(self) -> None:
        """Take up what is stored; may raise TransientError, and is then called again."""
        for judge in self._judges:
            judge.begin()

    def stored(self, batch: Batch, stored: Stored) -> None:
        """Take up what a committed batch came to; cannot fail."""
        for judge in self._judges:
            judge.stored(batch, stored)

    def missed(self, batch: Batch) -> None:
        """Add up anew. May raise TransientError, and is then called again."""
        for judge in self._judges:
            judge.missed(batch)

    def settle(self) -> None:
        """Judge what was taken up; may raise TransientError, and is then called again."""
        for judge in self._judges:
            judge.settle()

    def tick(self) -> None:
        """Do what time brings; may raise TransientError, and is then called again."""
        for judge in self._judges:
            judge.tick()


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
        complete: Callable[[], datetime | None] | None,
        follow_events: bool,
        stale_after: timedelta,
    ) -> None:
        self.lateness = Lateness(now)
        self._path = rules
        self._keep_at = keep_at
        self.issued: queue.SimpleQueue[Sequence[Directive]] = queue.SimpleQueue()
        self._in_force: str | None = None
        first = self._first_rules()
        self.evaluate = Evaluate(
            state,
            first.rules if first else (),
            routing=first.routing if first else None,
            allows=first.allows if first else (),
            now=now,
            complete=complete,
            questions=1,
            follow_events=follow_events,
            receivers=receivers,
            publish=self.issued.put,
            stale_after=stale_after,
            lag_s=self.lateness.lag_s,
        )
        self.refusals = Refusals(RULES, state, tell=self.evaluate.tell, now=now)

    @property
    def seen(self) -> str | None:
        """The digest of the rule files that need no look; None where people wait for one."""
        return None if self.refusals.open else self._in_force

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
        self.evaluate.reload(loaded.rules, [row], loaded.routing, loaded.allows)
        self.refusals.tell(None)

    def _first_rules(self) -> rulebook.Rulebook | None:
        """Return the rules of the files, or where those are wrong the last that were good.

        The reload loop then says what is wrong: it finds the files not in force.
        """
        path = self._path
        if not path.exists() and path == DEFAULT_RULES:
            _log.warning("rules.missing", path=str(path), advice="write rules/*.yaml")
            self._in_force = rulebook.digest(path)
            return None
        try:
            loaded = rulebook.load(path)
        except ConfigError:
            good = kept(self._keep_at)
            if good is None:
                raise
            telemetry.RULES_LOADED.set(len(good.rules))
            return good
        self.loaded(loaded)
        self._in_force = loaded.digest
        return loaded
