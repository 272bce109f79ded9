"""What is found without a limit: the mathematics of spikes, mix, drivers and outlooks."""

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from governor.core import mix, spikes
from governor.core.drivers import Use, drivers
from governor.core.outlook import outlook
from governor.core.plain import Plain
from governor.core.series import Asked, Marked, Marks, Series, Slot
from governor.core.spikes import Baselines
from tests.bench.months import daily
from tests.bench.traffic import Floats, quiet

WEEK = 168
NANO = 10**9


def utc(hour: int) -> Slot:
    """Weekdays first, from hour 0 on."""
    return Slot(hour % 24, hour // 24 % 7 >= 5, hour // 24)


def live(series: Series, costs: Floats) -> Marks:
    """Let series live through hours of dollars; return in which hours an episode is open."""
    nano = (costs * NANO).astype(np.int64)
    opened: Marks = np.zeros(costs.shape, np.bool_)
    for hour in range(costs.shape[1]):
        series.open_hour(hour)
        series.used[hour % series.hours] = nano[:, hour]
        series.close(hour)
        opened[:, hour] = series.open
    return opened


# --------------------------------------------------------------------------------------- spikes


@pytest.mark.slow
def test_a_series_is_judged_alone() -> None:
    """Among others or by itself, joined or grown: each series has the same state."""
    costs = quiet("dense", 2, 5 * WEEK, np.random.default_rng(1))
    together = Baselines(utc, Asked(), 2)
    live(together, costs)
    ones = [Baselines(utc, Asked(), 1) for _ in range(2)]
    for row, one in enumerate(ones):
        live(one, costs[row : row + 1])
    ones[0].join(ones[1])
    for name, held in together.state.items():
        assert np.allclose(held, ones[0].state[name], equal_nan=True), name
    together.keep(np.array([1]))
    ones[0].replace(0, together)
    ones[0].grow(3)
    assert len(ones[0]) == 5
    assert np.array_equal(ones[0].level[:2], np.repeat(together.level, 2))
    assert not ones[0].age[2:].any()


def test_an_open_hour_never_says_more_than_the_whole() -> None:
    """Usage only adds up: what is found of half an hour is found of all of it."""
    costs = quiet("dense", 20, 3 * WEEK, np.random.default_rng(2))
    series = Baselines(utc, Asked(), 20)
    live(series, costs[:, :-1])
    hour = costs.shape[1] - 1
    series.open_hour(hour)
    scores = []
    for share in (0.0, 0.3, 0.6, 1.0):
        series.used[hour % series.hours] = (costs[:, -1] * 8 * share * NANO).astype(np.int64)
        scores.append(series.find(hour).score)
    assert all((after >= before).all() for before, after in pairwise(scores))
    assert (scores[-1] > 3.3).all()
    assert (scores[0] == 0).all()


@pytest.mark.slow
def test_an_anomaly_teaches_little() -> None:
    """After a runaway of twenty times for six hours the next one like it is found as well."""
    costs = quiet("dense", 10, 6 * WEEK, np.random.default_rng(3))
    before, after = Baselines(utc, Asked(), 10), Baselines(utc, Asked(), 10)
    spiked = costs.copy()
    first, second = 4 * WEEK + 30, 5 * WEEK + 78
    spiked[:, first : first + 6] *= 20
    live(before, costs[:, : first + 8])
    live(after, spiked[:, : first + 8])
    assert (after.level / before.level < 1.2).all()
    spiked[:, second : second + 6] *= 20
    opened = live(Baselines(utc, Asked(), 10), spiked)
    assert opened[:, first].all()
    assert opened[:, second].all()


def test_what_is_exempt_teaches_nothing_and_is_not_told() -> None:
    """A planned burst opens no episode, and leaves all that was learned as it was."""
    costs = quiet("dense", 2, 3 * WEEK, np.random.default_rng(4))
    series = Baselines(utc, Asked(), 2)
    live(series, costs)
    learned = {name: held.copy() for name, held in series.state.items()}
    hour, planned = costs.shape[1], np.array([True, False])
    series.open_hour(hour)
    series.used[hour % series.hours] = (costs[:, -1] * 50 * NANO).astype(np.int64)
    assert list(series.find(hour, Marked(planned)).open) == [False, True]
    series.close(hour, Marked(planned, planned))
    for name in ("level", "slow", "tail_at", "tail_mean", "of_day", "of_week", "bursts"):
        assert np.array_equal(series.state[name][..., 0], learned[name][..., 0]), name
        assert name == "bursts" or not np.array_equal(
            series.state[name][..., 1], learned[name][..., 1]
        )


def test_an_episode_cools_down() -> None:
    """After one began, another does within a day only where it is twice as large."""
    hours = np.full((2, 4 * WEEK), 10.0)
    hours[:, 500] = 60
    hours[:, 510] = 60
    hours[1, 515] = 300
    opened = live(Baselines(utc, Asked(), 2), hours)
    began = opened & ~np.roll(opened, 1, axis=1)
    assert list(np.flatnonzero(began[0])) == [500]
    assert list(np.flatnonzero(began[1])) == [500, 515]


@pytest.mark.slow
def test_quiet_series_are_quiet_and_troubles_are_found() -> None:
    """A small draw of what `make bench-detect` measures at full size, with seeds of its own."""
    told = 0
    for kind in ("dense", "medium", "sparse", "batch", "bursty"):
        costs = quiet(kind, 60, 7 * WEEK, np.random.default_rng(5))
        opened = live(Baselines(utc, Asked(), 60), costs)
        began = opened & ~np.roll(opened, 1, axis=1)
        told += int(began[:, 3 * WEEK :].sum())
    assert told / (5 * 60 * 4) <= 0.05
    costs = quiet("dense", 60, 4 * WEEK, np.random.default_rng(6))
    costs[:, 3 * WEEK + 60 : 3 * WEEK + 66] *= 4
    opened = live(Baselines(utc, Asked(), 60), costs)
    assert opened[:, 3 * WEEK + 60 : 3 * WEEK + 66].any(axis=1).mean() >= 0.95


def test_plain_compares_with_the_same_hours() -> None:
    """Three times last week is told, less is not; without a last week nothing is."""
    asked = Asked(score=3.0, young=0.0, relief=0.5, times=1.0, day_share=0.0, least=1)
    hours = np.full((1, 3 * WEEK), 10.0)
    hours[0, 100] = 100
    hours[0, 2 * WEEK + 5] = 31
    hours[0, 2 * WEEK + 50] = 29
    opened = live(Plain(utc, asked, 1), hours)
    assert list(np.flatnonzero(opened[0])) == [2 * WEEK + 5]
    assert not live(Plain(utc, asked, 1, season=168, wide=6), hours).any()


def test_state_is_small() -> None:
    """A series takes less than the 2 kB that are its limit."""
    taken = sum(held.nbytes for held in Baselines(utc, Asked(), 100).state.values()) / 100
    assert taken < 1_300
    assert set(Baselines(utc, Asked()).state) >= {"used", "level", "tail_at", "days"}
    assert max(spikes.LOOKS) < spikes.HOURS


# ------------------------------------------------------------------------------------------ mix

PLAN = np.array([0.6, 0.3, 0.1])
MOVED = np.array([0.5, 0.375, 0.125])


def drawn(
    shares: Floats, requests: int, clusters: int, many: int, rng: np.random.Generator
) -> Floats:
    """Return counts of windows whose requests come in clusters of a size."""
    found = rng.multinomial(requests // clusters, shares, many) * float(clusters)
    return np.asarray(found, np.float64)


@pytest.mark.parametrize("clusters", [1, 10])
def test_mix_is_sure_of_what_is_there_and_of_nothing_else(clusters: int) -> None:
    """False at most once in 200 looks, clustered or not; ten points are seen at 10,000 requests."""
    rng = np.random.default_rng(7)
    for requests in (1_000, 10_000):
        false = found = 0
        for _ in range(400):
            past = drawn(PLAN, requests, clusters, 28, rng)
            same, other = (drawn(each, requests, clusters, 1, rng)[0] for each in (PLAN, MOVED))
            calm, moved = mix.of_requests(same, past), mix.of_requests(other, past)
            false += bool(calm.enough and (np.abs(calm.moved) >= 0.05).any())
            found += bool(moved.enough and (np.abs(moved.moved) >= 0.05).any())
        assert false <= 2
        assert requests < 10_000 or found >= 380


def test_mix_against_a_plan_and_by_cost() -> None:
    """A plan needs no past shares; dollars are compared by the shares of their buckets."""
    rng = np.random.default_rng(8)
    past = drawn(MOVED, 10_000, 1, 14, rng)
    found = mix.of_requests(drawn(MOVED, 10_000, 1, 1, rng)[0], past, PLAN)
    assert found.enough
    assert found.sure.tolist() == [True, True, True]
    assert found.moved[0] == pytest.approx(-0.1, abs=0.02)
    paid = np.asarray(past * np.array([1.0, 3.0, 30.0]))
    calm = mix.of_cost(paid[0], paid[1:], 10_000)
    assert calm.enough
    assert not calm.sure.any()
    assert mix.of_cost(paid[0] * np.array([1, 1, 4]), paid[1:], 10_000).sure[2]
    assert not mix.of_cost(paid[0], paid[1:], 900).enough
    assert not mix.of_requests(past[0], past[:3]).enough


# -------------------------------------------------------------------------------------- drivers

USES = st.dictionaries(
    st.sampled_from("abcde"),
    st.builds(Use, st.integers(1, 10**6), st.integers(0, 10**15), st.integers(0, 10**15)),
    max_size=5,
)


def same_prices(uses: Mapping[str, Use]) -> dict[str, Use]:
    return {name: Use(use.requests, use.cost, use.cost) for name, use in uses.items()}


@given(USES, USES, st.integers(1, 40))
def test_drivers_add_up_exactly(
    before: Mapping[str, Use], after: Mapping[str, Use], spans: int
) -> None:
    """Their sum is the difference of the two costs, to half a nano-dollar a model."""
    before = same_prices(before)
    found = drivers(before, after, Decimal(1) / spans)
    costs = [sum(use.cost for use in uses.values()) for uses in (before, after)]
    assert abs(found.total - (costs[1] - Decimal(costs[0]) / spans)) <= 1


@given(USES)
def test_one_cause_is_one_driver(uses: Mapping[str, Use]) -> None:
    """Where only one thing changed, only it drove the cost."""
    before = same_prices(uses)
    total = sum(use.cost for use in before.values())
    tripled = {name: Use(3 * u.requests, 3 * u.cost, 3 * u.cost) for name, u in before.items()}
    dearer = {name: Use(u.requests, 2 * u.cost, u.cost) for name, u in before.items()}
    longer = {name: Use(u.requests, 2 * u.cost, 2 * u.cost) for name, u in before.items()}
    for after, name, more in (
        (tripled, "volume", 2 * total),
        (dearer, "price", total),
        (longer, "tokens", total),
    ):
        found = drivers(before, after, Decimal(1))
        assert abs(getattr(found, name) - more) <= 4
        assert abs(found.total - more) <= 4


def test_a_new_model_is_mix() -> None:
    """The whole effect of a model that was not there before is mix, and none of tokens or price."""
    before = {"small": Use(1_000, 100 * NANO, 100 * NANO)}
    after = {
        "small": Use(500, 50 * NANO, 50 * NANO),
        "large": Use(500, 500 * NANO, 500 * NANO),
    }
    found = drivers(before, after, Decimal(1))
    assert (found.volume, found.tokens, found.price) == (0, 0, 0)
    assert found.mix == 450 * NANO


@given(USES)
def test_out_of_nothing_all_is_volume(uses: Mapping[str, Use]) -> None:
    """Where nothing was used before, or is any more, there is nothing that could be mix."""
    after = same_prices(uses)
    total = sum(use.cost for use in after.values())
    for found, sign in ((drivers({}, after, Decimal(1)), 1), (drivers(after, {}, Decimal(1)), -1)):
        assert (found.mix, found.tokens, found.price) == (0, 0, 0)
        assert abs(found.volume - sign * total) <= 1


def test_the_example_of_the_literature() -> None:
    """Two models, all four causes at once: the same from either end, with the sign turned."""
    before = {"a": Use(900, 9 * NANO, 9 * NANO), "b": Use(100, 10 * NANO, 10 * NANO)}
    after = {"a": Use(600, 8 * NANO, 9 * NANO), "b": Use(600, 66 * NANO, 60 * NANO)}
    found = drivers(before, after, Decimal(1))
    assert found.total == 55 * NANO
    assert found.mix > found.volume > 0
    assert found.price > 0
    assert abs(found.tokens) < found.mix


# -------------------------------------------------------------------------------------- outlook


def look(costs: Floats, elapsed: int, start: int) -> tuple[Floats, Floats, Floats, Floats]:
    """Return at a day of a period of 28: the estimate, both bounds and the truth."""
    today = start + elapsed
    past = costs[:, today - 70 : today]
    found = outlook(
        past,
        np.full(len(costs), 70),
        np.arange(today - 70, today) % 7,
        np.arange(today, start + 28) % 7,
        np.ones(28 - elapsed),
    )
    so_far = costs[:, start:today].sum(axis=1)
    bounds = [so_far + found.quantile(share) for share in (0.1, 0.9)]
    return so_far + found.total, *bounds, costs[:, start : start + 28].sum(axis=1)


def test_an_outlook_beats_the_run_rate_and_knows_how_sure_it_is() -> None:
    """By more than a fifth at day 3, and eight in ten periods end within the interval."""
    costs = daily(400, 140, np.random.default_rng(9))
    likely, low, high, truth = look(costs, 3, 112)
    run_rate = costs[:, 112:115].sum(axis=1) / 3 * 28
    errors = [np.median(np.abs(each - truth) / truth) for each in (likely, run_rate)]
    assert errors[0] <= 0.8 * errors[1]
    assert 0.72 <= np.mean((low <= truth) & (truth <= high)) <= 0.88


def test_probabilities_and_quantiles_agree() -> None:
    """What is passed with a probability of one in five is the amount of four in five."""
    costs = daily(50, 112, np.random.default_rng(10))
    found = outlook(
        costs[:, -70:],
        np.full(50, 70),
        np.arange(42, 112) % 7,
        np.arange(112, 130) % 7,
        np.ones(18),
    )
    for probability in (0.1, 0.2, 0.5, 0.8, 0.9):
        assert np.allclose(found.above(found.quantile(probability)), 1 - probability)
    assert (found.above(np.zeros(50)) == 1).all()
    assert (found.above(-np.ones(50)) == 1).all()
    assert (found.above(found.total * 1e6) == 0).all()


@pytest.mark.parametrize("known", [0, 1, 5, 13, 14, 20, 27, 70])
def test_little_history_is_a_run_rate_and_said_to_be(known: int) -> None:
    """A steady series is carried on as it is, however short; a short one is not called sure."""
    past = np.zeros((1, 70))
    past[0, 70 - known :] = 5.0
    found = outlook(past, np.array([known]), np.arange(70) % 7, np.arange(70, 80) % 7, np.ones(10))
    assert found.total[0] == pytest.approx(50.0 if known else 0.0)
    assert bool(found.sure[0]) is (known >= 14)
    assert np.isfinite(found.quantile(0.9)).all()


def test_nothing_is_no_trouble() -> None:
    """Series of zeros, of one day, and with gaps have an outlook like any."""
    past = np.zeros((3, 70))
    past[1, 30] = 7.0
    past[2, ::3] = 4.0
    found = outlook(past, np.full(3, 70), np.arange(70) % 7, np.arange(70, 80) % 7, np.ones(10))
    assert np.isfinite(found.total).all()
    assert found.total[0] == 0
    assert found.above(np.ones(3))[0] == 0
    assert found.total[2] > 0
