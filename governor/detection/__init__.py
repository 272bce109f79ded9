"""Detection over a file: what in anybody's series is unlike its own past, point by point."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from governor.core.errors import ConfigError
from governor.core.surprise import PARTS, Score, Surprise

TIME_NAMES: Final = ("timestamp", "time", "date", "datetime", "ts", "day", "hour", "at")
VALUE_NAMES: Final = ("value", "cost", "amount", "spend", "usage", "count", "y")
MAX_SERIES: Final = 10_000
MAX_POINTS: Final = 10_000_000
_NOTHING: Final = Score(0.0, (0.0,) * len(PARTS))


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns hold the time, the value, and the name of the series; None for one series."""

    time: str
    value: str
    series: str | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """A point as it stood in the file; `value` is None where there is none."""

    timestamp: str
    at: datetime
    value: float | None
    series: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A point and what is thought of it."""

    point: Point
    score: Score


def columns_of(path: Path, time: str | None, value: str | None, series: str | None) -> Columns:
    """Return the columns of a file, those that are not named by what they are usually called.

    Raise ConfigError where one is not there.
    """
    header = _header(path)
    return Columns(
        time=_column(path, header, "--time", time, TIME_NAMES),
        value=_column(path, header, "--value", value, VALUE_NAMES),
        series=None if series is None else _column(path, header, "--series", series, ()),
    )


def _header(path: Path) -> Sequence[str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({_plain(error)})") from error


def _plain(error: Exception) -> str:
    return error.strerror or "" if isinstance(error, OSError) else "it is not UTF-8 text"


def _column(
    path: Path, header: Sequence[str], option: str, named: str | None, usual: Sequence[str]
) -> str:
    if named is not None:
        if named in header:
            return named
        raise ConfigError(f"{option} {named!r}: {path} has the columns {', '.join(header)}")
    known = {name.strip().casefold(): name for name in header}
    for name in usual:
        if name in known:
            return known[name]
    raise ConfigError(f"{path} has the columns {', '.join(header)}; name one by {option}")


def points(path: Path, columns: Columns) -> Iterator[Point]:
    """Yield the points of a file in its order; raise ConfigError at the first that is none."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            if number > MAX_POINTS + 1:
                raise ConfigError(f"{path} has more than {MAX_POINTS:,} points")
            place = f"{path}:{number}"
            stamp, text = row.get(columns.time) or "", row.get(columns.value) or ""
            yield Point(
                timestamp=stamp,
                at=moment(stamp, place),
                value=_number(text, place),
                series=(row.get(columns.series) or "") if columns.series else "",
            )


def moment(text: str, place: str) -> datetime:
    """Read a time: ISO 8601, or seconds since 1970; without a zone it is UTC."""
    stripped = text.strip()
    try:
        seconds = float(stripped)
    except ValueError:
        pass
    else:
        try:
            return datetime.fromtimestamp(seconds, UTC)
        except (OverflowError, ValueError, OSError):
            raise ConfigError(f"{place}: {text[:40]!r} is no time") from None
    try:
        found = datetime.fromisoformat(stripped)
    except ValueError:
        why = "is no time; write such as 2026-11-01T09:00:00"
        raise ConfigError(f"{place}: {text[:40]!r} {why}") from None
    return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)


def _number(text: str, place: str) -> float | None:
    if not text.strip():
        return None
    try:
        found = float(text)
    except ValueError:
        raise ConfigError(f"{place}: {text[:40]!r} is no number") from None
    return found if math.isfinite(found) else None


def judge(found: Iterable[Point]) -> Iterator[Judged]:
    """Yield each point with its score, by the points of its series before it alone."""
    series: dict[str, Surprise] = {}
    for point in found:
        if point.series not in series and len(series) == MAX_SERIES:
            raise ConfigError(f"there are more than {MAX_SERIES:,} series")
        surprise = series.setdefault(point.series, Surprise())
        known = point.value is not None
        score = surprise.see(point.at, point.value) if known and point.value is not None else None
        yield Judged(point, score or _NOTHING)


def row_of(judged: Judged, columns: Columns) -> Mapping[str, str]:
    """Return what is written of a point."""
    point, score = judged.point, judged.score
    named = {columns.series: point.series} if columns.series else {}
    return {
        **named,
        "timestamp": point.timestamp,
        "value": "" if point.value is None else f"{point.value:.12g}",
        "score": f"{score.score:.6f}",
        "alarm": str(int(score.alarm)),
    }
