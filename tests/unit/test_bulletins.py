"""What is told together and when: groups, storms, outages, repeats; on a real file and a Slack."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from governor.actions.slack.bot import SlackBot
from governor.adapters.duckdb.outbox import MAX_SHOWN, Outbox
from governor.adapters.duckdb.state import State
from governor.core.bulletins import LATE, Bulletin, Owed, Plan, Step, Thread, plan
from governor.core.decisions import Decisions
from governor.core.notifications import Notice
from governor.core.routing import APART, Grouping
from governor.core.rules.shared import Level, Mode
from governor.demo.slack import CHANNEL, TOKEN, Fault, SlackStandIn
from governor.demo.slack_workspace import Message
from governor.loops.deliver import Deliver
from tests.unit.accountant import NOW, PRICES
from tests.unit.office import begun_file, opened

SECOND = timedelta(seconds=1)
WAIT = Grouping().wait
OWED = Owed("cap", None, NOW, Level.WARNING, over=False)
THREAD = Thread("t1", "cap", NOW, level=Level.WARNING, open=1, loud=1, told_at=NOW, posted_at=NOW)


def notice(rule: str, team: str, level: Level = Level.WARNING, **other: Any) -> Notice:
    """Return what is to be said of one alert."""
    return Notice(
        **{
            "message": f"{rule}-{team}-1",
            "alert": f"{rule}-{team}",
            "revision": 1,
            "rule": rule,
            "owner": "growth",
            "mode": Mode.NOTIFY,
            "level": level,
            "resolved": None,
            "title": rule,
            "summary": f"{team} spent much",
            "value": "80.00 USD",
            "limit": "100.00 USD",
            "percent": Decimal("80.0"),
            "group": (("team", team),),
            "period": "2026-07-01 (day)",
            "period_end": NOW + timedelta(hours=12),
            "at": NOW,
            "fired_at": NOW,
            "history": ("12:00 UTC 80% reached at 80.00 USD, warning",),
            "together": rule,
            **other,
        }
    )


def worse(before: Notice) -> Notice:
    line = "12:10 UTC 100% reached at 100.00 USD, critical"
    return replace(
        before,
        revision=before.revision + 1,
        level=Level.CRITICAL,
        history=(*before.history, line),
    )


def over(before: Notice, why: str = "the period ended") -> Notice:
    return replace(before, revision=before.revision + 1, resolved=why)


# ---------------------------------------------------------------------------------- the plan


def steps(found: Plan) -> list[tuple[str | None, tuple[str, ...], bool]]:
    return [(step.thread, step.joining, step.storm) for step in found.steps]


def test_a_group_waits_for_others_before_it_is_posted() -> None:
    """Before `wait` is over nothing is told, and the plan says when it will be."""
    early = plan([OWED], [], Grouping(), NOW + WAIT - SECOND)
    assert early == Plan((), NOW + WAIT)
    assert steps(plan([OWED], [], Grouping(), NOW + WAIT)) == [(None, ("cap",), False)]


def test_receivers_that_group_by_themselves_do_not_wait() -> None:
    assert steps(plan([OWED], [], APART, NOW)) == [(None, ("cap",), False)]


def test_what_joins_an_open_thread_waits_for_the_next_edit() -> None:
    """Two edits are `update` apart; what joins and is no worse has no hurry."""
    joining = replace(OWED, since=NOW + SECOND)
    assert plan([joining], [THREAD], Grouping(), NOW + SECOND).wakes_at == NOW + Grouping().update
    late = NOW + Grouping().update
    assert steps(plan([joining], [THREAD], Grouping(), late)) == [("t1", ("cap",), False)]


@pytest.mark.parametrize(
    ("owed", "thread"),
    [
        (replace(OWED, thread="t1", level=Level.CRITICAL), THREAD),
        (replace(OWED, thread="t1", over=True), replace(THREAD, open=0, loud=0)),
    ],
)
def test_a_rise_and_the_end_are_told_at_once(owed: Owed, thread: Thread) -> None:
    assert steps(plan([owed], [thread], Grouping(), NOW)) == [("t1", (), False)]


def test_a_thread_that_failed_is_left_alone_until_its_time() -> None:
    """Whatever the hurry: its receiver did not answer."""
    failed = replace(THREAD, attempts=3, next_at=NOW + timedelta(minutes=1))
    urgent = replace(OWED, thread="t1", level=Level.CRITICAL)
    assert plan([urgent], [failed], Grouping(), NOW).wakes_at == failed.next_at


def test_a_closed_thread_is_not_joined_and_is_still_corrected() -> None:
    """A new episode is a new message; a late change of an old one edits the old message."""
    closed = replace(THREAD, closed=True)
    at = NOW + WAIT
    assert steps(plan([OWED], [closed], Grouping(), at)) == [(None, ("cap",), False)]
    corrected = replace(OWED, thread="t1", over=True)
    assert steps(plan([corrected], [closed], Grouping(), at)) == [("t1", (), False)]


def many(count: int, since: datetime = NOW) -> list[Owed]:
    return [replace(OWED, key=f"rule-{number}", since=since) for number in range(count)]


def test_a_storm_is_one_message() -> None:
    """More groups than `storm` that begin in a minute share a thread; also those yet to wait."""
    calm = plan(many(10), [], Grouping(), NOW + WAIT, begun=10)
    assert len(calm.steps) == 10
    storm = plan([*many(10), *many(1, NOW + SECOND)], [], Grouping(), NOW + WAIT, begun=11)
    ((thread, joining, is_storm),) = steps(storm)
    assert (thread, len(joining), is_storm) == (None, 11, True)


def test_a_storm_that_goes_on_is_still_one_message() -> None:
    """While groups go on to begin that fast, they join the message of the storm."""
    raging = replace(THREAD, id="s1", key="storm", storm=True)
    assert steps(plan(many(3), [raging], Grouping(), NOW + WAIT, begun=11)) == [
        ("s1", ("rule-0", "rule-1", "rule-2"), True)
    ]
    assert len(plan(many(3), [raging], Grouping(), NOW + WAIT, begun=3).steps) == 3


def test_no_storm_is_told_where_that_is_not_wanted() -> None:
    assert len(plan(many(99), [], Grouping(storm=None), NOW + WAIT, begun=99).steps) == 99


def test_after_an_outage_all_that_waited_is_one_message() -> None:
    """However few there are; one alone is told as it is."""
    back = NOW + WAIT + LATE + SECOND
    assert [storm for _, _, storm in steps(plan(many(2), [], Grouping(), back))] == [True]
    assert [storm for _, _, storm in steps(plan(many(1), [], Grouping(), back))] == [False]


def test_no_thread_is_begun_while_another_cannot_be() -> None:
    """What waits for it joins it once that lasts: its receiver is away."""
    stuck = replace(THREAD, told_at=None, attempts=2, next_at=NOW + timedelta(minutes=1))
    owed = [replace(OWED, thread="t1"), *many(3)]
    assert plan(owed, [stuck], Grouping(), NOW + WAIT) == Plan((), stuck.next_at)
    assert steps(plan(owed, [stuck], Grouping(), NOW + LATE)) == [("t1", (), False)]
    ((thread, joining, storm),) = steps(plan(owed, [stuck], Grouping(), NOW + LATE + SECOND))
    assert (thread, len(joining), storm) == ("t1", 3, True)


def test_what_lasts_is_repeated_by_its_level() -> None:
    """Critical after hours, warnings after a day, and never what somebody acknowledged."""
    critical = replace(THREAD, level=Level.CRITICAL)
    at = NOW + Grouping().repeat[Level.CRITICAL]
    assert plan([], [critical], Grouping(), at - SECOND) == Plan((), at)
    assert plan([], [critical], Grouping(), at).steps == (Step("t1", "cap", repeats=True),)
    assert plan([], [THREAD], Grouping(), at).steps == ()
    for quiet in (replace(critical, loud=0), replace(critical, closed=True)):
        assert plan([], [quiet], Grouping(), at) == Plan(())
    assert plan([], [replace(critical, level=Level.INFO)], Grouping(), at) == Plan(())


# ---------------------------------------------------------------------------------- delivered


class Crash(BaseException):
    """The end of the process."""


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at


class Pace(threading.Event):
    """A stop event on which waiting moves a clock; set after a span."""

    def __init__(self, clock: Clock, span: timedelta) -> None:
        super().__init__()
        self._clock = clock
        self._until = clock.at + span
        self._rest = span / 25

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self._clock.at += max(timedelta(seconds=timeout), self._rest)
        if self._clock.at > self._until:
            self.set()
        return self.is_set()


@dataclass(slots=True)
class Desk:
    """A store's file with its outbox, a Slack, and a bot that tells it."""

    path: Path
    slack: SlackStandIn
    clock: Clock = field(default_factory=Clock)
    grouping: Grouping = field(default_factory=Grouping)
    state: State = field(init=False)
    bot: SlackBot = field(init=False)

    def __post_init__(self) -> None:
        self.path.write_bytes(begun_file())
        self.bot = SlackBot(token=TOKEN, channel=CHANNEL, base_url=self.slack.base_url, timeout_s=5)
        self.open()

    def open(self) -> None:
        self.state = State(opened(self.path, PRICES), self.clock.now)

    def close(self) -> None:
        self.state.store.close()

    def restart(self) -> None:
        self.close()
        self.open()

    def want(self, *notices: Notice) -> None:
        self.state.commit(self.state.decided + 1, Decisions(notices=notices), ["slack"])

    def deliver(self, span: timedelta = timedelta(seconds=10), receiver: Any = None) -> Deliver:
        deliver = Deliver(
            receiver or self.bot,
            Outbox(self.state.store),
            ask=lambda call: call(),
            now=self.clock.now,
            grouping=lambda: self.grouping,
        )
        deliver.run(Pace(self.clock, span))
        return deliver

    @property
    def roots(self) -> list[Message]:
        return list(self.slack.messages[CHANNEL])

    @property
    def lines(self) -> list[Message]:
        return list(self.slack.replies[CHANNEL])

    @property
    def seen(self) -> int:
        """How many messages people see in the channel, lines that are shown there among them."""
        return len(self.roots) + sum(line.broadcast for line in self.lines)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with SlackStandIn(clock=NOW.timestamp) as slack:
        made = Desk(tmp_path / "governor.duckdb", slack)
        yield made
        made.close()


