"""What rules cost: checked, judged, kept in memory, replayed.

make bench                                       with everything else
python tests/bench/rules.py check tick backtest  some parts: check, tick, alerts, users, backtest
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

import duckdb

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from governor.adapters.duckdb.file import FileOptions
from governor.adapters.duckdb.history import History
from governor.adapters.duckdb.rates import RateTable
from governor.adapters.duckdb.store import Store
from governor.adapters.prices import Catalogue
from governor.core.periods import Every
from governor.core.rules.budget import Budget
from governor.core.rules.units import Measure
from governor.core.tariffs import Tariffs
from governor.core.totals import Mask, Totals
from governor.rehearsal import Rehearsal
from governor.rehearsal.backtest import run
from governor.rulebook import check as check_files
from tests.bench.acting import TEAMS, budgets
from tests.bench.ingest import Figure, report, say
from tests.unit.site import budget

RULES = 1_000
GROUPS = 10_000
ALERTS = 100_000
USERS = 1_000_000
EVENTS = 10_000_000
DAYS = 30
BACKTEST_RULES = 100
RULE = """
  - id: rule-{number}
    kind: budget
    owner: bench
    summary: "{{{{ value }}}} of {{{{ limit }}}}"
    where: {{team: team-{number}, environment: {{not: dev}}}}
    per: [feature]
    limit: {number} USD
    period: day
    thresholds:
      - {{at: 50%, level: info}}
      - {{at: 100%, level: warning, actions: [slow]}}
    actions:
      slow: {{do: throttle, to: 2/min}}
"""


def check() -> Iterator[Figure]:
    """Check a thousand rules in ten files."""
    with tempfile.TemporaryDirectory() as folder:
        for part in range(10):
            rules = "".join(RULE.format(number=1 + part * 100 + n) for n in range(RULES // 10))
            (Path(folder) / f"part-{part}.yaml").write_text(f"version: 1\nrules:{rules}")
        times = []
        for _ in range(3):
            began = time.perf_counter()
            checked = check_files([Path(folder)])
            times.append(time.perf_counter() - began)
        if checked.problems or sum(len(file.rules) for file in checked.files) != RULES:
            raise SystemExit(f"not what was written: {checked.problems[:3]}")
    yield Figure("rules check of 1,000 rules", min(times), 2.0, at_most=True, unit=" s")


def tick() -> Iterator[Figure]:
    """Judge a thousand rules over ten thousand groups when a batch has touched all of them."""
    now = datetime.now(UTC).replace(minute=7)
    rehearsal = Rehearsal(budgets(), now)
    combinations = [
        {
            "customer": f"customer-{number}",
            "team": f"team-{number % TEAMS}",
            "tier": ("free", "pro")[number % 2],
            "feature": f"feature-{number % 10}",
        }
        for number in range(GROUPS)
    ]
    times = []
    for number in range(20):
        at = now + timedelta(seconds=number)
        bucket_us = int(at.timestamp()) // 900 * 900 * 10**6
        rows = {
            mask: [
                (bucket_us, *(each.get(name) for name in mask), 10**6, 1, 100)
                for each in combinations
            ]
            for mask in rehearsal.masks
        }
        began = time.perf_counter()
        rehearsal.use(at, rows)
        times.append(time.perf_counter() - began)
    say(f"  {rehearsal.groups:,} groups; first {1e3 * times[0]:.0f} ms")
    yield Figure("a tick over 10,000 groups", max(times[1:]), 0.25, at_most=True, unit=" s")


def alerts() -> Iterator[Figure]:
    """Keep a hundred thousand alerts open, in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, "--alerts"], capture_output=True, text=True, check=True
    )
    grown_mb = float(done.stdout)
    yield Figure("100,000 live alerts", grown_mb, 300, at_most=True, unit=" MB")


