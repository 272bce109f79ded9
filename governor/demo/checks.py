"""The demo's checks: governor's books beside the company's, and whether the story was as told."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from governor.adapters.duckdb.query import Answer, ask
from governor.core.rules.shared import Level
from governor.demo.company import FREE, UNPRICED_MODEL
from governor.demo.gateway import Traffic
from governor.demo.ledger import Ledger
from governor.demo.narrator import RESOLVED, level_of
from governor.demo.slack_workspace import Message

LEVELS: Final = [*(str(level).capitalize() for level in Level), RESOLVED]
"""What Slack must have heard, in this order."""

YES: Final = "yes"
NO: Final = "no"

REPORTS: Final = {
    "Spend by day and tier": (
        "SELECT day, tier, sum(events)::BIGINT AS events, sum(cost_usd) AS cost_usd"
        " FROM spend_daily GROUP BY ALL ORDER BY day, cost_usd DESC"
    ),
    "Unpriced is not free: no price is known, so caps count the provider's dearest": (
        "SELECT provider, model, count(*) AS events, sum(cost_usd) AS cost_usd,"
        " (sum(cap_nano) * 0.000000001::DECIMAL(9, 9))::DECIMAL(18, 6) AS caps_count_usd"
        " FROM usage WHERE price_status = 'unpriced' GROUP BY ALL"
    ),
}
"""What is asked at the end, each question as `governor sql` takes it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so, and what was found."""

    what: str
    expected: Any
    found: Any

    @property
    def holds(self) -> bool:
        """Whether it is so."""
        return bool(self.expected == self.found)


def books(store: Path, ledger: Ledger) -> list[Check]:
    """Put the load maker's books beside what the store holds."""
    stored = _one(store, "SELECT count(*), count(*) FILTER (cost_nano IS NULL) FROM usage")
    rejects = dict(_rows(store, "SELECT reason, count(*) FROM rejects GROUP BY reason"))
    duplicates = _one(store, "SELECT sum(duplicates)::BIGINT FROM positions")
    by_team = _rows(store, "SELECT team, coalesce(sum(cost_nano), 0) FROM usage GROUP BY team")
    by_tier = _rows(
        store,
        "SELECT tier, day, coalesce(sum(cost_nano), 0) FROM spend_daily GROUP BY ALL",
    )
    return [
        Check("distinct events", ledger.distinct, stored[0]),
        Check("duplicates", ledger.repeats, duplicates[0]),
        Check("rejects", dict(ledger.rejects), rejects),
        Check("unpriced", ledger.unpriced, stored[1]),
        Check("nano-dollars by team", dict(ledger.nano_of_team), dict(by_team)),
        Check(
            "nano-dollars by tier and day",
            dict(ledger.nano_of_tier),
            {(tier, day): nano for tier, day, nano in by_tier},
        ),
    ]


def story(traffic: Traffic, messages: Sequence[Message], midnight: datetime) -> list[Check]:
    """Check that what was to happen has happened, and in order."""
    model = "/".join(UNPRICED_MODEL)
    of_model = [message for message in messages if model in message.versions[0].text]
    of_budget = [message for message in messages if message not in of_model]
    heard = [level_of(version.text) for message in of_budget[:1] for version in message.versions]
    free_refused = traffic.refused[FREE]
    slowed_at = traffic.slowed[0] if traffic.slowed else None
    freed = traffic.freed
    return [
        Check("messages about the budget, edited in place", 1, len(of_budget)),
        Check("messages about the model without a price", 1, len(of_model)),
        Check("levels that Slack heard", LEVELS, [level for level, _ in groupby(heard)]),
        Check("slowed before midnight", YES, _said(slowed_at and slowed_at < midnight)),
        Check("some free requests refused", YES, _said(free_refused)),
        Check("paid requests refused", 0, traffic.refused.total() - free_refused),
        Check("freed after midnight", YES, _said(freed and freed >= midnight)),
        Check("slowed in the new day", NO, _said(traffic.slowed_again)),
        Check("requests that the gate did not answer", 0, traffic.unanswered),
    ]


def _said(value: object) -> str:
    return YES if value else NO


def reports(store: Path) -> Iterator[tuple[str, Answer]]:
    """Yield each question's title and its answer."""
    for title, query in REPORTS.items():
        yield title, ask(store, query, limit=100)


def _one(store: Path, query: str) -> tuple[Any, ...]:
    return _rows(store, query)[0]


def _rows(store: Path, query: str) -> list[tuple[Any, ...]]:
    return ask(store, query, limit=1_000).rows