def text(message: Message) -> str:
    return message.now.text


RED, BLUE = notice("cap", "red"), notice("cap", "blue")


def test_alerts_of_a_rule_share_a_message(desk: Desk) -> None:
    """One message says how all of them stand, and green is only what is over for all."""
    desk.want(RED)
    desk.want(BLUE)
    desk.deliver()
    (root,) = desk.roots
    assert "Warning: cap, 2 of 2 alerts open" in text(root)
    assert "team = red" in text(root)
    assert "team = blue" in text(root)
    desk.want(over(RED))
    desk.deliver()
    (root,) = desk.roots
    assert "1 of 2 alerts open" in text(root)
    assert "Resolved" not in root.now.blocks[0]["text"]["text"]
    desk.want(over(BLUE))
    desk.deliver()
    (root,) = desk.roots
    assert text(root).startswith("✅ Resolved: cap, all 2 alerts")
    assert [text(line) for line in desk.lines] == [
        "✅ cap, team = red: over: the period ended",
        "✅ cap, team = blue: over: the period ended\n✅ All 2 are over.",
    ]


def test_each_change_is_a_line_in_the_thread(desk: Desk) -> None:
    """A line for what was not heard, shown in the channel too where it got worse."""
    desk.want(RED)
    desk.deliver()
    desk.want(worse(RED))
    desk.deliver()
    desk.want(over(worse(RED)))
    desk.deliver()
    (root,) = desk.roots
    assert all(line.thread == root.ts for line in desk.lines)
    assert [(text(line), line.broadcast) for line in desk.lines] == [
        ("🚨 12:10 UTC 100% reached at 100.00 USD, critical", True),
        ("✅ over: the period ended", False),
    ]


