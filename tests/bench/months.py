"""Daily spending that nobody has: weekly rhythm, trend, bursts and level changes. Seeded."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def daily(series: int, days: int, rng: np.random.Generator) -> Floats:
    """Return what each series cost on each day, in dollars: an array of (series, days).

    Every series begins on a weekday of its own and has weekends of its own size, a growth that
    turns from time to time, a burst of one to four days now and then, and once in three months on
    average another level for good.
    """
    at = np.arange(days)
    weekday = np.ones((series, 7)) * rng.lognormal(0, 0.08, (series, 7))
    weekday[:, 5:] *= rng.uniform(0.2, 0.9, (series, 1))
    first = rng.integers(0, 7, (series, 1))
    weekday = np.take_along_axis(weekday, (np.arange(7) + first) % 7, axis=1)
    level = np.empty((series, days))
    for row in range(series):
        growth = np.zeros(days)
        for start in range(0, days, 45):
            growth[start:] = rng.uniform(-0.006, 0.014)
        steps = np.where(rng.random(days) < 1 / 90, rng.normal(0.1, 0.35, days), 0.0)
        level[row] = np.cumsum(growth + steps)
        for start in rng.integers(0, days, rng.poisson(days / 30)):
            level[row, start : start + int(rng.integers(1, 5))] += np.log(rng.uniform(1.5, 4))
    noise = rng.normal(0, 1, (series, days)) * rng.uniform(0.05, 0.25, (series, 1))
    scale = rng.lognormal(5, 1.5, (series, 1))
    return scale * np.exp(level + noise) * weekday[:, at % 7]
