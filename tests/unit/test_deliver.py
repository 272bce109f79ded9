"""The deliver loop with the outbox of a real DuckDB file: told once, in time, after every fault."""

import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governor.adapters.duckdb.outbox import MAX_ERROR_CHARACTERS, Outbox
from governor.adapters.duckdb.state import State
from governor.adapters.duckdb.store import Store
from governor.core.alerts import AlertKey, Transition, What
from governor.core.bulletins import Bulletin
from governor.core.decisions import AuditRow, Decisions, Line
from governor.core.directives import Directive, Effect
from governor.core.errors import PermanentError, TransientError
from governor.core.notifications import Notice
from governor.core.periods import Period
from governor.core.routing import Grouping
from governor.core.rules.shared import Level, Mode
from governor.loops.deliver import (
    FIRST_RETRY_S,
    LONGEST_RETRY_S,
    LONGEST_WAIT_S,
    LOOK_EVERY_S,
    MAX_DUE,
    REFUSED_RETRY_S,
    Deliver,
)
from governor.loops.ingest.calls import Calls
from tests.unit.accountant import NOW, PRICES
from tests.unit.office import begun_file, opened

FIRST = Notice(
    message="a1b2c3d4e5f6-1",
    alert="a1b2c3d4e5f6",
    revision=1,
    rule="cap",
    owner="growth",
    mode=Mode.NOTIFY,
    level=Level.WARNING,
    resolved=None,
    title="cap",
    summary="80.00 USD of 100.00 USD",
    value="80.00 USD",
    limit="100.00 USD",
    percent=Decimal("80.0"),
    group=(("team", "red"),),
    period="2026-07-01 (day)",
    period_end=NOW + timedelta(hours=12),
    at=NOW,
    fired_at=NOW,
    history=("12:00 UTC 80% reached at 80.00 USD, warning",),
)
WORSE = replace(FIRST, revision=2, level=Level.CRITICAL)
OVER = replace(FIRST, revision=3, resolved="the period ended")
OTHER = replace(FIRST, message="f6e5d4c3b2a1-1", alert="f6e5d4c3b2a1", rule="other")
AWAY = TransientError("no answer")
GONE = PermanentError("channel_not_found")


class Crash(BaseException):
    """The end of the process."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.at_s)


class Pace(threading.Event):
    """A stop event on which waiting moves a clock, by `rest_s` at least; set after `for_s`."""

    def __init__(self, clock: Clock, for_s: float, rest_s: float = 0.001) -> None:
        super().__init__()
        self._clock = clock
        self._until_s = clock.at_s + for_s
        self._rest_s = rest_s

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.at_s += max(timeout, self._rest_s)
        if self._clock.at_s > self._until_s:
            self.set()
        return self.is_set()


@dataclass(frozen=True, slots=True)
class Call:
    """What a receiver was handed, and when."""

    at_s: float
    notice: Notice
    reference: str | None
    unsure: bool


@dataclass(slots=True)
class Scripted:
    """A receiver that answers as told beforehand, then with references of its own."""

    clock: Clock
    answers: list[BaseException | Callable[[], str] | None] = field(default_factory=list)
    name: str = "slack"
    apart: bool = True
    calls: list[Call] = field(default_factory=list)

    def tell(self, bulletin: Bulletin) -> str | None:
        (notice,) = bulletin.notices
        call = Call(self.clock.at_s, notice, bulletin.reference, bulletin.unsure)
        self.calls.append(call)
        answer = self.answers.pop(0) if self.answers else lambda: f"post-{notice.message}"
        if isinstance(answer, BaseException):
            raise answer
        return answer and answer()

    @property
    def gaps_s(self) -> list[float]:
        """The time from each call to the next."""
        times = [call.at_s for call in self.calls]
        return [after - before for before, after in itertools.pairwise(times)]


@dataclass(slots=True)
class Desk:
    """A store's file with its outbox, opened as often as the process starts."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    grouping: Grouping = field(default_factory=Grouping)
    store: Store = field(init=False)
    state: State = field(init=False)
    outbox: Outbox = field(init=False)

    def __post_init__(self) -> None:
        self.path.write_bytes(begun_file())
        self._open()

    def _open(self) -> None:
        self.store = opened(self.path, PRICES)
        self.state = State(self.store, self.clock.now)
        self.outbox = Outbox(self.store)

    def restart(self) -> None:
        self.store.close()
        self._open()

    def want(self, *notices: Notice, receivers: Sequence[str] = ("slack",)) -> None:
        self.state.commit(self.state.decided + 1, Decisions(notices=notices), receivers)

    def deliver(self, receiver: Any, ask: Any = lambda call: call()) -> Deliver:
        return Deliver(
            receiver, self.outbox, ask=ask, now=self.clock.now, grouping=lambda: self.grouping
        )

    def run(self, receiver: Scripted, for_s: float = 2.0, rest_s: float = 0.001) -> Deliver:
        """Deliver for some time of the clock."""
        deliver = self.deliver(receiver)
        deliver.run(Pace(self.clock, for_s, rest_s))
        return deliver

    def one(self, query: str) -> int:
        (row,) = self.store.database.connection.execute(query).fetchall()
        return int(row[0])


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path / "governor.duckdb")
    yield made
    made.store.close()