def hundred_thousand() -> float:
    """Fire an alert for each of many users; return by how many MB this process grew."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    rehearsal = Rehearsal([budget(10, name="users", per=("user",), at=(100,))], now)
    before = _rss_mb()
    bucket_us = int(now.timestamp()) // 900 * 900 * 10**6
    for first in range(0, ALERTS, 1_000):
        rows: dict[Mask, list[tuple[object, ...]]] = {
            mask: [
                (
                    bucket_us,
                    *({"user": f"user-{first + n}", "tier": "free"}[name] for name in mask),
                    20 * 10**9,
                    1,
                    100,
                )
                for n in range(1_000)
            ]
            for mask in rehearsal.masks
        }
        rehearsal.use(now, rows)
        # what a rehearsal keeps for its reader is none of the daemon's memory
        for kept in (rehearsal.lines, rehearsal.told, rehearsal.directed):
            kept.clear()
        rehearsal.forget_messages()
    return _rss_mb() - before


def users() -> Iterator[Figure]:
    """Count requests a month of a million users, in a process of their own."""
    done = subprocess.run(
        [sys.executable, __file__, "--users"], capture_output=True, text=True, check=True
    )
    bytes_each = float(done.stdout) * 1e6 / USERS
    yield Figure("a user of a monthly limit", bytes_each, 300, at_most=True, unit=" B")


def a_million() -> float:
    """Use a little of a monthly limit by user; return by how many MB this process grew."""
    rule = replace(
        budget(10, name="users", per=("user",), at=(100,), every=Every.MONTH),
        measure=Measure.REQUESTS,
    )
    totals = Totals([rule])
    (mask,) = totals.masks
    bucket_us = int(datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()) * 10**6
    before = _rss_mb()
    for first in range(0, USERS, 10_000):
        named = [{"user": f"user-{first + n:07}", "tier": "free"} for n in range(10_000)]
        totals.add(mask, [(bucket_us, *(each[d] for d in mask), 10**6, 1, 100) for each in named])
    return _rss_mb() - before


def _rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096 / 1e6


def backtest() -> Iterator[Figure]:
    """Replay 30 days of 10 million events with a hundred rules."""
    start = datetime(2026, 9, 1, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "governor.duckdb"
        rates = RateTable(Tariffs(Catalogue()))
        Store(FileOptions(path, 400_000_000, 1, 64_000_000, 0), rates, lambda: start).close()
        fill(path, start)
        rules = some_rules()
        began = time.perf_counter()
        with closing(History(path)) as past:
            end = start + timedelta(days=DAYS)
            found = run(rules, lambda masks: past.usage(masks, start, end, rules), start, end)
        seconds = time.perf_counter() - began
    say(f"  {len(found.transitions):,} transitions of {sum(found.fired.values()):,} alerts")
    yield Figure("30 days of 10 million events", seconds, 60, at_most=True, unit=" s")


def some_rules() -> list[Budget]:
    """Return rules in all, by tier, by team and by customer."""
    draw = Random(5)
    rules = []
    for number in range(BACKTEST_RULES):
        where = {"team": f"team-{number % 8}"} if number % 4 else {"tier": "free"}
        per = ((), ("feature",), ("customer",), ())[number % 4]
        rules.append(
            budget(draw.choice([50, 500, 5_000]), name=f"rule-{number}", where=where, per=per)
        )
    return rules


def fill(path: Path, start: datetime) -> None:
    """Store events in time order."""
    connection = duckdb.connect(str(path), config={"threads": 2, "memory_limit": "2GB"})
    connection.execute("SET TimeZone = 'UTC'")
    step_us = int(timedelta(days=DAYS) / timedelta(microseconds=1)) // EVENTS
    chunk = 1_000_000
    for first in range(0, EVENTS, chunk):
        connection.execute(
            """INSERT INTO events BY NAME
            SELECT uuid()::VARCHAR AS event_id, 'gateway-1' AS source,
                   $1::TIMESTAMPTZ + to_microseconds(i * $2) AS event_time,
                   'openai' AS provider, 'gpt-4o' AS model, 'team-' || i % 8 AS team,
                   'customer-' || hash(i) % 500 AS customer, 'feature-' || hash(i) % 10 AS feature,
                   CASE WHEN i % 3 = 0 THEN 'free' ELSE 'pro' END AS tier,
                   hash(i) % 5000 AS input_tokens, hash(i) % 1000 AS output_tokens, 1 AS requests,
                   0 AS "partition", i AS "offset", 'bench' AS topic, 1 AS price_id,
                   hash(i) % 10000000 AS cost_nano, hash(i) % 10000000 AS cap_nano
            FROM range($3, $4) t(i)""",
            [start, step_us, first, first + chunk],
        )
    connection.execute("CHECKPOINT")
    connection.close()


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "check": check,
    "tick": tick,
    "alerts": alerts,
    "users": users,
    "backtest": backtest,
}

if __name__ == "__main__":
    if sys.argv[1:2] == ["--users"]:
        sys.stdout.write(f"{a_million():.1f}")
    elif sys.argv[1:2] == ["--alerts"]:
        sys.stdout.write(f"{hundred_thousand():.1f}")
    else:
        sys.exit(report(PARTS, sys.argv[1:]))