def test_a_new_alert_in_an_old_thread_is_noticed(desk: Desk) -> None:
    """People do not follow a thread of an hour ago: what joins it is in the channel, too."""
    desk.want(RED)
    desk.deliver()
    desk.clock.at += timedelta(hours=1)
    desk.want(BLUE)
    desk.deliver()
    (line,) = desk.lines
    assert line.broadcast
    assert "team = blue" in text(line)


def test_the_next_episode_is_another_message(desk: Desk) -> None:
    desk.want(RED)
    desk.deliver()
    desk.want(over(RED))
    desk.deliver()
    desk.want(replace(RED, message="cap-red-2"))
    desk.deliver()
    assert [text(root)[0] for root in desk.roots] == ["✅", "⚠"]


def test_a_transition_is_told_within_its_wait(desk: Desk) -> None:
    """Of the moment at which each change was known and told: at most `wait` and 2 s between."""
    desk.want(RED)
    desk.deliver()
    for change in (worse(RED), over(worse(RED))):
        desk.want(change)
        desk.deliver(timedelta(seconds=60))
    late = desk.state.store.database.connection.execute(
        "SELECT max(told_at - wanted_at) FROM messages"
    ).fetchall()
    assert late[0][0] <= WAIT + timedelta(seconds=2)


def test_a_repeat_says_that_it_lasts(desk: Desk) -> None:
    """In the channel, with what is open; it is not said again before the time is round again."""
    red = worse(RED)
    desk.want(red, over(BLUE))
    desk.deliver()
    desk.deliver(timedelta(hours=9))
    repeated = [text(line) for line in desk.lines]
    assert len(repeated) == 2
    assert all(line.broadcast for line in desk.lines)
    assert "1 still open: cap" in repeated[0]
    assert "blue" not in repeated[0]