# ---------------------------------------------------------------------------------- told


def test_a_message_is_told_once(desk: Desk) -> None:
    """What a receiver took is never handed to it again, in this process or the next."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock)
    deliver = desk.run(receiver, for_s=REFUSED_RETRY_S, rest_s=10.0)
    desk.restart()
    desk.run(receiver, for_s=REFUSED_RETRY_S, rest_s=10.0)
    assert receiver.calls == [Call(0.0, FIRST, None, unsure=False)]
    assert deliver.trouble is None
    assert deliver.name == "slack"
    assert desk.outbox.undelivered() == {}


def test_edits_collapse_to_the_newest(desk: Desk) -> None:
    """Of two changes before a message is told, the receiver hears of the second alone."""
    desk.want(FIRST)
    desk.want(WORSE)
    receiver = Scripted(desk.clock)
    desk.run(receiver)
    assert [call.notice for call in receiver.calls] == [WORSE]


def test_a_later_change_comes_with_the_reference(desk: Desk) -> None:
    """A change after the telling is handed over with what the receiver returned for it."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock)
    desk.run(receiver)
    desk.want(OVER)
    desk.run(receiver)
    last = receiver.calls[-1]
    assert (len(receiver.calls), last.notice, last.unsure) == (2, OVER, False)
    assert last.reference == f"post-{FIRST.message}"


