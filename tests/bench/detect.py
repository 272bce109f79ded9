"""Detection beside textbook methods, on the same series in the same run, with seeds.

Thresholds of the textbook methods are chosen on the design seed, one for all kinds of traffic, so
that they err as often as ours may: the best that each can do with one setting. What is printed is
from other seeds. `--small` is a draw of it in a minute.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import duckdb
import numpy as np
import numpy.typing as npt

from governor.adapters.duckdb.file import schema
from governor.adapters.duckdb.histories import histories
from governor.core import mix
from governor.core.gauges.spike import SpikeGauge
from governor.core.outlook import outlook
from governor.core.rules.shared import Level, Threshold
from governor.core.rules.spike import Spike
from governor.core.series import Asked, Slot
from governor.core.spikes import HOURS, Baselines
from tests.bench.months import daily
from tests.bench.traffic import KINDS, TROUBLES, Floats, Trouble, quiet, troubled

WEEK: Final = 168
HISTORY: Final = 3 * WEEK
DESIGN_SEED: Final = 1
REPORT_SEED: Final = 2_026
ALLOWED: Final = 0.03
"""False alarms a series and week that a method may have, over all kinds."""
COOL: Final = 24
NANO: Final = 10**9

Marks = npt.NDArray[np.bool_]
Scores = Callable[[Floats], tuple[Floats, Floats]]
"""Returns the score of each hour, and what the method takes for usual in it."""


def utc(hour: int) -> Slot:
    """Return where an hour lies: weekdays first."""
    return Slot(hour % 24, hour // 24 % 7 >= 5, hour // 24)


# ---------------------------------------------------------------------------------------- spikes


def ours(costs: Floats) -> Marks:
    """Return in which hours an episode begins."""
    nano = (costs * NANO).astype(np.int64)
    series = Baselines(utc, Asked(), len(costs))
    began = np.zeros(costs.shape, np.bool_)
    before = series.open.copy()
    for hour in range(costs.shape[1]):
        series.open_hour(hour)
        series.used[hour % HOURS] = nano[:, hour]
        series.close(hour)
        now = series.open.copy()
        began[:, hour] = now & ~before
        before = now
    return began


def last_week(costs: Floats) -> tuple[Floats, Floats]:
    """Score an hour by how many times the same hour of last week it is; a floor keeps it finite."""
    usual = np.full_like(costs, np.inf)
    usual[:, WEEK:] = costs[:, :-WEEK]
    floor = 0.2 * costs[:, :HISTORY].mean(axis=1, keepdims=True)
    return costs / (usual + floor), usual


def rolling(costs: Floats) -> tuple[Floats, Floats]:
    """Score an hour by the standard deviations from the mean of the last week."""
    added = np.cumsum(np.pad(costs, ((0, 0), (1, 0))), axis=1)
    squared = np.cumsum(np.pad(costs**2, ((0, 0), (1, 0))), axis=1)
    mean, deviation = np.full_like(costs, np.inf), np.ones_like(costs)
    mean[:, WEEK:] = (added[:, WEEK:-1] - added[:, : -WEEK - 1]) / WEEK
    variance = (squared[:, WEEK:-1] - squared[:, : -WEEK - 1]) / WEEK - mean[:, WEEK:] ** 2
    deviation[:, WEEK:] = np.sqrt(np.maximum(variance, 1e-12))
    return (costs - mean) / deviation, mean


def hour_of_day(costs: Floats) -> tuple[Floats, Floats]:
    """Score an hour by deviations from the median of that hour in the last 28 days."""
    middle, spread = np.full_like(costs, np.inf), np.ones_like(costs)
    floor = 0.2 * costs[:, :HISTORY].mean(axis=1)
    for hour in range(WEEK, costs.shape[1]):
        past = costs[:, hour % 24 : hour : 24][:, -28:]
        median = np.median(past, axis=1)
        middle[:, hour] = median
        strays = np.median(np.abs(past - median[:, None]), axis=1)
        spread[:, hour] = np.maximum(1.4826 * strays, floor)
    return (costs - middle) / spread, middle


TEXTBOOK: Final[dict[str, Scores]] = {
    "same hour last week": last_week,
    "mean and deviation, 7 d": rolling,
    "hour of day, median": hour_of_day,
}


def told(costs: Floats, score: Floats, usual: Floats, threshold: float) -> Marks:
    """Return in which hours a method alarms, with the guards and the cool-down that ours has."""
    day = costs[:, :HISTORY].mean(axis=1, keepdims=True) * 24
    heavy = (costs >= 1.3 * usual) & (costs - usual >= 0.05 * day)
    over = (score >= threshold) & heavy
    began = np.zeros_like(over)
    until = np.full(len(costs), -1)
    for hour in range(costs.shape[1]):
        fresh = over[:, hour] & (until < hour)
        began[:, hour] = fresh
        until[fresh] = hour + COOL
    return began


def rate(began: Marks, weeks: int) -> float:
    """Return false alarms a series and week after the history."""
    return float(began[:, HISTORY:].sum()) / len(began) / weeks


def calibrated(method: Scores, series: int, weeks: int) -> float:
    """Return the least threshold with which a method errs no more than it may, on design series."""
    drawn = [
        quiet(kind, series, HISTORY + weeks * WEEK, np.random.default_rng([DESIGN_SEED, place]))
        for place, kind in enumerate(KINDS)
    ]
    scored = [(costs, *method(costs)) for costs in drawn]
    low, high = 1.0, 1e6
    for _ in range(30):
        middle = float(np.sqrt(low * high))
        found = np.mean([rate(told(*each, middle), weeks) for each in scored])
        low, high = (middle, high) if found > ALLOWED else (low, middle)
    return high


def recalls(find: Callable[[Floats], Marks], series: int, seed: int) -> dict[str, list[float]]:
    """Return by kind, for each trouble, in how much of the series it is told while it lasts."""
    found: dict[str, list[float]] = {}
    for place, kind in enumerate(KINDS):
        rng = np.random.default_rng([seed, 100 + place])
        found[kind] = [_recall(find, kind, series, trouble, rng) for trouble in TROUBLES]
    return found


def _recall(
    find: Callable[[Floats], Marks],
    kind: str,
    series: int,
    trouble: Trouble,
    rng: np.random.Generator,
) -> float:
    costs = quiet(kind, series, HISTORY + 24 * 13, rng)
    busy = costs[:, HISTORY : HISTORY + 48] >= 0.8 * costs.mean(axis=1, keepdims=True)
    starts = HISTORY + np.array(
        [rng.choice(np.flatnonzero(row)) if row.any() else 0 for row in busy]
    )
    began = find(troubled(costs, trouble, starts))
    hits = [began[row, start : start + trouble.hours + 1].any() for row, start in enumerate(starts)]
    return float(np.mean(hits))


def spikes(series: int, quarter: int, weeks: int) -> Iterator[str]:
    """Print false alarms over quiet quarters, and recall, beside the textbook."""
    yield f"Spikes: design seed {DESIGN_SEED}, reported seed {REPORT_SEED}; {quarter} series of"
    yield f"{weeks} quiet weeks after 3 of history by kind, {series} by kind and trouble"
    methods: dict[str, Callable[[Floats], Marks]] = {"governor": ours}
    for name, scores in TEXTBOOK.items():
        limit = calibrated(scores, max(series, 40), 4)
        methods[name] = lambda costs, s=scores, at=limit: told(costs, *s(costs), at)  # type: ignore[misc]
    head = " ".join(f"{kind:>7}" for kind in KINDS)
    yield f"{'false alarms a series and week':34} {head}     all"
    for name, find in methods.items():
        rates = [
            rate(
                find(
                    quiet(
                        kind,
                        quarter,
                        HISTORY + weeks * WEEK,
                        np.random.default_rng([REPORT_SEED, place]),
                    )
                ),
                weeks,
            )
            for place, kind in enumerate(KINDS)
        ]
        shown = " ".join(f"{each:7.4f}" for each in rates)
        yield f"{name:34} {shown} {np.mean(rates):7.4f}"
    yield f"{'found while it lasts':34} {head}     dense, medium, batch"
    for name, find in methods.items():
        found = recalls(find, series, REPORT_SEED)
        means = {kind: float(np.mean(each)) for kind, each in found.items()}
        shown = " ".join(f"{means[kind]:6.0%} " for kind in KINDS)
        main = np.mean([means[kind] for kind in ("dense", "medium", "batch")])
        yield f"{name:34} {shown} {main:7.0%}"
        if name == "governor":
            for place, trouble in enumerate(TROUBLES):
                row = " ".join(f"{found[kind][place]:6.0%} " for kind in KINDS)
                yield f"  {trouble.name:32} {row}"


# ------------------------------------------------------------------------------------------- mix

PLAN: Final = np.array([0.6, 0.3, 0.1])
MOVED: Final = np.array([0.5, 0.375, 0.125])


def drawn(
    shares: Floats, requests: int, clusters: int, many: int, rng: np.random.Generator
) -> Floats:
    """Return counts of windows whose requests come in clusters of a size."""
    counts = rng.multinomial(requests // clusters, shares, many) * float(clusters)
    return np.asarray(counts, np.float64)


def _ours_mix(window: Floats, past: Floats) -> bool:
    found = mix.of_requests(window, past)
    return bool(found.enough and (np.abs(found.moved) >= 0.05).any())


def _psi(window: Floats, past: Floats) -> bool:
    one, other = window / window.sum(), past.sum(axis=0) / past.sum()
    one, other = np.maximum(one, 1e-4), np.maximum(other, 1e-4)
    return bool(((one - other) * np.log(one / other)).sum() > 0.1)


def _chi(window: Floats, past: Floats) -> bool:
    usual = past.sum(axis=0) / past.sum()
    expected = usual * window.sum()
    critical = 13.8155  # of two degrees at 1 in 1,000
    return bool(((window - expected) ** 2 / expected).sum() > critical)


def _tvd(window: Floats, past: Floats) -> bool:
    usual = past.sum(axis=0) / past.sum()
    return bool(np.abs(window / window.sum() - usual).sum() / 2 > 0.05)


MIXES: Final = {
    "governor, 5 points": _ours_mix,
    "PSI > 0.1": _psi,
    "chi-square, p < 0.001": _chi,
    "total variation > 5 points": _tvd,
}


def drift(times: int) -> Iterator[str]:
    """Print false alarms a look, and the power for ten points, of 28 windows before."""
    settings = [(1_000, 1), (1_000, 10), (10_000, 1), (10_000, 10), (100_000, 10)]
    yield ""
    yield f"Mix 60/30/10, requests a window x cluster size; seed {REPORT_SEED}, {times:,} looks"
    yield f"{'':34} " + " ".join(f"{f'{n:,}x{c}':>12}" for n, c in settings)
    for title, shares in (("false", PLAN), ("10 points found", MOVED)):
        for name, judge in MIXES.items():
            row = []
            for requests, clusters in settings:
                rng = np.random.default_rng([REPORT_SEED, requests, clusters])
                hits = sum(
                    judge(
                        drawn(shares, requests, clusters, 1, rng)[0],
                        drawn(PLAN, requests, clusters, 28, rng),
                    )
                    for _ in range(times)
                )
                row.append(f"{hits / times:12.2%}")
            yield f"{title + ': ' + name:34.34} {' '.join(row)}"


# -------------------------------------------------------------------------------------- outlook


class Estimate(NamedTuple):
    """What a method says at a day, and the truth."""

    likely: Floats
    truth: Floats


PERIOD: Final = 28
BEGINS: Final = 112
ELAPSED: Final = (1, 3, 7, 14, 21)


def forecasts(series: int) -> Iterator[str]:
    """Print median errors by day elapsed, beside the textbook; coverage; false alarms."""
    costs = daily(series, BEGINS + PERIOD, np.random.default_rng(REPORT_SEED))
    truth = costs[:, BEGINS:].sum(axis=1)
    yield ""
    yield f"Period of 28 days, {series:,} daily series; seed {REPORT_SEED}; day elapsed"
    yield f"{'median error':34} " + " ".join(f"{day:>7}" for day in ELAPSED)
    errors: dict[str, list[float]] = {}
    more: dict[str, list[float]] = {}
    for day in ELAPSED:
        today = BEGINS + day
        so_far = costs[:, BEGINS:today].sum(axis=1)
        left = PERIOD - day
        found = outlook(
            costs[:, today - 70 : today],
            np.full(series, 70),
            np.arange(today - 70, today) % 7,
            np.arange(today, BEGINS + PERIOD) % 7,
            np.ones(left),
        )
        estimates = {
            "governor": so_far + found.quantile(0.5),
            "run-rate": so_far / day * PERIOD,
            "mean of the last 7 days": so_far + costs[:, today - 7 : today].mean(axis=1) * left,
            "the last 28 days again": so_far + costs[:, today - 28 : today - 28 + left].sum(axis=1),
        }
        for name, likely in estimates.items():
            errors.setdefault(name, []).append(float(np.median(np.abs(likely - truth) / truth)))
        low, high = (so_far + found.quantile(share) for share in (0.1, 0.9))
        for name, value in (
            ("interval of 80 % holds", np.mean((low <= truth) & (truth <= high))),
            ("false: budget is 1.15 x the end", np.mean(found.above(1.15 * truth - so_far) >= 0.8)),
            ("true: budget is 0.87 x the end", np.mean(found.above(0.87 * truth - so_far) >= 0.8)),
        ):
            more.setdefault(name, []).append(float(value))
    for name, row in (*errors.items(), *more.items()):
        yield f"{name:34} " + " ".join(f"{each:7.1%}" for each in row)


# ------------------------------------------------------------------------------------------ cost


def cost(many: int, stored: int) -> Iterator[str]:
    """Print what a look and a close cost, how large the state is, and how long a start takes."""
    rng = np.random.default_rng(REPORT_SEED)
    series = Baselines(utc, Asked(), many)
    amounts = rng.integers(0, NANO, many)
    finds, closes = [], []
    for hour in range(200):
        series.open_hour(hour)
        series.used[hour % HOURS] = amounts
        began = time.process_time()
        series.find(hour)
        middle = time.process_time()
        series.close(hour)
        finds.append(middle - began)
        closes.append(time.process_time() - middle)
    size = sum(held.nbytes for held in series.state.values()) / many
    yield ""
    yield f"Cost, one core: a look at {many:,} series {np.median(finds):.3f} s, and at the end"
    yield f"of an hour {np.median(closes):.3f} s more (limit 1.0 s)"
    yield f"State: {size:,.0f} bytes a series (limit 2,000)"
    seconds, found = start_up(stored, 90)
    yield f"Start from 90 days of hourly sums of {stored:,} series in DuckDB: {seconds:.1f} s"
    yield f"(limit 10 s), {found:,} groups taken up"


def start_up(series: int, days: int) -> tuple[float, int]:
    """Return how long a spike gauge takes to begin with so much history, and its groups."""
    now = datetime(2026, 3, 31, 12, 30, tzinfo=UTC)
    with tempfile.TemporaryDirectory() as folder:
        connection = duckdb.connect(Path(folder) / "g.duckdb", config={"threads": "2"})
        connection.execute("SET TimeZone = 'UTC'; SET enable_progress_bar = false")
        connection.execute(schema())
        connection.execute(
            "INSERT INTO rollup_hour (bucket, feature, requests, cap_nano, cost_nano)"
            " SELECT TIMESTAMPTZ '2026-03-31 12:00:00+00' - to_hours(h::INTEGER), 'f' || s, 10,"
            " (1e9 * (1 + random()))::BIGINT, 0"
            " FROM range($1) hours(h), range($2) series(s)",
            [days * 24, series],
        )
        rule = Spike(
            id="s",
            owner="o",
            summary="s",
            limit_text="1 USD",
            thresholds=(Threshold("1 USD", NANO, Level.INFO),),
            per=("feature",),
            lookback=timedelta(days=days),
        )
        gauge = SpikeGauge(rule)
        began = time.perf_counter()
        gauge.take(histories(connection, gauge.wanted(now)), now)
        taken = time.perf_counter() - began
        connection.close()
        return taken, len(gauge)


def main(arguments: Sequence[str] | None = None) -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="a draw of it, in a minute")
    small = parser.parse_args(arguments).small
    began = time.perf_counter()
    for lines in (
        spikes(*((20, 20, 4) if small else (100, 250, 13))),
        drift(200 if small else 2_000),
        forecasts(300 if small else 3_000),
        cost(20_000 if small else 100_000, 1_000 if small else 10_000),
    ):
        for line in lines:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
    sys.stdout.write(f"\n{time.perf_counter() - began:.0f} s in all\n")


if __name__ == "__main__":
    main()
