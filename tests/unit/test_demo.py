"""The parts of the demo that decide: its clock, its rhythm, what it holds to be as told."""

from datetime import UTC, datetime, time, timedelta

from governor.daemon.clocks import WallClock
from governor.demo import checks
from governor.demo.evening import Evening
from governor.demo.gateway import Traffic, Verdict
from governor.demo.rhythm import CAP_AT, LEAK_AT, MAX_USUAL_DUE, STRANGERS, USUAL_PER_S, Rhythm
from governor.demo.slack_workspace import Message, Version

OPENED = datetime(2026, 11, 24, 23, 59, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
FREE = {"tier": "free", "user": "free-0417/1"}
PAID = {"tier": "pro", "user": "pro-0001/1"}
ALLOWED = Verdict("allow")
SLOWED = Verdict("throttle", allowed=True)
REFUSED = Verdict("throttle", allowed=False)


def test_midnight_comes_when_it_is_due() -> None:
    """The clock is ahead by less than a day, and shows midnight after the span asked for."""
    evening = Evening(timedelta(seconds=45))
    assert timedelta(0) < evening.ahead <= timedelta(days=1)
    assert 44 < evening.left_s() <= 45
    assert evening.midnight.time() == time(0)
    assert evening.now().date() < evening.midnight.date()


def test_daemon_lives_by_the_same_clock() -> None:
    """A wall clock that is ahead shows what the evening shows."""
    evening = Evening(timedelta(seconds=45))
    off = WallClock(ahead=evening.ahead).at(None) - evening.now()
    assert abs(off) < timedelta(seconds=1)


def test_strangers_come_between_leak_and_cap() -> None:
    """Nobody before the key is posted, and as many as spend the cap alone by the time it is due."""
    rhythm = Rhythm(OPENED, MIDNIGHT)
    steps = [OPENED + timedelta(milliseconds=100 * n) for n in range(1, 601)]
    shares = [(now - OPENED) / (MIDNIGHT - OPENED) for now in steps]
    strangers = [rhythm.due(now).strangers for now in steps]
    by_share = list(zip(shares, strangers, strict=True))
    assert sum(count for share, count in by_share if share < LEAK_AT) == 0
    assert abs(sum(count for share, count in by_share if share <= CAP_AT) - STRANGERS) <= 5


def test_usual_requests_keep_their_mean_and_have_a_limit() -> None:
    """A day has the mean load, and a pause does not end in a flood."""
    rhythm = Rhythm(OPENED, MIDNIGHT)
    counts = [rhythm.due(OPENED + timedelta(milliseconds=100 * n)).usual for n in range(1, 601)]
    assert abs(sum(counts) - 60 * USUAL_PER_S) <= 2
    assert rhythm.due(MIDNIGHT + timedelta(minutes=5)).usual == MAX_USUAL_DUE


def traffic(*entries: tuple[dict[str, str], Verdict | None, float]) -> Traffic:
    """Return what became of these requests, each some seconds after midnight."""
    found = Traffic()
    for event, verdict, after_s in entries:
        found.enter(event, verdict, MIDNIGHT + timedelta(seconds=after_s))
    return found


def slack(*levels: str) -> tuple[Message, ...]:
    """Return a channel with one message that said these levels in turn."""
    versions = tuple(Version(f"! {level}: free-tier-daily\nmore", (), None) for level in levels)
    unpriced = Version("! Warning: No price for mistral/codestral-nightly\nmore", (), None)
    return (Message("1.0", "bot", (unpriced,)), Message("2.0", "bot", versions))


def fails(found: Traffic, messages: tuple[Message, ...]) -> list[str]:
    """Return which checks of the story fail."""
    return [check.what for check in checks.story(found, messages, MIDNIGHT) if not check.holds]


AS_TOLD = (
    (FREE, ALLOWED, -30.0),
    (FREE, SLOWED, -20.0),
    (FREE, REFUSED, -19.0),
    (PAID, ALLOWED, -18.0),
    (FREE, ALLOWED, 0.1),
)
LEVELS = ("Info", "Warning", "Critical", "Resolved")


def test_a_story_as_told_holds() -> None:
    """Slowed, refused and freed, with every level heard once or more in order."""
    assert fails(traffic(*AS_TOLD), slack(*LEVELS)) == []
    assert fails(traffic(*AS_TOLD), slack("Info", "Info", *LEVELS[1:])) == []


def test_each_way_to_go_wrong_is_seen() -> None:
    """A level missed, a paying customer refused, freed early, slowed anew, a gate that is mute."""
    assert fails(traffic(*AS_TOLD), slack("Info", "Critical", "Resolved")) == [
        "levels that Slack heard"
    ]
    told = slack(*LEVELS)
    assert fails(traffic(*AS_TOLD, (PAID, REFUSED, 1)), told) == ["paid requests refused"]
    assert fails(traffic(*AS_TOLD[:4], (FREE, ALLOWED, -5)), told) == ["freed after midnight"]
    assert fails(traffic(*AS_TOLD, (FREE, SLOWED, 1)), told) == ["slowed in the new day"]
    assert fails(traffic(*AS_TOLD, (PAID, None, 1)), told) == [
        "requests that the gate did not answer"
    ]


def test_nothing_happened_is_no_success() -> None:
    """An empty story fails everything that had to happen."""
    assert fails(traffic(), ()) == [
        "messages about the budget, edited in place",
        "messages about the model without a price",
        "levels that Slack heard",
        "slowed before midnight",
        "some free requests refused",
        "freed after midnight",
    ]
