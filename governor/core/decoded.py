"""Stage 1, what a format makes of records: events of usage, events of business, and rejects."""

from dataclasses import dataclass, field

from governor.core.business import BusinessEvent
from governor.core.usage import Record, Reject, UsageEvent


@dataclass(slots=True)
class Decoded:
    """What a format makes of the records of one topic; `origins[i]` is where `events[i]` stood.

    `ignored` counts what a record held beside usage: spans of agents and tools, other telemetry.
    """

    events: list[UsageEvent]
    origins: list[Record]
    rejects: list[Reject]
    ignored: int = 0
    business: list[tuple[str, Record, BusinessEvent]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How much was found in all."""
        return len(self.events) + len(self.business) + len(self.rejects) + self.ignored
