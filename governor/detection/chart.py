"""A picture of what was detected: each series with its alarms.

The libraries that draw are an extra, `governor[charts]`; load this when a picture is asked for.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import altair as alt

from governor.detection import Judged
from governor.pictures import HEIGHT, LEVELS, WIDTH, check_name, save, values

MAX_SERIES: Final = 8
MAX_DRAWN: Final = 20_000
"""Points of a series that are drawn; of more, some and all alarms."""


def draw(judged: Sequence[Judged], path: Path) -> None:
    """Write a picture of the series with most alarms. Raise ConfigError."""
    check_name(path)
    series: dict[str, list[Judged]] = defaultdict(list)
    for each in judged:
        series[each.point.series].append(each)
    most = sorted(series, key=lambda name: -sum(each.score.alarm for each in series[name]))
    picture = alt.vconcat(*(_of_series(name, series[name]) for name in most[:MAX_SERIES]))
    save(picture, path)


def _of_series(name: str, judged: Sequence[Judged]) -> alt.LayerChart:
    step = max(1, len(judged) // MAX_DRAWN)
    alarms = [each for each in judged if each.score.alarm]
    x = alt.X("at:T", title=None, scale=alt.Scale(type="utc"))
    y = alt.Y("value:Q", title=None)
    line = alt.Chart(_values(judged[::step])).mark_line(strokeWidth=1).encode(x=x, y=y)
    marks = alt.Chart(_values(alarms)).mark_point(filled=True, size=70, color=LEVELS["critical"])
    told = f"{len(alarms):,} alarm{'' if len(alarms) == 1 else 's'}"
    layers: alt.LayerChart = alt.LayerChart(layer=[line, marks.encode(x="at:T", y="value:Q")])
    return layers.properties(
        width=WIDTH,
        height=HEIGHT,
        title=alt.TitleParams(name or "all", subtitle=told, anchor="start"),
    )


def _values(judged: Sequence[Judged]) -> alt.InlineData:
    return values(
        {"at": each.point.at.isoformat(), "value": each.point.value, "why": each.score.why}
        for each in judged
    )
