"""The picture of an alert: what was used and what is usual, likely, or the limit."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import altair as alt

from governor.core.picture import Picture, Style
from governor.pictures import LEVELS, SCALES, WIDTH, WORDS, save, values

HEIGHT: Final = 280
MAX_WHY: Final = 110
"""Characters of a line of the sentence below the title."""
BLUE: Final = "#1f5fa8"
GREY: Final = "#8a8f98"
SHORT: Final = timedelta(days=2)
"""Up to this long, times of the day are on the axis, else days."""
_DASHES: Final = {Style.USUAL: [4, 3], Style.AHEAD: [6, 4]}
_COLOURS: Final = {Style.USED: BLUE, Style.USUAL: GREY, Style.AHEAD: BLUE}


def draw(picture: Picture, path: Path) -> None:
    """Write the picture of an alert to a file. Raise ConfigError."""
    save(chart(picture), path)


def chart(picture: Picture) -> alt.LayerChart:
    """Return the picture as a chart: the one definition for files, messages and pages."""
    scale = SCALES.get(picture.unit, 1)
    layers = [*_band(picture, scale), *_lines(picture, scale)]
    layers += [*_limits(picture, scale), *_marks(picture)]
    found: alt.LayerChart = (
        alt.LayerChart(layer=layers)
        .resolve_scale(color="independent", strokeDash="independent")
        .properties(
            width=WIDTH,
            height=HEIGHT,
            title=alt.TitleParams(
                picture.title,
                subtitle=_folded(picture.why),
                anchor="start",
                subtitleColor="#444444",
                subtitleFontSize=12,
            ),
        )
        .configure_view(stroke="#dddddd")
        .configure_axis(gridColor="#eeeeee", labelColor="#444444", titleColor="#444444")
    )
    return found


def _x(picture: Picture) -> alt.X:
    times = [at for line in picture.lines for at, _ in line.points]
    long = bool(times) and max(times) - min(times) > SHORT
    if long:
        axis = alt.Axis(format="%a %d %b", tickCount="day", labelOverlap=True)
    else:
        axis = alt.Axis(format="%H:%M", labelOverlap=True)
    return alt.X("at:T", title=None, axis=axis, scale=alt.Scale(type="utc"))


def _y(picture: Picture) -> alt.Y:
    return alt.Y("value:Q", title=WORDS.get(picture.unit, str(picture.unit)) or None)


def _lines(picture: Picture, scale: int) -> Iterator[alt.Chart]:
    shares = [line for line in picture.lines if line.style is Style.SHARE]
    others = [line for line in picture.lines if line.style is not Style.SHARE]
    if shares:
        rows = _rows(shares, scale)
        colour = alt.Color("name:N", title=None, sort=[line.name for line in shares])
        yield (
            alt.Chart(values(rows))
            .mark_line(point=True)
            .encode(x=_x(picture), y=_y(picture), color=colour)
        )
    if others:
        names = [line.name for line in others]
        legend = alt.Legend(orient="top-left", symbolType="stroke", symbolSize=300)
        hues = alt.Scale(domain=names, range=[_COLOURS[line.style] for line in others])
        dashes = alt.Scale(domain=names, range=[_DASHES.get(each.style, [1, 0]) for each in others])
        drawn = alt.Chart(values(_rows(others, scale)))
        if any(line.style is Style.USUAL for line in others):
            drawn = drawn.mark_line(strokeWidth=2, interpolate="step-after")
        else:
            drawn = drawn.mark_line(strokeWidth=2)
        yield drawn.encode(
            x=_x(picture),
            y=_y(picture),
            color=alt.Color("name:N", title=None, scale=hues, legend=legend),
            strokeDash=alt.StrokeDash("name:N", title=None, scale=dashes, legend=legend),
        )


def _rows(lines: list[Any], scale: int) -> list[dict[str, Any]]:
    return [
        {"at": at.isoformat(), "value": amount / scale, "name": line.name}
        for line in lines
        for at, amount in line.points
    ]


def _band(picture: Picture, scale: int) -> Iterator[alt.Chart]:
    if picture.band:
        rows = [
            {"at": each.at.isoformat(), "low": each.low / scale, "high": each.high / scale}
            for each in picture.band
        ]
        yield (
            alt.Chart(values(rows))
            .mark_area(opacity=0.18, color=BLUE)
            .encode(x=_x(picture), y=alt.Y("low:Q"), y2="high:Q")
        )


def _limits(picture: Picture, scale: int) -> Iterator[alt.Chart]:
    if picture.limits:
        rows = [{"value": amount / scale, "name": name} for name, amount in picture.limits]
        ruled = alt.Chart(values(rows)).encode(y=_y(picture))
        yield ruled.mark_rule(strokeDash=[4, 3], color=LEVELS["critical"])
        yield ruled.mark_text(
            align="right", baseline="bottom", dy=-2, color=LEVELS["critical"]
        ).encode(text="name:N", x=alt.value(WIDTH - 4))


def _marks(picture: Picture) -> Iterator[alt.Chart]:
    for mark in picture.marks:
        colour = LEVELS.get(mark.level, GREY)
        row = alt.Chart(values([{"at": mark.at.isoformat(), "text": mark.text}]))
        yield row.mark_rule(color=colour, strokeWidth=1.5).encode(x=_x(picture))
        yield row.mark_text(align="right", dx=-4, baseline="top", color=colour).encode(
            x=_x(picture), y=alt.value(4), text="text:N"
        )


def _folded(text: str) -> list[str]:
    """Return a sentence in lines that fit."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= MAX_WHY and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