def test_a_thousand_alerts_are_a_few_messages(desk: Desk) -> None:
    """A storm over a thousand rules: at most three messages in the channel, nothing forgotten."""
    firing = [
        notice(f"rule-{number}", "red", weight=number, value=f"{number}.00 USD")
        for number in range(1_000)
    ]
    desk.want(*firing)
    desk.deliver()
    assert desk.seen <= 3
    assert "1,000 of 1,000 alerts open" in text(desk.roots[0])
    assert "999.00 USD" in text(desk.roots[0])  # the dearest is named
    desk.want(*(over(each) for each in firing[:400]))
    desk.deliver()
    assert "600 of 1,000 alerts open" in text(desk.roots[0])
    desk.want(*(over(each) for each in firing[400:]))
    desk.deliver()
    assert desk.seen <= 3
    assert text(desk.roots[0]).startswith("✅ Resolved: many at once, all 1,000 alerts")
    counts = desk.state.store.database.connection.execute(
        "SELECT count(*), count_if(told = wanted), count(DISTINCT message) FROM messages"
    ).fetchall()
    assert counts == [(1_000, 1_000, 1_000)]


def test_a_thousand_groups_of_a_rule_are_one_message(desk: Desk) -> None:
    desk.want(*(notice("cap", f"team-{number}", weight=number) for number in range(1_000)))
    desk.deliver()
    assert desk.seen == 1
    assert "1,000 of 1,000 alerts open" in text(desk.roots[0])


@pytest.mark.slow
def test_an_outage_of_a_day_ends_in_one_digest(desk: Desk) -> None:
    """What began meanwhile is one message, what ended in it is said, what was open is edited."""
    desk.want(RED)
    desk.deliver()
    desk.slack.down()
    alerts = [notice(f"rule-{number}", "red") for number in range(6)]
    for number, each in enumerate(alerts):
        desk.want(each)
        desk.deliver(timedelta(hours=4))
        if number % 2:
            desk.want(over(each))
    desk.want(over(RED))
    desk.slack.up()
    desk.deliver(timedelta(minutes=5))
    first, digest = desk.roots
    assert text(first).startswith("✅ Resolved: cap")
    assert "many at once, 3 of 6 alerts open" in text(digest)
    assert desk.seen == 2
    assert Outbox(desk.state.store).undelivered() == {}


def test_only_the_worst_are_handed_over(desk: Desk) -> None:
    """However many there are, a receiver gets so many and the count of all."""
    heard: list[Bulletin] = []

    @dataclass
    class Ear:
        name: str = "slack"
        apart: bool = False

        def tell(self, bulletin: Bulletin) -> None:
            heard.append(bulletin)

    desk.want(*(notice("cap", f"{number}", weight=number) for number in range(3 * MAX_SHOWN)))
    desk.deliver(receiver=Ear())
    (bulletin,) = heard
    weights = [each.weight for each in bulletin.notices]
    assert weights == sorted(range(2 * MAX_SHOWN, 3 * MAX_SHOWN), reverse=True)
    assert (bulletin.open, bulletin.over) == (3 * MAX_SHOWN, 0)
    assert len(bulletin.news) + bulletin.more_news == 3 * MAX_SHOWN


# ---------------------------------------------------------------------------------- crashes


ROUNDS = 36
"""Rounds of a campaign; one in four ends in a crash, and in every other one Slack fails once."""
FAULTS: Sequence[Fault] = (
    Fault.RATE_LIMITED,
    Fault.SERVER_ERROR,
    Fault.DROPPED,
    Fault.REPLY_LOST,
    Fault.GARBLED,
)


