"""The outlook: what a period will have cost when it ends, and how sure that is.

The level is that of the last days, without the weekday, by an average in which a day far away moves
it by little. It is carried on with the weekday's share, and corrected by what the same estimate was
wrong by in the last eight weeks, for growth goes on and bursts come. How wide the interval is, says
how much weeks differ and how wrong the estimate was: quantiles of the logarithm of the rest of a
period over its estimate, in units of that, hold for calm and for wild series alike
(`make bench-detect` shows how well).

Arrays have a row for each series and a column for each local day.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HISTORY_DAYS: Final = 70
"""Days of the past that are looked at; all of it as it was on whole local days."""
FEW_DAYS: Final = 14
"""Below so many days the run-rate is what there is, and little is sure."""
WEEKDAY_DAYS: Final = 21
"""Below so many days all weekdays are alike."""
WEEK: Final = 7
GAIN: Final = 0.2
FAR: Final = 0.25
"""How much of a day the level takes in, and how far from it a day counts, at most."""
AHEAD: Final = 14
"""Days over which past estimates are checked."""
TRUSTED: Final = 0.7
"""How much of what past estimates were wrong by is made up for."""
MOST_WRONG: Final = 0.7
UNSURE: Final = 0.6
"""The unit of the interval of a series with few days."""

PROBABILITIES: Final = (0.01, 0.05, 0.10, 0.20, 0.30, 0.50, 0.70, 0.80, 0.90, 0.95, 0.99)
QUANTILES: Final = (-2.4, -1.25, -0.85, -0.47, -0.20, 0.18, 0.68, 1.10, 1.80, 2.6, 4.4)
"""Of the logarithm of the rest of a period over its estimate, in units."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """What the rest of a period will come to: `rest` by the day, and the `unit` of its spread.

    Each has a row for each series; `sure` is False for those with too short a past.
    """

    rest: Floats
    unit: Floats
    sure: npt.NDArray[np.bool_]

    @property
    def total(self) -> Floats:
        """The estimate of all of the rest."""
        return np.asarray(self.rest.sum(axis=1))

    def quantile(self, probability: float) -> Floats:
        """Return what the rest stays below with a probability."""
        place = np.interp(probability, PROBABILITIES, QUANTILES)
        return np.asarray(self.total * np.exp(place * self.unit))

    def above(self, amount: Floats) -> Floats:
        """Return how probable it is that the rest is more than an amount, from 0 to 1."""
        with np.errstate(divide="ignore", invalid="ignore"):
            place = np.log(np.maximum(amount, 0) / self.total) / self.unit
        place = np.nan_to_num(place, nan=0.0)
        below = np.interp(place, QUANTILES, PROBABILITIES, left=0.0, right=1.0)
        return np.where(self.total > 0, 1 - below, 0.0)


def outlook(
    past: Floats,
    known: npt.NDArray[np.int64],
    weekdays: npt.NDArray[np.int64],
    ahead: npt.NDArray[np.int64],
    weights: Floats,
) -> Outlook:
    """Estimate the days `ahead`, by weekday from 0 to 6, of which `weights` are still to come.

    `past` are whole days, the last one yesterday; `weekdays` are theirs. `known` says for how many
    days each series exists: days before count for nothing.
    """
    rest = np.zeros((len(past), len(ahead)))
    unit = np.full(len(past), UNSURE)
    many = np.minimum(known, past.shape[1])
    for length in np.unique(many):
        rows = np.flatnonzero(many == length)
        days = past[rows, past.shape[1] - length :]
        if length < FEW_DAYS:
            mean = days.mean(axis=1) if length else np.zeros(len(rows))
            rest[rows] = mean[:, None] * weights
            continue
        shares = _shares(days, weekdays[len(weekdays) - length :])
        found, unit[rows] = _estimate(days, shares, weekdays, float(weights.sum()))
        rest[rows] = found[:, None] * shares[:, ahead] * weights
    return Outlook(rest, unit, many >= FEW_DAYS)


def _shares(days: Floats, weekdays: npt.NDArray[np.int64]) -> Floats:
    """Return what each weekday is of the mean of its week: an array of (series, 7)."""
    shares = np.ones((len(days), 7))
    if days.shape[1] < WEEKDAY_DAYS:
        return shares
    week = np.lib.stride_tricks.sliding_window_view(days, 7, axis=1).mean(axis=2)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(week > 0, days[:, 3:-3] / week, np.nan)
    for weekday in range(7):
        some = ratio[:, weekdays[3:-3] == weekday]
        known = np.isfinite(some).any(axis=1)
        shares[known, weekday] = np.nanmedian(some[known], axis=1)
    mean = shares.mean(axis=1, keepdims=True)
    return np.maximum(shares / np.where(mean > 0, mean, 1.0), 0.02)


def _estimate(
    days: Floats, shares: Floats, weekdays: npt.NDArray[np.int64], left: float
) -> tuple[Floats, Floats]:
    """Return the level of the days to come, without the weekday, and the unit of the spread."""
    many = days.shape[1]
    plain = days / shares[:, weekdays[len(weekdays) - many :]]
    levels = _levels(plain)
    errors = _errors(plain, levels)
    wrong = np.median(errors, axis=0) if len(errors) else np.zeros(len(days))
    weeks = plain[:, many % 7 :].reshape(len(days), -1, 7).mean(axis=2)
    floor = 1e-3 * plain.mean(axis=1, keepdims=True) + 1e-9
    changes = np.diff(np.log(np.maximum(weeks, floor)), axis=1)[:, -8:]
    strays = np.sqrt(np.mean((errors - wrong) ** 2, axis=0)) if len(errors) else UNSURE
    unit = (0.5 * changes.std(axis=1) + 0.5 * strays + 0.05) * min(1.0, 0.8 + 0.2 * left / AHEAD)
    wrong = TRUSTED * np.clip(wrong, -MOST_WRONG, MOST_WRONG) * min(1.0, left / AHEAD)
    if many < 2 * AHEAD + 7:
        unit = np.maximum(unit, UNSURE / 2)
    return levels[:, -1] * np.exp(wrong), unit


def _levels(plain: Floats) -> Floats:
    """Return the level after each day; the first week begins it."""
    week = plain[:, :WEEK]
    level = np.median(week, axis=1)
    level = np.where(level > 0, level, week.mean(axis=1))
    found = np.empty_like(plain)
    for day in range(plain.shape[1]):
        if day >= WEEK:
            most = FAR * level
            level = level + GAIN * np.clip(plain[:, day] - level, -most, most)
            level = np.where(level > 0, level, plain[:, day])
        found[:, day] = level
    return found


def _errors(plain: Floats, levels: Floats) -> Floats:
    """Return how wrong the level was as an estimate of the days after it, from time to time."""
    many = plain.shape[1]
    floor = 1e-3 * plain.mean(axis=1) + 1e-9
    found = [
        np.log(np.maximum(plain[:, day : day + AHEAD].mean(axis=1), floor))
        - np.log(np.maximum(levels[:, day - 1], floor))
        for day in range(max(14, many - 56), many - AHEAD + 1, 2)
    ]
    return np.array(found)
