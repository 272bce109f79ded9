"""Rule files as people break them, and the exact words that each gets: a snapshot to be read.

python tests/unit/test_broken_rules.py    writes the snapshot anew; read what changed
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import pytest

from governor.cli.problems import problem_lines
from governor.rulebook import check

SNAPSHOT = Path(__file__).parents[1] / "data" / "broken_rules.txt"
RULE = """\
version: 1
defaults:
  owner: growth
  timezone: America/New_York
rules:
  - id: free-tier-daily
    kind: budget
    mode: enforce
    summary: "The free tier spent {{ value }} of {{ limit }}"
    where: {tier: free}
    per: [feature]
    limit: 100 USD
    period: day
    thresholds:
      - {at: 50%, level: info}
      - {at: 100%, level: critical, actions: [slow]}
    actions:
      slow: {do: throttle, to: 2/min, each: user}
"""
CASES: dict[str, tuple[str, str]] = {
    "a misspelt key": ("limit:", "limt:"),
    "a misspelt key of the file": ("rules:\n", "rule:\n"),
    "no version": ("version: 1\n", ""),
    "another version": ("version: 1", "version: 2"),
    "a key twice": ("period: day\n", "period: day\n    period: week\n"),
    "a tab for indentation": ("    mode: enforce", "\tmode: enforce"),
    "an open bracket": ("{tier: free}", "{tier: free"),
    "an open quote": ('of {{ limit }}"', "of {{ limit }}"),
    "an anchor": ("where: {tier: free}", "where: &w {tier: free}"),
    "a tag": ("limit: 100 USD", "limit: !!int 100"),
    "a second document": ("version: 1\n", "version: 1\n---\n"),
    "rules is a mapping": ("  - id: free-tier-daily\n", "  id: free-tier-daily\n"),
    "an empty file": (RULE, ""),
    "a text for a file": (RULE, "hello"),
    "no unit": ("limit: 100 USD", "limit: 100"),
    "a dollar sign": ("limit: 100 USD", "limit: $100"),
    "thousands with a comma": ("limit: 100 USD", "limit: 1,000 USD"),
    "thousands with an underscore": ("limit: 100 USD", "limit: 1_000 USD"),
    "another currency": ("limit: 100 USD", "limit: 100 EUR"),
    "a k before USD": ("limit: 100 USD", "limit: 5kUSD"),
    "an unknown unit": ("limit: 100 USD", "limit: 100 calls"),
    "a unit in the singular": ("limit: 100 USD", "limit: 100 request"),
    "a limit of nothing": ("limit: 100 USD", "limit: 0 USD"),
    "a negative limit": ("limit: 100 USD", "limit: -5 USD"),
    "a limit beyond all": ("limit: 100 USD", "limit: 99999999999 USD"),
    "ten decimals": ("limit: 100 USD", "limit: 0.0000000001 USD"),
    "half a request": ("limit: 100 USD", "limit: 0.5 requests"),
    "a list for a limit": ("limit: 100 USD", "limit: [100 USD]"),
    "no limit": ("    limit: 100 USD\n", ""),
    "nothing after the key": ("limit: 100 USD", "limit:"),
    "an unknown kind": ("kind: budget", "kind: budgets"),
    "a kind with other keys": ("kind: budget", "kind: spike"),
    "no kind": ("    kind: budget\n", ""),
    "an id with a space": ("id: free-tier-daily", "id: Free Tier"),
    "no id": ("  - id: free-tier-daily\n    kind", "  - kind"),
    "no owner": ("  owner: growth\n", ""),
    "a mode that is none": ("mode: enforce", "mode: enforced"),
    "a mode as a truth value": ("mode: enforce", "mode: on"),
    "enforce without where": ("    where: {tier: free}\n", ""),
    "an unknown dimension": ("{tier: free}", "{teir: free}"),
    "a dimension of somebody else": ("{tier: free}", "{plan: free}"),
    "a pattern without like": ("{tier: free}", '{tier: "free*"}'),
    "like without a pattern": ("{tier: free}", "{tier: {like: free}}"),
    "not in a not": ("{tier: free}", "{tier: {not: {not: free}}}"),
    "an empty where": ("{tier: free}", "{}"),
    "where is a word": ("{tier: free}", "everything"),
    "a misspelt group": ("per: [feature]", "per: [featur]"),
    "a group twice": ("per: [feature]", "per: [feature, feature]"),
    "an unknown period": ("period: day", "period: daily"),
    "a zone that is none": ("America/New_York", "New York"),
    "a zone by its abbreviation": ("America/New_York", "PST8"),
    "for without a unit": ("period: day", "period: day\n    for: 5"),
    "for longer than the period": ("period: day", "period: day\n    for: 2d"),
    "a share without a sign": ("at: 50%", "at: 0.5"),
    "a share with a space": ("at: 50%", "at: 50 %"),
    "an amount in another unit": ("at: 50%", "at: 50 requests"),
    "thresholds that fall": ("at: 50%", "at: 150%"),
    "levels that fall": (
        "level: info}\n      - {at: 100%, level: critical",
        "level: warning}\n      - {at: 100%, level: info",
    ),
    "a level that is none": ("level: info", "level: warn"),
    "no thresholds": (
        RULE[RULE.index("    thresholds:") : RULE.index("    actions:\n")],
        "",
    ),
    "a misspelt action": ("actions: [slow]", "actions: [slwo]"),
    "an action that nobody calls": (", actions: [slow]}", "}"),
    "an action that cannot be done": ("do: throttle", "do: stop"),
    "a block with a rate": ("do: throttle", "do: block"),
    "a downgrade to a rate": ("do: throttle", "do: downgrade_model"),
    "a downgrade to itself": (
        "do: throttle, to: 2/min, each: user",
        "do: downgrade_model, to: {gpt-4o: gpt-4o}",
    ),
    "an end that is none": ("to: 2/min", "to: 2/min, until: tomorrow"),
    "too many of what": ("to: 2/min", "to: 2/min, max_affected: some"),
    "a share of more than all": ("to: 2/min", "to: 2/min, max_affected: 140%"),
    "a part of nobody": ("to: 2/min", "to: 2/min, percent: 0%"),
    "an approval by whom": ("to: 2/min", "to: 2/min, approval: me"),
    "announced for too long": ("to: 2/min", "to: 2/min, announce: 30d"),
    "a rate in words": ("to: 2/min", "to: 2 per minute"),
    "a rate without a span": ("to: 2/min", "to: 2"),
    "a rate of nothing": ("to: 2/min", "to: 0/min"),
    "a placeholder that is none": ("{{ value }}", "{{ amount }}"),
    "a group in a summary that is none of per": ("{{ value }}", "{{ group.user }}"),
    "half a placeholder": ("{{ value }}", "{{ value }"),
    "a summary over two lines": ('"The free tier spent', '"The free\\ntier spent'),
    "several at once": ("limit: 100 USD\n    period: day", "limit: 100\n    period: daly"),
}


RATIO = """\
version: 1
rules:
  - id: margin
    kind: ratio
    owner: finance
    summary: "{{ group.customer }}: {{ value }}"
    per: [customer]
    numerator: cost
    denominator: revenue
    window: 7d
    guards: {min_denominator: 500 USD, max_age: 36h}
    thresholds:
      - {at: 25%, clear: 22%, level: warning}
      - {at: 40%, level: critical}
    every: 1h