def test_a_receiver_without_references_keeps_the_one_it_gave(desk: Desk) -> None:
    """An answer of None does not make governor forget which message it is."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [lambda: "post", None])
    for notice in (WORSE, OVER):
        desk.run(receiver)
        desk.want(notice)
    desk.run(receiver)
    assert [call.reference for call in receiver.calls] == [None, "post", "post"]


def test_a_change_during_the_telling_is_told_after_it(desk: Desk) -> None:
    """What is committed while the receiver still answers is not taken for told."""

    def changed() -> str:
        desk.want(WORSE)
        return "post"

    desk.want(FIRST)
    receiver = Scripted(desk.clock, [changed])
    desk.run(receiver)
    assert [call.notice for call in receiver.calls] == [FIRST, WORSE]


def test_more_than_a_handful_are_told_without_a_pause(desk: Desk) -> None:
    """A long queue is told in one go: the loop rests only once it found less than it asked for."""
    desk.want(*(replace(FIRST, message=f"m{number}") for number in range(MAX_DUE + 5)))
    receiver = Scripted(desk.clock)
    desk.run(receiver)
    assert len({call.notice.message for call in receiver.calls}) == MAX_DUE + 5
    assert receiver.calls[-1].at_s < LOOK_EVERY_S


def test_a_stop_leaves_the_rest_for_the_next_start(desk: Desk) -> None:
    """After a stop no further message is begun, and what is left stays due and sure."""
    stop = Pace(desk.clock, 10)

    def stopping() -> str:
        stop.set()
        return "post"

    desk.want(FIRST, OTHER)
    receiver = Scripted(desk.clock, [stopping])
    desk.deliver(receiver).run(stop)
    assert len(receiver.calls) == 1
    assert desk.outbox.undelivered() == {"slack": 1}
    desk.run(receiver)
    assert [call.unsure for call in receiver.calls] == [False, False]


# ---------------------------------------------------------------------------------- not told


@pytest.mark.parametrize("error", [AWAY, GONE, RuntimeError("a bug"), Crash()])
def test_a_receiver_that_raises_leaves_the_message_due(desk: Desk, error: BaseException) -> None:
    """A message is told once the receiver has answered, and not a moment before."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [error])
    try:
        desk.run(receiver, for_s=0.0)
    except Crash:
        assert isinstance(error, Crash)
    assert desk.one("SELECT told FROM messages") == 0
    assert desk.outbox.undelivered() == {"slack": 1}
    desk.restart()
    desk.run(receiver, for_s=2 * REFUSED_RETRY_S, rest_s=10.0)
    assert [call.notice for call in receiver.calls] == [FIRST, FIRST]
    assert desk.outbox.undelivered() == {}


def test_a_wait_that_is_asked_for_holds_for_the_receiver(desk: Desk) -> None:
    """After a 429 nothing at all is sent to the receiver for as long as it said; then all is."""
    desk.want(FIRST, OTHER)
    receiver = Scripted(desk.clock, [TransientError("429", retry_after_s=30.0)])
    deliver = desk.run(receiver, for_s=29.0)
    assert len(receiver.calls) == 1
    assert deliver.trouble == "slack is not told: 429"
    deliver.run(Pace(desk.clock, 2.0))
    assert [call.at_s for call in receiver.calls] == [0.0, 30.0, 30.0]
    assert not any(call.unsure for call in receiver.calls)  # a 429 says that nothing was posted
    assert deliver.trouble is None


def test_a_wait_that_is_asked_for_is_bounded(desk: Desk) -> None:
    """A receiver that asks for a year is asked again after an hour."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [TransientError("429", retry_after_s=31_536_000.0)])
    desk.run(receiver, for_s=LONGEST_WAIT_S + 1)
    assert receiver.gaps_s == [LONGEST_WAIT_S]


def test_back_off_grows_and_is_bounded(desk: Desk) -> None:
    """Tries get rarer while a receiver is away, yet there is one a minute; all after are unsure."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [AWAY] * 40)
    deliver = desk.run(receiver, for_s=4 * LONGEST_RETRY_S)
    gaps = receiver.gaps_s
    assert gaps[:6] == [FIRST_RETRY_S * 2**n for n in range(6)]
    assert set(gaps[6:]) == {LONGEST_RETRY_S}
    assert [call.unsure for call in receiver.calls] == [False] + [True] * len(gaps)
    assert deliver.trouble == "slack is not told: no answer"


