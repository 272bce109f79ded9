import json
import os
from dataclasses import FrozenInstanceError
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from governor.cli import app
from governor.core.errors import ConfigError
from governor.core.notifications import PLACEHOLDERS
from governor.core.periods import Calendar, Every
from governor.core.rules.actions import Action, Fail, Rate
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Level, Mode, Threshold
from governor.core.rules.units import Measure
from governor.core.scopes import DIMENSIONS, Condition, Scope
from governor.documents import MAX_BYTES, MAX_PROBLEMS, read_document
from governor.documents.sections import MAX_ITEMS
from governor.rulebook import KINDS, MAX_RULES, check, digest, load
from governor.rulebook.actions import MAX_ACTIONS
from governor.rulebook.files import MAX_FILES
from governor.rulebook.thresholds import MAX_THRESHOLDS
from governor.rulebook.values import MAX_AMOUNT, Amount, amount, threshold

ROOT = Path(__file__).parents[2]
RULES = Path("rules")
SECOND = timedelta(seconds=1)

BASE = {
    "id": "cap",
    "kind": "budget",
    "owner": "growth",
    "summary": "x",
    "limit": "100 USD",
    "period": "day",
    "thresholds": "[{at: 80%, level: warning}]",
}


@pytest.fixture(autouse=True)
def empty_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every test has an empty folder of its own, and no settings of the machine."""
    for name in list(os.environ):
        if name.upper().startswith("GOVERNOR_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    RULES.mkdir()


def write(text: str | bytes, name: str = "a.yaml") -> Path:
    path = RULES / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def rule_text(**changes: str | None) -> str:
    """Return a rule of BASE with changes; each key is a line, None leaves it out."""
    keys = {**BASE, **{name.rstrip("_"): value for name, value in changes.items()}}
    lines = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    return "  - " + "\n    ".join(lines) + "\n"


def file_text(*rules: str) -> str:
    return "version: 1\nrules:\n" + "".join(rules or [rule_text()])


def budget(**changes: str | None) -> Budget:
    write(file_text(rule_text(**changes)))
    (rule,) = load(RULES).rules
    return rule


def problems(*paths: Path) -> list[str]:
    return [str(problem).removeprefix("rules/") for problem in check(paths or (RULES,)).problems]


# ------------------------------------------------------------------------------------ good rules


def test_a_whole_rule() -> None:
    """Every key of a budget arrives in the rule."""
    write(
        "version: 1\n"
        "defaults: {owner: growth, timezone: America/New_York}\n"
        "rules:\n"
        "  - id: free-tier\n"
        "    kind: budget\n"
        "    summary: '{{ group.feature }}: {{ value }} of {{ limit }}'\n"
        "    runbook: https://wiki.example.com/free?a=b#c\n"
        "    mode: enforce\n"
        "    where: {tier: free, model: [a, b], feature: {not: [evals, tests]},\n"
        "      customer: {like: 'acme-*'}, region: {not: {like: ['eu-*', 'us-?']}}}\n"
        "    per: [feature]\n"
        "    limit: 400.5 USD\n"
        "    period: month\n"
        "    for: 5m\n"
        "    thresholds:\n"
        "      - {at: 12.5%, level: info}\n"
        "      - {at: 100 USD, level: critical, actions: [slow, choke]}\n"
        "    actions:\n"
        "      slow: {do: throttle, to: 2/min}\n"
        "      choke: {do: throttle, to: 1/h, each: none, until: period_end, fail: closed}\n"
    )
    (rule,) = load(RULES).rules
    assert rule == Budget(
        id="free-tier",
        owner="growth",
        summary="{{ group.feature }}: {{ value }} of {{ limit }}",
        measure=Measure.COST,
        limit=400_500_000_000,
        limit_text="400.5 USD",
        calendar=Calendar(Every.MONTH, "America/New_York"),
        thresholds=(
            Threshold("12.5%", 50_062_500_000, Level.INFO),
            Threshold("100 USD", 100_000_000_000, Level.CRITICAL, ("slow", "choke")),
        ),
        where=Scope(
            (
                Condition("tier", frozenset({"free"})),
                Condition("model", frozenset({"a", "b"})),
                Condition("feature", frozenset({"evals", "tests"}), negated=True),
                Condition("customer", patterns=("acme-*",)),
                Condition("region", patterns=("eu-*", "us-?"), negated=True),
            )
        ),
        per=("feature",),
        mode=Mode.ENFORCE,
        hold=timedelta(minutes=5),
        actions={
            "slow": Action(name="slow", rate=Rate(2, 60 * SECOND), each="user", fail=Fail.OPEN),
            "choke": Action(name="choke", rate=Rate(1, 3600 * SECOND), each=None, fail=Fail.CLOSED),
        },
        runbook="https://wiki.example.com/free?a=b#c",
        place="rules/a.yaml:4:5",
    )


def test_what_may_be_left_out() -> None:
    """A short rule tells people about all usage, in UTC, at once."""
    rule = budget()
    assert (rule.mode, rule.where, rule.per, rule.hold) == (Mode.NOTIFY, Scope(), (), timedelta(0))
    assert (rule.calendar, rule.actions, rule.runbook) == (Calendar(Every.DAY, "UTC"), {}, None)


AMOUNTS = {
    "100 USD": (Measure.COST, 100_000_000_000),
    "0.000000001 USD": (Measure.COST, 1),
    "0.1 USD": (Measure.COST, 100_000_000),
    "9223372036.854775807 USD": (Measure.COST, MAX_AMOUNT),
    "1.10000000000000000000 USD": (Measure.COST, 1_100_000_000),
    "10 requests": (Measure.REQUESTS, 10),
    "1.5k requests": (Measure.REQUESTS, 1_500),
    "2M tokens": (Measure.TOKENS, 2_000_000),
    "0.5G tokens": (Measure.TOKENS, 500_000_000),
    "9223372036854775807 tokens": (Measure.TOKENS, MAX_AMOUNT),
}


@pytest.mark.parametrize(("text", "nano_or_count"), AMOUNTS.items())
def test_amounts(text: str, nano_or_count: tuple[Measure, int]) -> None:
    """An amount is exact, in nano-dollars, requests or tokens."""
    rule = budget(limit=text, thresholds="[{at: 100%, level: info}]")
    assert (rule.measure, rule.limit) == nano_or_count
    assert rule.thresholds[0].amount == nano_or_count[1]
    assert rule.limit_text == text


def test_a_percentage_of_requests_is_rounded_up() -> None:
    """75% of 10 requests are reached by the eighth, never by the seventh."""
    rule = budget(limit="10 requests", thresholds="[{at: 75%, level: info}]")
    assert [rule.crossed(amount) for amount in (7, 8)] == [0, 1]


@given(st.integers(1, MAX_AMOUNT), st.integers(1, 10**6 - 1), st.integers(0, 999_999))
def test_a_percentage_is_exact(limit: int, whole: int, millionths: int) -> None:
    """A threshold is the least amount that is at least its share of the limit."""
    percent = whole * 10**6 + millionths
    try:
        found = threshold(f"{whole}.{millionths:06}%", Amount(Measure.COST, limit))
    except ValueError as error:
        assert "too large" in str(error)  # noqa: PT017 it is the other good outcome
        assert limit * percent > MAX_AMOUNT * 10**8
    else:
        assert found is not None
        assert (found - 1) * 10**8 < limit * percent <= found * 10**8


@given(st.integers(1, MAX_AMOUNT))
def test_money_comes_back(nano: int) -> None:
    """Dollars with nine decimals are read to the nano-dollar."""
    text = f"{nano // 10**9}.{nano % 10**9:09} USD"
    assert amount(text) == (Measure.COST, nano)


def test_defaults_are_of_their_file() -> None:
    """`defaults` fill in what a rule does not say, in their own file only."""
    write("version: 1\ndefaults: {owner: a, mode: shadow}\nrules:\n" + rule_text(owner=None))
    write(file_text(rule_text(id="other", owner="b")), "b.yml")
    first, second = load(RULES).rules
    assert (first.owner, first.mode) == ("a", Mode.SHADOW)
    assert (second.owner, second.mode) == ("b", Mode.NOTIFY)


@pytest.mark.parametrize(
    "where", ["all", "{tier: free}", "{model: [a]}", "{user: {not: {like: x*}}}"]
)
def test_where_of_a_rule_that_acts(where: str) -> None:
    """A rule that acts says for which usage; `all` is everything."""
    rule = budget(mode="enforce", where=where)
    assert rule.mode is Mode.ENFORCE
    assert (rule.where == Scope()) is (where == "all")


def test_files_of_a_folder() -> None:
    """Rule files are read in order, below folders too; what is hidden or no YAML is not."""
    for name in ("b.yaml", "a.yml", "c/d.yaml"):
        write(file_text(rule_text(id=f"of-{name[0]}")), name)
    for name in (".hidden.yaml", ".git/e.yaml", "readme.md", "f.yaml~"):
        write("neither read nor wrong", name)
    rulebook = load(RULES)
    assert [rule.id for rule in rulebook.rules] == ["of-a", "of-b", "of-c"]
    assert [str(path) for path in rulebook.files] == [
        "rules/a.yml",
        "rules/b.yaml",
        "rules/c/d.yaml",
    ]


def test_one_file() -> None:
    """A file may be named instead of a folder, whatever it is called."""
    path = write(file_text(), "rules.txt")
    assert [rule.id for rule in load(path).rules] == ["cap"]


def test_a_file_named_twice_is_read_once() -> None:
    """A file that is in a folder and named beside it is no repetition."""
    path = write(file_text())
    assert check([RULES, path]).problems == ()


def test_the_digest_is_of_names_and_contents() -> None:
    """The digest changes with every byte and is the one that `digest` tells without parsing."""
    path = write(file_text())
    before = load(RULES)
    assert before.digest == digest(RULES) == load(RULES).digest
    path.write_text(file_text() + "# a comment\n")
    changed = load(RULES)
    assert changed.digest == digest(RULES) != before.digest
    assert changed.rules == before.rules
    path.rename(RULES / "b.yaml")
    assert digest(RULES) not in {before.digest, changed.digest}
    path.write_text("[")
    assert digest(RULES)
    assert digest(Path("nowhere"))


def test_a_rulebook_does_not_change() -> None:
    """Nothing of a rulebook can be assigned to."""
    write(file_text())
    rulebook = load(RULES)
    with pytest.raises(FrozenInstanceError):
        rulebook.digest = ""  # type: ignore[misc]


EXAMPLES = [path for path in sorted((ROOT / "rules").glob("*")) if ".test." not in path.name]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads(path: Path) -> None:
    """Each file of `rules/` is right by itself."""
    assert load(path).rules


def test_the_examples_load_together() -> None:
    """The folder `rules/` is one rulebook: a cap of the free tier that acts, and two that tell."""
    rules = {rule.id: rule for rule in load(ROOT / "rules").rules}
    free = rules["free-tier-daily"]
    assert [(step.amount, str(step.level)) for step in free.thresholds] == [
        (50_000_000_000, "info"),
        (80_000_000_000, "warning"),
        (100_000_000_000, "critical"),
    ]
    assert free.actions["slow"].rate == Rate(2, 60 * SECOND)
    assert {rules[name].mode for name in ("company-monthly", "company-daily")} == {Mode.NOTIFY}


@pytest.mark.parametrize("page", ["reference/rules.md", "how-to/write-a-budget.md"])
def test_the_examples_of_the_pages_load(page: str) -> None:
    """What a page shows as a rule file is one."""
    text = (ROOT / "docs" / page).read_text("utf-8")
    shown = [part.partition("```")[0] for part in text.split("```yaml\n")[1:]]
    assert shown
    for number, example in enumerate(shown):
        write(example, f"{number}/a.yaml")
        assert problems(RULES / f"{number}") == []


def test_the_reference_lists_every_key_and_word() -> None:
    """Every key of a kind, every dimension, placeholder, level and mode is on the page."""
    text = (ROOT / "docs" / "reference" / "rules.md").read_text("utf-8")
    words: set[str] = {key for kind in KINDS.values() for key in kind.keys}
    words |= {*DIMENSIONS, *KINDS, *(f"{{{{ {name} }}}}" for name in PLACEHOLDERS)}
    words |= {str(word) for words in (Mode, Level, Fail, Every) for word in words}
    assert [word for word in sorted(words) if f"`{word}`" not in text] == []


# ------------------------------------------------------------------------------------ bad values

KINDS_ONLY = " budget, ratio, absence, query, spike, mix_drift or forecast only"
DEFAULTS = "owner, mode, timezone, runbook, labels, every, settle, on_no_data or on_error"
LIMITS = {
    "400": "has no unit; write 400 USD",
    "400.50": "has no unit; write 400.50 USD",
    "$400": "write 400 USD",
    "$ 400": "write 400 USD",
    "400USD": "write 400 USD",
    "400  USD": "write 400 USD",
    "400 usd": "write 400 USD",
    "'400 USD '": "write 400 USD",
    "1,000 USD": "has commas or underscores; write 1000 USD",
    "1_000_000.50 USD": "has commas or underscores; write 1000000.50 USD",
    "'1,000'": "has commas or underscores; write 1000 USD",
    "1.000,50 USD": "must be digits without commas or underscores, such as 1000.50 USD",
    "0,5 USD": "must be digits without commas or underscores, such as 1000.50 USD",
    "1,00,000 USD": "must be digits without commas or underscores, such as 1000.50 USD",
    "100 EUR": "is in EUR, and only USD is known; write the amount in USD",
    "100k USD": "USD takes no k, M or G; write 100000 USD",
    "1.5M USD": "USD takes no k, M or G; write 1500000 USD",
    "0 USD": "must be more than 0",
    "-5 USD": "must be more than 0",
    "0.0000000001 USD": "must have at most 9 decimals",
    "9223372036.854775808 USD": "is too large; 9223372036 USD is the most",
    "9223372036854775808 tokens": "is too large; 9223372036854775807 tokens is the most",
    "1.5 requests": "must be a whole number of requests",
    "1.0005k tokens": "must be a whole number of tokens",
    "10 request": "write 10 requests",
    "2 M tokens": "write 2M tokens",
    "2m token": "write 2M tokens",
    "2K tokens": "write 2k tokens",
    "5 apples": "has the unknown unit 'apples'; write USD, requests or tokens",
    "1e3 USD": "must be an amount, such as 100 USD, 10k requests or 2M tokens",
    ".5 USD": "must be an amount, such as 100 USD, 10k requests or 2M tokens",
    "a lot": "must be an amount, such as 100 USD, 10k requests or 2M tokens",
    "\u0661\u0660 USD": "must be an amount, such as 100 USD, 10k requests or 2M tokens",
    "9" * 70 + " USD": "must be an amount, such as 100 USD, 10k requests or 2M tokens",
}


@pytest.mark.parametrize(("written", "message"), LIMITS.items())
def test_bad_limit(written: str, message: str) -> None:
    """A limit that cannot be read is answered with what to write."""
    write(file_text(rule_text(limit=written)))
    (problem,) = problems()
    place, _, said = problem.partition(": ")
    assert (place, said.partition(": ")[2]) == ("a.yaml:7:12", message)


VALUES = {
    ("id", "Free Tier"): "3:9: id='Free Tier': must be 1 to 63 of a-z, 0-9 and -,"
    " a letter first; write free-tier",
    ("id", "9lives"): "3:9: id='9lives': must be 1 to 63 of a-z, 0-9 and -,"
    " a letter first; write lives",
    ("id", "99"): "3:9: id=99: must be 1 to 63 of a-z, 0-9 and -, a letter first",
    ("id", ""): "3:5: id has no value",
    ("id", None): "3:5: a rule needs id, such as free-tier-daily",
    ("kind", None): "3:5: rule 'cap' needs kind, such as budget",
    ("kind", "surprise"): "4:11: kind='surprise': this version knows" + KINDS_ONLY,
    ("kind", "Budget"): "4:11: kind='Budget': this version knows"
    + KINDS_ONLY
    + " (did you mean 'budget'?)",
    ("kind", "[budget]"): "4:11: kind: this version knows" + KINDS_ONLY,
    ("owner", None): "3:5: rule 'cap' needs owner, such as growth",
    ("owner", "' '"): "5:12: owner=' ': is empty; write something",
    ("owner", "[a]"): "5:12: owner must be one value",
    ("owner", '"a\\nb"'): "5:12: owner='a\\nb': must be one line without control characters",
    ("owner", '"\\uD800"'): "5:12: owner='\\ud800': must be one line without control characters",
    ("owner", "x" * 101): f"5:12: owner='{'x' * 60}...': is 101 characters long; 100 is the most",
    ("summary", None): "3:5: rule 'cap' needs summary, such as"
    " 'Spent {{ value }} of {{ limit }}'",
    ("summary", "'{{ vlaue }}'"): "6:14: summary='{{ vlaue }}': unknown placeholder 'vlaue'"
    " (did you mean 'value'?)",
    ("summary", "'{{ group.feature }}'"): "6:14: summary='{{ group.feature }}':"
    " {{ group.feature }} needs feature in per",
    ("summary", "'{{ feature }}'"): "6:14: summary='{{ feature }}':"
    " {{ group.feature }} needs feature in per",
    ("summary", "'{{ qqqq }}'"): "6:14: summary='{{ qqqq }}': unknown placeholder 'qqqq';"
    " known: value, limit, percent, level, rule, owner or period",
    ("summary", "'{{ Value }}'"): "6:14: summary='{{ Value }}': has braces that are no"
    " placeholder; write one like {{ value }}",
    ("summary", "'{{ value }'"): "6:14: summary='{{ value }': has braces that are no"
    " placeholder; write one like {{ value }}",
    ("limit", None): "3:5: rule 'cap' needs limit, such as 100 USD",
    ("limit", "{usd: 100}"): "7:12: limit must be one value",
    ("period", None): "3:5: rule 'cap' needs period, such as day",
    ("period", "daily"): "8:13: period='daily': must be hour, day, week or month"
    " (did you mean 'day'?)",
    ("period", "Month"): "8:13: period='Month': must be hour, day, week or month"
    " (did you mean 'month'?)",
    ("period", "year"): "8:13: period='year': must be hour, day, week or month",
    ("thresholds", None): "3:5: rule 'cap' needs thresholds, such as [{at: 80%, level: warning}]",
    ("thresholds", "[]"): "9:17: thresholds must be a list of at least one, such as"
    " [{at: 80%, level: warning}]",
    ("thresholds", "80%"): "9:17: thresholds must be a list of at least one, such as"
    " [{at: 80%, level: warning}]",
    ("thresholds", "[80%]"): "9:18: a threshold must be a mapping of at, level or actions",
    ("thresholds", "[{level: info}]"): "9:18: a threshold needs at, such as 80%",
    ("thresholds", "[{at: 80%}]"): "9:18: a threshold needs level, such as warning",
    ("thresholds", "[{at: 0.8, level: info}]"): "9:23: at=0.8: has no unit; write 80%",
    ("thresholds", "[{at: 1, level: info}]"): "9:23: at=1: has no unit; write 100%",
    ("thresholds", "[{at: 80, level: info}]"): "9:23: at=80: has no unit; write 80%, or 80 USD",
    ("thresholds", "[{at: 80 %, level: info}]"): "9:23: at='80 %': write 80%",
    ("thresholds", "[{at: 0%, level: info}]"): "9:23: at='0%': must be more than 0",
    ("thresholds", "[{at: 5 requests, level: info}]"): "9:23: at='5 requests': is in requests,"
    " and the limit in USD; write both in one, or a percentage",
    ("thresholds", "[{at: 80%, level: warn}]"): "9:35: level='warn': must be info, warning or"
    " critical (did you mean 'warning'?)",
    ("thresholds", "[{at: 80%, level: CRITICAL}]"): "9:35: level='CRITICAL': must be info,"
    " warning or critical (did you mean 'critical'?)",
    ("thresholds", "[{at: 80%, levle: info}]"): "9:28: unknown key 'levle'"
    " (did you mean 'level'?)",
    ("thresholds", "[{at: 80%, level: info}, {at: 80 USD, level: info}]"): "9:47:"
    " at='80 USD': must be more than '80%' before it",
    ("thresholds", "[{at: 80%, level: critical}, {at: 90%, level: info}]"): "9:63:"
    " level='info': must not be less than 'critical' before it",
    ("thresholds", "[{at: 80%, level: info, actions: [slow]}]"): "9:51: actions='slow':"
    " unknown action; define it under 'actions' of the rule",
    ("thresholds", "[{at: 80%, level: info, actions: []}]"): "9:50: actions is an empty list;"
    " name something, or remove it",
    ("mode", "on"): "10:11: mode='on': must be off, shadow, notify or enforce",
    ("mode", "enforced"): "10:11: mode='enforced': must be off, shadow, notify or enforce"
    " (did you mean 'enforce'?)",
    ("mode", "enforce"): "3:5: rule 'cap' has mode enforce and no where;"
    " write 'where: all' if it is meant for all usage",
    ("where", ""): "10:5: where must be all, or a mapping such as {tier: free}",
    ("where", "{}"): "10:12: where must be all, or a mapping such as {tier: free}",
    ("where", "everything"): "10:12: where must be all, or a mapping such as {tier: free}",
    ("where", "{env: prod}"): "10:13: unknown dimension 'env' (did you mean 'environment'?)",
    ("where", "{Tier: free}"): "10:13: unknown dimension 'Tier' (did you mean 'tier'?)",
    ("where", "{tier: }"): "10:13: tier has no value",
    ("where", "{tier: []}"): "10:19: tier is an empty list; name something, or remove it",
    ("where", "{tier: [a, {b: c}]}"): "10:23: tier must be one value",
    ("where", "{tier: free*}"): "10:19: tier='free*': is a pattern; write {like: 'free*'}",
    ("where", "{tier: {like: free}}"): "10:26: tier.like='free': has no *, ? or [...];"
    " write the value without like",
    ("where", "{tier: {is: free}}"): "10:19: tier must be a value, a list, {not: ...} or"
    " {like: ...}",
    ("where", "{tier: {not: a, like: b*}}"): "10:19: tier must be a value, a list, {not: ...} or"
    " {like: ...}",
    ("where", "{tier: {not: {not: a}}}"): "10:26: tier has a not inside a not; remove both",
    ("where", "{tier: *free}"): "10:19: has an alias (*); write the value out, or in quotes",
    ("per", "env"): "10:10: per='env': unknown dimension (did you mean 'environment'?)",
    ("per", "[tier, tier]"): "10:17: per='tier': is there already; remove one",
    ("per", "{tier: a}"): "10:10: per must be one value",
    ("timezone", "Europe/Berln"): "10:15: timezone='Europe/Berln': unknown time zone"
    " (did you mean 'Europe/Berlin'?); write an IANA name, such as Europe/Berlin",
    ("timezone", "New York"): "10:15: timezone='New York': unknown time zone"
    " (did you mean 'America/New_York'?); write an IANA name, such as Europe/Berlin",
    ("timezone", "utc"): "10:15: timezone='utc': unknown time zone"
    " (did you mean 'UTC'?); write an IANA name, such as Europe/Berlin",
    ("timezone", "localtime"): "10:15: timezone='localtime': unknown time zone; write an IANA"
    " name, such as Europe/Berlin",
    ("timezone", "../../etc/passwd"): "10:15: timezone='../../etc/passwd': unknown time zone;"
    " write an IANA name, such as Europe/Berlin",
    ("for", "5"): "10:10: for=5: has no unit; write 5m (units: s, m, h or d)",
    ("for", "5 minutes"): "10:10: for='5 minutes': write 5m",
    ("for", "2hr"): "10:10: for='2hr': write 2h",
    ("for", "soon"): "10:10: for='soon': must be a whole number and a unit, such as 5m"
    " (units: s, m, h or d)",
    ("for", "1d"): "10:10: for='1d': must be shorter than the period, one day",
    ("runbook", "wiki.example.com"): "10:14: runbook='wiki.example.com': must be a web address"
    " of at most 1000 characters, such as https://wiki.example.com/caps",
    ("runbook", "https://a|b"): "10:14: runbook='https://a|b': must be a web address"
    " of at most 1000 characters, such as https://wiki.example.com/caps",
    ("wher", "{tier: free}"): "10:5: unknown key 'wher' (did you mean 'where'?)",
    ("time_zone", "UTC"): "10:5: unknown key 'time_zone' (did you mean 'timezone'?)",
    ("qqq", "{}"): "10:5: unknown key 'qqq'; rule 'cap' may have id, kind, owner, summary,"
    " runbook, labels, mode, where, per, for, thresholds, actions, max_alerts, renamed_from, limit,"
    " limit_from, rollover, period or timezone",
    ("labels", "{}"): "10:13: labels must be a mapping, such as {severity: low, team: search}",
    ("actions", "{}"): "10:14: actions must be a mapping, such as"
    " {slow: {do: throttle, to: 2/min}}",
    ("actions", "{slow: {do: throttle, to: 2/min}}"): "10:15: action 'slow': no threshold names"
    " it; add it to the actions of one, or remove it",
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), VALUES.items())
def test_bad_value(change: tuple[str, str | None], message: str) -> None:
    """Each mistake in a rule is one problem, at its place, with what to write instead."""
    key, value = change
    write(file_text(rule_text(**{key: value})))
    assert problems() == [f"a.yaml:{message}"]


ACTIONS = {
    "throttle": "11:13: action 'slow' must be a mapping of do, to, each, until,"
    " fail, approval, max_affected, percent, announce or early",
    "{do: throttle}": "11:13: action 'slow' needs to, such as 2/min",
    "{to: 2/min}": "11:13: action 'slow' needs do, such as throttle",
    "{do: stop, to: 2/min}": "11:18: do='stop': must be throttle, downgrade_model or block",
    "{do: throttle, to: 2}": "11:32: to=2: has no unit; write 2/min (units: s, min, h or day)",
    "{do: throttle, to: 2/m}": "11:32: to='2/m': write 2/min",
    "{do: throttle, to: 2/minute}": "11:32: to='2/minute': write 2/min",
    "{do: throttle, to: 2 per hour}": "11:32: to='2 per hour': write 2/h",
    "{do: throttle, to: 2/d}": "11:32: to='2/d': write 2/day",
    "{do: throttle, to: 0.5/min}": "11:32: to='0.5/min': must be whole requests in a span,"
    " such as 2/min (units: s, min, h or day)",
    "{do: throttle, to: 0/s}": "11:32: to='0/s': must be from 1 to 1000000 requests",
    "{do: throttle, to: 2/s, each: users}": "11:43: each='users': unknown dimension"
    " (did you mean 'user'?)",
    "{do: throttle, to: 2/s, until: tomorrow}": "11:44: until='tomorrow': must be period_end,"
    " resolved, or a time such as 4h",
    "{do: throttle, to: 2/s, fail: opne}": "11:43: fail='opne': must be open or closed"
    " (did you mean 'open'?)",
    "{do: throttle, to: 2/s, per: user}": "11:37: unknown key 'per' (did you mean 'percent'?)",
}  # fmt: skip


@pytest.mark.parametrize(("action", "message"), ACTIONS.items())
def test_bad_action(action: str, message: str) -> None:
    """Each mistake in an action is one problem, at its place, with what to write instead."""
    thresholds = "[{at: 100%, level: info, actions: slow}]"
    write(file_text(rule_text(thresholds=thresholds, actions=f"\n      slow: {action}")))
    assert problems() == [f"a.yaml:{message}"]


def test_a_misspelled_action() -> None:
    """A threshold that names no action is answered with the nearest, and that is not unused."""
    thresholds = "[{at: 100%, level: info, actions: [slwo]}]"
    write(file_text(rule_text(thresholds=thresholds, actions="{slow: {do: throttle, to: 1/s}}")))
    assert problems() == ["a.yaml:9:52: actions='slwo': unknown action (did you mean 'slow'?)"]


FILES: dict[str | bytes, list[str]] = {
    "": ["1:1: a rule file must be a mapping of version, defaults, allow or rules"],
    "# nothing\n": ["1:1: a rule file must be a mapping of version, defaults, allow or rules"],
    "- a": ["1:1: a rule file must be a mapping of version, defaults, allow or rules"],
    "version: 1": ["1:1: a rule file needs rules, such as a list of rules, or [] for none"],
    "rules: []": ["1:1: a rule file needs version, such as 1"],
    "version: 2\nrules: []": ["1:10: version=2: must be 1"],
    "version: 1\nrules:": ["2:1: rules must be a list of rules, or [] for none"],
    "version: 1\nrules: {}": ["2:1: rules must be a list of rules, or [] for none"],
    "version: 1\nrules: [a]": [
        "2:9: a rule must be a mapping, such as {id: ..., kind: budget}",
    ],
    "version: 1\nrule: []": ["2:1: unknown key 'rule' (did you mean 'rules'?)"],
    "version: 1\ndefaults: a\nrules: []": [
        "2:11: defaults must be a mapping of " + DEFAULTS,
    ],
    "version: 1\ndefaults: {per: a}\nrules: []": [
        "2:12: unknown key 'per'; defaults may have " + DEFAULTS,
    ],
    "version: 1\nrules: []\nrules: []": ["3:1: has rules twice; remove one"],
    "version: &v 1\nrules: !x []\n": [
        "1:10: has an anchor (&); write the value out",
        "2:8: has a tag (!); put the value in quotes",
    ],
    "version: 1\nrules: [": [
        (
            "2:9: is not YAML: expected the node content, but the file ends; "
            "the bracket of line 2 is still open"
        )
    ],
    '"\\U99999999"': ["1:1: is not YAML"],
    "%YAML 1.21\n---\n": ["1:1: is not YAML"],
    b"a: \xff": ["1:4: is not UTF-8 text"],
    b"a:\r\nb: \x07": ["2:4: holds a control character"],
    b"#" * (MAX_BYTES + 1): ["1:1: is larger than 1 MB, the most a rule file may be"],
}


@pytest.mark.parametrize(("text", "messages"), FILES.items(), ids=range(len(FILES)))
def test_bad_file(text: str | bytes, messages: list[str]) -> None:
    """A file that is no rule file says where and why."""
    write(text)
    assert problems() == [f"a.yaml:{message}" for message in messages]


def test_all_problems_at_once() -> None:
    """Every problem of every file is told in one go, in the order of files and lines."""
    write("version: 1\nrules:\n  - [")
    write(file_text(rule_text(limit="4", period="daily"), rule_text(id=None, kind="x")), "b.yaml")
    write(file_text(rule_text(id="a1"), rule_text(id="a1")), "c.yaml")
    write(file_text(rule_text(id="a1")), "d.yaml")
    assert problems() == [
        (
            "a.yaml:3:6: is not YAML: expected the node content, but the file ends; "
            "the bracket of line 3 is still open"
        ),
        "b.yaml:7:12: limit=4: has no unit; write 4 USD",
        "b.yaml:8:13: period='daily': must be hour, day, week or month (did you mean 'day'?)",
        "b.yaml:10:11: kind='x': this version knows" + KINDS_ONLY,
        "c.yaml:10:9: id='a1': is the id of the rule at rules/c.yaml:3:9, too; rename one",
        "d.yaml:3:9: id='a1': is the id of the rule at rules/c.yaml:3:9, too; rename one",
    ]
    with pytest.raises(ConfigError) as caught:
        load(RULES)
    assert str(caught.value).splitlines() == [f"rules/{line}" for line in problems()]


def test_a_wrong_default_is_told_once() -> None:
    """What is wrong with a default is told at its place, however many rules it reaches."""
    rules = [rule_text(id=name, owner=None) for name in ("a", "b")]
    write("version: 1\ndefaults: {owner: ' ', mode: of}\nrules:\n" + "".join(rules))
    assert problems() == [
        "a.yaml:2:19: owner=' ': is empty; write something",
        "a.yaml:2:30: mode='of': must be off, shadow, notify or enforce (did you mean 'off'?)",
    ]


# ---------------------------------------------------------------------------------------- limits


def test_places_that_hold_no_rules() -> None:
    """No folder and an empty folder are problems: a missing mount must not look like no budgets."""
    assert problems() == ["rules: holds no rule file (*.yaml)"]
    assert problems(Path("nowhere")) == ["nowhere: no such file or folder"]
    Path("rules", "a.yaml").symlink_to("gone")
    assert problems() == ["a.yaml: no such file or folder"]


def test_a_file_name_that_is_no_text() -> None:
    """A name that a message could not show is refused."""
    Path(os.fsdecode(b"rules/\xff.yaml")).write_text(file_text())
    assert problems() == ["rules: holds '\\udcff.yaml', a name that is no text; rename it"]


def test_too_many_files() -> None:
    """A folder has a limit of files."""
    for number in range(MAX_FILES + 1):
        write("version: 1\nrules: []\n", f"{number}.yaml")
    assert problems() == [f"rules: holds more than {MAX_FILES} rule files or 100 folders"]


def test_too_many_bytes() -> None:
    """All files together have a limit."""
    for number in range(3):
        write("version: 1\nrules: []\n#" + "x" * 700_000, f"{number}.yaml")
    assert problems() == ["2.yaml: with it the rule files are more than 2 MB in all"]


def test_too_many_rules() -> None:
    """All files together have a limit of rules."""
    write(file_text(*(rule_text(id=f"r{number}") for number in range(MAX_RULES + 1))))
    line = 3 + len(BASE) * MAX_RULES
    assert problems() == [
        f"a.yaml:{line}:9: is one rule more than {MAX_RULES}, the most of a rulebook"
    ]


def test_too_many_parts() -> None:
    """Thresholds, actions and the values of a condition have limits."""
    steps = ", ".join(f"{{at: {n + 1}%, level: info}}" for n in range(MAX_THRESHOLDS + 1))
    actions = ", ".join(f"a{n}: {{do: throttle, to: 1/s}}" for n in range(MAX_ACTIONS + 1))
    values = ", ".join(f"v{n}" for n in range(MAX_ITEMS + 1))
    write(
        file_text(
            rule_text(
                thresholds=f"[{steps}]", actions=f"{{{actions}}}", where=f"{{model: [{values}]}}"
            )
        )
    )
    found = problems()
    assert f"a.yaml:9:17: thresholds are more than {MAX_THRESHOLDS}" in found
    assert f"a.yaml:10:14: actions are more than {MAX_ACTIONS}" in found
    assert f"a.yaml:11:20: model has more than {MAX_ITEMS} items" in found


def test_a_document_stops_at_its_limit_of_problems() -> None:
    """After a hundred problems of its YAML the rest of a file is not read."""
    path = write("".join(f"k{number}: &a x\n" for number in range(MAX_PROBLEMS + 50)))
    assert len(read_document(path, "rule file").problems) == MAX_PROBLEMS


def test_an_error_shows_a_hundred_problems() -> None:
    """The error of `load` is cut and says by how much; `check` has them all."""
    write(file_text(*(rule_text(id=f"r{number}", limit="1") for number in range(130))))
    assert len(problems()) == 130
    with pytest.raises(ConfigError, match=r"\nand 30 more problems\Z"):
        load(RULES)


PIECES = st.sampled_from(
    [
        *BASE,
        *BASE.values(),
        *"[]{}:,-&*!|>'\"#%@\n\t?~ ",
        "\\U99999999",
        "\\ud800",
        "\\x07",
        "version: 1",
        "rules:\n",
        "  - ",
        "    ",
        "where: ",
        "per: ",
        "not: ",
        "like: ",
        "actions: ",
        "slow: ",
        "to: ",
        "2/min",
        "defaults: ",
        "timezone: ",
        "for: ",
        ": ",
        "---\n",
        "\x85",
        "é",
        "9" * 30,
    ]
)


@settings(deadline=None, max_examples=300)
@given(st.one_of(st.binary(max_size=200), st.lists(PIECES, max_size=40).map("".join)))
def test_any_bytes_load_or_are_problems(text: str | bytes) -> None:
    """Whatever is in a rule file, it loads or has problems with places inside the file."""
    path = Path("any.yaml")
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    checked = check([path])
    for problem in checked.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert str(problem).isprintable()
    if not checked.problems:
        assert load(path).digest == digest(path)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from([*BASE, "where", "per", "mode", "for", "actions"]), st.text(max_size=30))
def test_any_value_loads_or_is_a_problem(key: str, value: str) -> None:
    """Whatever text a key has, the rule loads or has problems, each on one line."""
    path = Path("any.yaml")
    rule = {**BASE, key: json.dumps(value)}
    body = "\n    ".join(f"{name}: {text}" for name, text in rule.items())
    path.write_text(f"version: 1\nrules:\n  - {body}\n", encoding="utf-8")
    for problem in check([path]).problems:
        assert str(problem).isprintable()


# --------------------------------------------------------------------------------------- command


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["rules", "check", *arguments], catch_exceptions=False)


def test_check_of_good_rules() -> None:
    """Each file has a line with its rules, and the exit code is 0."""
    write(file_text())
    write(file_text(rule_text(id="a1"), rule_text(id="b1")), "b.yaml")
    result = run()
    assert result.exit_code == 0
    assert result.output == "rules/a.yaml: 1 rule, ok\nrules/b.yaml: 2 rules, ok\n"


def test_check_of_bad_rules() -> None:
    """Each problem has its line and a caret below its column, and the exit code is 2."""
    write(file_text(rule_text(period="daily", limit="4")))
    result = run("rules")
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "rules/a.yaml:7:12: limit=4: has no unit; write 4 USD",
        "        limit: 4",
        "               ^",
        "rules/a.yaml:8:13: period='daily': must be hour, day, week or month (did you mean 'day'?)",
        "        period: daily",
        "                ^",
        "rules/a.yaml: 1 rule, 2 problems",
    ]


def test_check_cuts_long_lines_and_drops_control_characters() -> None:
    """The caret points at the place also in a long line, and nothing reaches the terminal raw."""
    write("a" * 500 + ": \x1b[31m")
    lines = run("rules").output.splitlines()
    assert "\x1b" not in "".join(lines)
    assert lines[1][lines[2].index("^")] == " "
    assert len(lines[1]) <= 104


def test_check_takes_the_path_of_the_settings() -> None:
    """Without a path it checks what the daemon would read."""
    write(file_text(), "other.yaml")
    Path("governor.yaml").write_text("rules: {path: rules/other.yaml}\n")
    assert run().output == "rules/other.yaml: 1 rule, ok\n"


def test_check_for_scripts() -> None:
    """`--json` gives files and problems with their parts."""
    write(file_text(rule_text(limit="4")))
    result = run("--json")
    assert result.exit_code == 2
    assert json.loads(result.output) == {
        "ok": False,
        "files": [{"path": "rules/a.yaml", "rules": ["cap"]}],
        "routing": None,
        "problems": [
            {
                "path": "rules/a.yaml",
                "line": 7,
                "column": 12,
                "message": "limit=4: has no unit; write 4 USD",
            }
        ],
    }
