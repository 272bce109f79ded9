"""Raises of budgets: asked for, approved by one or two, in force for a while, and over."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from governor.actions.slack.buttons import block
from governor.adapters.control import Call, Caller
from governor.core.decisions import AuditRow
from governor.core.errors import ConfigError
from governor.core.pricing import NANO_PER_USD
from governor.core.raises import Raise, next_change, raised
from governor.core.routing import People, Routing
from governor.core.rules.budget import Budget
from governor.core.rules.shared import Mode
from governor.daemon.raising import Raising
from tests.unit.site import NOON, Clock, Site, budget, opened
from tests.unit.test_slack_buttons import PRESS, pressing
from tests.unit.told import one

HOUR = timedelta(hours=1)
RULE = budget(100, at=(50, 100), mode=Mode.ENFORCE)
ORDER = Raise("r1", RULE.id, 50 * NANO_PER_USD, NOON + HOUR, "why", "ann", NOON, ("ann",), 1)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with opened(tmp_path / "g.duckdb", [RULE], Clock(NOON)) as made:
        yield made


def raising(site: Site) -> Raising:
    def audit(caller: Any, action: str, target: str, outcome: str, detail: str | None) -> AuditRow:
        return AuditRow(site.clock.now, caller.who, caller.via, action, target, outcome, detail)

    return Raising(lambda: site.evaluate, lambda: site.clock.now, audit)


def asked(by: str = "50 USD", who: str = "ann", hours: int = 2, **other: str) -> Call:
    until = f"{NOON + hours * HOUR:%Y-%m-%dT%H:%M:%SZ}"
    fields = {"by": by, "until": until, "reason": "launch week"} | other
    return Call(Caller(who, "socket"), (RULE.id,), fields)


def named(name: str, who: str = "bob") -> Call:
    return Call(Caller(who, "socket"), (name,), {})


# ---------------------------------------------------------------------------------- the limit


def test_thresholds_in_percent_rise_with_the_limit() -> None:
    """Those that are amounts stay; so do other rules, and amounts of later dates rise too."""
    later = replace(RULE, limit=200 * NANO_PER_USD)
    fixed = replace(RULE.thresholds[0], at="60 USD", amount=60 * NANO_PER_USD)
    rule = replace(RULE, thresholds=(fixed, RULE.thresholds[1]), later=((date(2027, 1, 1), later),))
    found = raised(rule, [ORDER], NOON)
    assert isinstance(found, Budget)
    assert found.limit == 150 * NANO_PER_USD
    assert [t.amount // NANO_PER_USD for t in found.thresholds] == [60, 150]
    assert found.later[0][1].limit == 250 * NANO_PER_USD
    assert found.meaning == rule.meaning
    assert raised(rule, [replace(ORDER, rule="other")], NOON) is rule


@pytest.mark.parametrize(
    "order",
    [
        replace(ORDER, needs=2),
        replace(ORDER, ended=True),
        replace(ORDER, until=NOON),
        replace(ORDER, approved_by=()),
    ],
)
def test_what_is_not_approved_or_over_raises_nothing(order: Raise) -> None:
    assert raised(RULE, [order], NOON) is RULE
    assert next_change([order], NOON) is None


def test_two_raises_add_up() -> None:
    found = raised(RULE, [ORDER, replace(ORDER, id="r2")], NOON)
    assert isinstance(found, Budget)
    assert found.percent(100 * NANO_PER_USD) == Decimal(50)


# ---------------------------------------------------------------------------------- in force


def test_a_raise_frees_and_its_end_binds_again(site: Site) -> None:
    """The throttle is released while it holds, also across a restart; then it is there again."""
    site.spend(110)
    assert len(site.standing()) == 1
    done = raising(site).ask(asked())
    assert (done["in_force"], done["by"], done["needs"]) == (True, "50.00 USD", 1)
    assert site.standing() == []
    site.evaluate.begin()
    site.turn(NOON + HOUR)
    assert site.standing() == []
    assert site.evaluate.rules[RULE.id].limit_text == "150.00 USD (100 USD and a raise)"
    site.turn(NOON + 2 * HOUR)
    assert site.evaluate.rules[RULE.id].limit_text == "100 USD"
    assert len(site.standing()) == 1


def test_a_raise_is_ended_by_hand(site: Site) -> None:
    site.spend(110)
    orders = raising(site)
    done = orders.ask(asked())
    assert orders.end(named(done["id"]))["in_force"] is False  # type: ignore[index]
    assert len(site.standing()) == 1
    assert orders.end(named(done["id"])) is None
    assert orders.listed(named("")) == []


def test_much_needs_two_people(site: Site) -> None:
    """And not the same one twice; the audit has both, and who gets alerts is told."""
    people = People(two_above=20 * NANO_PER_USD)
    site.evaluate.reload([RULE], routing=Routing(people=people))
    site.spend(110)
    orders = raising(site)
    done = orders.ask(asked())
    assert (done["in_force"], done["needs"]) == (False, 2)
    assert len(site.standing()) == 1
    with pytest.raises(ConfigError, match="it needs another person"):
        orders.approve(named(done["id"], "ann"))
    assert orders.approve(named(done["id"], "bob"))["in_force"]  # type: ignore[index]
    assert site.standing() == []
    assert orders.approve(named(done["id"], "eve")) is None
    rows = site.ask("SELECT who, action, outcome FROM audit WHERE action LIKE 'raises%'")
    assert rows == [("ann", "raises.ask", "waits"), ("bob", "raises.approve", "in force")]
    (told,) = [notice for notice in site.owed() if notice.kind == "raise"]
    assert told.resolved == "approved by ann, bob; it is in force"


def test_another_name_is_not_another_person() -> None:
    """Names in Slack can be changed, and can look like an id; the id at the end counts."""
    order = replace(ORDER, approved_by=("ann (U0ANN)",), needs=2)
    assert order.has_approved("bob (U0BOB) (U0ANN)")
    assert not order.has_approved("ann (U0BOB)")
    assert not order.has_approved("U0ANN (U0BOB)")
    assert replace(ORDER, approved_by=("ann",)).has_approved("ann")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (asked(by="50"), "by='50': "),
        (asked(by="50 requests"), "free-tier counts USD; '50 requests' is something else"),
        (asked(hours=-1), "must be ahead"),
        (asked(hours=24 * 100), "at most 92 days"),
        (asked(reason="  "), "a raise needs a reason"),
        (asked(until="soon"), "'soon' is no time with a zone"),
        (Call(Caller("ann", "socket"), ("fre-tier",), {}), "(did you mean 'free-tier'?)"),
    ],
)
def test_what_is_wrong_is_said(site: Site, call: Call, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        raising(site).ask(call)
    assert message in str(error.value)


# ---------------------------------------------------------------------------------- in Slack


def test_it_is_approved_by_a_button(site: Site) -> None:
    """By those who may, once each; the message has that button and no other."""
    people = People(approve=frozenset({"U0ANN"}), two_above=NANO_PER_USD)
    site.evaluate.reload([RULE], routing=Routing(people=people))
    done = raising(site).ask(asked())
    (told,) = [notice for notice in site.owed() if notice.kind == "raise"]
    buttons = block(one(told))
    assert buttons is not None
    assert [each["action_id"] for each in buttons["elements"]] == ["governor.approve"]
    site.store.database.connection.execute(
        f"UPDATE messages SET thread = 't1' WHERE message = 'raise-{done['id']}'"
    )
    press = replace(PRESS, action="approve", thread="t1")
    assert "people.approve" in pressing(site)(replace(press, user="U0EVE"))
    assert pressing(site)(press) == "Approved: free-tier; it is in force."
    assert pressing(site)(press) == "That is over already; nothing was changed."