def test_back_off_begins_anew_after_a_success(desk: Desk) -> None:
    """Once told, a message's next fault is retried as soon as its first was."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [AWAY] * 5)
    desk.run(receiver, for_s=60.0)
    desk.want(WORSE)
    receiver.calls.clear()
    receiver.answers = [AWAY]
    desk.run(receiver, for_s=10.0)
    assert receiver.gaps_s == [FIRST_RETRY_S]


def test_a_message_that_fails_does_not_hold_up_the_others(desk: Desk) -> None:
    """The others have their turn while one is backed off."""
    desk.want(FIRST, OTHER)
    receiver = Scripted(desk.clock, [AWAY])
    desk.run(receiver, for_s=10.0)
    assert [call.notice.rule for call in receiver.calls] == ["cap", "other", "cap"]


def test_a_refusal_is_retried_late_and_said(desk: Desk) -> None:
    """A person must act, is told of what, and needs no restart once they have."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [GONE, GONE])
    deliver = desk.run(receiver, for_s=REFUSED_RETRY_S + 1, rest_s=10.0)
    assert deliver.trouble == "slack is not told: channel_not_found"
    deliver.run(Pace(desk.clock, REFUSED_RETRY_S + 1, rest_s=10.0))
    assert receiver.gaps_s == [REFUSED_RETRY_S, REFUSED_RETRY_S]
    assert not any(call.unsure for call in receiver.calls)  # a refusal says that nothing was posted
    assert deliver.trouble is None


def test_why_is_stored_and_shortened(desk: Desk) -> None:
    """The last error stands in the row, cut to its limit, until the message is told."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [PermanentError("no " * 1_000)])
    desk.run(receiver, for_s=0.0)
    assert desk.one("SELECT length(last_error) FROM threads") == MAX_ERROR_CHARACTERS
    desk.run(receiver, for_s=REFUSED_RETRY_S, rest_s=10.0)
    assert desk.one("SELECT count(last_error) FROM threads") == 0


def test_a_bug_of_a_receiver_does_not_end_the_loop(desk: Desk) -> None:
    """An error that is none of ours is logged, and tried again, unsure what it left behind."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [KeyError("ts")])
    desk.run(receiver, for_s=2 * LONGEST_RETRY_S)
    assert receiver.gaps_s == [LONGEST_RETRY_S]
    assert [call.unsure for call in receiver.calls] == [False, True]


# ---------------------------------------------------------------------------------- crashes


def test_a_crash_during_the_telling_is_told_as_unsure(desk: Desk) -> None:
    """The next start cannot know whether the receiver has the message, and says so."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [Crash()])
    with pytest.raises(Crash):
        desk.run(receiver)
    desk.restart()
    desk.run(receiver)
    assert [call.unsure for call in receiver.calls] == [False, True]
    assert [call.notice for call in receiver.calls] == [FIRST, FIRST]


def test_doubt_outlives_a_wait_that_is_asked_for(desk: Desk) -> None:
    """A 429 clears up nothing about the try before it."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock, [AWAY, TransientError("429", retry_after_s=5.0), GONE])
    desk.run(receiver, for_s=2 * REFUSED_RETRY_S, rest_s=10.0)
    assert [call.unsure for call in receiver.calls] == [False, True, True, True]


def test_a_store_that_is_away_is_waited_for(desk: Desk) -> None:
    """An answer that cannot be stored is not lost: the receiver is asked again, unsure."""
    desk.want(FIRST)
    receiver = Scripted(desk.clock)
    asked: list[object] = []

    def ask(call: Callable[[], object]) -> object:
        asked.append(call)
        if len(asked) in {1, 4}:  # the first look, and storing that it was told
            raise TransientError("the store is busy")
        return call()

    deliver = desk.deliver(receiver, ask)
    deliver.run(Pace(desk.clock, 3.0))
    assert [call.unsure for call in receiver.calls] == [False, True]
    assert desk.outbox.undelivered() == {}


# ---------------------------------------------------------------------------------- receivers


@dataclass(slots=True)
class Stuck:
    """A receiver that does not answer before it may."""

    release: threading.Event
    entered: threading.Event = field(default_factory=threading.Event)
    name: str = "stuck"
    apart: bool = True

    def tell(self, *_: object, **__: object) -> str | None:
        self.entered.set()
        self.release.wait(10)
        return None


@dataclass(slots=True)
class Quick:
    """A receiver that answers at once."""

    told: threading.Event = field(default_factory=threading.Event)
    name: str = "quick"
    apart: bool = True

    def tell(self, *_: object, **__: object) -> str | None:
        self.told.set()
        return None


