"""Who is told of what: `routing.yaml` read and refused, and what it does to messages."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import pytest
from typer.testing import CliRunner

from governor.cli import app
from governor.core.errors import ConfigError
from governor.core.routing import APART, Facts, Grouping, Inhibition, QuietHours, Routing, Silence
from governor.core.rules.shared import Level
from governor.core.scopes import Condition, Scope
from governor.daemon.receivers import named
from governor.daemon.telling import Telling
from governor.loops.deliver import Deliver
from governor.rulebook import Problem, check, digest, load
from governor.rulebook.kept import keep, kept
from governor.settings import Settings
from tests.unit.site import NOON, Clock, Site, budget, opened

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
RULES = """\
version: 1
defaults: {owner: growth, mode: notify}
rules:
  - id: free-tier
    kind: budget
    summary: "{{ value }}"
    labels: {area: chat}
    limit: 100 USD
    period: day
    thresholds: [{at: 50%, level: info}, {at: 100%, level: critical}]
"""
ROUTING = """\
version: 1
receivers:
  growth: {slack: {channel: C0123ABCD}}
  oncall: {slack: {channel: C0456EFGH}}
routes:
  - match: {level: critical}
    to: [oncall]
    also: true
  - match: {owner: growth, area: chat}
    to: [growth]
  - to: [slack]
inhibit:
  - name: month-hides-day
    when: {rule: month}
    hide: {rule: free-tier}
    same: [owner]
quiet:
  - {name: nights, days: [mon, tue], from: "22:00", to: "07:00", holds: [info]}
