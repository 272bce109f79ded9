"""Files that people edit and that are refused: told once, edited while wrong, ended when right."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from governor.adapters.duckdb.state import State
from governor.core.notifications import Notice, rejection_notice


@dataclass(frozen=True, slots=True)
class Edited:
    """What is edited, as a message calls it."""

    message: str
    title: str
    keeps: str
    right: str


RULES: Final = Edited(
    message="rules-rejected",
    title="Rule files refused",
    keeps="The last good rules stay in force.",
    right="the rule files are right again",
)
PRICES: Final = Edited(
    message="prices-rejected",
    title="Price file refused",
    keeps="The last good prices stay in force.",
    right="the price file is right again",
)


class Refusals:
    """Tells of one kind of files; used by the thread that owns the store."""

    def __init__(
        self,
        edited: Edited,
        state: State,
        *,
        tell: Callable[[Notice], None],
        now: Callable[[], datetime],
    ) -> None:
        self._edited = edited
        self._state = state
        self._tell = tell
        self._now = now

    @property
    def open(self) -> Notice | None:
        """What people were told last of wrong files, unless that they are right."""
        last = self._state.last_notice(self._edited.message)
        return None if last is None or last.resolved else last

    def tell(self, why: str | None) -> None:
        """Tell people that files are wrong and why, or with None that they are right."""
        before = self.open
        if why is not None:
            summary = f"{self._edited.keeps} {why}"
            notice = rejection_notice(
                self._edited.message, self._edited.title, summary, self._now()
            )
            if before is not None:
                notice = replace(notice, message=before.message, revision=before.revision + 1)
            self._tell(notice)
        elif before is not None:
            again = before.revision + 1
            self._tell(replace(before, revision=again, resolved=self._edited.right, at=self._now()))
