"""How late what happens is known and acted on: from an event to the store, and to the gates."""

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Final

from governor import telemetry
from governor.core.batches import Batch, Stored
from governor.core.delays import Delays, ages_s
from governor.core.directives import Directive

QUANTILES: Final = {"p50": 0.50, "p99": 0.99}
PUBLISHING_S: Final = 0.5
"""What publishing is taken to need before any directive was."""


class Lateness:
    """Measures batches as one of the judges, and directives as they are acknowledged."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._stored, self._directed = Delays(), Delays()

    def begin(self) -> None:
        """Nothing has to be taken up."""

    def stored(self, batch: Batch, stored: Stored) -> None:  # noqa: ARG002  # it is a Judge
        """Measure how old the events of a batch were when they were stored."""
        now = self._now()
        with self._lock:
            self._stored.add(ages_s(stored.counted, now), now)
            newest = self._stored.quantile(QUANTILES["p99"], now)
        telemetry.EVENT_DELAY.set(newest or 0.0)

    def missed(self, batch: Batch) -> None:
        """Leave out what is not known."""

    def settle(self) -> None:
        """Nothing has to be judged."""

    def tick(self) -> None:
        """Nothing is due."""

    def published(self, directives: Sequence[Directive]) -> None:
        """Measure how old the newest event behind each directive is, now that Kafka has it."""
        now = self._now()
        ages = [
            (now - directive.caused_at).total_seconds()
            for directive in directives
            if directive.acts and directive.caused_at is not None
        ]
        with self._lock:
            self._directed.add(ages, now)
        for age in ages:
            telemetry.DIRECTIVE_DELAY.observe(max(0.0, age))

    def lag_s(self) -> float:
        """Return how long usage goes on before it is acted on, 99 times in a hundred."""
        now = self._now()
        with self._lock:
            stored = self._stored.quantile(QUANTILES["p99"], now) or 0.0
            directed = self._directed.quantile(QUANTILES["p99"], now)
        return max(stored + PUBLISHING_S, directed or 0.0)

    def shown(self) -> dict[str, Any]:
        """Return the delays in seconds; None where nothing of it happened of late."""
        now = self._now()
        with self._lock:
            return {
                name: {part: delays.quantile(share, now) for part, share in QUANTILES.items()}
                for name, delays in (
                    ("event_to_stored_s", self._stored),
                    ("event_to_directive_s", self._directed),
                )
            }