@dataclass(slots=True)
class Mortal:
    """A receiver that takes the process with it, before or after it told."""

    bot: SlackBot
    draw: Random
    chance: float
    crashes: int = 0
    name: str = "slack"
    apart: bool = False

    def tell(self, bulletin: Bulletin) -> str | None:
        fatal = self.draw.random() < self.chance
        before = self.draw.random() < 0.5
        if fatal:
            self.crashes += 1
        if fatal and before:
            raise Crash
        reference = self.bot.tell(bulletin)
        if fatal:
            raise Crash
        return reference


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_crashes_and_faults_lose_nothing(desk: Desk, seed: int) -> None:
    """Alerts come, rise and end while Slack fails and the process dies: all is told in the end.

    No message is there twice, a line at most once more for each crash and lost reply, and nothing
    is green of which an alert lasts. All seeds together are over 200 crashes and faults.
    """
    draw = Random(seed)
    mortal = Mortal(desk.bot, draw, 0.25)
    alive: dict[str, Notice] = {}
    doubts = 0
    for round_ in range(ROUNDS):
        for _ in range(draw.randrange(4)):
            change(draw, alive, desk, round_)
        if draw.random() < 0.5:
            fault = draw.choice(FAULTS)
            doubts += fault in {Fault.REPLY_LOST, Fault.GARBLED}
            desk.slack.fail_next(fault, retry_after_s=2)
        try:
            desk.deliver(timedelta(seconds=draw.choice((1, 10, 40))), mortal)
        except Crash:
            desk.restart()
        assert_no_false_green(desk, alive)
    desk.slack.forget_faults()
    mortal.chance = 0.0
    for each in [name for name, last in alive.items() if last.resolved is None]:
        alive[each] = over(alive[each])
        desk.want(alive[each])
    desk.deliver(timedelta(minutes=5), mortal)
    assert Outbox(desk.state.store).undelivered() == {}
    assert {text(root)[0] for root in desk.roots} <= {"✅"}
    marks = [message.now.metadata["event_payload"] for message in (*desk.roots, *desk.lines)]  # type: ignore[index]
    roots = [mark["thread"] for mark in marks if "said" not in mark]
    said = [(mark["thread"], mark["said"]) for mark in marks if "said" in mark]
    assert len(roots) == len(set(roots))  # a message is looked for before it is posted again
    assert len(said) - len(set(said)) <= mortal.crashes + doubts
    assert heard_of(desk) == {name: each.revision for name, each in alive.items()}
    assert mortal.crashes > 0


def heard_of(desk: Desk) -> dict[str, int]:
    """Return which revision of each alert was last told, by what stands in the file."""
    query = "SELECT message, told FROM messages"
    return dict(desk.state.store.database.connection.execute(query).fetchall())


def change(draw: Random, alive: dict[str, Notice], desk: Desk, round_: int) -> None:
    """Let an alert begin, rise or end."""
    last = [name for name, each in alive.items() if each.resolved is None]
    if not last or draw.random() < 0.4:
        rule = draw.choice(("cap", "month", "spike"))
        fresh = notice(rule, f"{round_}-{len(alive)}", level=draw.choice(list(Level)))
        alive[fresh.message] = fresh
        desk.want(fresh)
        return
    name = draw.choice(last)
    alive[name] = over(alive[name]) if draw.random() < 0.5 else worse(alive[name])
    desk.want(alive[name])


def assert_no_false_green(desk: Desk, alive: dict[str, Notice]) -> None:
    """Nothing is green of which an alert lasts, by what was asked for."""
    lasting = {
        row[0]
        for row in desk.state.store.database.connection.execute(
            "SELECT DISTINCT thread FROM messages WHERE NOT over AND thread IS NOT NULL"
            " AND told = wanted"
        ).fetchall()
    }
    for root in desk.roots:
        if text(root).startswith("✅"):
            assert root.now.metadata is not None
            assert root.now.metadata["event_payload"]["thread"] not in lasting


def test_a_line_that_got_there_is_not_said_again(desk: Desk) -> None:
    """The edit and the line are two calls; where the answer of the second is lost, we look."""
    desk.want(RED)
    desk.deliver()
    desk.want(worse(RED))
    desk.slack.fail_next(Fault.REPLY_LOST, method="chat.postMessage")
    desk.deliver(timedelta(seconds=30))
    assert len(desk.lines) == 1
    assert "conversations.replies" in [call.method for call in desk.slack.calls]
