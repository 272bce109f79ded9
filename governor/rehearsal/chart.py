"""A picture of a backtest: what rules counted, their thresholds, and when they fired.

The libraries that draw are an extra, `governor[charts]`; load this when a picture is asked for.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import altair as alt

from governor.core.errors import ConfigError
from governor.core.rules.shared import Rule
from governor.pictures import HEIGHT, LEVELS, SCALES, WIDTH, WORDS, check_name, save
from governor.rehearsal.backtest import Backtest, Sample

MAX_RULES: Final = 6
MAX_GROUPS: Final = 5


def draw(backtest: Backtest, rules: Mapping[str, Rule], path: Path) -> None:
    """Write a picture: PNG, SVG, or Vega-Lite as JSON, by the name's ending. Raise ConfigError."""
    check_name(path)
    shown = _most_telling(backtest, rules)
    if not shown:
        raise ConfigError("there is nothing to draw: no usage was counted by any rule")
    charts = [_of_rule(backtest, rule) for rule in shown]
    span = f"{backtest.start:%Y-%m-%d %H:%M} to {backtest.end:%Y-%m-%d %H:%M} UTC"
    title = alt.TitleParams(f"What rules would have done, {span}", anchor="start")
    picture = alt.vconcat(*charts, title=title).configure_view(stroke="#dddddd")
    save(picture, path)


def _most_telling(backtest: Backtest, rules: Mapping[str, Rule]) -> list[Rule]:
    """Return the rules that fired most, then those that counted something."""
    counted = Counter(sample.rule for sample in backtest.samples)
    named = sorted(counted, key=lambda name: (-backtest.fired.get(name, 0), name))
    return [rules[name] for name in named[:MAX_RULES]]


def _of_rule(backtest: Backtest, rule: Rule) -> alt.LayerChart:
    scale = SCALES.get(rule.unit, 1)
    unit = WORDS.get(rule.unit, str(rule.unit))
    sign = -1 if getattr(rule, "below", False) else 1
    samples = _greatest(sample for sample in backtest.samples if sample.rule == rule.id)
    line = alt.Chart(
        alt.InlineData(
            values=[
                {
                    "at": sample.at.isoformat(),
                    "value": sign * sample.amount / scale,
                    "group": _name(sample.group),
                }
                for sample in samples
            ]
        )
    )
    span = [backtest.start.isoformat(), backtest.end.isoformat()]
    x = alt.X("at:T", title=None, scale=alt.Scale(type="utc", domain=span))
    y = alt.Y("value:Q", title=unit or None)
    colour = alt.Color("group:N", title=None, legend=None if not rule.per else alt.Legend())
    drawn = line.mark_line(interpolate="step-after").encode(x=x, y=y, color=colour)
    layers = alt.layer(
        drawn, *_levels(rule, scale, sign), _firings(backtest, rule, scale, sign)
    ).resolve_scale(color="independent")
    picture: alt.LayerChart = layers.properties(
        width=WIDTH,
        height=HEIGHT,
        title=alt.TitleParams(
            rule.id,
            subtitle=f"{rule.mode}, {backtest.fired.get(rule.id, 0):,} alerts",
            anchor="start",
        ),
    )
    return picture


def _levels(rule: Rule, scale: int, sign: int) -> list[Any]:
    """Return a line for each threshold."""
    return [
        alt.Chart(alt.InlineData(values=[{"value": sign * threshold.amount / scale}]))
        .mark_rule(strokeDash=[4, 3], color=LEVELS[str(threshold.level)])
        .encode(y="value:Q")
        for threshold in rule.thresholds
    ]


def _firings(backtest: Backtest, rule: Rule, scale: int, sign: int) -> Any:
    """Return a mark for each threshold that was crossed."""
    values = [
        {"at": row["at"].isoformat(), "value": sign * row["amount"] / scale, "level": row["level"]}
        for row in backtest.transitions
        if row["rule"] == rule.id and row["threshold"]
    ]
    colour = alt.Color(
        "level:N",
        title=None,
        legend=None,
        scale=alt.Scale(domain=list(LEVELS), range=list(LEVELS.values())),
    )
    return (
        alt.Chart(alt.InlineData(values=values))
        .mark_point(filled=True, size=60)
        .encode(x="at:T", y="value:Q", color=colour)
    )


def _greatest(samples: Iterable[Sample]) -> Sequence[Sample]:
    """Return the samples of the groups that came to most."""
    listed = list(samples)
    most: dict[tuple[str | None, ...], int] = {}
    for sample in listed:
        most[sample.group] = max(sample.amount, most.get(sample.group, sample.amount))
    kept = sorted(most, key=lambda group: -most[group])[:MAX_GROUPS]
    return [sample for sample in listed if sample.group in kept]


def _name(group: Sequence[str | None]) -> str:
    return ", ".join("(none)" if value is None else value for value in group) or "all"
