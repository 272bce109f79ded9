"""Rules rehearsed: their tests, backtests, and the promise that nobody is touched."""

import json
import os
import sys
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

from governor.adapters.duckdb.scratch import Scratch
from governor.cli import app
from governor.core.rules.units import span_text
from governor.core.totals import Mask, Sums
from governor.daemon.clocks import WallClock
from governor.rehearsal import Rehearsal
from governor.rehearsal.testfile import read_tests, span
from governor.rehearsal.trial import carry_out
from governor.rulebook import check
from governor.rulebook.compare import Sense, compare
from governor.rulebook.schema import schema
from tests.unit.site import NOON, Clock, budget, opened

ROOT = Path(__file__).parents[2]
RULES = ROOT / "rules"
RULE = """
version: 1
rules:
  - id: cap
    kind: budget
    owner: growth
    mode: enforce
    summary: "{{ value }} of {{ limit }}"
    where: {tier: free}
    per: [user]
    limit: 10 USD
    period: day
    thresholds:
      - {at: 50%, level: info}
      - {at: 100%, level: critical, actions: [slow]}
    actions:
      slow: {do: throttle, to: 2/min}
"""
TEST = """
version: 1
rules: [rules.yaml]
tests:
  - name: a user runs away
    start: 2026-03-02T09:00:00Z
    until: 16h
    events:
      - {tier: free, user: ann, cost: 1 USD, every: 1m, for: 12m}
      - {tier: free, user: bob, cost: 1 USD, every: 1h, for: 4h}
      - {tier: pro, user: eve, cost: 100 USD}
    expect:
"""
HAPPENED = """\
      transitions:
        - {at: 4m, rule: cap, group: {user: ann}, what: fired, level: info, value: 5.00 USD}
        - {at: 9m, group: {user: ann}, what: escalated, level: critical, threshold: 100%}
        - {at: 15h, group: {user: ann}, what: resolved, reason: period_ended}
      actions:
        - {at: 9m, action: slow, effect: throttle, rate: 2 in 60 s, each: user}
        - {at: 15h, action: slow, effect: release}
"""


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has an empty folder of its own, and no settings of the machine."""
    for name in list(os.environ):
        if name.upper().startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> Result:
    """Run `governor rules ...`."""
    return CliRunner().invoke(app, ["rules", *arguments])


def trial(expect: str, *options: str, text: str = TEST) -> Result:
    """Run one test with what it expects."""
    Path("rules.yaml").write_text(RULE)
    Path("cap.test.yaml").write_text(text + expect)
    return run("test", "cap.test.yaml", *options)


# ------------------------------------------------------------------------------- tests of rules


@pytest.mark.slow
def test_the_tests_of_our_rules_pass() -> None:
    """Every file of rules/ has tests beside it, each rule is in one, and all pass."""
    done = run("test", str(RULES), "--json")
    results = json.loads(done.stdout)
    assert [result["test"] for result in results if not result["passed"]] == []
    assert done.exit_code == 0
    files = {path.name.replace(".test.yaml", ".yaml") for path in RULES.glob("*.test.yaml")}
    assert files == {path.name for path in RULES.glob("*.yaml") if ".test." not in path.name}
    said = {text for result in results for text in result["happened"]["transitions"]}
    for file in check([RULES]).files:
        for name, _, _ in file.ids:
            assert any(f"rule: {name}," in text for text in said), name


def test_what_happens_as_told_passes() -> None:
    """Messages are looked at only where they are written down."""
    done = trial(HAPPENED)
    assert done.exit_code == 0, done.stdout
    assert "1 test, all passed" in done.stdout


@pytest.mark.parametrize(
    ("old", "new", "shown"),
    [
        ("at: 4m", "at: 5m", "- {at: 5m, rule: cap"),
        ("level: info", "level: warning", "level: warning"),
        ("group: {user: ann}, what: escalated", "group: {user: bob}, what: escalated", "+ {at: 9m"),
        ("rate: 2 in 60 s", "rate: 3 in 60 s", "- {at: 9m, action: slow"),
        ("        - {at: 15h, action: slow, effect: release}\n", "", "+ {at: 15h, rule: cap"),
        ("value: 5.00 USD", "value: 6.00 USD", "value: 6.00 USD}   (cap.test.yaml:14)"),
    ],
)
def test_what_differs_fails(old: str, new: str, shown: str) -> None:
    """One too many, one too few, another time, level, group, rate or value."""
    assert HAPPENED.count(old) == 1
    done = trial(HAPPENED.replace(old, new))
    assert done.exit_code == 1
    assert shown in done.stdout
    assert "1 test, 1 failed" in done.stdout


def test_messages_are_compared_where_they_are_written_down() -> None:
    """A post, then edits; what is not listed is too much."""
    some = (
        HAPPENED + "      messages:\n        - {at: 4m, op: post, contains: 5.00 USD of 10 USD}\n"
    )
    done = trial(some)
    assert done.exit_code == 1
    assert "+ {at: 9m, rule: cap, op: update, level: critical" in done.stdout
    rest = "        - {at: 9m, op: update}\n        - {at: 15h, op: update, contains: Resolved}\n"
    assert trial(some + rest).exit_code == 0


def test_all_that_happened_is_shown_on_request() -> None:
    """With --diff what fits is there, too, as one would write it down."""
    done = trial(HAPPENED.replace("at: 4m", "at: 5m"), "--diff")
    assert (
        "  {at: 9m, rule: cap, group: {user: ann}, what: escalated, level: critical," in done.stdout
    )
    assert "messages:" in done.stdout


def test_only_some_tests_are_run() -> None:
    """By a part of their name; none is an error, since nothing was proved."""
    assert trial(HAPPENED, "--run", "runs away").exit_code == 0
    none = trial(HAPPENED, "--run", "other")
    assert none.exit_code != 0
    assert "there is no such test" in str(none.exception)


def test_a_junit_report() -> None:
    """As build servers read it."""
    trial(HAPPENED.replace("at: 4m", "at: 5m"), "--junit", "report.xml")
    suite = ET.parse("report.xml").getroot()
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    (failure,) = suite.iter("failure")
    assert "transitions: - {at: 5m" in (failure.text or "")


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("until: 16h", "untl: 16h", "7:5: unknown key 'untl' (did you mean 'until'?)"),
        ("start: 2026-03-02T09:00:00Z", "start: 2026-03-02T09:00:00", "has no zone"),
        ("every: 1m, for: 12m", "every: 1m", "every and for go together"),
        ("cost: 100 USD", "cost: 100", "write 100 USD"),
        ("tier: pro", "teir: pro", "unknown key 'teir' (did you mean 'tier'?)"),
        ("every: 1m, for: 12m", "every: 1s, for: 9d", "more than 100,000 in all"),
        ("    expect:\n", "", "needs expect"),
        ("until: 16h", "until: soon", "must be a span, such as 90s, 5m, 1h40m or 2d6h"),
    ],
)
def test_a_wrong_test_file_is_refused_with_its_place(old: str, new: str, problem: str) -> None:
    """As rule files are; exit 2."""
    assert TEST.count(old) == 1
    expect = HAPPENED if old != "    expect:\n" else ""
    done = trial(expect, text=TEST.replace(old, new))
    assert done.exit_code == 2
    assert problem in done.stdout
    assert done.stdout.startswith("cap.test.yaml:")


def test_wrong_rules_are_told() -> None:
    """A test of rules that are none proves nothing."""
    Path("cap.test.yaml").write_text(TEST + HAPPENED)
    Path("rules.yaml").write_text(RULE.replace("limit: 10 USD", "limit: 10"))
    done = run("test", "cap.test.yaml")
    assert done.exit_code == 2
    assert "rules.yaml:11:12: limit=10: has no unit" in done.stdout


def test_files_of_tests_are_no_rules() -> None:
    """The daemon passes them over."""
    Path("r").mkdir()
    Path("r/a.yaml").write_text(RULE)
    Path("r/a.test.yaml").write_text(TEST + HAPPENED)
    checked = check([Path("r")])
    assert (checked.problems, [file.path.name for file in checked.files]) == ((), ["a.yaml"])


def test_spans_are_read_as_they_are_written() -> None:
    """Both ways."""
    for text in ("0s", "90s", "5m", "1h40m", "2d6h", "1d1h1m1s"):
        assert span_text(span(text)) == ("1m30s" if text == "90s" else text)


def test_what_must_hold_for_a_while_fires_when_it_has() -> None:
    """To the second, though nothing is used then."""
    rule = budget(10, at=(100,), hold=timedelta(minutes=5))
    rehearsal = Rehearsal([rule], NOON)
    usage: Mapping[Mask, Sequence[Sums]] = {
        mask: [(0, *("free" for _ in mask), 20 * 10**9, 1, 0)] for mask in rehearsal.masks
    }
    now_us = int(NOON.timestamp() // 900 * 900 * 10**6)
    rehearsal.use(NOON, {mask: [(now_us, *rows[0][1:])] for mask, rows in usage.items()})
    rehearsal.pass_to(NOON + timedelta(hours=1))
    told = [(line.transition.what.value, line.transition.at - NOON) for line in rehearsal.lines]
    assert told == [("pending", timedelta(0)), ("fired", timedelta(minutes=5))]


# ------------------------------------------------------------------------------------ backtests


def history(path: Path) -> list[tuple[str, str, str | None, str]]:
    """Count usage with a daemon's own parts, and return what its rules did."""
    rules = [rule for file in check([Path("rules.yaml")]).files for rule in file.rules]
    clock = Clock(NOON - timedelta(days=2))
    with opened(path, rules, clock) as site:
        for minute in range(2 * 24 * 60):
            if minute % 21 and minute % 31 and minute % 60:
                continue
            site.turn(NOON - timedelta(days=2) + timedelta(minutes=minute))
            if minute % 21 == 0:
                site.spend("0.60", user=f"u{minute % 3}")
            if minute % 31 == 0:
                site.spend("3", user="u9", tier="free" if minute % 2 else "pro")
        site.turn(NOON)
        return site.ask(
            'SELECT rule, "group", threshold, what FROM alert_lines ORDER BY happened_at, seq'
        )