"""
ABSENCE = """\
version: 1
rules:
  - id: silent
    kind: absence
    owner: sre
    summary: "{{ group.feature }}: {{ value }}"
    per: [feature]
    known: {feature: [chat, search]}
    thresholds:
      - {at: 15m, level: warning}
"""
ALLOW = """\
version: 1
allow:
  - {where: {customer: acme}, reason: contract, until: 2027-01-01}
"""


QUERY = """\
version: 1
rules:
  - id: waste
    kind: query
    owner: sre
    summary: "{{ group.customer }}: {{ value }}"
    per: [customer]
    sql: |
      SELECT customer, sum(cost_usd) AS wasted FROM usage
      WHERE event_time >= $from AND event_time < $to GROUP BY customer
    value: wasted
    unit: USD
    window: 1h
    thresholds:
      - {at: 20 USD, clear: 10 USD, level: warning}
"""
SPIKE = """\
version: 1
rules:
  - id: feature-spike
    kind: spike
    owner: platform
    summary: "{{ group.feature }}: {{ value }}"
    per: [feature]
    baseline: {method: last_week, times: 2x, window: 6h}
    guards: {min_increase: 50%}
    cool_down: 12h
    thresholds:
      - {at: 25 USD, level: warning}
"""
MIX = """\
version: 1
rules:
  - id: model-plan
    kind: mix_drift
    owner: ml
    summary: "{{ value }}"
    by: model
    classes: {small: ["*-mini"], large: ["*-opus-*"]}
    window: 24h
    against: {target: {small: 60%, large: 40%}}
    thresholds:
      - {at: 10pp, level: warning}
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
    thresholds:
      - {at: 100%, level: warning}
