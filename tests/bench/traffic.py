"""Hourly spending that nobody has: series of the shapes that teams have, with what goes wrong.

Five kinds: dense (about 1,000 requests an hour), medium (50), sparse (1.5), batch (nightly jobs)
and bursty (campaigns at any time). All have a rhythm of the day, quieter weekends, growth, costs a
request that vary, and counts that cluster. Same seed, same series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

KINDS: Final = ("dense", "medium", "sparse", "batch", "bursty")
REQUESTS: Final = {"dense": 1000.0, "medium": 50.0, "sparse": 1.5, "batch": 0.5, "bursty": 20.0}
CLUSTERED: Final = {"dense": 0.12, "medium": 0.25, "sparse": 0.6, "batch": 0.15, "bursty": 0.5}
"""The variation of the rate itself, beside that of counts: its standard deviation over its mean."""


def quiet(kind: str, series: int, hours: int, rng: np.random.Generator) -> Floats:
    """Return what each series cost in each hour, in dollars: an array of (series, hours)."""
    at = np.arange(hours)
    of_day, weekend = at % 24, at // 24 % 7 >= 5
    peak = rng.uniform(9, 19, (series, 1))
    depth = rng.uniform(0.2, 0.8, (series, 1))
    day = 1 + depth * np.cos((of_day - peak) * 2 * np.pi / 24)
    rate = REQUESTS[kind] * day * np.where(weekend, rng.uniform(0.4, 1.0, (series, 1)), 1.0)
    rate *= (1 + rng.uniform(-0.005, 0.02, (series, 1))) ** (at / 24)
    if kind == "batch":
        rate += _jobs(series, hours, rng)
    if kind == "bursty":
        rate *= _bursts(series, hours, rng)
    rate *= _wandering(series, hours, CLUSTERED[kind], rng)
    requests = rng.poisson(rate)
    price = rng.lognormal(-4.0, 1.0, (series, 1))
    spread = rng.uniform(0.6, 1.2, (series, 1))
    return price * _added(requests, spread, rng)


def _jobs(series: int, hours: int, rng: np.random.Generator) -> Floats:
    """Return jobs that run once a day, of about an hour or three, some days not at all."""
    rate = np.zeros((series, hours))
    for row in range(series):
        start, long = int(rng.integers(0, 22)), int(rng.integers(1, 4))
        for day in range(hours // 24 + 1):
            if rng.random() < 0.03:
                continue
            size = 400 * rng.lognormal(0, 0.15)
            rate[row, day * 24 + start : day * 24 + start + long] += size / long
    return rate


def _bursts(series: int, hours: int, rng: np.random.Generator) -> Floats:
    """Return campaigns: some a week, each some hours of three to ten times the usual."""
    factor = np.ones((series, hours))
    for row in range(series):
        for start in rng.integers(0, hours, rng.poisson(2 * hours / 168)):
            factor[row, start : start + int(rng.integers(1, 7))] *= rng.uniform(3, 10)
    return factor


def _wandering(series: int, hours: int, size: float, rng: np.random.Generator) -> Floats:
    """Return a rate that wanders for hours about its mean and jitters from hour to hour."""
    kept = 0.8
    shocks = rng.normal(0, size * np.sqrt(1 - kept**2) * 0.7, (series, hours))
    slow = np.zeros((series, hours))
    level = rng.normal(0, size * 0.7, series)
    for hour in range(hours):
        level = kept * level + shocks[:, hour]
        slow[:, hour] = level
    fast = rng.normal(0, size * 0.7, (series, hours))
    return np.exp(slow + fast - size**2 / 2)


def _added(requests: npt.NDArray[np.int64], spread: Floats, rng: np.random.Generator) -> Floats:
    """Return what requests cost, each lognormal: exactly for few, by their moments for many."""
    mean, variance = np.exp(spread**2 / 2), (np.exp(spread**2) - 1) * np.exp(spread**2)
    many = requests * mean + np.sqrt(requests * variance) * rng.normal(size=requests.shape)
    cost: Floats = np.maximum(many, 0.3 * requests * mean)
    for row in range(len(requests)):
        few = np.flatnonzero((requests[row] > 0) & (requests[row] <= 30))
        counts = requests[row, few]
        each = np.exp(spread[row, 0] * rng.normal(size=int(counts.sum())))
        bounds = np.concatenate(([0], np.cumsum(counts)[:-1]))
        if len(few):
            cost[row, few] = np.add.reduceat(each, bounds)
    return cost


@dataclass(frozen=True, slots=True)
class Trouble:
    """What goes wrong for a while: usage grows to `factor` times itself, or by it each day."""

    name: str
    hours: int
    factor: float
    daily: bool = False


TROUBLES: Final[Sequence[Trouble]] = (
    Trouble("x5 for 1 h", 1, 5.0),
    Trouble("x3 for 2 h", 2, 3.0),
    Trouble("runaway, x4 for 6 h", 6, 4.0),
    Trouble("x2 for 24 h", 24, 2.0),
    Trouble("x1.6 for 48 h", 48, 1.6),
    Trouble("leak, 10 % more each day", 240, 0.10, daily=True),
)


def troubled(costs: Floats, trouble: Trouble, starts: npt.NDArray[np.int64]) -> Floats:
    """Return series in which a trouble begins at an hour of each, which is not an empty one.

    It multiplies what is used; where that is nothing it adds what the series costs in an hour.
    """
    found = costs.copy()
    hours = np.arange(costs.shape[1])
    usual = costs.mean(axis=1, keepdims=True)
    since = hours[None, :] - starts[:, None]
    inside = (since >= 0) & (since < trouble.hours)
    factor = 1 + trouble.factor * (since / 24 + 1) if trouble.daily else trouble.factor
    more = (factor - 1) * np.maximum(costs, 0.3 * usual)
    found[inside] += np.broadcast_to(more, costs.shape)[inside]
    return found
