"""The bulletin: what one receiver is told at a time, and when.

Alerts that belong together share a thread: one message that is kept up to date, with a line below
it for each change. What a receiver was told is compared with what is true, and the difference is
told; nothing depends on having seen an alert change.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from governor.core.notifications import Notice
from governor.core.routing import APART, Grouping
from governor.core.rules.shared import Level

LATE: Final = timedelta(minutes=10)
"""What waits for longer than this is told together: its receiver was away."""
STORM_SPAN: Final = timedelta(minutes=1)
"""The time in which groups are counted, to tell a storm."""
STORM_KEY: Final = "storm"
ALONE: Final = "report-"
"""How the key of a group begins that shares no message, not in a storm either."""


@dataclass(frozen=True, slots=True)
class Owed:
    """A group that a receiver is behind with: in a thread, or in none yet.

    `since` is when the oldest of it was to be told, `level` the worst, `over` whether all ended.
    """

    key: str
    thread: str | None
    since: datetime
    level: Level
    over: bool


@dataclass(frozen=True, slots=True)
class Thread:
    """What a receiver has of a group, and how telling it went.

    `open` counts the alerts in it that last, `loud` those that nobody acknowledged. `told_at` is
    when it was last brought up to date, `posted_at` when people last noticed, `next_at` before when
    it is to be left alone.
    """

    id: str
    key: str
    opened_at: datetime
    storm: bool = False
    level: Level | None = None
    open: int = 0
    loud: int = 0
    attempts: int = 0
    next_at: datetime | None = None
    told_at: datetime | None = None
    posted_at: datetime | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A thread to be told of: a new one of `keys`, or one that is known; both where groups join."""

    thread: str | None
    key: str
    joining: tuple[str, ...] = ()
    storm: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class News:
    """An alert of which something is told, and the lines that the receiver has not heard."""

    notice: Notice
    lines: tuple[str, ...]
    first: bool


@dataclass(frozen=True, slots=True)
class Bulletin:
    """How a thread stands, in values that are ready to be shown.

    `notices` are its worst alerts, those that last before those that are over; `news` is what
    changed, `more_news` how much more. `open` and `over` count all alerts. `serial` grows with each
    telling. `reference` is what the receiver returned for the last; `unsure` that an earlier try
    may have reached it without our knowing. `rose` is whether people are to notice.
    """

    thread: str
    serial: int
    opened_at: datetime
    notices: tuple[Notice, ...]
    open: int
    over: int
    level: Level
    news: tuple[News, ...] = ()
    more_news: int = 0
    storm: bool = False
    repeats: bool = False
    rose: bool = False
    reference: str | None = None
    attempts: int = 0
    unsure: bool = False

    @property
    def total(self) -> int:
        """How many alerts are in the thread."""
        return self.open + self.over

    @property
    def is_first(self) -> bool:
        """Whether the receiver has nothing of the thread yet."""
        return self.serial == 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be told now, the longest waiting first, and when to look again."""

    steps: tuple[Step, ...]
    wakes_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Due:
    at: datetime
    step: Step = field(compare=False)


def plan(
    owed: Sequence[Owed],
    threads: Sequence[Thread],
    grouping: Grouping,
    now: datetime,
    *,
    begun: int = 0,
) -> Plan:
    """Return what to tell a receiver of a grouping.

    `threads` are those that are open and those that something is owed of; `begun` counts the groups
    that began within `STORM_SPAN`, by which a storm is told.
    """
    known = {thread.id: thread for thread in threads}
    by_key = {thread.key: thread for thread in threads if not thread.closed and not thread.storm}
    changes: dict[str, list[Owed]] = {}
    openings: list[Owed] = []
    for each in owed:
        thread = known.get(each.thread) if each.thread else by_key.get(each.key)
        if thread is None:
            openings.append(each)
        else:
            changes.setdefault(thread.id, []).append(each)
    stuck = None if grouping is APART else _stuck(threads)
    if stuck is not None:
        changes.setdefault(stuck.id, [])
        if now - stuck.opened_at > LATE and openings:
            changes[stuck.id] += openings
            stuck = known[stuck.id] = replace(stuck, storm=True)
        openings = []
    found = [
        *(_change(known[name], together, grouping) for name, together in changes.items()),
        *_openings(openings, threads, grouping, now, begun),
        *_repeats((t for t in threads if t.id not in changes), grouping),
    ]
    found.sort(key=lambda due: due.at)
    due = tuple(each.step for each in found if each.at <= now)
    later = [each.at for each in found if each.at > now]
    return Plan(due, min(later, default=None))


def _stuck(threads: Iterable[Thread]) -> Thread | None:
    """Return a thread that a receiver could not be told of yet.

    No other is begun before: where its receiver is away, all that waits will join it.
    """
    unsent = (t for t in threads if t.told_at is None and t.attempts and not t.closed)
    return min(unsent, key=lambda thread: thread.opened_at, default=None)


def _change(thread: Thread, owed: Sequence[Owed], grouping: Grouping) -> _Due:
    """Bring a thread up to date: a rise and the end at once, all else every so often."""
    since = min((each.since for each in owed), default=thread.opened_at)
    worse = any(not each.over and each.level > (thread.level or -1) for each in owed)
    if thread.told_at is not None and thread.open and not worse:
        since = max(since, thread.told_at + grouping.update)
    if thread.attempts and thread.next_at is not None:
        since = max(since, thread.next_at)
    joining = tuple(each.key for each in owed if each.thread is None)
    return _Due(since, Step(thread.id, thread.key, joining, thread.storm))


def _openings(
    owed: Sequence[Owed],
    threads: Iterable[Thread],
    grouping: Grouping,
    now: datetime,
    begun: int,
) -> Iterator[_Due]:
    """Open threads: one a group, or in a storm and after an outage one for all that wait."""
    for each in owed:
        if each.key.startswith(ALONE):
            yield _Due(each.since, Step(None, each.key, (each.key,)))
    owed = [each for each in owed if not each.key.startswith(ALONE)]
    if not owed:
        return
    first = min(each.since for each in owed) + grouping.wait
    late = now - first > LATE
    if not (late and len(owed) > 1) and (grouping.storm is None or begun <= grouping.storm):
        for each in owed:
            yield _Due(each.since + grouping.wait, Step(None, each.key, (each.key,)))
        return
    storms = [thread for thread in threads if thread.storm and not thread.closed]
    latest = max(storms, key=lambda thread: thread.opened_at, default=None)
    if latest and latest.attempts and latest.next_at is not None:
        first = max(first, latest.next_at)
    keys = tuple(each.key for each in owed)
    yield _Due(first, Step(latest.id if latest else None, STORM_KEY, keys, storm=True))


def _repeats(threads: Iterable[Thread], grouping: Grouping) -> Iterator[_Due]:
    """Say again what lasts, where nobody acknowledged it."""
    for thread in threads:
        every = grouping.repeat.get(thread.level) if thread.level is not None else None
        if every is None or thread.closed or not thread.loud or thread.posted_at is None:
            continue
        at = thread.posted_at + every
        if thread.attempts and thread.next_at is not None:
            at = max(at, thread.next_at)
        yield _Due(at, Step(thread.id, thread.key, repeats=True))
