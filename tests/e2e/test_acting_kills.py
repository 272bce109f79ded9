"""The second kill campaign: SIGKILL between any two steps of acting, and nothing is lost."""

import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from governor.demo.slack import Fault
from tests.brokers import ApacheKafka, GivenKafka
from tests.e2e.acting import Stage, staged, usage
from tests.e2e.daemon import FULL, Daemon, sql

KILLS = 100 if FULL else 8
CUSTOMERS = 5 * KILLS
THRESHOLDS = {"50%": 5, "100%": 10, "150%": 15}
"""What the rule below writes, and the dollars it means."""
RULES = """
version: 1
rules:
  - id: each-customer
    kind: budget
    mode: enforce
    owner: growth
    summary: "{{ group.customer }} spent {{ value }} of {{ limit }}"
    where: all
    per: [customer]
    limit: 10 USD
    period: month
    thresholds:
      - {at: 50%, level: info}
      - {at: 100%, level: warning, actions: [slow]}
      - {at: 150%, level: critical}
    actions:
      slow: {do: throttle, to: 2/min, each: user}
"""


@pytest.mark.soak
@pytest.mark.timeout(3_600 if FULL else 300)
def test_kills_while_acting(
    apache_kafka: ApacheKafka | GivenKafka, tmp_path: Path, topic_name: str
) -> None:
    """However often the daemon is killed, each threshold is history once and told, in order.

    At most one Slack message is repeated for each kill, no version of a directive goes back, and
    nothing turns green. Slack answers slowly, so that kills fall between a try and its outcome.
    """
    seed = random.randrange(2**32)
    print(f"\nseed {seed}: {KILLS} kills")
    draw = random.Random(seed)
    with staged(apache_kafka, tmp_path, topic_name) as stage:
        stage.rules(RULES)
        stage.slack.fail_next(Fault.SLOW, 100_000, delay_s=0.15)
        daemon = Daemon(stage.env)
        spent: Counter[str] = Counter()
        for number in range(1, KILLS + 1):
            daemon.start()
            time.sleep(draw.uniform(0, 1.0))
            pay(stage, spent, draw)
            time.sleep(draw.uniform(0.3, 2.0))
            daemon.kill()
            print(f"kill {number}: {sum(spent.values())} USD, {len(stage.told())} messages")
        daemon.start()
        pay(stage, spent, draw)
        finish(stage, daemon, spent)
        check(stage, spent)


def pay(stage: Stage, spent: Counter[str], draw: random.Random) -> None:
    """Let some customers spend dollars; `spent` is the oracle of what each came to."""
    customers = [f"customer-{draw.randrange(CUSTOMERS):03}" for _ in range(draw.randrange(1, 60))]
    assert stage.send(usage(customer=name, user="u1") for name in customers) == len(customers)
    spent.update(customers)


def finish(stage: Stage, daemon: Daemon, spent: Counter[str]) -> None:
    """Wait until all is counted, told and published; stop."""
    alerting = {name for name, usd in spent.items() if usd >= THRESHOLDS["50%"]}
    throttled = {name for name, usd in spent.items() if usd >= THRESHOLDS["100%"]}
    daemon.await_events(sum(spent.values()))
    daemon.until(
        lambda: (
            len(last_words(stage)) == len(alerting)
            and all(levels(spent)[name] == word for name, word in last_words(stage).items())
        ),
        "every alert in Slack",
        timeout_s=60,
    )
    daemon.until(lambda: len(stage.standing()) == len(throttled), "every throttle", timeout_s=30)
    assert daemon.stop() == 0


def levels(spent: Counter[str]) -> dict[str, str]:
    """Return the level of each customer that has one, by the oracle."""
    names = {"50%": "Info", "100%": "Warning", "150%": "Critical"}
    return {
        customer: max((usd, names[at]) for at, usd in THRESHOLDS.items() if spent[customer] >= usd)[
            1
        ]
        for customer in spent
        if spent[customer] >= THRESHOLDS["50%"]
    }


def last_words(stage: Stage) -> dict[str, str]:
    """Return the level that Slack shows of each customer, in the newest message about it."""
    words: dict[str, str] = {}
    for message in stage.told():
        text = message.versions[-1].text
        customer = text[text.index("customer-") :][: len("customer-000")]
        words[customer] = next(level for level in ("Info", "Warning", "Critical") if level in text)
    return words


def check(stage: Stage, spent: Counter[str]) -> None:
    """Compare history, Slack and the topic with the oracle."""
    lines: dict[str, list[str]] = defaultdict(list)
    query = 'SELECT "group", threshold FROM alert_lines WHERE threshold IS NOT NULL ORDER BY seq'
    for group, threshold in sql(stage.store, query):
        lines[group].append(threshold)
    expected = {
        f'["{name}"]': [at for at, usd in THRESHOLDS.items() if spent[name] >= usd]
        for name in spent
        if spent[name] >= THRESHOLDS["50%"]
    }
    assert lines == expected, "each threshold is history once, in order"
    assert sql(stage.store, "SELECT * FROM alert_lines WHERE what = 'resolved'") == []

    posts = Counter(payload(message)["thread"] for message in stage.told())
    repeated = sum(posts.values()) - len(posts)
    print(f"{len(posts)} alerts, {repeated} messages repeated by {KILLS} kills")
    assert repeated <= KILLS

    versions = [value["version"] for _, value in stage.records() if value]
    assert versions == sorted(versions), "no version goes back"
    released = [k for k, v in stage.records() if v and v.get("effect") == "release"]
    assert released == [], "nothing is released"


def payload(message: Any) -> dict[str, Any]:
    """Return what our metadata says."""
    found: dict[str, Any] = message.versions[-1].metadata["event_payload"]
    return found
