"""Plants one bug at a time into a copy of governor and shows the tests that go red for it.

    make planted

A suite that stays green with a bug planted proves nothing about that bug; this ends with 1 then.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STORE = "governor/adapters/duckdb/store.py"
QUERIES = "governor/adapters/duckdb/queries.py"
EVALUATE = "governor/loops/evaluate/__init__.py"


@dataclass(frozen=True, slots=True)
class Bug:
    """A change of the code, `old` to `new` in `file`, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str = "tests/unit/test_store.py"


BUGS = (
    Bug(
        "offset before data",
        STORE,
        """\
            connection.execute("BEGIN")
            priced = _priced(connection, batch.events, read)
            deltas = _append_events(connection, priced, batch.now)
            business = append_business(connection, batch.business, batch.now)
            _append_rejects(connection, batch.rejects, batch.now)
            tallies = _tallies(batch, priced, business)
            states = self._advance(batch.spans, tallies)
            _write_positions(connection, states, self.partitions.keys(), batch.now)
            connection.execute("COMMIT")
""",
        """\
            priced = _priced(connection, batch.events, read)
            business = append_business(connection, batch.business, batch.now)
            tallies = _tallies(batch, priced, business)
            states = self._advance(batch.spans, tallies)
            _write_positions(connection, states, self.partitions.keys(), batch.now)
            connection.execute("BEGIN")
            deltas = _append_events(connection, priced, batch.now)
            _append_rejects(connection, batch.rejects, batch.now)
            connection.execute("COMMIT")
""",
    ),
    Bug(
        "lost reject",
        STORE,
        "            _append_rejects(connection, batch.rejects, batch.now)\n",
        "            _append_rejects(connection, batch.rejects[1:], batch.now)\n",
    ),
    Bug(
        "double delta",
        STORE,
        "        deltas: pa.Table = connection.execute(queries.APPEND_DELTAS)",
        "        connection.execute(queries.APPEND_DELTAS)\n"
        "        deltas: pa.Table = connection.execute(queries.APPEND_DELTAS)",
    ),
    Bug(
        "float money",
        QUERIES,
        "SELECT *, femto // 1000000 AS nano, femto - nano * 1000000 AS rest FROM femto",
        "SELECT *, round(femto::DOUBLE / 1e6)::HUGEINT AS nano, 0 AS rest FROM femto",
    ),
    Bug(
        "dedupe off by an hour",
        QUERIES,
        "BETWEEN {_literal(start)} AND {_literal(end)}",
        "BETWEEN {_literal(start + 3_600_000_000)} AND {_literal(end + 3_600_000_000)}",
    ),
    Bug(
        "unpriced as zero",
        "governor/adapters/duckdb/charging.py",
        '            "cost_nano": found["nano"],',
        '            "cost_nano": pc.fill_null(found["nano"], 0),',
    ),
    Bug(
        "cached at full price",
        QUERIES,
        "b.cache_read * r.cache_read_rate",
        "b.cache_read * r.input_rate",
        "tests/unit/test_golden_prices.py",
    ),
    Bug(
        "a tier at the standard price",
        "governor/core/tariffs.py",
        "        tier = tier_of(service_tier)\n",
        "        tier = 'standard'\n",
        "tests/unit/test_golden_prices.py tests/unit/test_catalogue_draws.py",
    ),
    Bug(
        "Anthropic's cache not added up",
        "governor/formats/quantities.py",
        "fresh + (read or 0) + (written or 0)",
        "fresh",
        "tests/unit/test_formats.py",
    ),
    Bug(
        "agents billed, too",
        "governor/formats/spans.py",
        "if operation in _NO_USAGE or",
        "if",
        "tests/unit/test_formats.py",
    ),
    Bug(
        "rejects kept whole",
        "governor/core/usage.py",
        "            redacted(value),\n",
        "            value,\n",
        "tests/unit/test_canaries.py",
    ),
    Bug(
        "repriced rows, and not their sums",
        "governor/adapters/duckdb/rerating.py",
        "                    connection.execute(queries.ADJUST_ROLLUPS)\n",
        "",
        "tests/unit/test_rerating.py",
    ),
    Bug(
        "clear is not looked at",
        "governor/core/rules/shared.py",
        "amount >= threshold.held_at",
        "amount >= threshold.amount",
        "tests/unit/test_alerts.py",
    ),
    Bug(
        "a day without revenue makes all look expensive",
        "governor/core/gauges/ratio.py",
        "self.rule.span(min(at, fresh_to - MICROSECOND))",
        "self.rule.span(at)",
        "tests/unit/test_gauges.py",
    ),
    Bug(
        "a user counted each hour",
        "governor/core/windows.py",
        "            seen[before] -= 1\n",
        "            pass\n",
        "tests/unit/test_gauges.py",
    ),
    Bug(
        "carried over whatever was used",
        "governor/core/rules/budget.py",
        "min(self.carries, self.limit - used)",
        "self.carries",
        "tests/unit/test_gauges.py",
    ),
    Bug(
        "an end is held back",
        "governor/core/draft.py",
        "        if notice.resolved is not None:\n            self.told",
        "        if notice.resolved == 'never':\n            self.told",
        "tests/unit/test_routing.py",
    ),
    Bug(
        "usage left out that matters",
        "governor/adapters/duckdb/reaching.py",
        "HAVING sum({amount}) >= {first}",
        "HAVING sum({amount}) >= 2 * {first}",
        "tests/unit/test_backtests.py",
    ),
    Bug(
        "the last correction to arrive holds",
        "governor/adapters/duckdb/schema.sql",
        "updated_at DESC, topic",
        "topic",
        "tests/unit/test_business.py",
    ),
    Bug(
        "resolve on no data",
        "governor/core/alerts.py",
        "    if policy is Unknown.KEEP:\n        return _unknown(alert, seen, now)\n",
        "    if isinstance(seen, Health):\n        seen, policy = 0, None\n",
        "tests/unit/test_alerts.py tests/unit/test_lives.py",
    ),
    Bug(
        "Slack marked sent before the reply",
        "governor/loops/deliver.py",
        "            reference = self._receiver.tell(bulletin)\n",
        "            self._ask(lambda: self._outbox.told(name, bulletin, None, self._now()))\n"
        "            reference = self._receiver.tell(bulletin)\n",
        "tests/unit/test_deliver.py",
    ),
    Bug(
        "directive without lease",
        "governor/core/directives.py",
        "            fresh = lease_until is not None and now < lease_until\n",
        "            fresh = True\n",
        "tests/unit/test_enforcement.py tests/unit/test_gate.py",
    ),
    Bug(
        "cap latched past its period",
        EVALUATE,
        "            if alert.is_open and key.period.end <= now:\n                last =",
        "            if alert.is_open and key.period.end + timedelta(days=1) <= now:\n"
        "                last =",
        "tests/unit/test_evaluate.py",
    ),
    Bug(
        "reload that resets a clock",
        EVALUATE,
        "        self._sources = tuple(rules)\n        judged",
        "        self._sources = tuple(rules)\n"
        "        alerts = self._keeping.docket.alerts\n"
        "        alerts.update({key: replace(a, since=now) for key, a in alerts.items()})\n"
        "        judged",
        "tests/unit/test_evaluate.py",
    ),
    Bug(
        "closed period enforcing now",
        "governor/core/verdicts.py",
        "        amount = total.amount(period)\n        lead",
        "        amount = sum(c.amounts[total.row] for c in total.book.periods.values())\n"
        "        lead",
        "tests/unit/test_evaluate.py",
    ),
    Bug(
        "requests that cluster are taken for chance",
        "governor/core/mix.py",
        "    return max(1.0, pooled), degrees",
        "    return 1.0, degrees",
        "tests/unit/test_surprises.py",
    ),
    Bug(
        "what a new model takes is called tokens",
        "governor/core/drivers.py",
        "            one.takes, one.price = other.takes, other.price\n",
        "            pass\n",
        "tests/unit/test_surprises.py",
    ),
    Bug(
        "a planned burst is learned from",
        "governor/core/spikes.py",
        "            gain[unlike] = 0.0\n",
        "            pass\n",
        "tests/unit/test_surprises.py",
    ),
    Bug(
        "a spike is told again all day",
        "governor/core/series.py",
        "((hour >= self.cool_until) | doubled)",
        "True",
        "tests/unit/test_surprises.py",
    ),
    Bug(
        "a topic that is replayed teaches nothing",
        "governor/loops/evaluate/gauging.py",
        "                gauge.restart()\n",
        "                continue\n",
        "tests/unit/test_detection.py",
    ),
    Bug(
        "a dearer price is called tokens",
        "governor/adapters/duckdb/histories.py",
        "held.at_old_prices + _at_usual_price(row, cost, usual, rates)",
        "held.at_old_prices + cost",
        "tests/unit/test_detection.py",
    ),
    Bug(
        "a try that is not doubted",
        "governor/adapters/duckdb/outbox.py",
        "SET unsure = true WHERE",
        "SET unsure = false WHERE",
        "tests/unit/test_deliver.py",
    ),
    Bug(
        "a thread that closes while an alert lasts",
        "governor/adapters/duckdb/outbox.py",
        'AND (NOT m."over" OR m.told < m.wanted)',
        "AND m.told < m.wanted",
        "tests/unit/test_bulletins.py",
    ),
    Bug(
        "a storm told one by one",
        "governor/core/bulletins.py",
        "begun <= grouping.storm",
        "begun >= 0",
        "tests/unit/test_bulletins.py",
    ),
    Bug(
        "an ack that outlives a rise",
        "governor/core/acks.py",
        " and level <= self.level",
        "",
        "tests/unit/test_quiet.py",
    ),
    Bug(
        "an escalation of what is over",
        "governor/adapters/duckdb/outbox.py",
        """told < wanted AND NOT (escalated AND told = 0 AND "over")""",
        "told < wanted",
        "tests/unit/test_quiet.py",
    ),
    Bug(
        "a release by anybody",
        "governor/core/routing.py",
        "            return user in self.approve",
        "            return True",
        "tests/unit/test_slack_buttons.py",
    ),
    Bug(
        "a report made at every tick",
        "governor/core/reports.py",
        "newest.start > last)",
        "newest.start >= last)",
        "tests/unit/test_reports.py",
    ),
    Bug(
        "a report before its time of day",
        "governor/core/reports.py",
        "    while spec.ready_at(newest) > now:",
        "    while newest.end > now:",
        "tests/unit/test_reports.py",
    ),
    Bug(
        "closed born without a lease",
        "governor/core/directives.py",
        "        led = lease_until is not None and begins is not None and begins < lease_until\n",
        "        led = True\n",
        "tests/unit/test_bounds.py",
    ),
    Bug(
        "a gate that trusts its own clock",
        "governor/gate/lease.py",
        "        return self.beat.sent_at + (now_ns - self._sent_ns) // 1_000 * _MICROSECOND\n",
        "        return wall\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "old heartbeats renew",
        "governor/gate/lease.py",
        "        return way - min(self._ways)\n",
        "        return 0\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "no blast radius",
        "governor/core/reach.py",
        "    if would <= limit:\n",
        "    if True:\n",
        "tests/unit/test_bounds.py",
    ),
    Bug(
        "approval not waited for",
        "governor/core/enforcement.py",
        "        waits = needs or issue.admit(",
        "        waits = issue.admit(",
        "tests/unit/test_bounds.py",
    ),
    Bug(
        "shadow as a precedent",
        "governor/core/enforcement.py",
        "and begun and not (before.shadow and enforces):",
        "and begun:",
        "tests/unit/test_bounds.py",
    ),
    Bug(
        "new enforcement on stale usage",
        "governor/core/enforcement.py",
        "    if rule is None or issue.stale or",
        "    if rule is None or",
        "tests/unit/test_bounds.py",
    ),
    Bug(
        "shadow obeyed",
        "governor/gate/decide.py",
        "    real = [each for each in holding if not each.shadow]\n",
        "    real = list(holding)\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "allow-lists below blocks",
        "governor/gate/board.py",
        "    Effect.ALLOW: 0,\n",
        "    Effect.ALLOW: 5,\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "a status that nginx does not know",
        "governor/gate/gateways.py",
        "    return Answer(FORBIDDEN if gateway == NGINX else status, body, headers=said)\n",
        "    return Answer(status, body, headers=said)\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "a header that a client sent, too",
        "governor/gate/identity.py",
        "                if dimension in found:\n",
        "                if False:\n",
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "tokens that nobody signed",
        "governor/gate/identity.py",
        'options={"require": ["exp"], "verify_aud"',
        'options={"require": ["exp"], "verify_signature": False, "verify_aud"',
        "tests/unit/test_gate_whole.py",
    ),
    Bug(
        "what draws from a rate remembered",
        "governor/client/__init__.py",
        "        if decision.rate is not None and decision.allowed:\n            return\n",
        "",
        "tests/unit/test_client.py",
    ),
)