silences:
  - {match: {rule: free-tier}, until: 2026-03-02T12:00:00Z, reason: load test, by: ann}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in a folder with rules and routing."""
    monkeypatch.chdir(tmp_path)
    Path("rules").mkdir()
    Path("rules/a.yaml").write_text(RULES)
    Path("rules/routing.yaml").write_text(ROUTING)
    return tmp_path


def wrong(old: str, new: str) -> list[Problem]:
    assert ROUTING.count(old) == 1
    Path("rules/routing.yaml").write_text(ROUTING.replace(old, new))
    return list(check([Path("rules")]).problems)


def test_it_is_read_with_the_rules() -> None:
    """It is part of the rulebook, of its digest, and of what is kept for a bad start."""
    book = load(Path("rules"))
    assert [route.to for route in book.routing.routes] == [("oncall",), ("growth",), ("slack",)]
    assert [each.channel for each in book.routing.receivers] == ["C0123ABCD", "C0456EFGH"]
    assert book.digest == digest(Path("rules"))
    keep(book, Path("kept"))
    again = kept(Path("kept"))
    assert again is not None
    plain = [[replace(route, place="") for route in each.routing.routes] for each in (book, again)]
    assert plain[0] == plain[1]
    Path("rules/routing.yaml").write_text(ROUTING + "# more\n")
    assert digest(Path("rules")) != book.digest


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("routes:", "route:", "5:1: unknown key 'route' (did you mean 'routes'?)"),
        ("channel: C0123ABCD", "channel: growth", "3:29: channel='growth': must be the id of a"),
        ("to: [growth]", "to: [grwth]", "10:10: to='grwth': unknown receiver (did you mean"),
        ("  - to: [slack]", "  - {match: {owner: x}, to: [slack]}", "11:5: the last route must"),
        ("owner: growth, area", "ownr: growth, area", "9:13: unknown name 'ownr' (did you mean"),
        ("area: chat", "aera: chat", "9:28: unknown name 'aera' (did you mean 'area'?)"),
        ("level: critical", "level: bad", "6:12: level='bad': must be info, warning or crit"),
        ("    same: [owner]\n", "", "13:5: an inhibition needs same, such as [team]"),
        ("same: [owner]", "same: [ownr]", "16:12: same='ownr': is no fact of an alert"),
        ("when: {rule: month}", "when: {rule: free-tier}", "13:5: hides what it waits for"),
        ('from: "22:00"', "from: 22", "18:44: from=22: must be a time of day in quotes"),
        ('to: "07:00"', 'to: "22:00"', "18:5: quiet hours begin and end at one time"),
        ("holds: [info]", "holds: [inf]", "18:74: holds='inf': must be info, warning or c"),
        ("until: 2026-03-02T12:00:00Z", "until: tomorrow", "20:39: until='tomorrow': must be a"),
        ("growth: {slack", "slack: {slack", "3:3: receiver='slack': is always there"),
        ("    to: [oncall]\n", "    to: [growth]\n", "4:3: receiver 'oncall': no route names"),
        ("quiet:", "grouping: {by: [ownr]}\nquiet:", "17:17: by='ownr': is no fact of an alert (d"),
        ("quiet:", "grouping: {wait: 5}\nquiet:", "17:18: wait=5: "),
        ("quiet:", "grouping: {wait: 2h}\nquiet:", "17:18: wait='2h': is longer than 1h; people"),
        ("quiet:", "grouping: {repeat: {crit: 1h}}\nquiet:", "17:21: unknown key 'crit' (did you"),
        ("quiet:", "grouping: {repeat: {info: 5s}}\nquiet:", "17:27: info='5s': is shorter than"),
        ("quiet:", "grouping: {storm: 0}\nquiet:", "17:19: storm=0: "),
    ],
)
def test_what_is_wrong_is_told(old: str, new: str, message: str) -> None:
    """With its place and what to write."""
    found = [str(problem) for problem in wrong(old, new)]
    assert any(each.startswith(f"rules/routing.yaml:{message}") for each in found), found


def test_grouping_is_read() -> None:
    """What is not said keeps its default."""
    said = (
        "grouping: {by: [owner, area], wait: 0s, repeat: {critical: never}, storm: never}\nquiet:"
    )
    assert wrong("quiet:", said) == []
    found = load(Path("rules")).routing.grouping
    assert (found.by, found.wait, found.storm) == (("owner", "area"), timedelta(0), None)
    assert found.update == Grouping().update
    assert found.repeat == {Level.WARNING: timedelta(days=1)}


def test_inhibitions_that_hide_each_other() -> None:
    """Nobody would be told of either."""
    both = """same: [owner]
  - {name: other, when: {rule: free-tier}, hide: {rule: month}, same: [owner]}"""
    assert "hide each other" in str(wrong("same: [owner]", both)[0])


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["rules", "route", "--rules", "rules", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_routes_are_tried_out() -> None:
    """Who is told, by which routes, and what would hold it back when."""
    told = run("owner=growth", "area=chat", "level=critical", "--at", "2026-03-04T00:00:00Z")
    assert "told: log, oncall, growth" in told
    assert "nothing holds it back" in told
    told = run("rule=free-tier", "level=info", "--at", "2026-03-02T23:00:00Z", "--json")
    answer = json.loads(told)
    assert answer["receivers"] == ["log", "slack"]
    assert answer["mutes"] == ["quiet hours nights until 2026-03-03 07:00 UTC"]
    told = run("rule=free-tier", "owner=growth", "--firing", "rule=month,owner=growth")
    assert "held back: inhibited by month-hides-day" in told
    told = run("rule=free-tier", "--at", "2026-03-01T12:00:00Z")
    assert "held back: silenced until 2026-03-02 12:00 UTC by ann: load test" in told


def scope(**values: str) -> Scope:
    return Scope(tuple(Condition(name, frozenset({value})) for name, value in values.items()))


def test_a_missing_fact_is_never_the_same() -> None:
    """An inhibition without a common fact holds nothing back; nor does an alert hold itself."""
    rule = Inhibition("x", scope(rule="a"), scope(kind="budget"), ("team",))

    def hidden_by(facts: Facts, *firing: Facts) -> bool:
        return Routing(inhibitions=(rule,)).firing(firing).hides(rule, facts)

    hidden: Facts = {"rule": "b", "kind": "budget", "team": "search"}
    assert hidden_by(hidden, {"rule": "a", "team": "search"})
    assert not hidden_by(hidden, {"rule": "a", "team": "chat"}, {"rule": "a"})
    nameless: Facts = {"rule": "b", "kind": "budget", "team": None}
    assert not hidden_by(nameless, {"rule": "a", "team": None})
    itself: Facts = {"rule": "a", "kind": "budget", "team": "search"}
    assert not hidden_by(itself, itself)
    assert hidden_by(itself, itself, {"rule": "a", "team": "search"})


def test_quiet_hours_through_a_change_of_clocks() -> None:
    """They are local: a night is as long as its clocks make it."""
    nights = QuietHours(
        "n",
        frozenset({5}),  # Saturday
        datetime.min.time().replace(hour=22),
        datetime.min.time().replace(hour=7),
        "Europe/Berlin",
        frozenset({Level.INFO}),
    )
    saturday = datetime(2026, 3, 28, 20, 30, tzinfo=UTC)
    assert nights.until(saturday) is None
    assert nights.next_change(saturday) == datetime(2026, 3, 28, 21, tzinfo=UTC)
    assert nights.until(saturday + HOUR) == datetime(2026, 3, 29, 5, tzinfo=UTC)
    assert nights.until(datetime(2026, 3, 29, 5, tzinfo=UTC)) is None


# ------------------------------------------------------------------------------- what it does


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", [budget(100)], Clock(NOON)) as site:
        yield site


def silence(until: datetime) -> Routing:
    return Routing(silences=(Silence(scope(rule="free-tier"), until, "test", "ann"),))


def test_what_is_held_back_is_told_later(site: Site) -> None:
    """Nothing while it is silenced, though it acts; then how it stands, once."""
    rules = [budget(100)]
    site.evaluate.reload(rules, routing=silence(NOON + HOUR))
    site.spend(60)
    site.spend(60)
    assert site.owed() == []
    assert len(site.standing()) == 1
    site.turn(NOON + HOUR / 2)
    assert site.owed() == []
    site.turn(NOON + HOUR)
    assert [notice.level for notice in site.owed()] == [Level.CRITICAL]
    (before,) = site.owed()
    site.turn(NOON + 2 * HOUR)
    assert site.owed() == [before]


def test_a_rise_is_held_back_and_an_end_is_not(site: Site) -> None:
    """Who was told hears of the end in the midst of a silence; who was not hears nothing."""
    rules = [budget(100)]
    site.spend(60)
    (first,) = site.owed()
    site.evaluate.reload(rules, routing=silence(NOON + 2 * DAY))
    site.spend(60)
    assert site.owed() == [first]
    site.turn(NOON + DAY / 2)
    (notice,) = site.owed()
    assert notice.resolved == "the period ended"
    site.spend(60)
    site.turn(NOON + 3 * DAY / 2)
    assert site.owed() == [notice]


def test_held_back_through_a_restart(tmp_path: Path) -> None:
    """What was held back before a crash is told after it."""
    path, clock = tmp_path / "g.duckdb", Clock(NOON)
    with opened(path, [budget(100)], clock) as site:
        site.evaluate.reload([budget(100)], routing=silence(NOON + HOUR))
        site.spend(60)
        assert site.owed() == []
    clock.now = NOON + 2 * HOUR
    with opened(path, [budget(100)], clock) as site:
        site.evaluate.tick()
        assert [notice.level for notice in site.owed()] == [Level.INFO]


def test_an_alert_that_hides_another(site: Site) -> None:
    """The lesser one waits until the greater is over."""
    month = replace(budget(50, at=(100,), name="month"), actions={})
    month = replace(month, thresholds=tuple(replace(t, actions=()) for t in month.thresholds))
    routing = Routing(
        inhibitions=(Inhibition("hide", scope(rule="month"), scope(rule="free-tier"), ("owner",)),)
    )
    site.evaluate.reload([budget(100), month], routing=routing)
    site.spend(60)
    assert [notice.rule for notice in site.owed()] == ["month"]
    site.evaluate.reload([budget(100)], routing=routing)
    site.evaluate.tick()
    assert {(n.rule, n.resolved is None) for n in site.owed()} == {
        ("month", False),
        ("free-tier", True),
    }


def test_each_is_told_what_is_routed_to_it(site: Site) -> None:
    """By level; who was told of the lower level is told how it goes on."""
    routing = load(Path("rules")).routing
    routing = replace(routing, quiets=(), silences=(), inhibitions=())
    site.evaluate.reload([replace(budget(100), labels={"area": "chat"})], routing=routing)
    site.spend(60)
    assert [len(site.owed(name)) for name in ("growth", "oncall", "slack", "log")] == [1, 0, 0, 1]
    site.spend(60)
    assert [n.level for n in site.owed("growth")] == [Level.CRITICAL]
    assert [n.level for n in site.owed("oncall")] == [Level.CRITICAL]
    assert site.owed("slack") == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_red_for_ever(tmp_path: Path, seed: int) -> None:
    """Silences that come and go at random: what receivers were last told is how it stands.

    In the end nobody is left with an alert that is over, and of none that lasts is nothing told.
    """
    random = Random(seed)
    rules = [budget(10, per=("customer",))]
    with opened(tmp_path / "g.duckdb", rules, Clock(NOON)) as site:
        for step in range(60):
            now = NOON + step * HOUR
            if random.random() < 0.3:
                length = random.choice([0, 1, 5, 30]) * HOUR
                site.evaluate.reload(rules, routing=silence(now + length))
            site.turn(now)
            site.spend(random.randint(1, 8), customer=random.choice("abc"))
        site.evaluate.reload(rules, routing=Routing())
        site.evaluate.tick()
        last = {notice.message: notice for notice in site.owed()}
        state = {f"{a.key.id}-{a.episode}": a for a, _ in site.evaluate.alerts if a.fired_at}
        assert {name for name, alert in state.items() if alert.is_open} <= set(last)
        for message, notice in last.items():
            alert = state.get(message)
            assert (notice.resolved is None) == (alert is not None and alert.is_open)


def test_threads_come_and_go(tmp_path: Path) -> None:
    """Each receiver has one; another channel is another; a name nobody has is refused."""

    class Mute:
        apart = True

        def __init__(self, name: str) -> None:
            self.name = name

    class Idle:
        def owed(self, *_: object, **__: object) -> tuple[list[object], list[object], int]:
            return [], [], 0

    routing = load(Path("rules")).routing
    made: list[str] = []

    def make(receiver: Mute) -> Deliver:
        made.append(receiver.name)
        ask = lambda call: call()  # noqa: E731
        return Deliver(
            receiver,  # type: ignore[arg-type]
            Idle(),  # type: ignore[arg-type]
            ask=ask,
            now=lambda: NOON,
            grouping=lambda: APART,
        )

    telling = Telling(
        [Mute("log"), Mute("slack")],  # type: ignore[list-item]
        make=make,  # type: ignore[arg-type]
        named=lambda each: Mute(each.name),  # type: ignore[arg-type,return-value]
    )
    telling.check(routing)
    telling.open()
    try:
        telling.use(routing)
        assert made == ["log", "slack", "growth", "oncall"]
        moved = replace(routing.receivers[0], channel="C0999")
        telling.use(replace(routing, receivers=(moved,)))
        assert made[4:] == ["growth"]
        assert telling.troubles == []
    finally:
        telling.close()
    poor = Telling([], make=make, named=lambda each: named(Settings(), each, lambda: NOON))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"needs slack\.bot_token"):
        poor.check(routing)
    with pytest.raises(ConfigError, match=r"to='slack'"):
        poor.check(replace(routing, receivers=(), routes=routing.routes[-1:]))


def test_a_change_of_who_is_told_is_a_change(tmp_path: Path) -> None:
    """What is new, gone or in another order; where it stands in the file is none."""
    Path("other").mkdir()
    Path("other/a.yaml").write_text(RULES)
    Path("other/routing.yaml").write_text("# moved down\n" + ROUTING)
    runner = CliRunner()
    assert "no change" in runner.invoke(app, ["rules", "diff", "rules", "other"]).stdout
    Path("other/routing.yaml").write_text(
        ROUTING.replace("C0123ABCD", "C0123ABCE").replace("by: ann}", "by: bob}")
    )
    done = runner.invoke(app, ["rules", "diff", "rules", "other", "--fail-on", "routed"])
    assert done.exit_code == 1
    assert "routing.yaml: receivers: 1 new, 1 gone" in done.stdout
    assert "routing.yaml: silences: 1 new, 1 gone" in done.stdout
    assert "routes" not in done.stdout.replace("routing.yaml", "")
