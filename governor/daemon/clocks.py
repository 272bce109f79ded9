"""The only clocks: what the present is, by the wall or by the events of a replay."""

from datetime import UTC, datetime, timedelta

from governor.core.usage import micros


class WallClock:
    """The time it is, or a fixed span `ahead` of it, as in `governor demo`."""

    def __init__(self, ahead: timedelta = timedelta(0)) -> None:
        self._ahead = ahead

    def at(self, newest_us: int | None) -> datetime:  # noqa: ARG002  # the event clock needs it
        """Return now, UTC."""
        return datetime.now(UTC) + self._ahead


class EventClock:
    """The time the events say it is, for replays: the newest event time so far, never ahead of now.

    It never goes back. Before the first event it is now.
    """

    def __init__(self) -> None:
        self._newest: datetime | None = None

    def at(self, newest_us: int | None) -> datetime:
        """Move on to the newest event time, in microseconds, and return it."""
        now = datetime.now(UTC)
        if newest_us is not None:
            newest = datetime.fromtimestamp(0, UTC) + timedelta(
                microseconds=min(newest_us, micros(now))
            )
            self._newest = max(newest, self._newest or newest)
        return self._newest or now