def main() -> int:
    """Run the tests without a bug, then with each; return 1 where one goes unnoticed."""
    unnoticed = []
    with tempfile.TemporaryDirectory() as folder:
        for part in ("governor", "tests", "docs", "rules", "deploy", "pyproject.toml"):
            _copy(ROOT / part, Path(folder) / part)
        sound = _red(Path(folder), " ".join({bug.tests for bug in BUGS}))
        if sound:
            raise SystemExit(f"red without any bug planted: {sound}")
        _say("no bug planted: green")
        for bug in BUGS:
            file = Path(folder) / bug.file
            text = file.read_text("utf-8")
            if text.count(bug.old) != 1:
                raise SystemExit(f"{bug.name}: its place in {bug.file} has changed; mend it here")
            file.write_text(text.replace(bug.old, bug.new), "utf-8")
            red = _red(Path(folder), bug.tests)
            file.write_text(text, "utf-8")
            _say(
                f"{bug.name}: {len(red)} red, such as {red[0]}" if red else f"{bug.name}: UNNOTICED"
            )
            unnoticed += [] if red else [bug.name]
    return 1 if unnoticed else 0


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        shutil.copy(source, target)


def _red(folder: Path, tests: str) -> list[str]:
    """Run tests on the code in `folder`; return the names of those that fail."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split()]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    red = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode and not red:
        raise SystemExit(f"pytest did not run:\n{done.stdout}{done.stderr}")
    return red


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
