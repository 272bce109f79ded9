"""What people are told of prices: models without one, costs that senders reckon otherwise."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from governor.core.errors import TransientError
from governor.core.notifications import Notice
from governor.core.pricewatch import MAX_OPEN, Compared, ModelName
from governor.loops.prices import PriceWatch
from tests.unit.site import NOON, Clock, Site, opened

STRANGE = ModelName("acme", "strange")


class Desk:
    """A site with a price watch that sees each batch."""

    def __init__(self, site: Site, tell: Callable[[Notice], None] | None = None) -> None:
        self.site = site
        self.watch = PriceWatch(
            site.state,
            tell=tell or site.evaluate.tell,
            now=lambda: site.clock.now,
            percent=10,
        )
        self.watch.begin()

    def count(self, *events: dict[str, Any]) -> None:
        """Count events, and tell what is to be told."""
        self.watch.stored(self.site.take(events))
        self.watch.settle()

    def strange(self, usd: int, model: str = "strange", **fields: Any) -> dict[str, Any]:
        """Return an event of a model without a price, for which caps count so many dollars."""
        return self.site.event(usd, model=model, **fields)

    def owed(self) -> list[Notice]:
        """Return what Slack is to be told now, oldest first."""
        return sorted(self.site.owed(), key=lambda notice: notice.message)


@contextmanager
def desk(path: Path, clock: Clock) -> Iterator[Desk]:
    """Open the file with no rules."""
    with opened(path, [], clock) as site:
        yield Desk(site)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "governor.duckdb"


# ------------------------------------------------------------------------------ without a price


def test_a_model_without_a_price_is_told_with_what_is_at_stake(file: Path) -> None:
    """The first notice names the model, its tokens and what caps count, and how to see why."""
    with desk(file, Clock(NOON)) as at:
        at.count(at.strange(3), at.strange(4), at.site.event(1))
        (notice,) = at.owed()
    assert notice.title == "No price for acme/strange"
    assert notice.summary == (
        "2 events, 7,000 tokens since 2026-11-24 12:00 UTC. Caps count 7.00 USD for them, at a"
        " stand-in price. Add a price to prices.yaml; see: governor prices explain strange"
        " --provider acme"
    )
    assert (notice.value, str(notice.level), notice.resolved) == ("7.00 USD", "warning", None)


def test_a_name_that_is_a_command_is_quoted(file: Path) -> None:
    """What is shown to be copied into a shell does there what it says."""
    with desk(file, Clock(NOON)) as at:
        at.count(at.strange(1, model="x; rm -rf ~"))
        (notice,) = at.owed()
    assert notice.summary.endswith("governor prices explain 'x; rm -rf ~' --provider acme")


def test_it_is_told_again_when_it_has_doubled(file: Path) -> None:
    """One message a model, edited as its amount doubles, and not with every event."""
    with desk(file, Clock(NOON)) as at:
        said = []
        for usd in (4, 3, 1, 7, 1):
            at.count(at.strange(usd))
            (notice,) = at.owed()
            said.append((notice.revision, notice.value))
        assert len({n.message for n in at.owed()}) == 1
    assert said == [
        (1, "4.00 USD"),
        (1, "4.00 USD"),
        (2, "8.00 USD"),
        (2, "8.00 USD"),
        (3, "16.00 USD"),
    ]


def test_cents_that_double_are_no_news(file: Path) -> None:
    """Below a dollar more nothing is told again, however often it doubles."""
    with desk(file, Clock(NOON)) as at:
        said = []
        for usd in ("0.01", "0.01", "0.50", "0.40", "0.10"):
            at.count(at.site.event(usd, model="strange"))
            (notice,) = at.owed()
            said.append(notice.value)
    assert said == ["0.01 USD"] * 4 + ["1.02 USD"]


def test_a_price_ends_it_and_another_one_does_not(file: Path) -> None:
    """Only the model that has a price now is over; nothing else says that one is."""
    with desk(file, Clock(NOON)) as at:
        at.count(at.strange(1), at.strange(2, model="other"))
        at.site.clock.now += timedelta(days=3)
        at.watch.tick()
        at.watch.repriced(lambda model: model == STRANGE)
        over = {n.title: n.resolved for n in at.owed()}
        assert over["No price for acme/other"] is None
        assert "governor prices rerate" in (over["No price for acme/strange"] or "")
        at.count(at.strange(5))
        again = [n for n in at.owed() if n.group == (("provider", "acme"), ("model", "strange"))]
        assert [(n.revision, n.resolved is None, n.value) for n in again] == [
            (2, False, "1.00 USD"),
            (1, True, "5.00 USD"),
        ]


def test_many_models_are_told_together(file: Path) -> None:
    """After twenty, one more message counts all others, so that odd names cannot flood people."""
    with desk(file, Clock(NOON)) as at:
        at.count(*(at.strange(1, model=f"m{number:03}") for number in range(MAX_OPEN + 30)))
        titles = [notice.title for notice in at.owed()]
        (rest,) = [n for n in at.owed() if n.title == "No price for other models"]
        assert len(titles) == MAX_OPEN + 1
        assert rest.summary.startswith("30 events, 30,000 tokens")
        at.watch.repriced(lambda _: True)
        assert all(notice.resolved for notice in at.owed())


def test_a_restart_goes_on_where_it_was(file: Path) -> None:
    """What was told is known from the store, and sums go on from there; nothing is told twice."""
    clock = Clock(NOON)
    with desk(file, clock) as at:
        at.count(at.strange(4))
        before = at.owed()
    clock.now += timedelta(minutes=5)
    with desk(file, clock) as at:
        at.count(at.strange(3))
        assert at.owed() == before
        at.count(at.strange(1))
        (notice,) = at.owed()
    assert (notice.revision, notice.value, notice.fired_at) == (2, "8.00 USD", NOON)
    assert "since 2026-11-24 12:00 UTC" in notice.summary


def test_what_could_not_be_told_is_told_later(file: Path) -> None:
    """A store that is not ready loses no notice."""
    with opened(file, [], Clock(NOON)) as site:
        faults = [TransientError("no space")]

        def tell(notice: Notice) -> None:
            if faults:
                raise faults.pop()
            site.evaluate.tell(notice)

        at = Desk(site, tell)
        at.watch.stored(site.take([at.strange(2)]))
        with pytest.raises(TransientError):
            at.watch.settle()
        assert at.owed() == []
        at.watch.settle()
        assert [notice.value for notice in at.owed()] == ["2.00 USD"]


# ------------------------------------------------------------------------- costs that disagree


def test_costs_that_differ_are_told(file: Path) -> None:
    """By more than a share of what is reported, from a dollar a day on, either way."""
    with desk(file, Clock(NOON)) as at:
        at.count(at.site.event(100, reported_cost_usd="95"))
        assert at.owed() == []
        at.count(at.site.event(100, reported_cost_usd="50"))
        (notice,) = at.owed()
    assert notice.title == "Reported cost of acme/flat is not ours"
    assert notice.summary == (
        "On 2026-11-24 senders report 145.00 USD; by our prices it is 200.00 USD (+38%). One"
        " price list is wrong, or one count of tokens is."
    )


@pytest.mark.parametrize(
    ("reported", "ours", "differs"),
    [
        (10**9, 11 * 10**8, False),
        (10**9, 11 * 10**8 + 1, True),
        (10**9, 9 * 10**8, False),
        (10**9, 9 * 10**8 - 1, True),
        (10**9 - 1, 10, False),
        (0, 10**9, True),
        (0, 10**9 - 1, False),
    ],
)
def test_how_far_is_too_far(reported: int, ours: int, differs: bool) -> None:  # noqa: FBT001
    """Ten percent of what is reported, and a dollar on one side; nothing reported is too far."""
    assert Compared(reported, ours).disagrees(10) is differs


def test_a_day_that_agrees_ends_it(file: Path) -> None:
    """Not a quiet day, not the same day: a later one with a dollar on both sides that agree."""
    clock = Clock(NOON)
    with desk(file, clock) as at:
        at.count(at.site.event(100, reported_cost_usd="50"))
        at.count(at.site.event(900, reported_cost_usd="950"))  # agrees in all, the same day
        clock.now += timedelta(days=1)
        at.watch.tick()
        at.count(at.site.event("0.5", reported_cost_usd="0.5"))
        assert [n.resolved for n in at.owed()] == [None]
        at.count(at.site.event(1, reported_cost_usd="1"))
        (notice,) = at.owed()
    assert (notice.revision, notice.resolved) == (2, "on 2026-11-25 both agree")


def test_what_is_not_reported_is_not_compared(file: Path) -> None:
    """Neither events without a reported cost, nor those without a price of ours."""
    with desk(file, Clock(NOON)) as at:
        at.count(at.site.event(100), at.strange(9, reported_cost_usd="100"))
        assert [notice.title for notice in at.owed()] == ["No price for acme/strange"]


def test_a_disagreement_survives_a_restart(file: Path) -> None:
    """Sums of the day and what was told are taken up from the store."""
    clock = Clock(NOON)
    with desk(file, clock) as at:
        at.count(at.site.event(100, reported_cost_usd="50"))
        before = at.owed()
    with desk(file, clock) as at:
        at.count(at.site.event(40, reported_cost_usd="20"))
        assert at.owed() == before
        at.count(at.site.event(60, reported_cost_usd="30"))
        (notice,) = at.owed()
    assert (notice.revision, notice.value) == (2, "100.00 USD")