@pytest.mark.slow
def test_a_backtest_says_what_the_daemon_did(tmp_path: Path) -> None:
    """Same rules, same usage: the same transitions of the same groups, in the same order."""
    Path("rules.yaml").write_text(RULE)
    store = tmp_path / "g.duckdb"
    did = history(store)
    Path("governor.yaml").write_text(f"store: {{path: {store}}}\nrules: {{path: rules.yaml}}\n")
    done = run("backtest", "--json", "--to", NOON.isoformat())
    document = json.loads(done.stdout)
    said = [
        (row["rule"], json.dumps(list(row["group"].values())), row["threshold"], row["what"])
        for row in document["transitions"]
    ]
    assert len(did) >= 10
    assert sorted(map(str, said)) == sorted(map(str, did))
    assert document["fired"] == {"cap": sum(row[3] == "fired" for row in said)}


def test_a_backtest_of_a_file(tmp_path: Path) -> None:
    """NDJSON of events, priced as the daemon prices; what cannot be read is left out and told."""
    Path("rules.yaml").write_text(RULE)
    event = {
        "source": "app",
        "provider": "openai",
        "model": "gpt-4o",
        "tier": "free",
        "user": "ann",
        "input_tokens": 400_000,  # a dollar
        "output_tokens": 0,
    }
    lines = [
        json.dumps(event | {"event_id": f"e{n}", "event_time": f"2026-10-01T10:{n:02}:30Z"})
        for n in range(12)
    ]
    Path("events.ndjson").write_text("\n".join([*lines, "broken", lines[0]]))
    done = run("backtest", "rules.yaml", "--events", "events.ndjson", "--json")
    document = json.loads(done.stdout)
    assert [(row["at"][11:16], row["what"], row["value"]) for row in document["transitions"]] == [
        ("10:04", "fired", "5.00 USD"),
        ("10:09", "escalated", "10.00 USD"),
    ]
    assert "1 line of events.ndjson is left out, such as line 13: malformed" in done.stderr
    (throttle,) = document["throttles"]
    assert (throttle["scope"], throttle["ended"]) == ({"tier": ["free"], "user": ["ann"]}, None)