"""
MORE: dict[str, dict[str, tuple[str, str]]] = {
    RULE: {
        "another limit from no day": (
            "limit: 100 USD",
            "limit: 100 USD\n    limit_from: {july: 150 USD}",
        ),
        "another limit in another unit": (
            "limit: 100 USD",
            "limit: 100 USD\n    limit_from: {2026-07-01: 150 requests}",
        ),
        "more left than there was": ("limit: 100 USD", "limit: 100 USD\n    rollover: 150%"),
        "a budget that clears": ("at: 50%,", "at: 50%, clear: 40%,"),
        "a budget judged now and then": ("period: day", "period: day\n    every: 5m"),
        "a label that is a dimension": ("period: day", "period: day\n    labels: {tier: x}"),
        "no alerts": ("period: day", "period: day\n    max_alerts: 0"),
    },
    RATIO: {
        "requests over revenue": ("numerator: cost", "numerator: requests"),
        "a numerator that is none": ("numerator: cost", "numerator: costs"),
        "a denominator that is none": ("denominator: revenue", "denominator: users"),
        "revenue by feature of a model": ("per: [customer]", "per: [model]"),
        "no window": ("    window: 7d\n", ""),
        "a window and a period": ("window: 7d", "window: 7d\n    period: month"),
        "a short window": ("window: 7d", "window: 5m"),
        "no guards": ("    guards: {min_denominator: 500 USD, max_age: 36h}\n", ""),
        "no age": (", max_age: 36h", ""),
        "a guard without a unit": ("500 USD", "500"),
        "dollars for a share": ("at: 25%", "at: 25 USD"),
        "a share as a fraction": ("at: 25%", "at: 0.25"),
        "clear above at": ("clear: 22%", "clear: 30%"),
        "clears that fall": ("at: 40%, level", "at: 40%, clear: 20%, level"),
        "a ratio that acts on all": ("owner: finance", "owner: finance\n    mode: enforce"),
        "a ratio that waits for a period": (
            "window: 7d",
            "window: 7d\n    actions: {slow: {do: throttle, to: 2/min, until: period_end}}",
        ),
        "a ratio that acts early": (
            "window: 7d",
            "window: 7d\n    actions: {slow: {do: throttle, to: 2/min, early: true}}",
        ),
        "too often": ("every: 1h", "every: 1s"),
    },
    ABSENCE: {
        "known of something else": ("known: {feature:", "known: {model:"),
        "known as a list": ("known: {feature: [chat, search]}", "known: [chat, search]"),
        "longer than remembered": ("at: 15m", "at: 8d"),
        "a span without a unit": ("at: 15m", "at: 15"),
        "no data is a word": ("owner: sre", "owner: sre\n    on_no_data: resolve"),
    },
    ALLOW: {
        "no list": ("allow:\n  - ", "allow:\n    "),
        "everybody": ("where: {customer: acme}", "where: all"),
        "whom": ("where: {customer: acme}, ", ""),
        "without a reason": ("reason: contract, ", ""),
        "a time that is no day": ("until: 2027-01-01", "until: next year"),
        "another key": ("reason: contract", "why: contract"),
        "a dimension that is none": ("{customer: acme}", "{custmer: acme}"),
    },
    QUERY: {
        "a table that is none": ("FROM usage", "FROM events"),
        "a column that is none": ("sum(cost_usd)", "sum(cost_us)"),
        "no bound": ("event_time >= $from AND event_time < $to", "true"),
        "another parameter": ("$to", "$now"),
        "a column too many": ("SELECT customer,", "SELECT customer, model,"),
        "a group that is not asked": ("SELECT customer, sum", "SELECT sum"),
        "two statements": ("GROUP BY customer", "GROUP BY customer; SELECT 1"),
        "something else than a question": (
            "SELECT customer,",
            "DELETE FROM usage; SELECT customer,",
        ),
        "a file": ("FROM usage", "FROM read_csv('/etc/passwd')"),
        "a function without bound": ("sum(cost_usd)", "max(repeat('x', 9))"),
        "no SQL": ("SELECT customer,", "SELEC customer,"),
        "a unit that is none": ("unit: USD", "unit: dollars"),
        "another unit in a threshold": ("at: 20 USD", "at: 20%"),
        "a long window": ("window: 1h", "window: 60d"),
        "where beside SQL": ("window: 1h", "window: 1h\n    where: {tier: free}"),
    },
    SPIKE: {
        "times that are once": ("times: 2x", "times: 1x"),
        "times without an x": ("times: 2x", "times: 2"),
        "a baseline of last month": ("method: last_week", "method: last_month"),
        "a window between": ("window: 6h", "window: 5h"),
        "how sensitive a plain one is": ("cool_down: 12h", "cool_down: 12h\n    sensitivity: high"),
        "times of what is learned": ("method: last_week", "method: learned"),
        "half an hour to cool down": ("cool_down: 12h", "cool_down: 30m"),
        "a guard of a ratio": ("min_increase: 50%", "min_denominator: 50 USD"),
        "requests beyond a cost": ("at: 25 USD", "at: 25 requests"),
    },
    MIX: {
        "a percentage for points": ("at: 10pp", "at: 10%"),
        "more than all points": ("at: 10pp", "at: 110pp"),
        "a plan of too much": ("small: 60%", "small: 70%"),
        "a plan of another class": ("{target: {small: 60%", "{target: {smal: 60%"),
        "windows and a plan": ("against: {target", "against: {windows: 28, target"),
        "too few windows": (
            "against: {target: {small: 60%, large: 40%}}",
            "against: {windows: 3}",
        ),
        "classes as a list": (
            'classes: {small: ["*-mini"], large: ["*-opus-*"]}',
            "classes: [small]",
        ),
        "groups by what shares are by": ("by: model", "by: model\n    per: [model]"),
        "shares of tokens": ("by: model", "by: model\n    share_of: tokens"),
        "a window of minutes": ("window: 24h", "window: 90m"),
    },
    FORECAST: {
        "a day ahead": ("period: month", "period: day"),
        "sure of nothing": ("confidence: 80%", "confidence: 20%"),
        "another unit than the limit": ("at: 100%", "at: 100 requests"),
        "a short past": ("confidence: 80%", "min_history: 12h"),
    },
}
BASES = dict.fromkeys(CASES, RULE) | {name: base for base, cases in MORE.items() for name in cases}
CASES |= {name: change for cases in MORE.values() for name, change in cases.items()}


def told(name: str) -> str:
    """Return what a case is told, with its line and a caret, as `rules check` prints it."""
    old, new = CASES[name]
    base = BASES[name]
    assert base.count(old) == 1 or old == "rules:\n", name
    text = base.replace(old, new, 1)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rules.yaml"
        path.write_text(text)
        checked = check([path])
        raw = {file.path: file.raw for file in checked.files}
        lines = list(problem_lines(checked.problems, raw))
    return "\n".join(line.replace(str(path), "rules.yaml") for line in lines)


def snapshot() -> str:
    """Return all cases with what each is told."""
    return "\n\n".join(f"# {name}\n{told(name)}" for name in CASES) + "\n"


KEPT = {
    block.partition("\n")[0]: block.partition("\n")[2].strip("\n")
    for block in ("\n" + SNAPSHOT.read_text("utf-8")).split("\n# ")[1:]
}


@pytest.mark.parametrize("name", CASES)
def test_a_broken_file_is_told_what_to_write(name: str) -> None:
    """Word by word as in the snapshot, which was read by people."""
    assert told(name) == KEPT[name]


def test_the_snapshot_is_of_these_cases() -> None:
    """A hundred files and more, each with something to say, none left over."""
    assert len(CASES) >= 100
    assert set(KEPT) == set(CASES)
    assert all(text.startswith("rules.yaml") for text in KEPT.values())


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), "utf-8")
