"""Rules reloaded from real files, directives published to a ledger, calls between threads."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from governor import rulebook, telemetry
from governor.core.directives import Directive, Effect, Heartbeat, newest_by_key
from governor.core.errors import ConfigError, PermanentError, TransientError
from governor.core.rules.budget import Budget
from governor.loops.enforce import BURIED_AFTER, Enforce
from governor.loops.ingest.calls import MAX_AT_ONCE, Calls
from governor.loops.reload import Reload
from governor.rulebook.kept import keep, kept

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
LEASE = timedelta(milliseconds=30)
RULE = """\
  - id: {}
    kind: budget
    owner: growth
    summary: x
    limit: 100 USD
    period: day
    thresholds: [{{at: 80%, level: warning}}]
"""


def text(*names: str) -> str:
    return "version: 1\nrules:\n" + "".join(RULE.format(name) for name in names)


class Hurried(threading.Event):
    """A stop event on which nobody waits long."""

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        return super().wait(min(timeout, 0.005))


def until(reached: Callable[[], bool]) -> bool:
    """Return whether something came to be so in good time."""
    pause = threading.Event()
    return any(reached() or pause.wait(0.005) for _ in range(1_000))


@contextmanager
def running(run: Callable[[threading.Event], None], end: Callable[[], None]) -> Iterator[None]:
    """Run a loop in a thread of its own; it ends when it is told to."""
    stop = Hurried()
    thread = threading.Thread(target=run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        end()
        thread.join(10)
    assert not thread.is_alive()


def nothing() -> None:
    """Do nothing."""


# ---------------------------------------------------------------------------------- reload


@dataclass(slots=True)
class Daemon:
    """Rules in force, and what people were told of them."""

    folder: Path
    in_force: list[tuple[str, ...]] = field(default_factory=list)
    said: list[str | None] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)

    def write(self, content: str, name: str = "a.yaml") -> None:
        (self.folder / name).write_text(content, encoding="utf-8")

    def apply(self) -> None:
        loaded = rulebook.load(self.folder)
        if self.errors:
            raise self.errors.pop(0)
        self.in_force.append(tuple(rule.id for rule in loaded.rules))

    def reload(self, *, every_s: float = 3_600.0) -> Reload:
        """Return the loop of a start at which the files are in force."""
        return Reload(
            what="rules",
            refused=telemetry.RULES_REJECTED,
            digest=lambda: rulebook.digest(self.folder),
            apply=self.apply,
            rejected=self.said.append,
            in_force=rulebook.digest(self.folder),
            every_s=every_s,
        )


@pytest.fixture
def daemon(tmp_path: Path) -> Daemon:
    folder = tmp_path / "rules"
    folder.mkdir()
    made = Daemon(folder)
    made.write(text("cap"))
    return made


def test_what_is_in_force_is_not_applied_again(daemon: Daemon) -> None:
    """Files with the content they had, written anew or not, change nothing."""
    reload = daemon.reload()
    reload.look()
    daemon.write(text("cap"))
    reload.look()
    assert (daemon.in_force, daemon.said) == ([], [])


def test_changed_files_are_applied_once(daemon: Daemon) -> None:
    """A change, a new file and one that is gone are each put in force, at one look."""
    reload = daemon.reload()
    for change in (
        lambda: daemon.write(text("lid")),
        lambda: daemon.write(text("more"), "b.yaml"),
        (daemon.folder / "a.yaml").unlink,
    ):
        change()
        for _ in range(3):
            reload.look()
    assert daemon.in_force == [("lid",), ("lid", "more"), ("more",)]
    assert daemon.said == []


def test_a_broken_file_keeps_the_last_good_and_says_why_once(daemon: Daemon) -> None:
    """The reason names the place, and is not said again before the files change."""
    reload = daemon.reload()
    daemon.write(text("cap").replace("budget", "bugdet"))
    for _ in range(3):
        reload.look()
    assert daemon.in_force == []
    (why,) = daemon.said
    assert why is not None
    assert "a.yaml:4:" in why
    assert reload.trouble is not None
    assert why in reload.trouble
    daemon.write("rules: [")
    for _ in range(3):
        reload.look()
    assert len(daemon.said) == 2  # another mistake is news


def test_one_broken_file_of_two_applies_neither(daemon: Daemon) -> None:
    """A rulebook is new as a whole or not at all."""
    reload = daemon.reload()
    daemon.write(text("lid"))
    daemon.write("version: 2\n", "b.yaml")
    reload.look()
    assert daemon.in_force == []
    assert len(daemon.said) == 1


@pytest.mark.parametrize("mended", [text("cap"), text("lid")])
def test_a_mended_file_applies_and_says_so_once(daemon: Daemon, mended: str) -> None:
    """Also where it is again what it was before it broke."""
    reload = daemon.reload()
    daemon.write("rules: [")
    reload.look()
    daemon.write(mended)
    for _ in range(3):
        reload.look()
    assert len(daemon.in_force) == 1
    assert daemon.said[1:] == [None]
    assert reload.trouble is None


def test_a_refusal_at_the_start_is_taken_back(daemon: Daemon) -> None:
    """A start on the last good rules hears of it when the files are right."""
    daemon.write("rules: [")
    reload = daemon.reload()
    reload.refuse("at the start")
    reload.look()
    assert daemon.said == ["at the start"]
    daemon.write(text("cap"))
    reload.look()
    assert daemon.said == ["at the start", None]
    assert daemon.in_force == [("cap",)]


def test_a_folder_taken_away_keeps_the_last_good(daemon: Daemon) -> None:
    """No files are not no rules."""
    reload = daemon.reload()
    daemon.folder.rename(daemon.folder.with_name("aside"))
    for _ in range(2):
        reload.look()
    assert daemon.in_force == []
    assert len(daemon.said) == 1


def test_waking_applies_again(daemon: Daemon) -> None:
    """An order to reload is carried out at once, also where nothing has changed."""
    reload = daemon.reload()
    with running(reload.run, reload.wake):
        reload.wake()
        assert until(lambda: len(daemon.in_force) == 1)
        reload.wake()
        assert until(lambda: len(daemon.in_force) == 2)
    assert daemon.said == []


@pytest.mark.parametrize("error", [TransientError("the store is busy"), RuntimeError("a bug")])
def test_what_could_not_be_applied_is_tried_again(daemon: Daemon, error: Exception) -> None:
    """Rules that are right are not refused because the store was not ready, or forgotten."""
    daemon.errors = [error, error]
    reload = daemon.reload(every_s=0.005)
    daemon.write(text("lid"))
    with running(reload.run, reload.wake):
        assert until(lambda: bool(daemon.in_force))
    assert daemon.in_force[0] == ("lid",)
    assert daemon.errors == []
    assert daemon.said == []


# ---------------------------------------------------------------------------------- kept rules


def test_kept_rules_are_the_rules(daemon: Daemon, tmp_path: Path) -> None:
    """What was kept loads to the same rules, in the same order, whatever the files are called."""
    (daemon.folder / "team").mkdir()
    daemon.write(text("red", "blue"), "team/a.yaml")
    daemon.write(text("last"), "z.yml")
    loaded = rulebook.load(daemon.folder)
    keep(loaded, tmp_path / "kept")
    again = kept(tmp_path / "kept")
    assert again is not None
    assert unplaced(again) == unplaced(loaded)
    assert again.contents == loaded.contents


def unplaced(book: rulebook.Rulebook) -> list[Budget]:
    """Return the rules of a rulebook without the places they were read from."""
    return [replace(rule, place="") for rule in book.rules]


def test_keeping_replaces_what_was_kept(daemon: Daemon, tmp_path: Path) -> None:
    """No rule of before is left, nor any folder beside it."""
    daemon.write(text("more"), "b.yaml")
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    (daemon.folder / "a.yaml").unlink()
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    again = kept(tmp_path / "kept")
    assert again is not None
    assert [rule.id for rule in again.rules] == ["more"]
    assert {path.name for path in tmp_path.iterdir()} == {"rules", "kept"}


def test_what_a_crash_left_half_written_is_not_kept(daemon: Daemon, tmp_path: Path) -> None:
    """Files of a keeping that did not end are neither loaded nor mixed into the next."""
    left = tmp_path / "kept.new"
    left.mkdir()
    (left / "007-left.yaml").write_text(text("left"), encoding="utf-8")
    assert kept(tmp_path / "kept") is None
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    again = kept(tmp_path / "kept")
    assert again is not None
    assert [rule.id for rule in again.rules] == ["cap"]


def test_a_keeping_that_fails_leaves_the_former(daemon: Daemon, tmp_path: Path) -> None:
    """Where nothing can be written, the daemon goes on and the former rules are still there."""
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    (tmp_path / "kept.new").write_text("in the way", encoding="utf-8")
    daemon.write(text("lid"))
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    again = kept(tmp_path / "kept")
    assert again is not None
    assert [rule.id for rule in again.rules] == ["cap"]


def test_damaged_or_missing_rules_are_none(daemon: Daemon, tmp_path: Path) -> None:
    """A start never takes half of what was kept: one bad file is as good as no folder."""
    folder = tmp_path / "kept"
    assert kept(folder) is None
    folder.mkdir()
    assert kept(folder) is None
    daemon.write(text("more"), "b.yaml")
    keep(rulebook.load(daemon.folder), folder)
    damaged = sorted(folder.iterdir())[1]
    damaged.write_bytes(damaged.read_bytes()[:-20])
    assert kept(folder) is None
    damaged.write_bytes(b"\x00\xff")
    assert kept(folder) is None


# ---------------------------------------------------------------------------------- enforce


def directive(name: str, version: int, ends_in: timedelta = timedelta(hours=1)) -> Directive:
    return Directive(
        id=name,
        version=version,
        effect=Effect.THROTTLE,
        rule="cap",
        action="slow",
        reason="80%",
        scope={},
        issued_at=NOW - timedelta(days=1),
        until=NOW + ends_in,
        rate_requests=1,
        rate_span_s=60,
    )


def steadfast(beat: Heartbeat) -> Heartbeat:
    """Return a heartbeat without what tells one sender from another."""
    assert (len(beat.sender), beat.steady_ms > 0) == (8, True)
    return msgspec.structs.replace(beat, sender="", steady_ms=0)


def heartbeat(version: int) -> Heartbeat:
    return Heartbeat(version=version, sent_at=NOW, lease_until=NOW + LEASE)


@dataclass(slots=True)
class Topic:
    """The compacted topic as a ledger: who opens it may read or write, unless a fault is due."""

    records: list[Directive | Heartbeat] = field(default_factory=list)
    buried: list[Directive] = field(default_factory=list)
    faults: list[Exception] = field(default_factory=list)
    opened: int = 0
    closed: int = 0

    def open(self) -> "Topic":
        self.opened += 1
        return self

    def close(self) -> None:
        self.closed += 1

    def catch_up(self, timeout_s: float) -> Sequence[Directive | Heartbeat]:
        assert timeout_s > 0
        gone = {record.id for record in self.buried}
        return [r for r in self.records if not (isinstance(r, Directive) and r.id in gone)]

    def publish(self, records: Sequence[Directive | Heartbeat]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.records += records

    def bury(self, directives: Sequence[Directive]) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.buried += directives

    @property
    def directives(self) -> list[Directive]:
        return [record for record in self.records if isinstance(record, Directive)]

    @property
    def heartbeats(self) -> list[Heartbeat]:
        return [record for record in self.records if isinstance(record, Heartbeat)]


@dataclass(slots=True)
class Judge:
    """The evaluate loop as the enforce loop sees it."""

    lacking: list[Directive] = field(default_factory=list)
    adopted: list[tuple[list[Directive], int]] = field(default_factory=list)
    enforcing: bool = True
    alive: bool = True
    given_up: list[Exception] = field(default_factory=list)
    issued: queue.SimpleQueue[Sequence[Directive]] = field(default_factory=queue.SimpleQueue)

    def adopt(self, standing: Sequence[Directive], version: int) -> Sequence[Directive]:
        self.adopted.append((list(standing), version))
        there = newest_by_key(standing)
        return [one for one in self.lacking if there.get(one.id) != one]

    def enforce(self, topic: Topic) -> Enforce:
        return Enforce(
            issued=self.issued,
            reader=topic.open,
            publisher=topic.open,
            adopt=self.adopt,
            wanted=lambda: self.enforcing,
            alive=lambda lease: self.alive and lease == LEASE,
            give_up=self.given_up.append,
            now=lambda: NOW,
            lease=LEASE,
        )


def test_what_the_topic_lacks_is_published() -> None:
    """The evaluate loop hears what stands and the greatest version, and what it returns is sent."""
    topic = Topic([directive("red", 3), directive("red", 5), heartbeat(7)])
    judge = Judge(lacking=[directive("blue", 8), directive("red", 5)])
    enforce = judge.enforce(topic)
    with running(enforce.run, nothing):
        assert until(lambda: len(topic.heartbeats) > 1)
    assert judge.adopted == [([directive("red", 5)], 7)]
    assert topic.directives[2:] == [directive("blue", 8)]
    assert steadfast(topic.heartbeats[-1]) == heartbeat(8)
    assert topic.opened == topic.closed == 2
    assert enforce.trouble is None


def test_published_directives_come_in_the_order_of_their_versions() -> None:
    """A reader sees versions rise, and no heartbeat before what it speaks of."""
    topic, judge = Topic(), Judge(lacking=[directive("a", 4), directive("b", 2)])
    enforce = judge.enforce(topic)
    with running(enforce.run, nothing):
        assert until(lambda: bool(topic.heartbeats))
        judge.issued.put([directive("d", 6), directive("c", 5)])
        assert until(lambda: len(topic.directives) == 4)
        assert until(lambda: topic.heartbeats[-1].version == 6)
    versions = [record.version for record in topic.records]
    assert versions == sorted(versions)
    assert [one.version for one in topic.directives] == [2, 4, 5, 6]


def test_the_newest_version_wins_while_waiting() -> None:
    """Of two versions of a directive that wait, the older is never sent, whichever came last."""
    topic, judge = Topic(), Judge(lacking=[directive("red", 2)])
    enforce = judge.enforce(topic)
    judge.issued.put([directive("red", 3)])
    judge.issued.put([directive("blue", 5)])
    judge.issued.put([directive("blue", 4)])
    with running(enforce.run, nothing):
        assert until(lambda: bool(topic.heartbeats))
    assert topic.directives == [directive("red", 3), directive("blue", 5)]


def test_a_passing_fault_keeps_what_is_owed() -> None:
    """What could not be published is, once that is possible; meanwhile the trouble is said."""
    topic, judge = Topic(), Judge()
    topic.faults = [TransientError("no broker")] * 5
    enforce = judge.enforce(topic)
    judge.issued.put([directive("red", 1)])
    troubles: set[str | None] = set()

    def told() -> bool:
        troubles.add(enforce.trouble)
        return bool(topic.heartbeats)

    with running(enforce.run, nothing):
        assert until(told)
        assert until(lambda: enforce.trouble is None)
    assert topic.directives == [directive("red", 1)]
    assert "directives are not published: no broker" in troubles
    assert topic.opened == topic.closed == 12  # a reader and a publisher for each of six tries
    assert not judge.given_up


def test_versions_in_heartbeats_never_go_back() -> None:
    """Not even where the topic is read again after a fault and has lost what was there."""
    topic, judge = Topic([heartbeat(9)]), Judge()
    enforce = judge.enforce(topic)
    with running(enforce.run, nothing):
        assert until(lambda: len(topic.heartbeats) > 1)
        topic.records = []
        topic.faults = [TransientError("no broker")]
        assert until(lambda: len(judge.adopted) == 2 and bool(topic.heartbeats))
        judge.issued.put([directive("red", 10)])
        assert until(lambda: topic.heartbeats[-1].version == 10)
    versions = [one.version for one in topic.heartbeats]
    assert versions[0] == 9
    assert versions == sorted(versions)


def test_without_evaluation_there_is_no_heartbeat() -> None:
    """Leases run out where nobody judges any more; directives are published all the same."""
    topic, judge = Topic(), Judge(alive=False, lacking=[directive("red", 1)])
    enforce = judge.enforce(topic)
    with running(enforce.run, nothing):
        assert until(lambda: bool(topic.directives))
        assert not threading.Event().wait(4 * LEASE.total_seconds())
        assert topic.heartbeats == []
        judge.alive = True
        assert until(lambda: bool(topic.heartbeats))
        judge.alive = False
        assert not threading.Event().wait(4 * LEASE.total_seconds())
        beaten = len(topic.heartbeats)
        assert not threading.Event().wait(4 * LEASE.total_seconds())
        assert len(topic.heartbeats) == beaten
    assert steadfast(topic.heartbeats[0]) == heartbeat(1)


@pytest.mark.parametrize("faults", [0, 1])
def test_directives_long_over_are_buried_once(faults: int) -> None:
    """A tombstone for what ended an hour ago; what ended since, or holds, stays on the topic."""
    second = timedelta(seconds=1)
    over = directive("over", 1, -BURIED_AFTER - second)
    topic = Topic([over, directive("just", 2, -BURIED_AFTER + second), directive("holds", 3)])
    topic.faults = [TransientError("no broker")] * faults
    judge = Judge()
    with running(judge.enforce(topic).run, nothing):
        assert until(lambda: len(topic.heartbeats) > 3)
    assert topic.buried == [over]


def test_a_new_version_of_what_is_over_is_not_buried() -> None:
    """What counts is the newest version, also of a directive published since the topic was read."""
    topic = Topic([directive("red", 1, -2 * BURIED_AFTER)])
    judge = Judge(lacking=[directive("red", 2)])
    with running(judge.enforce(topic).run, nothing):
        assert until(lambda: len(topic.heartbeats) > 2)
    assert topic.buried == []


def test_the_topic_is_left_alone_before_a_rule_enforces() -> None:
    """Whoever only watches needs no topic; what is handed in before it is wanted is kept."""
    topic, judge = Topic(), Judge(enforcing=False)
    enforce = judge.enforce(topic)
    judge.issued.put([directive("red", 1)])
    with running(enforce.run, nothing):
        assert not threading.Event().wait(0.1)
        assert topic.opened == 0
        judge.enforcing = True
        assert until(lambda: bool(topic.directives))


def test_an_error_that_stays_is_handed_up() -> None:
    """The thread ends and leaves it to the one that can stop the process, with all closed."""
    topic, judge, error = Topic(), Judge(), PermanentError("not authorized")
    topic.faults = [error]
    judge.enforce(topic).run(Hurried())
    assert judge.given_up == [error]
    assert topic.opened == topic.closed == 2


# ---------------------------------------------------------------------------------- calls


def asked(calls: Calls, count: int, call: Callable[[int], object]) -> dict[int, object]:
    """Ask from `count` threads, and answer from this one; return what each was told."""
    heard: dict[int, object] = {}

    def ask(number: int) -> None:
        try:
            heard[number] = calls.ask(lambda: call(number))
        except Exception as error:  # noqa: BLE001  # handed on to be compared
            heard[number] = error

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()

    def all_heard() -> bool:
        calls.answer()
        return len(heard) == count

    assert until(all_heard)
    for thread in threads:
        thread.join(10)
    return heard


def test_each_thread_hears_its_own_answer() -> None:
    """Calls are done by one thread, and answers are not mixed up."""
    doers: set[int] = set()

    def square(number: int) -> int:
        doers.add(threading.get_ident())
        return number**2

    heard = asked(Calls(), 20, square)
    assert heard == {number: number**2 for number in range(20)}
    assert doers == {threading.get_ident()}


def test_an_exception_is_the_callers() -> None:
    """What a call raises reaches who asked, as it was, and nobody else."""
    errors = [ConfigError("a"), TransientError("b"), ValueError("c")]

    def odd(number: int) -> int:
        if number % 2:
            raise errors[number // 2]
        return number

    assert asked(Calls(), 6, odd) == {0: 0, 1: errors[0], 2: 2, 3: errors[1], 4: 4, 5: errors[2]}


def test_after_closing_calls_are_refused() -> None:
    """Who asks a closed queue hears so at once, and the call is never made."""
    calls, made = Calls(), list[int]()
    calls.close()
    with pytest.raises(TransientError, match="governor is stopping"):
        calls.ask(lambda: made.append(1))
    calls.answer()
    assert made == []


def test_closing_refuses_who_waits() -> None:
    """Nobody is left waiting for an answer that cannot come."""
    calls, made, heard = Calls(), list[int](), list[str]()

    def ask() -> None:
        try:
            calls.ask(lambda: made.append(1))
        except TransientError as error:
            heard.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(5)]
    for thread in threads:
        thread.start()
    calls.close()
    for thread in threads:
        thread.join(5)
    assert heard == ["governor is stopping"] * 5
    assert made == []


def test_some_calls_are_done_at_a_time() -> None:
    """However many ask, a batch has its turn after a fixed number of calls."""
    calls, made = Calls(), list[int]()
    count = MAX_AT_ONCE + 6
    threads = [
        threading.Thread(target=calls.ask, args=(lambda: made.append(1),)) for _ in range(count)
    ]
    for thread in threads:
        thread.start()
    try:
        # each thread blocks right after it has put its call in the queue
        assert until(lambda: waiting(calls) == count)
        calls.answer()
        assert len(made) == MAX_AT_ONCE
        calls.answer()
        assert len(made) == count
    finally:
        for thread in threads:
            thread.join(5)


def waiting(calls: Calls) -> int:
    """Return how many calls wait."""
    return calls._asked.qsize()  # noqa: SLF001  # known in no other way, and only here


def test_a_crash_between_old_and_new_keeps_the_old(daemon: Daemon, tmp_path: Path) -> None:
    """Where the former rules were put aside and the new ones not yet in place, those are kept."""
    keep(rulebook.load(daemon.folder), tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / "kept.old")
    again = kept(tmp_path / "kept")
    assert again is not None
    assert [rule.id for rule in again.rules] == ["cap"]