def test_two_rulebooks_over_the_same_history() -> None:
    """What only the one and only the other would have done; modes may be supposed."""
    test_a_backtest_of_a_file(Path())
    Path("old.yaml").write_text(RULE.replace("limit: 10 USD", "limit: 11 USD"))
    options = ("--events", "events.ndjson", "--json", "--against", "old.yaml")
    document = json.loads(run("backtest", "rules.yaml", *options).stdout)
    against = document["against"]
    assert against == {"only_before": [], "only_now": []}
    Path("old.yaml").write_text(RULE.replace("limit: 10 USD", "limit: 20 USD"))
    against = json.loads(run("backtest", "rules.yaml", *options).stdout)["against"]
    assert [row["threshold"] for row in against["only_now"]] == ["100%"]
    shadow = run("backtest", "rules.yaml", "--events", "events.ndjson", "--json", "--as", "shadow")
    document = json.loads(shadow.stdout)
    assert ([each["shadow"] for each in document["throttles"]], document["posts"]) == ([True], 0)
    assert len(document["transitions"]) == 2


def test_a_rehearsal_can_touch_nobody() -> None:
    """Its modules import no driver and no adapter, so there is nothing to send with."""
    before = set(sys.modules)
    assert "governor.rehearsal" in before
    source = "\n".join(
        path.read_text("utf-8") for path in (ROOT / "governor" / "rehearsal").glob("*.py")
    )
    for word in ("adapters", "actions.slack", "kafka", "duckdb", "socket", "slack_sdk", "urllib"):
        assert f"import {word}" not in source
        assert f"from governor.{word}" not in source


