"""Acknowledgements: somebody has seen an alert, or wants to hear no more of it for a while."""

from dataclasses import dataclass
from datetime import datetime

from governor.core.alerts import Alert
from governor.core.rules.shared import Level


@dataclass(frozen=True, slots=True)
class Ack:
    """Somebody has seen an episode of an alert, and what it came to.

    Until `until` it is not repeated and not escalated; a `snooze` holds back all but its end. One
    at a higher level than `level` is told as if nobody had seen it.
    """

    alert: str
    episode: int
    who: str
    at: datetime
    until: datetime
    level: Level
    snooze: bool = False
    note: str = ""

    def holds(self, alert: Alert, now: datetime) -> bool:
        """Return whether it still counts for an alert."""
        level = alert.level or Level.INFO
        return alert.episode == self.episode and now < self.until and level <= self.level

    @property
    def text(self) -> str:
        """What people read of it, without its end."""
        said = f"{'snoozed' if self.snooze else 'acknowledged'} by {self.who}"
        return f"{said}: {self.note}" if self.note else said
