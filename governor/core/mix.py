"""Mix: how shares of usage differ from what they were, or from what was planned.

Requests cluster: a customer's thousand calls are not a thousand independent choices. How much they
do, the past says: Pearson's chi-square of its buckets over their degrees of freedom is what
variances must be multiplied by (quasi-likelihood, McCullagh and Nelder 1989). Dollars are no counts
at all, and are compared by the shares of their buckets. Neither calls a difference sure that many
looks at nothing would show.
"""

from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

ALPHA: Final = 1e-4
"""The chance of calling a difference sure where there is none, for all classes of a look."""
PRIOR_DEGREES: Final = 6
PRIOR_CLUSTERING: Final = 1.5
"""What is believed of clustering before the past says anything, and how firmly."""
KEPT: Final = 0.8
"""The share of past buckets by which clustering is known, those that stray least."""
PER_CLUSTER: Final = 100
"""So many requests a window must hold, times their clustering, for its shares to say much."""
FEWEST_BUCKETS: Final = 5
TRIMMED_BUCKETS: Final = 8
"""Of fewer buckets none is left out."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The share of each class, what it was or was to be, and whether the difference is sure.

    `enough` says whether the window holds enough for shares to say anything.
    """

    share: Floats
    usual: Floats
    sure: npt.NDArray[np.bool_]
    enough: bool

    @property
    def moved(self) -> Floats:
        """By how much each share differs."""
        return np.asarray(np.where(self.sure, self.share - self.usual, 0.0))


def of_requests(window: Floats, buckets: Floats, target: Floats | None = None) -> Shares:
    """Compare the requests of each class in a window with those of past buckets, or a target.

    `window` has one number a class, `buckets` a row for each of the past. Of these a fifth is left
    out, those that stray most: one incident neither becomes what is usual at once, nor does it make
    all that follows look like chance.
    """
    filled = buckets[buckets.sum(axis=1) > 0]
    kept = _alike(filled)
    total, past = float(window.sum()), kept.sum(axis=0)
    before = float(past.sum())
    usual = target if target is not None else past / max(before, 1.0)
    share = window / max(total, 1.0)
    clustering, degrees = _clustering(kept, len(filled))
    known = 0.0 if target is not None else 1 / max(before, 1.0)
    least = 0.5 / max(total + before, 1.0)
    chance = np.clip(usual, least, 1 - least)
    deviation = np.sqrt(clustering * chance * (1 - chance) * (1 / max(total, 1.0) + known))
    need = _quantile(ALPHA / (2 * max(len(window), 1)), degrees + PRIOR_DEGREES)
    enough = total >= PER_CLUSTER * clustering and len(filled) >= FEWEST_BUCKETS
    return Shares(share, usual, np.abs(share - usual) > need * deviation, enough)


def _alike(buckets: Floats) -> Floats:
    """Return the buckets whose shares are most like those in the middle."""
    if len(buckets) < TRIMMED_BUCKETS:
        return buckets
    totals = buckets.sum(axis=1, keepdims=True)
    middle = np.median(buckets / totals, axis=0)
    strays = _strays(buckets, middle / max(float(middle.sum()), 1e-9))
    return buckets[np.sort(np.argsort(strays)[: int(len(buckets) * KEPT)])]


def _strays(buckets: Floats, shares: Floats) -> Floats:
    """Return Pearson's chi-square of each bucket about some shares."""
    expected = buckets.sum(axis=1, keepdims=True) * shares
    least = np.maximum(expected, 0.5)
    return np.asarray(((buckets - expected) ** 2 / least).sum(axis=1))


def _clustering(kept: Floats, many: int) -> tuple[float, int]:
    """Return by how much counts vary more than chance alone would have it, and how sure that is.

    `kept` are those of `many` buckets that stray least; what they stray is put in proportion.
    """
    present = kept[:, kept.sum(axis=0) > 0]
    classes = present.shape[1]
    degrees = max(len(kept) - 1, 0) * max(classes - 1, 0)
    if not degrees:
        return PRIOR_CLUSTERING, 0
    strays = _strays(present, present.sum(axis=0) / present.sum())
    share = _kept_share(classes - 1) if len(kept) < many else 1.0
    whole = float(strays.mean()) / share * len(kept)
    pooled = (whole + PRIOR_DEGREES * PRIOR_CLUSTERING) / (degrees + PRIOR_DEGREES)
    return max(1.0, pooled), degrees


def _kept_share(degrees: int) -> float:
    """Return the mean of the lower KEPT of a chi-square, in means of all of it.

    By the cube-root approximation of Wilson and Hilferty (1931).
    """
    normal = NormalDist()
    spread = 2 / (9 * degrees)
    bound = degrees * (1 - spread + normal.inv_cdf(KEPT) * spread**0.5) ** 3
    above = 2 / (9 * (degrees + 2))
    share = normal.cdf(((bound / (degrees + 2)) ** (1 / 3) - (1 - above)) / above**0.5)
    return share / KEPT


def of_cost(
    window: Floats, buckets: Floats, requests: float, target: Floats | None = None
) -> Shares:
    """Compare the cost of each class in a window with that of past buckets, or a target.

    `requests` are those of the window. A bucket's shares count as one observation.
    """
    filled = buckets[buckets.sum(axis=1) > 0]
    total = float(window.sum())
    share = window / total if total > 0 else np.zeros(len(window))
    past = filled / filled.sum(axis=1, keepdims=True)
    many = len(past)
    mean = past.mean(axis=0) if many else np.zeros(len(window))
    usual = target if target is not None else mean
    strays = past.std(axis=0, ddof=1) if many > 1 else np.full(len(window), 1.0)
    effective = max(requests / PER_CLUSTER, 1.0)
    least = 0.5 * np.sqrt(np.clip(usual * (1 - usual), 1e-4, None) / effective)
    known = 0.0 if target is not None else 1 / max(many, 1)
    need = _quantile(ALPHA / max(len(window), 1), max(many - 1, 1))
    far = np.abs(share - usual) > need * np.maximum(strays, least) * np.sqrt(1 + known)
    return Shares(share, usual, far, many >= FEWEST_BUCKETS and requests >= 10 * PER_CLUSTER)


def _quantile(above: float, degrees: int) -> float:
    """Return what Student's t exceeds with a probability (Abramowitz and Stegun 26.7.5)."""
    z: float = -NormalDist().inv_cdf(above)
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(z + sum(term / degrees**power for power, term in enumerate(terms, 1)))