# ------------------------------------------------------------------------- diff, formats, schema

SPIKE = """\
version: 1
rules:
  - id: feature-spike
    kind: spike
    owner: platform
    summary: "{{ value }}"
    per: [feature]
    sensitivity: medium
    guards: {min_increase: 50%}
    cool_down: 12h
    lookback: 42d
    thresholds: [{at: 25 USD, level: warning}]
"""
MIX = """\
version: 1
rules:
  - id: model-plan
    kind: mix_drift
    owner: ml
    summary: "{{ value }}"
    classes: {small: ["*-mini"], large: ["*-opus-*"]}
    unlisted: fire
    against: {target: {small: 60%, large: 40%}}
    guards: {min_requests: 2000}
    thresholds: [{at: 10pp, level: warning}]
"""
FORECAST = """\
version: 1
rules:
  - id: month-ahead
    kind: forecast
    owner: finance
    summary: "{{ value }} of {{ limit }}"
    limit: 30000 USD
    period: month
    confidence: 80%
    min_history: 14d
    thresholds: [{at: 100%, level: warning}]
"""


def changes(old: str, new: str) -> list[tuple[Sense, str]]:
    """Return what a change of the rule means."""
    found = []
    for name, text in (("old", old), ("new", new)):
        Path(f"{name}.yaml").write_text(text)
        checked = check([Path(f"{name}.yaml")])
        assert checked.problems == ()
        found.append([rule for file in checked.files for rule in file.rules])
    return [(change.sense, change.text) for change in compare(*found)]


