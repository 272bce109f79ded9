"""Why a rule fired or did not, in numbers that are those the rule was judged by."""

import json
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from typer.testing import CliRunner

from governor.adapters.duckdb.explaining import amounts_sql, scope_sql
from governor.cli import app
from governor.core.errors import ConfigError
from governor.core.rules.shared import Mode
from governor.core.scopes import Condition, Scope
from governor.daemon import explaining
from tests.unit.site import NOON, Clock, Site, budget, opened
from tests.unit.test_gauges import absence, query, ratio, tell


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Open a site with a rule by user, one of all, one in shadow that holds."""
    rules = [
        budget(10, name="users", per=("user",)),
        budget(100, name="all", where={}),
        budget(20, name="held", mode=Mode.SHADOW, hold=timedelta(minutes=5), where={"team": "a"}),
    ]
    with opened(tmp_path / "g.duckdb", rules, Clock(NOON)) as found:
        yield found


def asked(site: Site, **fields: str) -> list[dict[str, Any]]:
    """Explain as the daemon does."""
    named = {name.replace("__", "."): value for name, value in fields.items()}
    with site.state.numbers() as numbers:
        evaluate = site.evaluate
        return explaining.answer(numbers, evaluate.rules, named, site.clock.now, evaluate.routing)


def test_a_group_is_explained(site: Site) -> None:
    """Value, share, what is reached, what comes next, the alert and the throttle."""
    site.spend(9, user="ann")
    site.spend(3, user="bob")
    site.spend(12, user="eve")
    (told,) = asked(site, rule="users")
    assert [(g["group"]["user"], g["value"], g["reached"]) for g in told["groups"]] == [
        ("eve", "12.00 USD", "100%"),
        ("ann", "9.00 USD", "80%"),
        ("bob", "3.00 USD", None),
    ]
    eve, ann, bob = told["groups"]
    assert "next: 100%, 1.00 USD away" in ann["why"]
    assert bob["why"] == ["not fired: 2.00 USD below the first threshold, 50%"]
    assert (eve["alert"]["phase"], ann["percent"]) == ("firing", "90.0")
    assert [throttle["effect"] for throttle in eve["throttles"]] == ["throttle"]
    assert told["resets_at"] == NOON.replace(hour=0) + timedelta(days=1)
    assert site.ask(f"SELECT max(amount) FROM ({told['sql']})") == [(12 * 10**9,)]


def test_one_group_at_a_time(site: Site) -> None:
    """Also one that used nothing; another dimension than those of the rule is refused."""
    site.spend(9, user="ann")
    (told,) = asked(site, rule="users", group__user="zoe")
    (zoe,) = told["groups"]
    assert zoe["value"] == "0.00 USD"
    assert zoe["why"][0] == "nothing was used in this period by anything that the rule counts"
    with pytest.raises(ConfigError, match="users has groups by user"):
        asked(site, rule="users", group__team="a")
    with pytest.raises(ConfigError, match=r"no rule 'user' \(did you mean 'users'"):
        asked(site, rule="user")


def test_as_it_was_at_a_time(site: Site) -> None:
    """Usage after the time does not count, nor does its period if that is another."""
    site.spend(4, user="ann", at=NOON - timedelta(hours=2))
    site.spend(4, user="ann", at=NOON - timedelta(hours=1))
    at = (NOON - timedelta(minutes=90)).isoformat()
    (told,) = asked(site, rule="users", group__user="ann", at=at)
    assert told["groups"][0]["value"] == "4.00 USD"
    (before,) = asked(site, rule="users", at=(NOON - timedelta(days=1)).isoformat())
    assert before["groups"] == []
    with pytest.raises(ConfigError, match="no time with a zone"):
        asked(site, rule="users", at="noon")


def test_every_rule_that_touches_somebody(site: Site) -> None:
    """With the share that is theirs, of the group that is judged."""
    site.spend(6, user="ann", team="a")
    site.spend(30, user="bob", team="a", tier="pro")
    told = {each["rule"]: each["groups"] for each in asked(site, entity__user="ann")}
    assert {name: (g[0]["value"], g[0]["share"]) for name, g in told.items()} == {
        "users": ("6.00 USD", "6.00 USD"),
        "all": ("36.00 USD", "6.00 USD"),
        "held": ("36.00 USD", "6.00 USD"),
    }
    assert asked(site, entity__user="zoe") == []
    with pytest.raises(ConfigError, match=r"no dimension \(did you mean 'user'"):
        asked(site, entity__usr="ann")


def test_what_waits_says_for_how_long(site: Site) -> None:
    """A rule with `for` that is reached, in shadow."""
    site.spend(15, user="ann", team="a")
    site.turn(NOON + timedelta(minutes=2))
    (told,) = asked(site, rule="held")
    why = told["groups"][0]["why"]
    assert "pending: it fires when it has held for 0:05:00, in 0:03:00" in why
    assert any(sentence.startswith("mode shadow") for sentence in why)


VALUES = ("a", "ab", "b*", "[x", "it's", "", None)


@pytest.mark.parametrize("seed", range(20))
def test_the_sql_means_what_the_scope_means(seed: int, site: Site) -> None:
    """Any condition, values and globs, negated or not, on values and on none."""
    draw = Random(seed)
    site.usage([site.event(1, team=value or None, user="u") for value in VALUES])
    names = [value for value in VALUES if value]
    patterns = ("a*", "?", "[a-b]*", "[!a]*", "*'*", "b[*]")
    condition = Condition(
        "team",
        frozenset(draw.sample(names, draw.randrange(3))),
        tuple(draw.sample(patterns, draw.randrange(3))),
        negated=draw.random() < 0.5,
    )
    (sql,) = scope_sql(Scope((condition,)))
    found = {team for (team,) in site.ask(f"SELECT DISTINCT team FROM usage WHERE {sql}")}
    assert found == {value or None for value in VALUES if condition.holds(value or None)}


def test_the_number_is_the_one_that_was_judged(site: Site) -> None:
    """The answer of the SQL is the total in memory, for every group."""
    draw = Random(1)
    for _ in range(25):
        site.spend(draw.randrange(1, 5), user=draw.choice("abc"), tier=draw.choice(["free", "pro"]))
    rule = site.evaluate.rules["users"]
    period = rule.calendar.period(NOON)
    query = amounts_sql(rule, period.start, period.end, {})
    with site.state.numbers() as numbers:
        found = {each.group: each.amount for each in numbers.amounts(rule, query)}
    held = {
        total.group: total.amount(period)
        for total in site.evaluate._totals  # noqa: SLF001 - the number that is judged
        if total.rule.id == "users"
    }
    assert found == held


# --------------------------------------------------------------------------------- the command


RULE = """
version: 1
rules:
  - {id: users, kind: budget, owner: o, summary: s, where: {tier: free}, per: user,
     limit: 10 USD, period: day, thresholds: [{at: 50%, level: info}]}
