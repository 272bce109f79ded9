"""Pictures: how charts are drawn and written, with altair.

The libraries that draw are an extra, `governor[charts]`; load this when a picture is asked for.
"""

from pathlib import Path
from typing import Any, Final

import altair as alt
import vl_convert  # noqa: F401  # draws for altair

from governor.core.errors import ConfigError
from governor.core.pricing import NANO_PER_USD
from governor.core.rules.units import MICRO, Unit

SUFFIXES: Final = (".png", ".svg", ".html", ".json")
WIDTH: Final = 900
HEIGHT: Final = 160
LEVELS: Final = {"info": "#4c78a8", "warning": "#e08a00", "critical": "#c0392b"}
SCALES: Final = {Unit.COST: NANO_PER_USD, Unit.SHARE: MICRO // 100, Unit.COUNT: MICRO}
"""What an amount is divided by to be drawn."""
WORDS: Final = {Unit.COST: "USD", Unit.SHARE: "%", Unit.COUNT: "", Unit.SPAN: "seconds"}


def check_name(path: Path) -> None:
    """Raise ConfigError where a name says of no format that is known."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"{path}: write a name that ends in {', '.join(SUFFIXES)}")


def save(picture: Any, path: Path) -> None:
    """Write a picture: PNG, SVG, a page, or Vega-Lite as JSON. Raise ConfigError."""
    check_name(path)
    alt.data_transformers.disable_max_rows()
    try:
        if path.suffix == ".html":
            picture.save(str(path), inline=True)
        else:
            picture.save(str(path), scale_factor=2)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror})") from error


def values(rows: Any) -> alt.InlineData:
    """Return rows as the data of a chart."""
    return alt.InlineData(values=list(rows))