@pytest.mark.parametrize(
    ("old", "new", "sense", "text"),
    [
        ("limit: 10 USD", "limit: 20 USD", Sense.LOOSENED, "limit 10 USD to 20 USD"),
        ("limit: 10 USD", "limit: 5 USD", Sense.TIGHTENED, "limit 10 USD to 5 USD"),
        ("at: 50%", "at: 60%", Sense.LOOSENED, "info at 50% (5.00 USD) to 60% (6.00 USD)"),
        ("2/min", "1/min", Sense.TIGHTENED, "slow: throttle to 2/min"),
        ("2/min", "100/h", Sense.TIGHTENED, "to slow: throttle to 100/h"),
        ("2/min", "3/min", Sense.LOOSENED, "slow: throttle to 2/min"),
        ("mode: enforce", "mode: notify", Sense.LOOSENED, "mode enforce to notify"),
        ("tier: free", "tier: pro", Sense.OTHER_USAGE, "counts other usage"),
        ("period: day", "period: week", Sense.OTHER_USAGE, "counts other usage"),
        ("owner: growth", "owner: finance", Sense.WORDS, "another owner"),
        ("period: day", "period: day\n    for: 5m", Sense.LOOSENED, "for 0:00:00 to 0:05:00"),
    ],
)
def test_a_change_is_called_what_it_is(old: str, new: str, sense: Sense, text: str) -> None:
    """One change of a rule is one line, and the way back is the other way."""
    assert RULE.count(old) == 1
    ((found, said), *more) = changes(RULE, RULE.replace(old, new))
    assert (found, more) == (sense, [])
    assert text in said
    opposite = {Sense.LOOSENED: Sense.TIGHTENED, Sense.TIGHTENED: Sense.LOOSENED}
    back = [found for found, _ in changes(RULE.replace(old, new), RULE)]
    assert opposite.get(sense, sense) in back


@pytest.mark.parametrize(
    ("base", "old", "new", "sense"),
    [
        (SPIKE, "sensitivity: medium", "sensitivity: low", Sense.LOOSENED),
        (SPIKE, "min_increase: 50%", "min_increase: 80%", Sense.LOOSENED),
        (SPIKE, "cool_down: 12h", "cool_down: 6h", Sense.TIGHTENED),
        (SPIKE, "at: 25 USD", "at: 10 USD", Sense.TIGHTENED),
        (SPIKE, "lookback: 42d", "lookback: 60d", Sense.TIMING),
        (
            SPIKE,
            "sensitivity: medium",
            "baseline: {method: yesterday, times: 2x}",
            Sense.OTHER_USAGE,
        ),
        (MIX, "min_requests: 2000", "min_requests: 500", Sense.TIGHTENED),
        (MIX, "unlisted: fire", "unlisted: keep", Sense.LOOSENED),
        (MIX, "small: 60%", "small: 55%", Sense.OTHER_USAGE),
        (FORECAST, "limit: 30000 USD", "limit: 20000 USD", Sense.TIGHTENED),
        (FORECAST, "confidence: 80%", "confidence: 90%", Sense.LOOSENED),
        (FORECAST, "min_history: 14d", "min_history: 30d", Sense.LOOSENED),
    ],
)
def test_a_change_of_a_rule_that_learns_is_one(base: str, old: str, new: str, sense: Sense) -> None:
    """What it asks for, its plan, its limit: no change goes unnamed, and each but once."""
    assert base.count(old) == 1
    found = [each for each, _ in changes(base, base.replace(old, new))]
    assert found[0] == sense
    assert sense is Sense.OTHER_USAGE or len(found) == 1
    assert changes(base, base) == []


def test_new_enforcement_is_called_out() -> None:
    """A rule that begins to act, and one that is new and acts."""
    shadow = RULE.replace("mode: enforce", "mode: shadow")
    assert (Sense.ENFORCED, "it acts now: slow: throttle to 2/min for each user") in changes(
        shadow, RULE
    )
    found = changes("version: 1\nrules: []\n", RULE)
    assert [sense for sense, _ in found] == [Sense.NEW, Sense.ENFORCED]
    assert [sense for sense, _ in changes(RULE, "version: 1\nrules: []\n")] == [Sense.GONE]
    assert changes(RULE, RULE) == []


