"""The reload loop: changed files to what is in force, all or nothing, failures said aloud."""

import threading
from collections.abc import Callable
from typing import Final, Literal, Protocol

import structlog

from governor.core.errors import ConfigError, TransientError

RETRY_S: Final = 1.0

_log = structlog.get_logger()


class Flag(Protocol):
    """A metric that is 0 or 1."""

    def set(self, value: float) -> None:
        """Set it."""


class Reload:
    """Looks at some files every so often and at once when woken.

    `digest` names their content without parsing them, `apply` puts them in force or raises
    ConfigError; `rejected` hears why they were refused, and None once they are right again.
    `what` they are called in the log and in what is said of them, `refused` is 1 while they are.
    """

    def __init__(
        self,
        *,
        digest: Callable[[], str],
        apply: Callable[[], None],
        rejected: Callable[[str | None], None],
        in_force: str | None,
        every_s: float,
        what: Literal["rules", "prices"],
        refused: Flag,
    ) -> None:
        self._digest = digest
        self._apply = apply
        self._rejected = rejected
        self._seen = in_force
        self._every_s = every_s
        self._what = what
        self._refused = refused
        self._woken = threading.Event()
        self.trouble: str | None = None

    def wake(self) -> None:
        """Look now, also where nothing seems to have changed."""
        self._seen = None
        self._woken.set()

    def run(self, stop: threading.Event) -> None:
        """Look until `stop` is set."""
        while not stop.is_set():
            try:
                self.look()
            except TransientError as error:
                _log.warning(f"{self._what}.waiting", error=str(error))
                self._seen = None
                stop.wait(RETRY_S)
            except Exception:  # noqa: BLE001  # the top of a loop: log, go on
                _log.exception("reload.failed")
                self._seen = None
            self._woken.wait(self._every_s)
            self._woken.clear()

    def look(self) -> None:
        """Put the files in force where they are not what was seen last."""
        digest = self._digest()
        if digest == self._seen:
            return
        self._seen = digest  # before it is applied: a wake meanwhile must not be lost
        try:
            self._apply()
        except ConfigError as error:
            self.refuse(str(error))
        else:
            if self.trouble is not None:
                self._rejected(None)
            self.trouble = None
            self._refused.set(0)

    def refuse(self, why: str) -> None:
        """Keep the rules in force and say why."""
        files = {"rules": "rule files are", "prices": "price file is"}[self._what]
        self.trouble = f"the {files} wrong, the last good {self._what} are in force: {why}"
        self._refused.set(1)
        _log.error(f"{self._what}.rejected", error=why)
        self._rejected(why)