"""


def test_the_command_without_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads the store, for people and for scripts."""
    for name in list(os.environ):
        if name.upper().startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with opened(
        tmp_path / "g.duckdb", [budget(10, name="users", per=("user",))], Clock(NOON)
    ) as at:
        at.spend(7, user="ann")
    Path("users.yaml").write_text(RULE)
    Path("governor.yaml").write_text("store: {path: g.duckdb}\nrules: {path: users.yaml}\n")

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["rules", "explain", *arguments])
        return done.stdout if done.exit_code == 0 else str(done.exception)

    when = ("--at", NOON.isoformat())
    shown = run("users", "--group", "user=ann", *when)
    for words in ("limit 10 USD in 2026-11-24", "user=ann: 7.00 USD (70.0 %)", "50% is reached"):
        assert words in shown
    (told,) = json.loads(run("--entity", "user=ann", "--json", *when))
    assert told["groups"][0]["share"] == "7.00 USD"
    assert "no rule counted its usage" in run("--entity", "user=zoe", *when)
    assert "name a rule, or --entity" in run()
    assert "write name=value" in run("users", "--group", "ann")


def test_rules_that_are_judged_from_time_to_time(tmp_path: Path) -> None:
    """Number, window, what it lacks to count, the SQL; the same as was judged."""
    rules = [
        ratio(per=("customer",), window=timedelta(days=1)),
        absence(known=(("search",),)),
        query(),
    ]
    midnight = NOON + timedelta(hours=12)
    with opened(tmp_path / "g.duckdb", rules, Clock(NOON)) as site:
        site.spend(30, customer="acme", feature="chat", status="error")
        tell(site, 100, midnight - timedelta(days=1), midnight, customer="acme")
        site.turn(midnight + timedelta(hours=1))
        (found,) = asked(site, rule="margin")
        (group,) = found["groups"]
        assert (group["value"], group["reached"], group["alert"]["phase"]) == (
            "30.0%",
            "25%",
            "firing",
        )
        assert found["window_end"] == midnight
        for question in found["sql"].split(";\n"):
            assert site.ask(f"SELECT count(*) FROM (\n{question})") == [(1,)]
        (found,) = asked(site, rule="margin", group__customer="nobody")
        assert found["groups"][0]["health"] == "guarded"
        (found,) = asked(site, rule="quiet")
        assert {(g["group"]["feature"], g["value"]) for g in found["groups"]} == {
            ("chat", "13h"),
            ("search", "7d"),
        }
        (found,) = asked(site, rule="waste", at=(NOON + timedelta(minutes=30)).isoformat())
        assert [(g["value"], g["receivers"]) for g in found["groups"]] == [
            ("30.00 USD", ["everybody"])
        ]
        assert "FROM usage" in found["sql"]
        touching = asked(site, entity__customer="acme")
        assert {each["rule"] for each in touching} == {"margin", "waste"}