def test_a_pull_request_can_fail_on_a_sense() -> None:
    """Exit 1 where one of those named is there; an unknown one is refused."""
    changes(RULE.replace("mode: enforce", "mode: shadow"), RULE)
    assert run("diff", "old.yaml", "new.yaml").exit_code == 0
    assert run("diff", "old.yaml", "new.yaml", "--fail-on", "gone").exit_code == 0
    assert run("diff", "old.yaml", "new.yaml", "--fail-on", "gone,enforced").exit_code == 1
    assert "the senses are" in str(run("diff", "old.yaml", "new.yaml", "--fail-on", "x").exception)


def test_problems_as_annotations_and_as_sarif() -> None:
    """For pull requests and for code scanners, with file, line and column."""
    Path("a,b.yaml").write_text(RULE.replace("limit: 10 USD", "limit: 50%"))
    shown = run("check", "a,b.yaml", "--format", "github")
    assert shown.exit_code == 2
    first = shown.stdout.splitlines()[0]
    assert first.startswith("::error file=a%2Cb.yaml,line=11,col=12::limit='50%25'")
    document = json.loads(run("check", "a,b.yaml", "--format", "sarif").stdout)
    (result,) = document["runs"][0]["results"]
    place = result["locations"][0]["physicalLocation"]
    assert place["region"] == {"startLine": 11, "startColumn": 12}
    assert document["version"] == "2.1.0"
    assert "write text, json, github, sarif" in str(run("check", "--format", "xml").exception)


def plain(path: Path) -> Any:
    """Return a rule file as plain data, as an editor's language server reads it."""
    from ruamel.yaml import YAML  # noqa: PLC0415

    return YAML(typ="safe", pure=True).load(path.read_text("utf-8"))


def test_the_schema_knows_what_is_right() -> None:
    """All of our rules fit, and it is a schema."""
    jsonschema.Draft202012Validator.check_schema(schema())
    validator = jsonschema.Draft202012Validator(schema())
    for path in RULES.glob("*.yaml"):
        if ".test." not in path.name:
            assert list(validator.iter_errors(plain(path))) == []
    assert json.loads(run("schema").stdout) == schema()
    packed = resources.files("governor.rulebook").joinpath("rules.schema.json")
    assert packed.read_text("utf-8") == run("schema").stdout, "governor rules schema > it"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("limit: 10 USD", "limit: 10"),
        ("limit: 10 USD", "limt: 10 USD"),
        ("kind: budget", "kind: budgets"),
        ("mode: enforce", "mode: enforced"),
        ("period: day", "period: year"),
        ("tier: free", "teir: free"),
        ("per: [user]", "per: [usr]"),
        ("level: info", "level: bad"),
        ("at: 50%", "at: 0.5"),
        ("2/min", "2 a minute"),
        ("do: throttle", "do: stop"),
        ("id: cap", "id: Cap"),
    ],
)
def test_the_schema_knows_what_is_wrong(old: str, new: str) -> None:
    """As `rules check` does, which says it better."""
    Path("rules.yaml").write_text(RULE.replace(old, new, 1))
    validator = jsonschema.Draft202012Validator(schema())
    assert list(validator.iter_errors(plain(Path("rules.yaml"))))
    assert check([Path("rules.yaml")]).problems


def test_the_wall_clock_is_not_asked() -> None:
    """A test of rules comes out the same on any day: it has a clock of its own."""
    Path("rules.yaml").write_text(RULE)
    Path("cap.test.yaml").write_text(TEST + HAPPENED)
    file = read_tests(Path("cap.test.yaml"))
    rules = [rule for each in check(list(file.rules)).files for rule in each.rules]
    assert file.tests[0].start < WallClock().at(None)
    assert carry_out(file.tests[0], rules, Scratch).passed
    assert datetime(2026, 3, 2, 9, tzinfo=UTC) == file.tests[0].start