def test_receivers_do_not_hold_up_one_another(desk: Desk) -> None:
    """While one receiver does not answer, the other is told, and the store is free."""
    desk.want(FIRST, receivers=("stuck", "quick"))
    stop, release, calls = threading.Event(), threading.Event(), Calls()
    stuck, quick = Stuck(release), Quick()
    threads = [
        threading.Thread(target=desk.deliver(one, calls.ask).run, args=(stop,))
        for one in (stuck, quick)
    ]
    for thread in threads:
        thread.start()
    try:
        assert answering(calls, lambda: stuck.entered.is_set() and quick.told.is_set())
        assert answering(calls, lambda: desk.outbox.undelivered() == {"stuck": 1})
        release.set()
        assert answering(calls, lambda: desk.outbox.undelivered() == {})
    finally:
        release.set()
        stop.set()
        calls.close()
        for thread in threads:
            thread.join(10)
    assert not any(thread.is_alive() for thread in threads)


def answering(calls: Calls, reached: Callable[[], bool]) -> bool:
    """Answer calls until something is so; return whether it came to be."""
    pause = threading.Event()
    for _ in range(1_000):
        calls.answer()
        if reached():
            return True
        pause.wait(0.005)
    return False


def test_each_receiver_is_owed_its_own(desk: Desk) -> None:
    """What one was told and the reference it gave say nothing of the other."""
    desk.want(FIRST, receivers=("slack", "log"))
    desk.run(Scripted(desk.clock, [lambda: "post"]))
    assert desk.outbox.undelivered() == {"log": 1}
    log = Scripted(desk.clock, name="log")
    desk.run(log)
    assert [(call.reference, call.unsure) for call in log.calls] == [(None, False)]


# ---------------------------------------------------------------------------------- commits


def everything(notice: Notice, version: int) -> Decisions:
    """Return decisions with a row for every table that only grows, and a message."""
    key = AlertKey("cap", ("red",), Period(NOW, NOW + timedelta(days=1), "2026-07-01 (day)"))
    crossed = Transition(NOW, What.FIRED, Level.WARNING, "80%", 80)
    directive = Directive(
        id="cap-red",
        version=version,
        effect=Effect.THROTTLE,
        rule="cap",
        action="slow",
        reason="80%",
        scope={},
        issued_at=NOW,
        until=NOW + timedelta(hours=1),
        rate_requests=1,
        rate_span_s=60,
    )
    return Decisions(
        lines=(Line(key, 1, Mode.NOTIFY, crossed, {"usage/0": "0-10"}),),
        notices=(notice,),
        directives=(directive,),
        audit=(AuditRow(NOW, "ann", "socket", "rules.reload", "x", "loaded"),),
    )


TABLES = ("alert_lines", "messages", "directive_versions", "audit")


def test_a_commit_is_made_once(desk: Desk) -> None:
    """The same number twice stores once, also by the next start, and the next number goes on."""
    for _ in range(2):
        desk.state.commit(1, everything(FIRST, 1), ["slack"])
        desk.state.commit(1, everything(FIRST, 1), ["slack"])
        desk.restart()
    assert {table: desk.one(f"SELECT count(*) FROM {table}") for table in TABLES} == dict.fromkeys(
        TABLES, 1
    )
    desk.state.commit(desk.state.decided + 1, everything(WORSE, 2), ["slack"])
    assert desk.state.decided == 2
    assert desk.one("SELECT count(DISTINCT seq) FROM alert_lines") == 2
    assert desk.one("SELECT count(*) FROM messages") == 1
    assert desk.state.max_version() == 2


def test_a_repeated_commit_does_not_tell_again(desk: Desk) -> None:
    """Decisions handed in anew after the message was told owe nobody anything."""
    receiver = Scripted(desk.clock)
    for _ in range(2):
        desk.state.commit(1, Decisions(notices=(FIRST,)), ["slack"])
        desk.run(receiver)
    assert len(receiver.calls) == 1
