"""Daily reports by a daemon on a broker: made once all usage is counted, once, and on demand."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from governor.demo.slack import CHANNEL
from tests.brokers import Broker
from tests.e2e.acting import Stage, staged, text_of, usage
from tests.e2e.daemon import Daemon, governor, sql

pytestmark = pytest.mark.kafka

RULES = """
version: 1
rules:
  - {id: month, kind: budget, owner: finance, summary: "{{ value }}", where: all, limit: 1000 USD,
     period: month, thresholds: [{at: 100%, level: warning}]}
"""
ROUTING = """
version: 1
reports:
  - {name: daily, every: day, at: "00:00", to: [slack]}
grouping: {wait: 0s, update: 0s}
"""


def test_yesterday_is_reported_once(broker: Broker, tmp_path: Path, topic_name: str) -> None:
    """What waits in the topic at a start is in it; a kill makes no second; commands make others."""
    with staged(broker, tmp_path, topic_name) as stage:
        stage.rules(RULES)
        stage.rules(ROUTING, "routing.yaml")
        yesterday = datetime.now(UTC).replace(hour=12) - timedelta(days=1)
        stage.send(
            usage(at=at, customer=customer, feature="chat", team="red")
            for at in (yesterday, yesterday - timedelta(days=7))
            for customer in ("acme", "acme", "beta")
        )
        stage.send([usage(at=yesterday, customer="acme", feature="search", team="red")])
        with Daemon(stage.env) as daemon:
            (message,) = daemon.until(stage.told, "a report", timeout_s=60)
            assert text_of(message).startswith(f"\N{BAR CHART} Daily report {yesterday:%Y-%m-%d}")
            assert "4.00 USD spent, +33% (+1.00 USD)" in text_of(message)
            daemon.until(lambda: len(stage.slack.files) == 2, "its files", timeout_s=30)
            picture, page = stage.slack.files
            assert picture.content.startswith(b"\x89PNG")
            assert (page.name, page.thread) == (
                f"report-daily-{yesterday:%Y-%m-%d}.html",
                message.ts,
            )
            assert b"By customer" in page.content
            daemon.kill()
            daemon.start()
            daemon.await_ready()
            shown_and_sent(stage, tmp_path / "day.html")
            daemon.until(lambda: len(stage.told()) == 2, "another report", timeout_s=30)
            listed = json.loads(governor("report", "list", "--json", env=stage.env).stdout)
            assert {row["period"] for row in listed} == {f"{yesterday:%Y-%m-%d}", "2026-01-01"}
            assert daemon.stop() == 0
        assert [len(stage.told(channel)) for channel in (CHANNEL,)] == [2]
        assert sql(stage.store, "SELECT count(*) FROM report_ledger") == [(2,)]


def shown_and_sent(stage: Stage, page: Path) -> None:
    """Ask for reports by commands: shown, as a page, of one customer, sent; and a wrong one."""
    words = ("report", "daily", "--dry-run", "--html", str(page))
    shown = governor(*words, env=stage.env)
    assert shown.returncode == 0, shown.stderr
    assert "feature search: 1.00 USD, +1.00 USD, from nothing" in shown.stdout
    assert "month, 2" in shown.stdout
    assert "Daily report" in page.read_text()
    scoped = ("report", "daily", "--where", "customer=beta", "--dry-run", "--json")
    beta = json.loads(governor(*scoped, env=stage.env).stdout)
    assert beta["spend"]["cost"] == 10**9
    sent = governor("report", "daily", "--date", "2026-01-01", env=stage.env)
    assert sent.returncode == 0, sent.stderr
    folder = page.parent / "showback"
    month = ("--date", f"{datetime.now(UTC) - timedelta(days=1):%Y-%m-%d}", "--json")
    words = ("report", "showback", "customer", "--out", str(folder), *month)
    files = json.loads(governor(*words, env=stage.env).stdout)
    assert [Path(file).name.partition("-2")[0] for file in files] == [
        "acme",
        "acme",
        "beta",
        "beta",
    ]
    assert "acme" not in Path(files[2]).read_text() + Path(files[3]).read_text()
    wrong = governor("report", "daily", "--date", "soon", "--dry-run", env=stage.env)
    told = "governor: 'soon' is no date, such as 2026-11-26\n"
    assert (wrong.returncode, wrong.stderr) == (2, told)
