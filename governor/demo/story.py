"""The demo's story: a company lives through the end of a day and asks the gate before it spends."""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO, Final, Protocol

from governor.adapters.kafka.producer import EventProducer
from governor.adapters.prices import Catalogue
from governor.core.errors import PermanentError, TransientError
from governor.demo import checks
from governor.demo.checks import Check
from governor.demo.company import Company, Message
from governor.demo.evening import Evening
from governor.demo.gateway import Gateway, Traffic
from governor.demo.ledger import Ledger
from governor.demo.narrator import RESOLVED, Cap, Happening, Narrator, caps, level_of
from governor.demo.rhythm import Rhythm
from governor.demo.stage import STORE_NAME, TOPIC, Stage, staged

MIDNIGHT_AT: Final = 0.76
"""When midnight comes, as a share of the demo's seconds; starting up comes out of it, too."""
MORNING: Final = 0.16
"""How much of the demo's seconds are lived in the new day; the rest is for closing."""
LEAST_EVENING_S: Final = 12.0
"""The story needs this long from the start of the load to midnight."""
PATIENCE_S: Final = 30.0
"""How much longer a slow machine is given to bring the story to its end."""
CATCH_UP_TIMEOUT_S: Final = 60.0
TICK_S: Final = 0.1
LOOK_EVERY_S: Final = 0.5
SEED: Final = 7
SENT_NAME: Final = "sent.ndjson"


@dataclass(frozen=True, slots=True)
class Moment:
    """How things stand: `totals` is the daemon's tally so far, all else the company's view."""

    seconds: float
    at: datetime
    caps: Sequence[Cap]
    traffic: Traffic
    ledger: Ledger
    totals: dict[str, int]
    slack: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it; the load lasted `seconds`."""

    story: list[Check]
    books: list[Check]
    ledger: Ledger
    traffic: Traffic
    seconds: float


class Show(Protocol):
    """Shows the story to whoever looks on."""

    def opening(self, evening: Evening) -> None:
        """Say that all is ready, and what the demo's clock shows."""

    def happened(self, happening: Happening, seconds: float) -> None:
        """Tell one line."""

    def stands(self, moment: Moment) -> None:
        """Show how things stand; called twice a second."""

    def goes_on(self) -> None:
        """Say that the story is told and that all runs on."""


def play(
    folder: Path, *, seconds: float, forever: threading.Event | None, entry: str, show: Show
) -> Outcome:
    """Tell the story in `folder`, and where `forever` is given go on until it is set.

    What stays there is the store, the rules, the settings, the logs and, of a story that ended by
    itself, what was sent. Every process is gone afterwards, also after an error. Raise
    PermanentError where something of the demo itself does not work.
    """
    began = time.monotonic()
    evening = Evening(timedelta(seconds=MIDNIGHT_AT * seconds))
    with staged(folder, evening, entry) as stage:
        if evening.left_s() < LEAST_EVENING_S:
            raise PermanentError(
                f"starting took {time.monotonic() - began:.0f} s, which leaves too little of the"
                f" evening; try a longer one: --seconds {3 * seconds:.0f}"
            )
        show.opening(evening)
        run = _Run(stage, show, began)
        with (
            _written(None if forever else folder / SENT_NAME) as sent,
            EventProducer(stage.connection, TOPIC) as producer,
        ):
            lived_s = run.live(producer, sent, morning_s=MORNING * seconds, forever=forever)
        run.until_stored()
        stage.close()
        return Outcome(
            run.story,
            checks.books(folder / STORE_NAME, run.ledger),
            run.ledger,
            run.traffic,
            lived_s,
        )


class _Run:
    """The load, and those who look on, in one thread."""

    def __init__(self, stage: Stage, show: Show, began: float) -> None:
        self._stage = stage
        self._show = show
        self._began = began
        self._pause = threading.Event()
        self._looked = 0.0
        self._totals: dict[str, int] = {}
        self.ledger: Final = Ledger(Catalogue())
        self.traffic: Final = Traffic()
        self.story: list[Check] = []
        self._narrator = Narrator(stage.evening, stage.rules, self.ledger, self.traffic)

    def live(
        self,
        producer: EventProducer,
        sent: BinaryIO | None,
        *,
        morning_s: float,
        forever: threading.Event | None,
    ) -> float:
        """Make requests until the story is told, or `forever` is set; return for how long."""

        def send(message: Message) -> None:
            producer.send(message.value, message.key)
            self.ledger.enter(message)
            if sent is not None:
                sent.write(message.value + b"\n")

        evening = self._stage.evening
        company = Company(SEED)
        rhythm = Rhythm(evening.now(), evening.midnight)
        opened = time.monotonic()
        with Gateway(self._stage.gate_port, evening, company, self.traffic, send) as gateway:
            while not self._is_told(morning_s):
                self._tick(company, rhythm, gateway)
            self.story = checks.story(self.traffic, self._stage.messages(), evening.midnight)
            if forever is not None:
                self._show.goes_on()
                while not forever.is_set():
                    self._tick(company, rhythm, gateway)
        producer.flush()
        if producer.acknowledged != self.ledger.sent:
            raise PermanentError(
                f"the demo's broker acknowledged {producer.acknowledged:,} of"
                f" {self.ledger.sent:,} records: {producer.first_failure}"
            )
        return time.monotonic() - opened

    def until_stored(self) -> None:
        """Wait until the daemon has stored all that was sent."""
        deadline = time.monotonic() + CATCH_UP_TIMEOUT_S
        while self._totals.get("events", -1) < self.ledger.sent:
            if time.monotonic() > deadline:
                raise self._stage.daemon.failed(
                    f"has not stored all {CATCH_UP_TIMEOUT_S:.0f} s after the last event was sent"
                )
            self._pause.wait(TICK_S)
            self._look()

    def _is_told(self, morning_s: float) -> bool:
        """Return whether the new day has lasted long enough to see how it began."""
        past_s = -self._stage.evening.left_s() - morning_s
        if past_s < 0:
            return False
        heard = any(level_of(m.now.text) == RESOLVED for m in self._stage.messages())
        return (self.traffic.freed is not None and heard) or past_s > PATIENCE_S

    def _tick(self, company: Company, rhythm: Rhythm, gateway: Gateway) -> None:
        due = time.monotonic() + TICK_S
        now = self._stage.evening.now()
        for event in company.requests(now, rhythm.due(now)):
            gateway.handle(event)
        messages = self._stage.messages()
        for happening in self._narrator.look(messages):
            self._show.happened(happening, time.monotonic() - self._began)
        if time.monotonic() - self._looked >= LOOK_EVERY_S:
            self._look()
        self._pause.wait(max(0.0, due - time.monotonic()))

    def _look(self) -> None:
        """Ask the daemon how far it is, and show how all stands."""
        self._looked = time.monotonic()
        try:
            self._totals = self._stage.status()["totals"]
        except TransientError:
            return
        messages = self._stage.messages()
        now = self._stage.evening.now()
        self._show.stands(
            Moment(
                seconds=self._looked - self._began,
                at=now,
                caps=caps(self._stage.rules, self.ledger, now),
                traffic=self.traffic,
                ledger=self.ledger,
                totals=self._totals,
                slack=messages[-1].now.text if messages else "",
            )
        )


@contextmanager
def _written(place: Path | None) -> Iterator[BinaryIO | None]:
    if place is None:
        yield None
        return
    with place.open("wb") as file:
        yield file
