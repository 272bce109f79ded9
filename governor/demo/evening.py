"""The demo's clock: the end of a made-up evening, so that a day ends while one looks on.

The company, the daemon and the gate all live by it. It runs as fast as any clock and is ahead of
the true time by a fixed span of less than a day, so that midnight (UTC) comes when it is due.
"""

from datetime import UTC, datetime, timedelta
from typing import Final

_DAY: Final = timedelta(days=1)


class Evening:
    """A clock on which it is midnight `midnight_in` after it was made."""

    def __init__(self, midnight_in: timedelta) -> None:
        due = datetime.now(UTC) + midnight_in
        self.midnight: Final = datetime(due.year, due.month, due.day, tzinfo=UTC) + _DAY
        self.ahead: Final = self.midnight - due

    def now(self) -> datetime:
        """Return what the clock shows, UTC."""
        return datetime.now(UTC) + self.ahead

    def left_s(self) -> float:
        """Return the seconds to midnight, below zero after it."""
        return (self.midnight - self.now()).total_seconds()
